//! An execution that is a cell of a context.

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{AFTER_EXIT, Execution, State};
use crate::{
    agent::{
        contexts::{Context, Streams, Talk},
        pipes::Outputs,
        processes,
    },
    proto::agent::{
        Cell, CellEnd, CodeError, Display, Exited, Start, Started, Stream, exited,
        from_context::Message,
    },
};

/// How long a cell that is to end may take to, after it was interrupted: then its context is killed.
const INTERRUPT_GRACE: Duration = Duration::from_secs(2);
/// What is said of an exception at most, in bytes.
const MAX_NAME: usize = 1024;
const MAX_VALUE: usize = 64 * 1024;
const MAX_TRACEBACK: usize = 256 * 1024;

/// Where in the streams a context has written.
type Unread = [std::os::fd::OwnedFd; 2];

impl Execution {
    /// Starts a cell, as a task that ends with it or with its context.
    pub(super) fn run_cell(self: &Arc<Self>, cell: Cell, start: Start) {
        self.change(|state| state.is_cell = true);
        match self.sandbox.contexts.get(&cell.context_id) {
            Some(context) => {
                tokio::spawn(self.clone().follow_cell(context, cell, start));
            }
            None => self.not_started("its context has ended".into()),
        }
    }

    async fn follow_cell(self: Arc<Self>, context: Arc<Context>, cell: Cell, start: Start) {
        // The server lets one come after the other, but may have given up one that has not ended.
        let mut talk = tokio::select! {
            talk = context.talk.lock() => talk,
            () = self.killed.notified() => return self.not_started("it was cancelled".into()),
        };
        let streams = match talk.begin(cell.number, &cell.source).await {
            Ok(streams) => streams,
            Err(error) => {
                context.mark.kill_all();
                return self.not_started(format!("its context does not listen: {error}"));
            }
        };
        self.change(|state| {
            state.input_ended |= start.no_input;
            state.pid = Some(context.pid);
            state.started = Some(Started {
                warm: true,
                direct_output: None,
            });
        });
        let Streams { pipes, unread } = streams;
        let feeder = tokio::spawn(self.clone().feed(pipes.stdin));
        let (ended, has_ended) = watch::channel(None);
        let output = async {
            if let Outputs::Read { stdout, stderr } = pipes.outputs {
                tokio::join!(
                    self.clone().pump(Stream::Stdout, stdout, has_ended.clone()),
                    self.clone().pump(Stream::Stderr, stderr, has_ended),
                );
            }
        };
        let end = async {
            let end = self.hear_cell(&context, &mut talk, &unread).await;
            // It is the next cell's, from now on.
            self.change(|state| state.pid = None);
            ended.send_replace(Some(Instant::now() + AFTER_EXIT));
            end
        };
        let (end, ()) = tokio::join!(end, output);
        feeder.abort();
        self.change(State::drop_input);
        let omitted = self.collect(&start).await;

        let mut exited = match end {
            Ok(CellEnd { code, error }) => Exited {
                end: Some(exited::End::Code(code)),
                error: error.map(shortened),
                ..Exited::default()
            },
            Err(exited) => Exited {
                end: exited.end,
                context_ended: true,
                ..Exited::default()
            },
        };
        if let Ok(prepared) = self.sandbox.prepared() {
            exited.peak_memory_bytes = prepared.shares.peak(context.mark);
        }
        match talk.end(context.pid) {
            Ok(cpu_time) => {
                exited.cpu_time_us = u64::try_from(cpu_time.as_micros()).unwrap_or(u64::MAX);
            }
            // No pipes can be made for more cells.
            Err(_) => context.mark.kill_all(),
        }
        exited.output_files_omitted = omitted;
        self.has_exited(exited);
    }

    /// Hears what a cell displays, until its end or, as an error, that of its context.
    async fn hear_cell(
        &self,
        context: &Context,
        talk: &mut Talk,
        unread: &Unread,
    ) -> Result<CellEnd, Exited> {
        let mut kill_at = None;
        loop {
            let grace_is_over = async {
                match kill_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                heard = talk.hear() => match heard {
                    Ok(Message::Display(display)) => {
                        let display = self.placed(display, unread);
                        if display.is_answered {
                            // One that has ended is seen with the next message.
                            let _ = talk.answer().await;
                        }
                        let display = display.encode_length_delimited_to_vec();
                        self.fill(3, display.into()).await;
                    }
                    Ok(Message::CellEnd(end)) => return Ok(end),
                    Ok(Message::Ready(_)) | Err(_) => {
                        // It has ended, or no longer speaks as it should.
                        context.mark.kill_all();
                        return Err(context.ended().await);
                    }
                },
                exited = context.ended() => return Err(exited),
                () = self.killed.notified() => {
                    processes::signal_group(context.pid, libc::SIGINT);
                    kill_at.get_or_insert(Instant::now() + INTERRUPT_GRACE);
                }
                () = grace_is_over => {
                    context.mark.kill_all();
                    return Err(context.ended().await);
                }
            }
        }
    }

    /// The same display, with what was written before it.
    fn placed(&self, display: Display, unread: &Unread) -> Display {
        let in_pipe = |index: usize| rustix::io::ioctl_fionread(&unread[index]).unwrap_or(0);
        // One thread: whatever was read of a pipe has been counted.
        let state = self.state();
        Display {
            stdout_offset: state.streams[0].end() + in_pipe(0),
            stderr_offset: state.streams[1].end() + in_pipe(1),
            ..display
        }
    }
}

fn shortened(mut error: CodeError) -> CodeError {
    for (text, most) in [
        (&mut error.name, MAX_NAME),
        (&mut error.value, MAX_VALUE),
        (&mut error.traceback, MAX_TRACEBACK),
    ] {
        let end = (0..=most.min(text.len())).rev();
        // 0 is a boundary.
        let end = end.into_iter().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
    }
    error
}
