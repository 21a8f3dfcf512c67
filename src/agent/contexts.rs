//! Contexts: interpreters that keep their state and run cells, one at a time.
//!
//! What one runs as its main script, and what is said over its socket, is in `boot/context/`. A context has one
//! pipe for stdout and one for stderr: what is in them when a cell ends is that cell's, and what comes later waits
//! for the next one. Each cell has a stdin of its own, since what it does not read is not the next one's.

use std::{
    collections::HashMap,
    future::poll_fn,
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
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
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    sync::watch,
};

use super::{
    interpreters::Program,
    marks::Mark,
    pipes::{Outputs, Pipes},
    processes,
    stream::DescriptorPair,
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
    /// Waits until an interpreter that runs `boot/context/main.py` takes cells.
    pub(super) async fn open(program: &mut Program, mark: Mark) -> Result<Self, String> {
        let talk = match tokio::time::timeout(READY_TIMEOUT, Talk::begin(program)).await {
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

/// The agent's ends of a context's outputs, to ask how much is in them.
pub(super) struct Unread([OwnedFd; 2]);

impl Unread {
    /// Bytes in stdout or stderr that were not read.
    pub(super) fn bytes(&self, index: usize) -> u64 {
        rustix::io::ioctl_fionread(&self.0[index]).unwrap_or(0)
    }
}

/// What is said to an interpreter and heard of it.
pub(super) struct Talk {
    pub(super) control: Control,
    pub(super) outputs: [pipe::Receiver; 2],
    pub(super) unread: Unread,
    /// CPU time of the process at the end of the last cell.
    cpu_time: Duration,
}

impl Talk {
    /// Gives an interpreter its outputs, and waits until it is ready.
    async fn begin(program: &mut Program) -> io::Result<Self> {
        let Some((mut socket, _main)) = program.used_for_start.take() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        if !program.warm {
            // One that did not wait says now that it does.
            socket.read_u8().await?;
        }
        // Descriptors that come before would be lost to one who does not expect them.
        socket.read_u8().await?;
        let (pipes, theirs) = Pipes::read_by_agent()?;
        let Outputs::Read { stdout, stderr } = pipes.outputs else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let heard = BytesMut::new();
        let mut control = Control { socket, heard };
        let outputs = [theirs.stdout.as_fd(), theirs.stderr.as_fd()];
        control.send(&[0], &outputs).await?;
        drop(theirs);
        let Message::Ready(Ready {}) = control.hear().await? else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let (cpu_time, _) = processes::used(program.process.pid);
        Ok(Self {
            control,
            unread: Unread([
                stdout.as_fd().try_clone_to_owned()?,
                stderr.as_fd().try_clone_to_owned()?,
            ]),
            outputs: [stdout, stderr],
            cpu_time,
        })
    }

    /// CPU time that the process has used since this was asked before.
    pub(super) fn cpu_time_of_cell(&mut self, pid: Pid) -> Duration {
        let (now, _) = processes::used(pid);
        let before = std::mem::replace(&mut self.cpu_time, now);
        now.saturating_sub(before)
    }
}

/// The socket of an interpreter.
pub(super) struct Control {
    socket: DescriptorPair,
    heard: BytesMut,
}

impl Control {
    /// Begins a cell, which may have a stdin.
    pub(super) async fn begin(
        &mut self,
        number: u64,
        source: &str,
        stdin: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let mut message = Vec::with_capacity(12 + source.len());
        message.extend(number.to_be_bytes());
        // Far below 4 GiB: gRPC messages are bounded.
        message.extend((source.len() as u32).to_be_bytes());
        message.extend(source.as_bytes());
        self.send(&message, stdin.as_slice()).await
    }

    /// Sends a message, and descriptors with its first byte.
    async fn send(&mut self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let with_descriptors = |socket: BorrowedFd<'_>| {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() {
                ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
            }
            let pieces = [IoSlice::new(message)];
            Ok(sendmsg(
                socket,
                &pieces,
                &mut ancillary,
                SendFlags::NOSIGNAL,
            )?)
        };
        let length = message.len();
        let sent = poll_fn(|cx| self.socket.poll_write_by(cx, length, with_descriptors)).await?;
        self.socket.write_all(&message[sent..]).await
    }

    /// The interpreter may go on after a display, or after a cell that was sent so many interrupts.
    pub(super) async fn answer(&mut self, interrupts: u8) -> io::Result<()> {
        self.socket.write_all(&[interrupts]).await
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
            if self.socket.read_buf(&mut self.heard).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
