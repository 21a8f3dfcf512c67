//! What goes to the program after its start: standard input and signals.

use std::{
    io::{self, Read},
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use bytes::Bytes;
use tokio::{
    signal::unix::{Signal as Signals, SignalKind, signal},
    sync::{Notify, mpsc},
};

use crate::proto::v1::{CloseStdin, ExecuteRequest, Signal, execute_request::Event};

const CHUNK: usize = 64 * 1024;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// A request with `event` in it.
pub(in crate::cli) fn request(event: Event) -> ExecuteRequest {
    ExecuteRequest { event: Some(event) }
}

/// Sends standard input as it comes, and its end. On a thread of its own, which nobody waits for:
/// a read of a terminal cannot be interrupted.
pub(in crate::cli) fn forward_stdin(requests: mpsc::Sender<ExecuteRequest>) {
    thread::spawn(move || {
        let mut buffer = vec![0; CHUNK];
        loop {
            let event = match io::stdin().read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Whatever it is that cannot be read has no more to give.
                Ok(0) | Err(_) => Event::CloseStdin(CloseStdin {}),
                Ok(length) => Event::Stdin(Bytes::copy_from_slice(&buffer[..length])),
            };
            let last = matches!(event, Event::CloseStdin(_));
            // An error says that the call has ended.
            if requests.blocking_send(request(event)).is_err() || last {
                return;
            }
        }
    });
}

/// Hands the first SIGINT or SIGTERM on to the program; the second one, or one that comes before
/// there is a program, cancels the call.
pub(super) struct SignalForwarder {
    interrupt: Signals,
    terminate: Signals,
    requests: mpsc::Sender<ExecuteRequest>,
    started: Arc<AtomicBool>,
    cancel: Arc<Notify>,
}

impl SignalForwarder {
    /// Fails if signals cannot be waited for.
    pub(super) fn new(
        requests: mpsc::Sender<ExecuteRequest>,
        started: Arc<AtomicBool>,
        cancel: Arc<Notify>,
    ) -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            requests,
            started,
            cancel,
        })
    }

    /// Until the call is cancelled.
    pub(super) async fn run(mut self) {
        let number = self.next().await;
        if self.started.load(Ordering::Relaxed) {
            let signal = request(Event::Signal(Signal { number }));
            // While standard input is stuck the queue is full; that must not hold up the second.
            tokio::select! {
                sent = self.requests.send(signal) => {
                    // An error says that the call has ended.
                    let _ = sent;
                    self.next().await;
                }
                _ = async { self.interrupt.recv().await; } => {}
            }
        }
        self.cancel.notify_one();
    }

    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => SIGINT,
            _ = self.terminate.recv() => SIGTERM,
        }
    }
}
