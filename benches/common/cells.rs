//! Cells of a context, and what their floor is told.

use std::time::{Duration, Instant};

use sandpool::proto::v1::{
    ExecuteRequest, ExecuteResponse, ExecutionSpec, execute_request, execute_response::Event,
};
use tonic::Streaming;

use super::{Executions, Server, named::Named, python};

/// What is run in both: it has a state, and prints something.
const SOURCE: &str = "n = globals().get('n', 0) + 1\nprint(n)";

/// What the floor's interpreter does: runs each source that comes after its length, in the same namespace.
pub const LOOP: &str = r#"
import sys
namespace = {"__name__": "__main__"}
for length in sys.stdin.buffer:
    exec(compile(sys.stdin.buffer.read(int(length)), "<cell>", "exec"), namespace)
    sys.stdout.flush()
"#;

/// A cell for that loop.
pub fn to_the_loop() -> String {
    format!("{}\n{SOURCE}", SOURCE.len())
}

/// The same cell again and again, in one context.
pub struct Cells {
    executions: Executions,
    spec: ExecutionSpec,
}

impl Cells {
    pub async fn new(server: &Server, named: &Named) -> Self {
        let mut spec = python(SOURCE);
        spec.sandbox_id = named.id.clone();
        spec.context_id = named.context().await;
        Self {
            executions: server.client(),
            spec,
        }
    }

    /// Until its first output; returns after its end.
    pub async fn run(&mut self) -> Duration {
        let request = ExecuteRequest {
            event: Some(execute_request::Event::Start(self.spec.clone())),
        };
        let begun = Instant::now();
        let answers = self.executions.execute(tokio_stream::once(request)).await;
        let mut answers = answers.unwrap().into_inner();
        until_output(&mut answers).await;
        let took = begun.elapsed();
        while answers.message().await.unwrap().is_some() {}
        took
    }
}

/// Reads until the program has written something; its id.
pub async fn until_output(answers: &mut Streaming<ExecuteResponse>) -> String {
    let mut id = String::new();
    loop {
        match answers.message().await.unwrap().unwrap().event.unwrap() {
            Event::Started(started) => id = started.execution_id,
            Event::Stdout(_) => return id,
            _ => panic!("neither Started nor output"),
        }
    }
}
