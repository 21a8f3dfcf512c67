//! Contexts: interpreters that keep their state and run cells, one at a time.
//!
//! What one runs as its main script, and what is said over its socket, is in `boot/context.py`. Each cell has
//! pipes of its own, as a program has; those of the next one go with it, so that the interpreter can change
//! over by itself at the end.

use std::{
    collections::HashMap,
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use prost::Message as _;
use rustix::{
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    process::Pid,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::UnixStream,
    sync::watch,
};

use super::{
    interpreters::Program,
    marks::Mark,
    pipes::{Outputs, Pipes, ProgramEnds},
    processes,
};
use crate::proto::agent::{Exited, FromContext, Ready, from_context::Message};

/// The longest message of an interpreter: a display's forms, of 3 MiB, and what is said about them.
const MAX_MESSAGE: usize = (3 << 20) + (256 << 10);
/// How long one may take until it takes cells.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// The contexts of a sandbox that have not ended, by id.
#[derive(Default)]
pub(super) struct Contexts(Mutex<HashMap<String, Arc<Context>>>);

impl Contexts {
    fn by_id(&self) -> MutexGuard<'_, HashMap<String, Arc<Context>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Context>> {
        self.by_id().get(id).cloned()
    }

    pub(super) fn insert(&self, id: String, context: Context) {
        self.by_id().insert(id, Arc::new(context));
    }

    /// That context's process has ended.
    pub(super) fn end(&self, id: &str, exited: &Exited) {
        if let Some(context) = self.by_id().remove(id) {
            context.ended.send_replace(Some(exited.clone()));
        }
    }
}

/// An interpreter that runs cells.
pub(super) struct Context {
    pub(super) pid: Pid,
    pub(super) mark: Mark,
    /// Held by the cell whose turn it is.
    pub(super) talk: tokio::sync::Mutex<Talk>,
    ended: watch::Sender<Option<Exited>>,
}

impl Context {
    /// Waits until an interpreter that runs `boot/context.py` takes cells.
    pub(super) async fn open(program: &mut Program, mark: Mark) -> Result<Self, String> {
        let Some((mut control, _main)) = program.used_for_start.take() else {
            return Err("it has no socket".into());
        };
        let opening = async {
            if !program.warm {
                // One that did not wait says now that it does.
                control.read_u8().await?;
            }
            // Descriptors that come before would be lost to one who does not expect them.
            control.read_u8().await?;
            let (streams, theirs) = Streams::new()?;
            let mut talk = Talk {
                control,
                heard: BytesMut::new(),
                streams,
                next: None,
                cpu_time: Duration::ZERO,
            };
            talk.send(&[0], &theirs).await?;
            drop(theirs);
            match talk.hear().await? {
                Message::Ready(Ready {}) => talk.rest(program.process.pid).map(|()| talk),
                _ => Err(io::ErrorKind::InvalidData.into()),
            }
        };
        let talk = match tokio::time::timeout(READY_TIMEOUT, opening).await {
            Ok(Ok(talk)) => talk,
            Ok(Err(error)) => {
                let words = program.pipes.last_words().await;
                return Err(format!("{error} {}", words.trim()));
            }
            Err(_) => return Err(format!("it was not ready after {READY_TIMEOUT:?}")),
        };
        Ok(Self {
            pid: program.process.pid,
            mark,
            talk: tokio::sync::Mutex::new(talk),
            ended: watch::Sender::new(None),
        })
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) -> Exited {
        let mut ended = self.ended.subscribe();
        let ended = ended.wait_for(Option::is_some).await;
        // The sender is in `self`, so it is not gone.
        ended
            .map_or_else(|_| None, |exited| exited.clone())
            .unwrap_or_default()
    }
}

/// The agent's ends of a cell's pipes.
pub(super) struct Streams {
    pub(super) pipes: Pipes,
    /// The same ends of stdout and stderr, to ask how much is in them.
    pub(super) unread: [OwnedFd; 2],
}

impl Streams {
    fn new() -> io::Result<(Self, ProgramEnds)> {
        let (pipes, theirs) = Pipes::read_by_agent()?;
        let Outputs::Read { stdout, stderr } = &pipes.outputs else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let unread = [
            stdout.as_fd().try_clone_to_owned()?,
            stderr.as_fd().try_clone_to_owned()?,
        ];
        Ok((Self { pipes, unread }, theirs))
    }
}

/// What is said to an interpreter and heard of it.
pub(super) struct Talk {
    control: UnixStream,
    heard: BytesMut,
    /// Of the next cell: the interpreter has their other ends already.
    streams: Streams,
    /// Of the one after it.
    next: Option<(Streams, ProgramEnds)>,
    /// CPU time of the process at the end of the last cell.
    cpu_time: Duration,
}

impl Talk {
    /// Begins a cell, and gives its streams.
    pub(super) async fn begin(&mut self, number: u64, source: &str) -> io::Result<Streams> {
        let (streams, theirs) = match self.next.take() {
            Some(next) => next,
            None => Streams::new()?,
        };
        let mut message = Vec::with_capacity(12 + source.len());
        message.extend(number.to_be_bytes());
        // Far below 4 GiB: gRPC messages are bounded.
        message.extend((source.len() as u32).to_be_bytes());
        message.extend(source.as_bytes());
        self.send(&message, &theirs).await?;
        Ok(std::mem::replace(&mut self.streams, streams))
    }

    /// A cell has ended: tells how much CPU time it took, and makes what the next ones need.
    pub(super) fn end(&mut self, pid: Pid) -> io::Result<Duration> {
        let before = self.cpu_time;
        self.rest(pid)?;
        Ok(self.cpu_time.saturating_sub(before))
    }

    fn rest(&mut self, pid: Pid) -> io::Result<()> {
        (self.cpu_time, _) = processes::used(pid);
        self.next = Some(Streams::new()?);
        Ok(())
    }

    async fn send(&mut self, message: &[u8], ends: &ProgramEnds) -> io::Result<()> {
        let descriptors = [&ends.stdin, &ends.stdout, &ends.stderr].map(AsFd::as_fd);
        let control = &self.control;
        let with_descriptors = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
            let pieces = [IoSlice::new(message)];
            Ok(sendmsg(
                control,
                &pieces,
                &mut ancillary,
                SendFlags::NOSIGNAL,
            )?)
        };
        let sent = control
            .async_io(Interest::WRITABLE, with_descriptors)
            .await?;
        self.control.write_all(&message[sent..]).await
    }

    /// The interpreter may go on after a display.
    pub(super) async fn answer(&mut self) -> io::Result<()> {
        self.control.write_all(&[1]).await
    }

    /// The next message. Nothing is lost if this is dropped before.
    pub(super) async fn hear(&mut self) -> io::Result<Message> {
        loop {
            if let Some(prefix) = self.heard.first_chunk() {
                // A usize has 32 bits or more.
                let length = u32::from_be_bytes(*prefix) as usize;
                if length > MAX_MESSAGE {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                if self.heard.len() >= 4 + length {
                    self.heard.advance(4);
                    let message = self.heard.split_to(length).freeze();
                    let message = FromContext::decode(message).map_err(io::Error::other)?;
                    return message
                        .message
                        .ok_or_else(|| io::ErrorKind::InvalidData.into());
                }
                self.heard.reserve(4 + length - self.heard.len());
            }
            if self.control.read_buf(&mut self.heard).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
