//! ExecutionService: check, translate, call.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::mpsc, task::yield_now, time::Instant};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Extensions, Request, Response, Status, Streaming, metadata::MetadataMap};

use super::{
    Pools,
    access::identity,
    attach::{not_sent, tell, told_no_more},
    input::{Accepted, Input as InputOrder},
    sandboxes::pool_of,
    status::Refusal,
    translate::{outcome, spec},
    violations::InvalidRequest,
    whole::Whole,
};
use crate::{
    dispatch::{Admitted, Dispatcher, NotSent, ProgramInput, Record, Sink, Told},
    proto::v1::{self, execution_service_server::ExecutionService},
    sandbox::Input,
};

/// Messages on their way to the client; each carries 1 MiB at most.
const UPDATES: usize = 2;

/// Runs programs.
pub struct Executions {
    /// Where they run.
    pub dispatcher: Arc<Dispatcher>,
    /// What the pools allow.
    pub pools: Arc<Pools>,
}

/// What a call brings besides its messages.
struct Call {
    caller: String,
    /// How long the client waits for all of it, if it said so.
    deadline: Option<Duration>,
    received: Instant,
}

impl Call {
    fn new(metadata: &MetadataMap, extensions: &Extensions) -> Result<Self, Refusal> {
        Ok(Self {
            received: Instant::now(),
            caller: identity(extensions)?.name.to_string(),
            deadline: deadline(metadata),
        })
    }
}

impl Executions {
    /// Checks a spec and waits for its sandbox: with it come the execution's id and its pool. `root` is the
    /// spec's field in the request.
    async fn admit(
        &self,
        request: v1::ExecutionSpec,
        root: &'static str,
        call: Call,
    ) -> Result<(Admitted, String, String), Status> {
        let sandbox = match request.sandbox_id.as_str() {
            "" => None,
            id => Some(
                self.dispatcher
                    .sandbox(&call.caller, id)
                    .map_err(Refusal::from)?,
            ),
        };
        let context = match (&sandbox, request.context_id.as_str()) {
            (Some(sandbox), id) if !id.is_empty() => {
                Some(sandbox.context(id).map_err(Refusal::from)?)
            }
            _ => None,
        };
        let pool = match &sandbox {
            Some(sandbox) => pool_of(sandbox, &request.pool)
                .map_err(|invalid| Refusal::Invalid(invalid.within(root)))?,
            None => self.pools.name(&request.pool).to_owned(),
        };
        let asked_for = request.pool.clone();
        let unknown = || {
            let known = self.pools.names();
            Refusal::Invalid(InvalidRequest::unknown_pool(&asked_for, known).within(root))
        };
        let rules = &self.pools.get(&pool).ok_or_else(unknown)?.rules;
        let execution_id = match request.execution_id.as_str() {
            "" => random_id(),
            id => id.to_owned(),
        };
        let spec = spec(request, rules, context.as_deref());
        let spec = spec.map_err(|invalid| Refusal::Invalid(invalid.within(root)))?;
        let queue_timeout = spec.limits.queue_timeout;
        let wait = call.deadline.unwrap_or(queue_timeout).min(queue_timeout);
        let admitted = self
            .dispatcher
            .admit(
                crate::dispatch::Request {
                    caller: call.caller,
                    execution_id: execution_id.clone(),
                    pool: pool.clone(),
                    sandbox,
                    context,
                    spec,
                    wait,
                },
                call.received,
            )
            .await
            .map_err(Refusal::from)?
            .ok_or_else(unknown)?;
        Ok((admitted, execution_id, pool))
    }
}

#[async_trait::async_trait]
impl ExecutionService for Executions {
    type ExecuteStream = Pin<Box<dyn Stream<Item = Result<v1::ExecuteResponse, Status>> + Send>>;

    async fn execute(
        &self,
        request: Request<Streaming<v1::ExecuteRequest>>,
    ) -> Result<Response<Self::ExecuteStream>, Status> {
        let (metadata, extensions, mut messages) = request.into_parts();
        let call = Call::new(&metadata, &extensions)?;
        let mut order = InputOrder::new();
        let first = messages.message().await?.unwrap_or_default();
        let Accepted::Start(start) = order.accept(first).map_err(Refusal::from)? else {
            // Whatever else comes first was refused by the order.
            return Err(Status::internal("the first message was not refused"));
        };
        let (admitted, execution_id, pool) = self.admit(*start, "start", call).await?;

        let (refused, refusal) = mpsc::channel(1);
        // A message that is refused ends the call and, unless it outlives that, the program.
        let refusals = ReceiverStream::new(refusal).map(|refusal: Refusal| Err(refusal.into()));
        let responses: Self::ExecuteStream = match admitted {
            Admitted::New(admission) if !admission.outlives_its_call() => {
                let (to_client, updates) = mpsc::channel(UPDATES);
                let (program, input) = admission.open_input();
                // Ends with the call: when the client goes away or the program ends.
                tokio::spawn(forward_input(messages, order, program, true, refused));
                // Owned by the dispatcher, which waits for it or ends it at shutdown.
                let record = admission.record().clone();
                tokio::spawn(admission.run(input, Sink::Caller(to_client, record)));
                let updates = ReceiverStream::new(updates)
                    .map(move |update| Ok(outcome::response(update, &execution_id, &pool)));
                Box::pin(UntilFinished {
                    stream: updates.merge(refusals),
                    finished: false,
                })
            }
            kept => {
                let is_new = matches!(kept, Admitted::New(_));
                let record = start_kept(kept);
                if let Some(program) = record.input() {
                    // Ends with the call.
                    tokio::spawn(forward_input(messages, order, program, is_new, refused));
                }
                Box::pin(UntilFinished {
                    stream: tell(record.attach([0; 3], 0)).merge(refusals),
                    finished: false,
                })
            }
        };
        // The start goes first: the program would wait for what the client does with the headers.
        // The headers go while the sandbox wakes up, when server and client have nothing else to do,
        // and what they touch for them is warm when the first output comes.
        yield_now().await;
        Ok(Response::new(responses))
    }

    async fn run(
        &self,
        request: Request<v1::RunRequest>,
    ) -> Result<Response<v1::RunResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let call = Call::new(&metadata, &extensions)?;
        let mut start = request.spec.unwrap_or_default();
        start.stdin_open |= !request.stdin.is_empty() || start.terminal.is_some();
        let (admitted, execution_id, pool) = self.admit(start, "spec", call).await?;
        let mut whole = Whole::new(execution_id, pool, request.text);
        let admission = match admitted {
            Admitted::New(admission) if !admission.outlives_its_call() => admission,
            kept => {
                let is_new = matches!(kept, Admitted::New(_));
                let record = start_kept(kept);
                if let Some(program) = record.input().filter(|_| is_new) {
                    give_all(&program, request.stdin).await;
                }
                let mut reader = record.attach([0; 3], 0);
                while let Some(told) = reader.next().await {
                    match told {
                        Told::Update(update) => whole.add(update),
                        Told::Gap { stream, bytes, .. } => whole.miss(stream, bytes),
                    }
                }
                let whole = whole.response().map(Response::new);
                return whole.ok_or_else(|| told_no_more(&record).into());
            }
        };

        let (to_client, mut updates) = mpsc::channel(UPDATES);
        let (program, input) = admission.open_input();
        give_all(&program, request.stdin).await;
        // When the client goes away, this call's future is dropped, and with it `updates`.
        let record = admission.record().clone();
        tokio::spawn(admission.run(input, Sink::Caller(to_client, record)));

        while let Some(update) = updates.recv().await {
            whole.add(update);
        }
        whole
            .response()
            .map(Response::new)
            .ok_or_else(|| Status::internal("the execution ended without an outcome"))
    }

    type AttachStream = Pin<Box<dyn Stream<Item = Result<v1::ExecuteResponse, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<v1::AttachRequest>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let caller = &identity(request.extensions()).map_err(Refusal::from)?.name;
        let told = self.attach_to(caller, request.get_ref())?;
        Ok(Response::new(Box::pin(told)))
    }

    async fn write_input(
        &self,
        request: Request<v1::WriteInputRequest>,
    ) -> Result<Response<v1::WriteInputResponse>, Status> {
        let (_, extensions, request) = request.into_parts();
        let caller = &identity(&extensions).map_err(Refusal::from)?.name;
        self.write_to(caller, request).await
    }

    async fn list_executions(
        &self,
        request: Request<v1::ListExecutionsRequest>,
    ) -> Result<Response<v1::ListExecutionsResponse>, Status> {
        let caller = &identity(request.extensions()).map_err(Refusal::from)?.name;
        Ok(Response::new(self.list(caller, request.get_ref())))
    }
}

/// All the input of a program, for which there is room. One without stdin is given none.
async fn give_all(program: &ProgramInput, stdin: Bytes) {
    if !stdin.is_empty() {
        // What is not taken any more is dropped.
        let _ = program.send(Input::Data(stdin)).await;
    }
    let _ = program.send(Input::Close).await;
}

/// Starts what is new, and goes on without its call. Whatever is kept of it is read from its record.
fn start_kept(admitted: Admitted) -> Arc<Record> {
    match admitted {
        Admitted::Known(record) => record,
        Admitted::New(admission) => {
            let record = admission.record().clone();
            let (program, input) = admission.open_input();
            record.set_input(program);
            // Owned by the dispatcher, which waits for it or ends it at shutdown.
            tokio::spawn(admission.run(input, Sink::Kept(record.clone())));
            record
        }
    }
}

/// Passes on what the client sends, until it ends, breaks the order, or goes away. Of a call that repeats an earlier one,
/// and so has not begun the program, what comes after the end of stdin has come before: it is dropped.
async fn forward_input(
    mut messages: Streaming<v1::ExecuteRequest>,
    mut order: InputOrder,
    program: Arc<ProgramInput>,
    has_begun: bool,
    refused: mpsc::Sender<Refusal>,
) {
    loop {
        let message = tokio::select! {
            message = messages.message() => message,
            // The program has ended: what else comes is dropped.
            () = program.closed() => return,
        };
        // The end of the client's messages is the end of stdin; an error is a client that has
        // gone, which is seen at the other half of the call, too.
        let Ok(Some(message)) = message else { return };
        let input = match order.accept(message) {
            Ok(Accepted::Stdin(data)) => Input::Data(data),
            Ok(Accepted::CloseStdin) => Input::Close,
            Ok(Accepted::Signal(number)) => Input::Signal(number),
            Ok(Accepted::Resize(size)) => Input::Resize(size),
            Ok(Accepted::Start(_)) => return,
            Err(error) => {
                // The call is already over if nobody listens.
                let _ = refused.send(error.into()).await;
                return;
            }
        };
        match program.send(input).await {
            Ok(()) => {}
            Err(NotSent::StdinClosed) if !has_begun => {}
            Err(NotSent::Ended) => return,
            Err(error) => {
                let _ = refused.send(not_sent(error)).await;
                return;
            }
        }
    }
}

/// Ends a stream after Finished or an error, whatever else would follow.
struct UntilFinished<S> {
    stream: S,
    finished: bool,
}

impl<S> Stream for UntilFinished<S>
where
    S: Stream<Item = Result<v1::ExecuteResponse, Status>> + Unpin,
{
    type Item = S::Item;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        if self.finished {
            return std::task::Poll::Ready(None);
        }
        let next = Pin::new(&mut self.stream).poll_next(cx);
        if let std::task::Poll::Ready(Some(item)) = &next {
            self.finished = match item {
                Ok(response) => matches!(
                    response.event,
                    Some(v1::execute_response::Event::Finished(_))
                ),
                Err(_) => true,
            };
        }
        next
    }
}

fn random_id() -> String {
    format!(
        "{:016x}{:016x}",
        rand::random::<u64>(),
        rand::random::<u64>()
    )
}

/// The client's own deadline, as gRPC transmits it: up to eight digits and a unit (gRPC over
/// HTTP/2, "Requests").
pub(super) fn deadline(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_deadline_is_understood() {
        let mut metadata = MetadataMap::new();
        assert_eq!(deadline(&metadata), None);
        for (text, expected) in [
            ("250m", Some(Duration::from_millis(250))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("123456789S", None),
            ("1x", None),
            ("", None),
        ] {
            metadata.insert("grpc-timeout", text.parse().unwrap());
            assert_eq!(deadline(&metadata), expected, "{text:?}");
        }
    }
}
