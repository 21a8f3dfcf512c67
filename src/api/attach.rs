//! Executions that outlive their calls: attaching to them, writing to them, listing them.

use std::{
    cmp::Reverse,
    time::{Duration, SystemTime},
};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::{
    execution::Executions,
    input::{InputError, MAX_STDIN_BYTES, signal},
    page,
    status::Refusal,
    translate::{outcome, terminal},
};
use crate::{
    dispatch::{NotSent, Reader, Record, Summary, Told, Update},
    proto::v1::{self, write_input_request::Event},
    sandbox::Input,
};

/// Messages on their way to the client.
const MESSAGES: usize = 2;
/// How many executions a page has: of a request that does not say, and at most.
const PAGE: u32 = 100;
const MAX_PAGE: u32 = 1000;

/// What an attached client is told.
pub(super) type Responses = ReceiverStream<Result<v1::ExecuteResponse, Status>>;

/// Tells a client all that `reader` reads, until the end, or until another one attaches.
pub(super) fn tell(mut reader: Reader) -> Responses {
    let (to_client, responses) = mpsc::channel(MESSAGES);
    let record = reader.record().clone();
    // Ends with the execution, or when the client goes away.
    tokio::spawn(async move {
        let mut finished = false;
        loop {
            let told = tokio::select! {
                told = reader.next() => told,
                () = to_client.closed() => return,
            };
            let Some(told) = told else { break };
            finished = matches!(told, Told::Update(Update::Finished(..)));
            let response = outcome::told(told, record.execution_id(), record.pool());
            if to_client.send(Ok(response)).await.is_err() {
                return;
            }
        }
        if !finished {
            // It has gone, or hears it.
            let _ = to_client.send(Err(told_no_more(&record).into())).await;
        }
    });
    ReceiverStream::new(responses)
}

/// Why a reader is told no more of an execution that has not ended.
pub(super) fn told_no_more(record: &Record) -> Refusal {
    if record.is_given_up() {
        Refusal::GivenUp
    } else {
        Refusal::AttachedElsewhere
    }
}

impl Executions {
    pub(super) fn attach_to(
        &self,
        caller: &str,
        request: &v1::AttachRequest,
    ) -> Result<Responses, Status> {
        let record = self.dispatcher.execution(caller, &request.execution_id);
        let record = record.map_err(Refusal::from)?;
        let offsets = [
            request.stdout_offset,
            request.stderr_offset,
            request.display_offset,
        ];
        Ok(tell(record.attach(offsets, request.output_file_offset)))
    }

    pub(super) async fn write_to(
        &self,
        caller: &str,
        request: v1::WriteInputRequest,
    ) -> Result<Response<v1::WriteInputResponse>, Status> {
        let record = self.dispatcher.execution(caller, &request.execution_id);
        let record = record.map_err(Refusal::from)?;
        let input = input(request.event).map_err(Refusal::from)?;
        let program = record.input().ok_or(Refusal::TakesNoInput)?;
        program.send(input).await.map_err(not_sent)?;
        Ok(Response::new(v1::WriteInputResponse {}))
    }

    pub(super) fn list(
        &self,
        caller: &str,
        request: &v1::ListExecutionsRequest,
    ) -> v1::ListExecutionsResponse {
        let size = page::size(request.page_size, PAGE, MAX_PAGE);
        let records = self.dispatcher.executions(caller);
        let mut found: Vec<Summary> = records
            .iter()
            .filter(|it| request.sandbox_id.is_empty() || it.is_in(&request.sandbox_id))
            .map(|it| it.summary())
            .filter(|it| page::has_labels(&it.labels, &request.labels))
            .collect();
        found.sort_by_cached_key(|it| Reverse(place(it)));
        if !request.page_token.is_empty() {
            found.retain(|it| place(it) < request.page_token);
        }
        let last = page::cut(&mut found, size);
        v1::ListExecutionsResponse {
            next_page_token: last.map(place).unwrap_or_default(),
            executions: found.into_iter().map(outcome::summary).collect(),
        }
    }
}

/// Where an execution comes in a listing: by its time, and then by its id.
fn place(summary: &Summary) -> String {
    let since = summary.created_at.duration_since(SystemTime::UNIX_EPOCH);
    let nanos = since.unwrap_or(Duration::ZERO).as_nanos();
    format!("{nanos:032x}.{}", summary.execution_id)
}

/// As what it is refused.
pub(super) fn not_sent(why: NotSent) -> Refusal {
    match why {
        NotSent::Ended => Refusal::TakesNoInput,
        NotSent::StdinNotOpen => InputError::StdinNotOpen.into(),
        NotSent::StdinClosed => InputError::StdinClosed.into(),
        NotSent::NoTerminal => InputError::NoTerminal.into(),
    }
}

fn input(event: Option<Event>) -> Result<Input, InputError> {
    match event.ok_or(InputError::Empty)? {
        Event::Stdin(bytes) if bytes.len() > MAX_STDIN_BYTES => {
            Err(InputError::StdinTooLarge(bytes.len()))
        }
        Event::Stdin(bytes) => Ok(Input::Data(bytes)),
        Event::CloseStdin(_) => Ok(Input::Close),
        Event::Signal(given) => signal(given.number).map(Input::Signal),
        Event::Resize(size) => terminal::size(size)
            .map(Input::Resize)
            .map_err(InputError::TerminalSize),
    }
}
