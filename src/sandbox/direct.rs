//! Output that a program writes straight to the server, through pipes of the host's.
//!
//! The sandbox holds the writing ends and nothing else of them: they carry bytes, and the worst
//! that whoever is in there can do is to write too many, too few, or none.

use std::{future::Future, os::fd::AsFd, pin::pin, task::Poll, time::Duration};

use tokio::{net::unix::pipe, time::Instant};

use super::inbox::Inbox;
use crate::backend::OutputPipes;

/// How long pipes that a program's children hold open are read after the program's end.
const AFTER_EXIT: Duration = Duration::from_millis(200);
/// What a pipe shall hold. The kernel's default, 64 KiB, has both sides wait for each other.
const PIPE_SIZE: usize = 1 << 20;

/// The two pipes of one program, stdout first.
pub(super) struct Direct {
    pipes: [Option<pipe::Receiver>; 2],
    /// So that each has its turn.
    first: usize,
    exit: Option<Exit>,
}

/// The program has ended; its pipes may not have.
struct Exit {
    /// What of its own output was in the pipes then and has not been read.
    left: [u64; 2],
    give_up_at: Instant,
}

impl Direct {
    pub(super) fn new(pipes: OutputPipes) -> Self {
        for pipe in [&pipes.stdout, &pipes.stderr] {
            // Refused where the user's pipes hold too much already: then it is slower.
            let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_SIZE);
        }
        Self {
            pipes: [Some(pipes.stdout), Some(pipes.stderr)],
            first: 0,
            exit: None,
        }
    }

    /// Waits for bytes that there is room for, and adds them to their stream: which one, and how
    /// many. Never resolves while there is no room, or nothing to read.
    pub(super) async fn read_into(
        direct: &mut Option<Self>,
        streams: &mut [Inbox],
    ) -> (usize, u64) {
        let Some(direct) = direct else {
            return std::future::pending().await;
        };
        std::future::poll_fn(|context| {
            for index in [direct.first, 1 - direct.first] {
                let Some(pipe) = &mut direct.pipes[index] else {
                    continue;
                };
                if !streams[index].takes_more() {
                    continue;
                }
                let read = pin!(streams[index].read_from(pipe)).poll(context);
                match read {
                    Poll::Pending if direct.is_found_empty(index) => {
                        return Poll::Ready((index, 0));
                    }
                    Poll::Pending => {}
                    Poll::Ready(Ok(read)) if read > 0 => {
                        direct.first = 1 - index;
                        direct.has_read(index, read);
                        return Poll::Ready((index, read));
                    }
                    // Its end. A pipe gives no other error.
                    Poll::Ready(_) => {
                        direct.pipes[index] = None;
                        return Poll::Ready((index, 0));
                    }
                }
            }
            Poll::Pending
        })
        .await
    }

    fn has_read(&mut self, index: usize, read: u64) {
        if let Some(exit) = &mut self.exit {
            exit.left[index] = exit.left[index].saturating_sub(read);
        }
    }

    /// Whether what was left is gone although the server has not read it: nobody in the sandbox
    /// shall keep an end waiting by stealing it.
    fn is_found_empty(&mut self, index: usize) -> bool {
        let exit = self.exit.as_mut();
        exit.is_some_and(|exit| std::mem::take(&mut exit.left[index]) > 0)
    }

    /// The program has ended: what it left is still read, and what its children write for a while.
    pub(super) fn program_ended(&mut self) {
        let left = |pipe: &Option<pipe::Receiver>| {
            pipe.as_ref()
                .and_then(|pipe| rustix::io::ioctl_fionread(pipe).ok())
                .unwrap_or(0)
        };
        self.exit = Some(Exit {
            left: [left(&self.pipes[0]), left(&self.pipes[1])],
            give_up_at: Instant::now() + AFTER_EXIT,
        });
    }

    /// When children's output is no longer waited for.
    pub(super) fn give_up_at(&self) -> Option<Instant> {
        let exit = self.exit.as_ref()?;
        (exit.left == [0, 0]).then_some(exit.give_up_at)
    }

    /// Whether the program has ended and all of its output has been read.
    pub(super) fn is_over(&self) -> bool {
        self.pipes.iter().all(Option::is_none)
            || self.give_up_at().is_some_and(|at| at <= Instant::now())
    }

    /// Adds what can be read without waiting, as far as there is room: how much, stream by stream.
    pub(super) fn drain(&mut self, streams: &mut [Inbox]) -> [u64; 2] {
        let mut read = [0, 0];
        for (index, pipe) in self.pipes.iter_mut().enumerate() {
            if let Some(pipe) = pipe.take() {
                read[index] = drain(&pipe, &mut streams[index]);
            }
        }
        read
    }

    /// Reads nothing more.
    pub(super) fn close(&mut self) {
        self.pipes = [None, None];
    }
}

fn drain(pipe: impl AsFd, stream: &mut Inbox) -> u64 {
    let mut total = 0;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let room = usize::try_from(stream.room()).unwrap_or(usize::MAX);
        let length = room.min(buffer.len());
        match rustix::io::read(&pipe, &mut buffer[..length]) {
            Ok(read @ 1..) => {
                stream.add(&buffer[..read]);
                total += read as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) | Err(_) => return total,
        }
    }
}

/// The beginning of what programs that ended left on stderr.
pub(super) fn last_words(outputs: &[Option<OutputPipes>]) -> String {
    let mut text = [0; 4096];
    let read = outputs
        .iter()
        .flatten()
        .filter_map(|pipes| rustix::io::read(&pipes.stderr, &mut text[..]).ok())
        .find(|read| *read > 0)
        .unwrap_or(0);
    String::from_utf8_lossy(&text[..read]).trim().to_owned()
}
