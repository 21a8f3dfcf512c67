//! The signals by which others end a command that has something to leave in order.

use std::io;

use libc::c_int;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listened for; none of them ends the process by itself any more.
pub(super) struct Ending {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Ending {
    /// From now on.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the first one: its number.
    pub(super) async fn asked_for(mut self) -> c_int {
        let asked_by = tokio::select! {
            _ = self.hangup.recv() => SignalKind::hangup(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        };
        asked_by.as_raw_value()
    }
}
