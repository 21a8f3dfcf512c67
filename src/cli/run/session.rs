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

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::{
    sync::{Notify, mpsc},
    task::{JoinError, spawn_blocking},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{
    RunError,
    displays::Displays,
    exit::{BROKEN_PIPE, CANCELLED, Exit},
    files::FileSink,
    input::{SignalForwarder, forward_stdin, request},
};
use crate::{
    cli::{
        client::{ClientError, Connection, printable},
        say::complain,
    },
    proto::v1::{
        AttachRequest, ExecuteResponse, ExecutionSpec, Finished, execute_request,
        execute_response::Event, execution_service_client::ExecutionServiceClient, gap,
    },
};

/// Messages on their way to the server. Few, so that standard input is read as it is taken.
const REQUESTS: usize = 4;

/// Runs `spec` and answers with the exit code.
pub(super) async fn run(
    connection: Connection,
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

    let mut client = ExecutionServiceClient::new(connection);
    let mut session = Session::new(started, sink)?;
    let call = async move {
        let answers = client.execute(ReceiverStream::new(receiver)).await;
        let answers = answers.map_err(ClientError::from)?.into_inner();
        session.follow(answers).await
    };
    tokio::select! {
        end = call => end,
        // Dropping the call ends it on the server, too.
        () = cancel.notified() => {
            if takes_more(io::stderr().as_fd()) {
                complain("cancelled");
            }
            Ok(CANCELLED)
        }
    }
}

/// Starts `spec`, which goes on, and answers with its id.
pub(super) async fn start(connection: Connection, spec: ExecutionSpec) -> Result<String, RunError> {
    let start = request(execute_request::Event::Start(spec));
    let mut client = ExecutionServiceClient::new(connection);
    let answers = client.execute(tokio_stream::iter([start])).await;
    let mut answers = answers.map_err(ClientError::from)?.into_inner();
    let first = answers.message().await.map_err(ClientError::from)?;
    match first.and_then(|first| first.event) {
        Some(Event::Started(started)) => Ok(printable(&started.execution_id)),
        Some(Event::Finished(finished)) => {
            let why = Exit::of(&finished).and_then(|exit| exit.message);
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            Err(RunError::NotStarted(why))
        }
        _ => Err(RunError::NoOutcome),
    }
}

/// Goes on reading an execution, from the beginning of what is kept.
pub(super) async fn attach(connection: Connection, execution_id: String) -> Result<u8, RunError> {
    let request = AttachRequest {
        execution_id,
        ..AttachRequest::default()
    };
    let answers = ExecutionServiceClient::new(connection)
        .attach(request)
        .await;
    let answers = answers.map_err(ClientError::from)?.into_inner();
    Session::new(Arc::default(), None)?.follow(answers).await
}

/// The same file, without std's buffer and its lines.
fn raw(fd: BorrowedFd<'_>) -> Result<Arc<File>, RunError> {
    let owned = fd.try_clone_to_owned().map_err(RunError::Output)?;
    Ok(Arc::new(File::from(owned)))
}

/// Whether a line can be written without waiting for a reader who may never come.
fn takes_more(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Writes on another thread: whoever reads our output may be slow, and signals, standard input and
/// the connection's pings must not wait for that.
async fn write(file: &Arc<File>, bytes: Bytes) -> Result<io::Result<()>, JoinError> {
    let file = file.clone();
    spawn_blocking(move || (&*file).write_all(&bytes)).await
}

struct Session {
    started: Arc<AtomicBool>,
    sink: Option<FileSink>,
    displays: Displays,
    stdout: Arc<File>,
    stderr: Arc<File>,
}

impl Session {
    fn new(started: Arc<AtomicBool>, sink: Option<FileSink>) -> Result<Self, RunError> {
        Ok(Self {
            started,
            sink,
            displays: Displays::default(),
            stdout: raw(io::stdout().as_fd())?,
            stderr: raw(io::stderr().as_fd())?,
        })
    }

    async fn follow(&mut self, mut answers: Streaming<ExecuteResponse>) -> Result<u8, RunError> {
        while let Some(answer) = answers.message().await.map_err(ClientError::from)? {
            let written = match answer.event {
                Some(Event::Stdout(bytes)) => write(&self.stdout, bytes).await?,
                Some(Event::Stderr(bytes)) => write(&self.stderr, bytes).await?,
                Some(Event::Started(_)) => {
                    self.started.store(true, Ordering::Relaxed);
                    Ok(())
                }
                Some(Event::Display(display)) => {
                    let (text, words) = self.displays.show(display, self.sink.as_mut())?;
                    let _ = write(&self.stderr, words.into()).await?;
                    write(&self.stdout, text).await?
                }
                Some(Event::Gap(gap)) => {
                    let what = match gap.stream() {
                        gap::Stream::Displays => "displays",
                        gap::Stream::OutputFiles => "output files",
                        _ => "bytes",
                    };
                    let words = format!("sandpool: {} {what} are no longer kept\n", gap.bytes);
                    write(&self.stderr, words.into()).await?
                }
                Some(Event::OutputFile(piece)) => {
                    if let Some(sink) = &mut self.sink {
                        // A regular file, which takes what it is given at once.
                        sink.write(&piece)?;
                    }
                    Ok(())
                }
                Some(Event::Finished(finished)) => return self.finish(&finished).await,
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

    /// What there is to be said goes the way of the program's output, so that it can be cancelled.
    async fn finish(&self, finished: &Finished) -> Result<u8, RunError> {
        let exit = Exit::of(finished).ok_or(RunError::NoOutcome)?;
        let mut words = String::new();
        if let Some(error) = &finished.error {
            words += &error.traceback;
        }
        if finished.context_ended {
            words += "sandpool: the context has ended, and its state is gone\n";
        }
        if let Some(message) = exit.message {
            words += &format!("sandpool: {message}\n");
        }
        let omitted = finished.usage.map_or(0, |usage| usage.output_files_omitted);
        if omitted > 0 {
            words += &format!(
                "sandpool: {omitted} output files were left out: too large, or not readable\n"
            );
        }
        if !words.is_empty() {
            // Nothing can be done for a stderr that takes nothing.
            let _ = write(&self.stderr, words.into()).await?;
        }
        Ok(exit.code)
    }
}
