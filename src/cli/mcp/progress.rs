//! What is told while a program runs: its newest output, and that it still runs.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use rmcp::{
    Peer, RoleServer,
    model::{ProgressNotificationParam, ProgressToken},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::excerpt::whole;

/// Between two notifications, at least.
const INTERVAL: Duration = Duration::from_millis(250);
/// Between two of a program that writes nothing. Clients take it as a sign of life.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Bytes of output in one, the newest.
const MAX_MESSAGE: usize = 2 * 1024;

/// Tells a client that has asked for it.
pub(super) struct Progress {
    peer: Peer<RoleServer>,
    token: ProgressToken,
    begun: Instant,
    started: OnceLock<Instant>,
    news: Notify,
    untold: Mutex<Untold>,
    finished: CancellationToken,
}

/// Output that was not told yet.
#[derive(Default)]
struct Untold {
    newest: Vec<u8>,
    skipped: u64,
}

impl Untold {
    fn push(&mut self, bytes: &[u8]) {
        self.newest
            .extend_from_slice(&bytes[bytes.len().saturating_sub(MAX_MESSAGE)..]);
        let over = self.newest.len().saturating_sub(MAX_MESSAGE);
        self.newest.drain(..over);
        self.skipped += (bytes.len().saturating_sub(MAX_MESSAGE) + over) as u64;
    }

    /// What there is, but a character that only begins: its rest comes.
    fn take(&mut self) -> String {
        let rest = self.newest.split_off(whole(&self.newest));
        let newest = std::mem::replace(&mut self.newest, rest);
        let text = String::from_utf8_lossy(&newest);
        match std::mem::take(&mut self.skipped) {
            0 => text.into_owned(),
            skipped => format!("[... {skipped} bytes ...]{text}"),
        }
    }
}

impl Progress {
    pub(super) fn new(peer: Peer<RoleServer>, token: ProgressToken) -> Self {
        Self {
            peer,
            token,
            begun: Instant::now(),
            started: OnceLock::new(),
            news: Notify::new(),
            untold: Mutex::default(),
            finished: CancellationToken::new(),
        }
    }

    /// The program runs: until now it has waited for a sandbox, or for the cells before it.
    pub(super) fn start(&self) {
        // Said twice, it counts from the first time.
        let _ = self.started.set(Instant::now());
    }

    /// Output that has come.
    pub(super) fn add(&self, bytes: &[u8]) {
        self.untold().push(bytes);
        self.news.notify_one();
    }

    /// [`Self::tell`] ends: the answer must be the last that is told.
    pub(super) fn finish(&self) {
        self.finished.cancel();
    }

    /// Tells until the end, or until nobody is there any more.
    pub(super) async fn tell(&self) {
        while let Some(news) = self
            .until_finished(timeout(HEARTBEAT, self.news.notified()))
            .await
        {
            let seconds = self.begun.elapsed().as_secs_f64();
            let message = match news {
                Ok(()) => self.untold().take(),
                Err(_) => match self.started.get() {
                    Some(started) => format!("runs for {:.0} s", started.elapsed().as_secs_f64()),
                    None => format!("waits for its turn, {seconds:.0} s"),
                },
            };
            let progress = ProgressNotificationParam::new(self.token.clone(), seconds);
            let told = self
                .peer
                .notify_progress(progress.with_message(message))
                .await;
            if told.is_err() || self.until_finished(sleep(INTERVAL)).await.is_none() {
                return;
            }
        }
    }

    async fn until_finished<F: Future>(&self, future: F) -> Option<F::Output> {
        self.finished.run_until_cancelled(future).await
    }

    fn untold(&self) -> std::sync::MutexGuard<'_, Untold> {
        // Nothing that holds it can panic halfway.
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_newest_output_and_whole_characters() {
        let mut untold = Untold::default();
        untold.push("a\u{f6}".as_bytes().split_at(2).0);
        assert_eq!(untold.take(), "a");
        untold.push("\u{f6}".as_bytes().split_at(1).1);
        assert_eq!(untold.take(), "\u{f6}");

        untold.push(&[b'x'; MAX_MESSAGE]);
        untold.push(b"123");
        untold.push(&[b'y'; MAX_MESSAGE - 1]);
        let expected = format!(
            "[... {} bytes ...]3{}",
            MAX_MESSAGE + 2,
            "y".repeat(MAX_MESSAGE - 1)
        );
        assert_eq!(untold.take(), expected);
        untold.push(&[b'z'; 5 * MAX_MESSAGE]);
        assert!(
            untold
                .take()
                .starts_with(&format!("[... {} bytes ...]zz", 4 * MAX_MESSAGE))
        );
        assert_eq!(untold.take(), "");
    }
}
