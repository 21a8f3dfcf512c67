//! `sandpool context`: interpreters that keep their state, in a sandbox that lives on.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{
    client::{ClientError, ServerArgs, printable},
    exit_code,
    output::OutputArgs,
    run::Exit,
    say::say,
    table::Table,
};
use crate::proto::v1::{
    Context, CreateContextRequest, DeleteContextRequest, ListContextsRequest,
    sandbox_service_client::SandboxServiceClient,
};

#[derive(Args)]
pub(super) struct ContextArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start a Python that keeps its variables, and print its id.
    Create {
        sandbox: String,
        /// Where it starts, relative to /workspace.
        #[arg(long, value_name = "DIRECTORY", default_value = "")]
        workdir: String,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show a sandbox's contexts, those that have ended included.
    List {
        sandbox: String,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// End some, and what runs in them.
    Delete {
        sandbox: String,
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

pub(super) async fn main(args: ContextArgs) -> ExitCode {
    exit_code(act(args).await)
}

async fn act(args: ContextArgs) -> Result<(), ClientError> {
    let mut client = SandboxServiceClient::new(args.server.connect().await?);
    match args.action {
        Action::Create {
            sandbox,
            workdir,
            output,
        } => {
            let request = CreateContextRequest {
                sandbox_id: sandbox,
                working_directory: workdir,
                ..CreateContextRequest::default()
            };
            let created = client.create_context(request).await?.into_inner();
            match output.json()? {
                Some(json) => json.print(&created)?,
                None => drop(say(&printable(&created.context_id))),
            }
        }
        Action::List { sandbox, output } => {
            let request = ListContextsRequest {
                sandbox_id: sandbox,
            };
            let listed = client.list_contexts(request).await?.into_inner();
            match output.json()? {
                Some(json) => json.print(&listed)?,
                None => print(&listed.contexts),
            }
        }
        Action::Delete { sandbox, ids } => {
            for id in ids {
                let request = DeleteContextRequest {
                    sandbox_id: sandbox.clone(),
                    context_id: id,
                };
                client.delete_context(request).await?;
            }
        }
    }
    Ok(())
}

fn print(contexts: &[Context]) {
    let rows: Vec<_> = contexts.iter().map(row).collect();
    let head = ["CONTEXT", "LANGUAGE", "CELLS", "DIRECTORY", "ENDED"];
    Table::new(head, [0; 5], &rows).print(&rows);
}

fn row(context: &Context) -> [String; 5] {
    let ended = context.finished.as_ref().map(|finished| {
        let exit = Exit::of(finished);
        exit.map_or_else(String::new, |exit| {
            let code = format!("exit code {}", exit.code);
            exit.message.unwrap_or(code)
        })
    });
    [
        context.context_id.clone(),
        context.language.clone(),
        context.execution_count.to_string(),
        context.working_directory.clone(),
        ended.unwrap_or_default(),
    ]
    .map(|cell| printable(&cell))
}
