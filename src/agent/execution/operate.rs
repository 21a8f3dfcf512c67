//! An execution whose program is the agent itself: a file operation.

use std::sync::Arc;

use bytes::Bytes;

use super::{Execution, State};
use crate::{
    agent::operations,
    proto::agent::{Exited, FileOperation, FileStatus, Started, exited::End},
};

/// What is said of a failure at most, in bytes: less than there always is room for.
const MAX_WORDS: usize = 1024;

impl Execution {
    /// Starts it, as a task that ends with the operation, when it is killed, or with the sandbox.
    pub(super) fn operate(self: &Arc<Self>, operation: FileOperation, no_input: bool) {
        self.change(|state| {
            state.input_ended |= no_input;
            state.started = Some(Started {
                warm: true,
                direct_output: None,
            });
        });
        let execution = self.clone();
        tokio::spawn(async move {
            let end = tokio::select! {
                biased;
                () = execution.killed.notified() => End::Signal(libc::SIGKILL),
                done = operations::perform(&execution, operation) => match done {
                    Ok(()) => End::Code(FileStatus::Ok.into()),
                    Err(failure) => {
                        let words = failure.words.as_bytes();
                        let words = &words[..words.len().min(MAX_WORDS)];
                        if !words.is_empty() {
                            let words = Bytes::copy_from_slice(words);
                            execution.change(|state| state.push(1, words));
                        }
                        End::Code(failure.status.into())
                    }
                },
            };
            execution.change(State::drop_input);
            execution.has_exited(Exited {
                end: Some(end),
                ..Exited::default()
            });
        });
    }

    /// Adds to stdout, as fast as there is credit.
    pub(in crate::agent) async fn put(&self, data: Bytes) {
        self.fill(0, data).await;
    }
}
