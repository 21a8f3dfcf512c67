//! What is fuzzed: the server's end of an exec's websocket, with an API server that says anything.

use std::pin::pin;

use sandpool::backend::kubernetes::exec::{ExecEnd, ExecStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Of the other side's bytes that wait to be read.
const BUFFER: usize = 4096;
/// What of a program's stderr is kept at most.
const MAX_STDERR: usize = 1024;

pub(crate) fn run(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(async {
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let mut stream = ExecStream::over(ours).await;
        let (mut answers, mut says) = tokio::io::split(theirs);
        let speaking = async {
            // It may have been hung up on.
            let _ = says.write_all(data).await;
            let _ = says.shutdown().await;
            // Pongs, which nobody must have to wait for.
            let _ = tokio::io::copy(&mut answers, &mut tokio::io::sink()).await;
        };
        let reading = async {
            let mut received = 0;
            let mut piece = [0; 512];
            loop {
                match stream.read(&mut piece).await {
                    Ok(0) => panic!("the end is always told by an error"),
                    Ok(length) => received += length,
                    Err(error) => return (received, error),
                }
            }
        };
        let (mut speaking, mut reading) = (pin!(speaking), pin!(reading));
        let (received, error) = tokio::select! {
            ended = &mut reading => ended,
            // Hung up on from here: what came is read to its end.
            () = &mut speaking => reading.await,
        };
        assert!(
            received <= data.len(),
            "{received} bytes out of {}",
            data.len()
        );
        let end = error.get_ref().and_then(|inner| inner.downcast_ref());
        if let ExecEnd::Ended(ended) = end.expect("an ExecEnd") {
            assert!(ended.stderr.chars().count() <= MAX_STDERR);
        }
    });
}
