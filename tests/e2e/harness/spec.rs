//! What to run, said in one expression.

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Client, Done, Execution, v1};

/// An ExecutionSpec under construction, and the stdin that follows it.
#[derive(Clone)]
pub struct Spec {
    pub message: v1::ExecutionSpec,
    stdin: Option<Bytes>,
}

fn code(language: &str, source: &str) -> Spec {
    program(v1::execution_spec::Program::Code(v1::Code {
        language: language.into(),
        source: source.into(),
        args: Vec::new(),
    }))
}

fn program(program: v1::execution_spec::Program) -> Spec {
    Spec {
        message: v1::ExecutionSpec {
            program: Some(program),
            ..Default::default()
        },
        stdin: None,
    }
}

pub fn python(source: &str) -> Spec {
    code("python", source)
}

/// A cell of Python.
pub fn cell(source: &str, context: &v1::Context) -> Spec {
    python(source).cell_of(context)
}

pub fn bash(source: &str) -> Spec {
    code("bash", source)
}

/// In the pool that has node.
pub fn node(source: &str) -> Spec {
    code("node", source).pool("node")
}

pub fn command(args: &[&str]) -> Spec {
    program(v1::execution_spec::Program::Command(v1::Command {
        args: args.iter().map(|&arg| arg.into()).collect(),
    }))
}

impl Spec {
    pub fn pool(mut self, name: &str) -> Self {
        self.message.pool = name.into();
        self
    }

    /// In a sandbox that lives on.
    pub fn within(mut self, sandbox: &str) -> Self {
        self.message.sandbox_id = sandbox.into();
        self
    }

    /// As a cell of a context there.
    pub fn cell_of(mut self, context: &v1::Context) -> Self {
        self.message.context_id = context.context_id.clone();
        self.within(&context.sandbox_id)
    }

    /// The same with another source.
    pub fn source(mut self, source: &str) -> Self {
        let Some(v1::execution_spec::Program::Code(code)) = &mut self.message.program else {
            panic!("a command has no source");
        };
        code.source = source.into();
        self
    }

    pub fn args(mut self, args: &[&str]) -> Self {
        let Some(v1::execution_spec::Program::Code(code)) = &mut self.message.program else {
            panic!("a command has its arguments already");
        };
        code.args = args.iter().map(|&arg| arg.into()).collect();
        self
    }

    /// Goes on for so long when nobody reads it.
    pub fn keep(mut self, time: Duration) -> Self {
        self.message.keep_after_disconnect = Some(time.try_into().unwrap());
        self
    }

    /// On a terminal of that size; what is typed follows through [`Execution::send`].
    pub fn terminal(mut self, rows: u32, columns: u32) -> Self {
        self.message.terminal = Some(v1::Terminal { rows, columns });
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.message.env.insert(name.into(), value.into());
        self
    }

    pub fn directory(mut self, path: &str) -> Self {
        self.message.working_directory = path.into();
        self
    }

    pub fn file(self, path: &str, content: impl Into<Bytes>) -> Self {
        self.file_with_mode(path, content, 0)
    }

    pub fn file_with_mode(mut self, path: &str, content: impl Into<Bytes>, mode: u32) -> Self {
        self.message.files.push(v1::InputFile {
            path: path.into(),
            content: content.into(),
            mode,
        });
        self
    }

    pub fn output(mut self, glob: &str) -> Self {
        self.message.output_paths.push(glob.into());
        self
    }

    /// A file that the caller has.
    pub fn known(mut self, path: &str, content: &[u8]) -> Self {
        self.message.known_files.push(v1::KnownFile {
            path: path.into(),
            size: content.len() as u64,
            sha256: Sha256::digest(content).to_vec().into(),
        });
        self
    }

    pub fn id(mut self, id: &str) -> Self {
        self.message.execution_id = id.into();
        self
    }

    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.message.labels.insert(key.into(), value.into());
        self
    }

    pub fn limits(mut self, change: impl FnOnce(&mut v1::Limits)) -> Self {
        change(self.message.limits.get_or_insert_default());
        self
    }

    pub fn timeout(self, timeout: Duration) -> Self {
        self.limits(|limits| limits.timeout = Some(timeout.try_into().unwrap()))
    }

    pub fn queue_timeout(self, timeout: Duration) -> Self {
        self.limits(|limits| limits.queue_timeout = Some(timeout.try_into().unwrap()))
    }

    /// All of stdin, sent at once and closed.
    pub fn stdin(mut self, bytes: impl Into<Bytes>) -> Self {
        self.stdin = Some(bytes.into());
        self.stdin_open()
    }

    /// stdin follows through [`Execution::send`].
    pub fn stdin_open(mut self) -> Self {
        self.message.stdin_open = true;
        self
    }

    /// Starts it by Execute, or tells the refusal.
    pub async fn try_start(self, client: &Client) -> Result<Execution, Status> {
        let (input, messages) = mpsc::channel(16);
        input
            .try_send(request(v1::execute_request::Event::Start(self.message)))
            .unwrap();
        if let Some(stdin) = self.stdin {
            for piece in stdin.chunks(1 << 19) {
                let piece = Bytes::copy_from_slice(piece);
                input
                    .try_send(request(v1::execute_request::Event::Stdin(piece)))
                    .unwrap();
            }
            let close = v1::execute_request::Event::CloseStdin(v1::CloseStdin {});
            input.try_send(request(close)).unwrap();
        }
        let response = client
            .executions
            .clone()
            .execute(ReceiverStream::new(messages))
            .await?;
        Ok(Execution::new(response.into_inner(), input))
    }

    /// Starts it by Execute.
    pub async fn start(self, client: &Client) -> Execution {
        let started = super::soon("a sandbox", self.try_start(client)).await;
        started.unwrap_or_else(|status| panic!("refused: {status}"))
    }

    /// Runs it by Execute to its end.
    pub async fn run(self, client: &Client) -> Done {
        self.start(client).await.finish().await
    }

    /// The refusal that it must get.
    pub async fn refused(self, client: &Client) -> Status {
        match super::soon("a refusal", self.try_start(client)).await {
            Err(status) => status,
            Ok(_) => panic!("it was not refused"),
        }
    }

    /// Runs it by Run.
    pub async fn run_whole(self, client: &Client, text: bool) -> Result<v1::RunResponse, Status> {
        let request = v1::RunRequest {
            spec: Some(self.message),
            stdin: self.stdin.unwrap_or_default(),
            text,
        };
        let answer = super::soon("an answer", client.executions.clone().run(request)).await?;
        Ok(answer.into_inner())
    }
}

impl Client {
    /// Goes on reading an execution.
    pub async fn attach(&self, id: &str, offsets: [u64; 2]) -> Result<Execution, Status> {
        self.attach_after(id, [offsets[0], offsets[1], 0]).await
    }

    /// The same, with so many displays had already.
    pub async fn attach_after(&self, id: &str, offsets: [u64; 3]) -> Result<Execution, Status> {
        let request = v1::AttachRequest {
            execution_id: id.into(),
            stdout_offset: offsets[0],
            stderr_offset: offsets[1],
            display_offset: offsets[2],
            output_file_offset: 0,
        };
        let mut executions = self.executions.clone();
        let attached = super::soon("an answer", executions.attach(request)).await?;
        Ok(Execution::attached(attached.into_inner(), offsets))
    }

    /// Input for an execution that outlives its call.
    pub async fn write_input(
        &self,
        id: &str,
        event: v1::write_input_request::Event,
    ) -> Result<(), Status> {
        let request = v1::WriteInputRequest {
            execution_id: id.into(),
            event: Some(event),
        };
        let mut executions = self.executions.clone();
        super::soon("an answer", executions.write_input(request)).await?;
        Ok(())
    }

    /// Those of a sandbox, if one is named, and with a label "test" of that value, if there is one.
    pub async fn list_executions(&self, sandbox: &str, test: &str) -> Vec<v1::ExecutionSummary> {
        let label = ("test".to_owned(), test.to_owned());
        let request = v1::ListExecutionsRequest {
            sandbox_id: sandbox.into(),
            labels: [label].into_iter().filter(|_| !test.is_empty()).collect(),
            ..Default::default()
        };
        let listed = self.executions.clone().list_executions(request).await;
        listed.unwrap().into_inner().executions
    }
}

pub fn request(event: v1::execute_request::Event) -> v1::ExecuteRequest {
    v1::ExecuteRequest { event: Some(event) }
}
