//! An execution that is a cell of a context.

use std::{future::poll_fn, os::fd::AsFd, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{AFTER_EXIT, Execution, State};
use crate::{
    agent::{
        contexts::{Context, Control, Talk, Unread},
        pipes::Stdin,
        processes,
    },
    proto::agent::{
        Cell, CellEnd, CodeError, Display, Exited, Start, Started, exited, from_context::Message,
    },
};

/// How long a cell that is to end may take to, after it was interrupted: then its context is killed.
const INTERRUPT_GRACE: Duration = Duration::from_secs(2);
/// How often it is interrupted meanwhile: it may catch one, or wait for who reads its output.
const INTERRUPT_EVERY: Duration = Duration::from_millis(500);
/// What is said of an exception at most, in bytes.
const MAX_NAME: usize = 1024;
const MAX_VALUE: usize = 16 * 1024;
const MAX_TRACEBACK: usize = 128 * 1024;

impl Execution {
    /// Starts a cell, as a task that ends with it or with its context.
    pub(super) async fn run_cell(self: &Arc<Self>, cell: Cell, start: Start) {
        let Some(context) = self.sandbox.contexts.get(&cell.context_id) else {
            return self.has_no_context("its context has ended");
        };
        let mut follow = Box::pin(self.clone().follow_cell(context, cell, start));
        // Where it is its turn, it starts here: that it has is told in one write with the answer to the call.
        let goes_on = poll_fn(|cx| Poll::Ready(follow.as_mut().poll(cx).is_pending())).await;
        if goes_on {
            tokio::spawn(follow);
        }
    }

    fn has_no_context(&self, reason: &str) {
        self.has_exited(Exited {
            end: Some(exited::End::NotStarted(reason.to_owned())),
            context_ended: true,
            ..Exited::default()
        });
    }

    async fn follow_cell(self: Arc<Self>, context: Arc<Context>, cell: Cell, start: Start) {
        // The server lets one come after the other, but may have given up one that has not ended.
        let mut talk = tokio::select! {
            talk = context.talk.lock() => talk,
            () = self.killed.notified() => return self.not_started("it was cancelled".into()),
        };
        let Talk {
            control,
            outputs: [stdout, stderr],
            unread,
            ..
        } = &mut *talk;
        let begun = async {
            let pipe = (!start.no_input).then(std::io::pipe).transpose()?;
            let stdin = pipe.as_ref().map(|(theirs, _)| theirs.as_fd());
            control.begin(cell.number, &cell.source, stdin).await?;
            std::io::Result::Ok(pipe.map(|(_, ours)| ours))
        };
        let given_up = async {
            self.killed.notified().await;
            // Whoever follows it, if it begins all the same, is to hear of that, too.
            self.killed.notify_one();
            sleep(INTERRUPT_GRACE).await;
        };
        // One that runs a thread of an earlier cell's may not come to read it.
        let begun = tokio::select! {
            begun = begun => begun.ok(),
            () = given_up => None,
        };
        let Some(stdin) = begun else {
            context.mark.kill_all();
            return self.has_no_context("its context does not listen");
        };
        self.change(|state| {
            state.input_ended |= start.no_input;
            state.pid = Some(context.pid);
            state.started = Some(Started {
                warm: true,
                direct_output: None,
            });
        });
        let feeder = stdin.map(|stdin| tokio::spawn(self.clone().feed(Stdin::Pipe(stdin))));
        let (ended, has_ended) = watch::channel(None);
        let end = async {
            let end = self.until_end(&context, control, unread).await;
            // It is the next cell's, from now on. The next one's interrupts may come before the context has taken the
            // answer, which tells it how many were this one's.
            let interrupts = self.change(|state| {
                state.pid = None;
                state.interrupts
            });
            ended.send_replace(Some(self.written(unread)));
            if end.is_ok() {
                // One that has gone is noticed by the next cell.
                let _ = control.answer(interrupts).await;
            }
            end
        };
        let (end, (), ()) = tokio::join!(
            end,
            self.pump_cell(0, stdout, unread, has_ended.clone()),
            self.pump_cell(1, stderr, unread, has_ended)
        );
        if let Some(feeder) = feeder {
            feeder.abort();
        }
        self.change(State::drop_input);
        let omitted = self.collect(&start).await;
        let exited = match end {
            Ok(CellEnd { code, error }) => {
                let prepared = self.sandbox.prepared();
                let peak = prepared.map_or(0, |prepared| prepared.shares.peak(context.mark));
                let cpu_time = talk.cpu_time_of_cell(context.pid).as_micros();
                Exited {
                    end: Some(exited::End::Code(code)),
                    error: error.map(shortened),
                    cpu_time_us: u64::try_from(cpu_time).unwrap_or(u64::MAX),
                    peak_memory_bytes: peak,
                    ..Exited::default()
                }
            }
            Err(exited) => Exited {
                context_ended: true,
                ..exited
            },
        };
        drop(talk);
        self.has_exited(Exited {
            output_files_omitted: omitted,
            ..exited
        });
    }

    /// How far both streams are with what is in their pipes.
    fn written(&self, unread: &Unread) -> [u64; 2] {
        // One thread: whatever was read of a pipe has been counted.
        let state = self.state();
        [0, 1].map(|index| state.streams[index].end() + unread.bytes(index))
    }

    /// Waits for the cell's end or, as an error, that of its context.
    async fn until_end(
        &self,
        context: &Context,
        control: &mut Control,
        unread: &Unread,
    ) -> Result<CellEnd, Exited> {
        let (told, is_told) = watch::channel(false);
        let (gone, is_gone) = watch::channel(false);
        let heard = self.hear_cell(control, unread, is_told, is_gone);
        tokio::pin!(heard);
        let exited = tokio::select! {
            biased;
            heard = &mut heard => match heard {
                Some(end) => return Ok(end),
                None => {
                    // It has ended, or no longer speaks as it should.
                    context.mark.kill_all();
                    return Err(context.ended().await);
                }
            },
            exited = self.end_if_killed(context, &told) => exited,
        };
        // What it has said before.
        gone.send_replace(true);
        tokio::select! {
            _ = &mut heard => {}
            () = self.killed.notified() => {
                told.send_replace(true);
                heard.await;
            }
        }
        Err(exited)
    }

    /// Hears what a cell displays, until its end; none: its context has gone. Once it was told to end, a display for
    /// which there is no room is dropped, with all that follow.
    async fn hear_cell(
        &self,
        control: &mut Control,
        unread: &Unread,
        mut is_told: watch::Receiver<bool>,
        mut is_gone: watch::Receiver<bool>,
    ) -> Option<CellEnd> {
        // A child may keep the socket open.
        let over = async {
            let _ = is_gone.wait_for(|gone| *gone).await;
            sleep(AFTER_EXIT).await;
        };
        tokio::pin!(over);
        let mut is_cut = false;
        loop {
            let message = tokio::select! {
                biased;
                message = control.hear() => message.ok()?,
                () = &mut over => return None,
            };
            match message {
                Message::Display(display) => {
                    let is_answered = display.is_answered;
                    let display = self.placed(display, unread);
                    if is_answered {
                        control.answer(0).await.ok()?;
                    }
                    tokio::select! {
                        biased;
                        () = self.fill(3, display), if !is_cut => {}
                        _ = is_told.wait_for(|told| *told) => is_cut = true,
                    }
                }
                Message::CellEnd(end) => return Some(end),
                Message::Ready(_) => return None,
            }
        }
    }

    /// Interrupts a cell that is killed, and kills its context if that is not enough; returns how that ended.
    async fn end_if_killed(&self, context: &Context, told: &watch::Sender<bool>) -> Exited {
        let interrupts = async {
            self.killed.notified().await;
            told.send_replace(true);
            let over = Instant::now() + INTERRUPT_GRACE;
            while Instant::now() < over {
                self.change(State::count_interrupt);
                processes::signal_group(context.pid, libc::SIGINT);
                sleep(INTERRUPT_EVERY).await;
            }
            sleep_until(over).await;
            context.mark.kill_all();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            exited = context.ended() => exited,
            () = interrupts => context.ended().await,
        }
    }

    /// A display with what was written before it, encoded.
    fn placed(&self, display: Display, unread: &Unread) -> Bytes {
        let [stdout_offset, stderr_offset] = self.written(unread);
        let display = Display {
            stdout_offset,
            stderr_offset,
            ..display
        };
        display.encode_length_delimited_to_vec().into()
    }
}

fn shortened(mut error: CodeError) -> CodeError {
    for (text, most) in [
        (&mut error.name, MAX_NAME),
        (&mut error.value, MAX_VALUE),
        (&mut error.traceback, MAX_TRACEBACK),
    ] {
        let mut ends = (0..=most.min(text.len())).rev();
        // 0 is a boundary.
        let end = ends.find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
    }
    error
}
