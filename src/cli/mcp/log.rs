//! What is told on standard error. Nobody may read it, or it may be closed: the session does not feel it.

use std::{
    fmt::Display,
    io::{self, Write},
    sync::mpsc::{SyncSender, sync_channel},
    thread,
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

/// Lines that wait for a reader; what comes beyond them is dropped.
const MAX_LINES: usize = 64;
/// How long the last ones may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Writes in a thread of its own, which may be held up for ever.
#[derive(Clone)]
pub(super) struct Log(SyncSender<Item>);

enum Item {
    Line(Vec<u8>),
    Flush(oneshot::Sender<()>),
}

impl Log {
    /// To standard error.
    pub(super) fn start() -> io::Result<Self> {
        Self::to(io::stderr())
    }

    fn to(mut writer: impl Write + Send + 'static) -> io::Result<Self> {
        let (sender, items) = sync_channel(MAX_LINES);
        let write = move || {
            for item in items {
                match item {
                    // There is nobody to tell that it failed.
                    Item::Line(line) => drop(writer.write_all(&line)),
                    Item::Flush(done) => drop(done.send(())),
                }
            }
        };
        thread::Builder::new().name("log".to_owned()).spawn(write)?;
        Ok(Self(sender))
    }

    /// One line of sandpool's own.
    pub(super) fn say(&self, words: impl Display) {
        self.push(format!("sandpool: {words}\n").into_bytes());
    }

    /// Until what was said is written, if somebody reads it.
    pub(super) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.0.try_send(Item::Flush(done)).is_ok() {
            let _ = timeout(FLUSH_TIMEOUT, flushed).await;
        }
    }

    fn push(&self, line: Vec<u8>) {
        let _ = self.0.try_send(Item::Line(line));
    }
}

/// For what is logged, line by line.
impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use tokio::{io::AsyncReadExt, net};

    use super::*;

    #[tokio::test]
    async fn what_was_said_is_written_in_order() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut log = Log::to(ours).unwrap();
        log.say("one");
        log.write_all(b"two\n").unwrap();
        log.flush().await;
        drop(log);
        theirs.set_nonblocking(true).unwrap();
        let mut written = String::new();
        let mut theirs = net::UnixStream::from_std(theirs).unwrap();
        theirs.read_to_string(&mut written).await.unwrap();
        assert_eq!(written, "sandpool: one\ntwo\n");
    }

    #[tokio::test]
    async fn neither_a_reader_that_sleeps_nor_one_that_is_gone_is_felt() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let log = Log::to(ours).unwrap();
        let line = "x".repeat(10_000);
        for _ in 0..1000 {
            log.say(&line);
        }
        log.flush().await;
        drop(theirs);
        log.say(&line);
        log.flush().await;
    }
}
