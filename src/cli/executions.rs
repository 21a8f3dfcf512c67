//! `sandpool attach` and `sandpool executions`: what goes on without its client.

use std::process::ExitCode;

use clap::Args;

use super::{
    OWN_TROUBLE,
    client::{ClientError, ServerArgs, printable},
    exit_code,
    output::OutputArgs,
    run::{self, Exit},
    say::complain,
    table::Table,
};
use crate::proto::v1::{
    ExecutionSummary, ListExecutionsRequest, ListExecutionsResponse,
    execution_service_client::ExecutionServiceClient,
};

#[derive(Args)]
pub(super) struct AttachArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// What sandpool run --detach has printed.
    id: String,
}

/// Exits as the program does.
pub(super) async fn attach(args: AttachArgs) -> ExitCode {
    match args.server.connect().await {
        Ok(connection) => run::attach(connection, args.id).await,
        Err(error) => {
            complain(error);
            ExitCode::from(OWN_TROUBLE)
        }
    }
}

#[derive(Args)]
pub(super) struct ExecutionsArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Only those of this sandbox.
    #[arg(long, value_name = "ID")]
    sandbox: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn list(args: ExecutionsArgs) -> ExitCode {
    exit_code(show(args).await)
}

async fn show(args: ExecutionsArgs) -> Result<(), ClientError> {
    let mut client = ExecutionServiceClient::new(args.server.connect().await?);
    let mut request = ListExecutionsRequest {
        sandbox_id: args.sandbox.unwrap_or_default(),
        ..ListExecutionsRequest::default()
    };
    let mut listed = ListExecutionsResponse::default();
    loop {
        let page = client.list_executions(request.clone()).await?.into_inner();
        listed.executions.extend(page.executions);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    if let Some(json) = args.output.json()? {
        return json.print(&listed);
    }
    let rows: Vec<_> = listed.executions.iter().map(row).collect();
    let head = ["EXECUTION", "SANDBOX", "STATE", "STDOUT", "STDERR"];
    let table = Table::new(head, [0; 5], &rows);
    table.print(&rows);
    Ok(())
}

fn row(execution: &ExecutionSummary) -> [String; 5] {
    let state = match &execution.finished {
        None => "runs".to_owned(),
        Some(finished) => match Exit::of(finished) {
            Some(exit) => format!("exit {}", exit.code),
            None => "ended".to_owned(),
        },
    };
    [
        execution.execution_id.clone(),
        execution.sandbox_id.clone(),
        state,
        execution.stdout_bytes.to_string(),
        execution.stderr_bytes.to_string(),
    ]
    .map(|cell| printable(&cell))
}
