//! What is done with files of named sandboxes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::{Dispatcher, NamedSandbox, NotCreated, Refused, run::CALLER_PATIENCE};
use crate::{
    execution::{FileOperation, InputFile, Spec, WriteHow},
    sandbox::{FileOutput, Input, Operation, OperationError},
};

/// No client can choose it for an execution's id.
const ID_PREFIX: &str = "file:";
/// Messages on their way, in either direction.
const MESSAGES: usize = 2;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A file operation under way. Dropped, it is given up, and a file that was not whole is never seen.
pub struct FileOperationUnderWay {
    /// Where content goes that is to be written; [`Input::Close`] ends it, and nothing else.
    pub input: mpsc::Sender<Input>,
    /// What the operation gives.
    pub output: mpsc::Receiver<FileOutput>,
    done: JoinHandle<Result<(), OperationError>>,
}

impl FileOperationUnderWay {
    /// Waits for its end. What it still gives is dropped.
    ///
    /// # Errors
    /// See [`OperationError`].
    pub async fn ended(mut self) -> Result<(), OperationError> {
        while self.output.recv().await.is_some() {}
        match self.done.await {
            Ok(done) => done,
            Err(error) => Err(OperationError::Lost(format!(
                "the operation crashed: {error}"
            ))),
        }
    }
}

impl Dispatcher {
    /// Writes a whole file.
    ///
    /// # Errors
    /// See [`NotCreated`].
    pub(super) async fn write_file(
        self: &Arc<Self>,
        named: &Arc<NamedSandbox>,
        file: InputFile,
    ) -> Result<(), NotCreated> {
        let write = FileOperation::Write {
            path: file.path,
            mode: file.mode,
            how: WriteHow::Replace,
        };
        let operation = self.operate(named.clone(), write)?;
        for input in [Input::Data(file.content), Input::Close] {
            // An operation that has ended says why.
            let _ = operation.input.send(input).await;
        }
        Ok(operation.ended().await?)
    }

    /// Begins to do something with a sandbox's files.
    ///
    /// # Errors
    /// When the server shuts down, the sandbox may be another server's by now, or too much is done with its
    /// files already.
    pub fn operate(
        self: &Arc<Self>,
        named: Arc<NamedSandbox>,
        operation: FileOperation,
    ) -> Result<FileOperationUnderWay, Refused> {
        self.may_begin()?;
        let inside = named.begin_operation()?;
        let running = self.running.subscribe();
        let (input, mut taken) = mpsc::channel(MESSAGES);
        let (given, output) = mpsc::channel(MESSAGES);
        let (dispatcher, still_open) = (self.clone(), input.clone());
        // Owned by the sandbox, whose end ends it; it also ends when nobody takes what it gives.
        let done = tokio::spawn(async move {
            let rest = {
                let id = format!("{ID_PREFIX}{}", NEXT.fetch_add(1, Ordering::Relaxed));
                let spec = Spec::file_operation(operation);
                let operation = Operation {
                    id: &id,
                    spec: &spec,
                    input: &mut taken,
                    output: &given,
                    stop: named.stopped(),
                    reattach_timeout: dispatcher.reattach_timeout,
                };
                let done = named.sandbox().operate(operation).await;
                // A client that goes away is not the end of what it was to write.
                drop((still_open, inside, running, named));
                done?
            };
            for output in rest {
                let sent = timeout(CALLER_PATIENCE, given.send(output)).await;
                if !matches!(sent, Ok(Ok(()))) {
                    let reason = "its caller has gone, or takes nothing";
                    return Err(OperationError::Cancelled(reason.into()));
                }
            }
            Ok(())
        });
        Ok(FileOperationUnderWay {
            input,
            output,
            done,
        })
    }
}
