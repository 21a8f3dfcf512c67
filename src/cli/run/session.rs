//! One call of Execute, from the start message to the exit code.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    sync::{Notify, mpsc},
    task::block_in_place,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use super::{
    RunError,
    exit::{BROKEN_PIPE, CANCELLED, Exit},
    files::FileSink,
    input::{SignalForwarder, forward_stdin, request},
};
use crate::{
    cli::client::ClientError,
    proto::v1::{
        ExecuteResponse, ExecutionSpec, Finished, execute_request, execute_response::Event,
        execution_service_client::ExecutionServiceClient,
    },
};

/// Messages on their way to the server. Few, so that standard input is read as it is taken.
const REQUESTS: usize = 4;

/// Runs `spec` and answers with the exit code.
pub(super) async fn run(
    channel: Channel,
    spec: ExecutionSpec,
    sink: Option<FileSink>,
) -> Result<u8, RunError> {
    let stdin_open = spec.stdin_open;
    let started = Arc::new(AtomicBool::new(false));
    let cancel = Arc::new(Notify::new());
    let (requests, receiver) = mpsc::channel(REQUESTS);

    let signals = SignalForwarder::new(requests.clone(), started.clone(), cancel.clone())
        .map_err(RunError::Signals)?;
    tokio::spawn(signals.run());

    // There is room: the queue is new.
    let _ = requests
        .send(request(execute_request::Event::Start(spec)))
        .await;
    if stdin_open {
        forward_stdin(requests);
    }

    let mut client = ExecutionServiceClient::new(channel);
    let mut session = Session {
        started,
        sink,
        stdout: raw(io::stdout().as_fd())?,
        stderr: raw(io::stderr().as_fd())?,
    };
    // A task of its own, since writing to whoever reads our output may block, and cancelling must
    // not wait for that.
    let mut call = tokio::spawn(async move {
        let answers = client.execute(ReceiverStream::new(receiver)).await;
        let answers = answers.map_err(ClientError::from)?.into_inner();
        session.follow(answers).await
    });
    tokio::select! {
        end = &mut call => end.unwrap_or_else(|error| Err(RunError::Crashed(error))),
        () = cancel.notified() => {
            // Dropping the call ends it on the server, too.
            call.abort();
            eprintln!("sandpool: cancelled");
            Ok(CANCELLED)
        }
    }
}

/// The same file, without std's buffer and its lines.
fn raw(fd: BorrowedFd<'_>) -> Result<File, RunError> {
    let owned = fd.try_clone_to_owned().map_err(RunError::Output)?;
    Ok(File::from(owned))
}

struct Session {
    started: Arc<AtomicBool>,
    sink: Option<FileSink>,
    stdout: File,
    stderr: File,
}

impl Session {
    async fn follow(&mut self, mut answers: Streaming<ExecuteResponse>) -> Result<u8, RunError> {
        while let Some(answer) = answers.message().await.map_err(ClientError::from)? {
            let written = match answer.event {
                Some(Event::Stdout(bytes)) => block_in_place(|| self.stdout.write_all(&bytes)),
                Some(Event::Stderr(bytes)) => block_in_place(|| self.stderr.write_all(&bytes)),
                Some(Event::Started(_)) => {
                    self.started.store(true, Ordering::Relaxed);
                    Ok(())
                }
                Some(Event::OutputFile(piece)) => {
                    if let Some(sink) = &mut self.sink {
                        block_in_place(|| sink.write(&piece))?;
                    }
                    Ok(())
                }
                Some(Event::Finished(finished)) => return finish(&finished),
                None => Ok(()),
            };
            match written {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(BROKEN_PIPE),
                Err(error) => return Err(RunError::Output(error)),
            }
        }
        Err(RunError::NoOutcome)
    }
}

fn finish(finished: &Finished) -> Result<u8, RunError> {
    let exit = Exit::of(finished).ok_or(RunError::NoOutcome)?;
    if let Some(message) = exit.message {
        eprintln!("sandpool: {message}");
    }
    let omitted = finished.usage.map_or(0, |usage| usage.output_files_omitted);
    if omitted > 0 {
        eprintln!("sandpool: {omitted} output files were left out: too large, or not readable");
    }
    Ok(exit.code)
}
