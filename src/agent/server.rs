//! The agent's gRPC service.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::{execution::Execution, executions::Executions, network};
use crate::proto::agent::{
    ForgetRequest, ForgetResponse, FromAgent, PingRequest, PingResponse, PrepareRequest,
    PrepareResponse, ToAgent, agent_service_server::AgentService, to_agent::Message,
};

/// One for all connections.
#[derive(Clone)]
pub(super) struct Agent(Arc<Executions>);

impl Agent {
    pub(super) fn new(executions: Executions) -> Self {
        Self(Arc::new(executions))
    }
}

#[async_trait::async_trait]
impl AgentService for Agent {
    async fn prepare(
        &self,
        request: Request<PrepareRequest>,
    ) -> Result<Response<PrepareResponse>, Status> {
        let mut request = request.into_inner();
        let must_not_reach = std::mem::take(&mut request.must_not_reach);
        let (failures, reached) =
            tokio::join!(self.0.prepare(request), network::reached(must_not_reach));
        let system = rustix::system::uname();
        Ok(Response::new(PrepareResponse {
            failures,
            reached,
            boot_log: boot_log(),
            kernel: system.release().to_string_lossy().into_owned(),
        }))
    }

    async fn ping(&self, _: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        Ok(Response::new(PingResponse {}))
    }

    async fn forget(
        &self,
        request: Request<ForgetRequest>,
    ) -> Result<Response<ForgetResponse>, Status> {
        self.0.forget(&request.get_ref().ended);
        Ok(Response::new(ForgetResponse {}))
    }

    type ExecuteStream = ToServer;

    async fn execute(
        &self,
        request: Request<Streaming<ToAgent>>,
    ) -> Result<Response<ToServer>, Status> {
        let mut messages = request.into_inner();
        let Some(ToAgent {
            message: Some(Message::Open(open)),
        }) = messages.message().await?
        else {
            return Err(Status::invalid_argument("the first message must be open"));
        };
        let execution = self.0.get(&open.execution_id, &open.ended);
        let connection = execution.open(&open);
        // What came with it, the start, goes first: the answer can wait for it, and then tells
        // of it in the same write.
        loop {
            let message = tokio::select! {
                biased;
                message = messages.message() => message?,
                () = std::future::ready(()) => break,
            };
            if !hear(&execution, message).await {
                break;
            }
        }
        // Ends with the connection.
        tokio::spawn(listen(execution.clone(), messages));
        Ok(Response::new(ToServer {
            execution,
            connection,
        }))
    }
}

/// The beginning of the kernel's log; empty where it may not be read.
fn boot_log() -> String {
    const SYSLOG_ACTION_READ_ALL: libc::c_int = 3;
    let mut log = [0_u8; 512];
    // SAFETY: the kernel writes at most the given length into the buffer.
    let length = unsafe { libc::klogctl(SYSLOG_ACTION_READ_ALL, log.as_mut_ptr().cast(), 512) };
    let length = usize::try_from(length).unwrap_or(0).min(log.len());
    String::from_utf8_lossy(&log[..length]).into_owned()
}

async fn listen(execution: Arc<Execution>, mut messages: Streaming<ToAgent>) {
    while let Ok(message) = messages.message().await {
        if !hear(&execution, message).await {
            return;
        }
    }
}

/// Whether the server may say more.
async fn hear(execution: &Arc<Execution>, message: Option<ToAgent>) -> bool {
    match message.and_then(|to_agent| to_agent.message) {
        Some(Message::Control(control)) => execution.control(control).await,
        Some(Message::Input(input)) => execution.input(input),
        Some(Message::Credit(credit)) => execution.credit(&credit),
        Some(Message::Open(_)) | None => return false,
    }
    true
}

/// What an execution has to say, over one connection.
pub(super) struct ToServer {
    execution: Arc<Execution>,
    connection: u64,
}

impl Stream for ToServer {
    type Item = Result<FromAgent, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.execution
            .poll_next(self.connection, cx.waker())
            .map(|message| message.map(Ok))
    }
}
