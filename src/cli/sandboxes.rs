//! `sandpool sandbox`: sandboxes that live on.

use std::{collections::HashMap, process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use tonic::Request;

use super::{
    client::{ClientError, Connection, ServerArgs, printable},
    exit_code,
    output::OutputArgs,
    say::say,
    table::Table,
};
use crate::proto::v1::{
    CreateSandboxRequest, DeleteSandboxRequest, ExtendSandboxRequest, GetSandboxRequest,
    ListSandboxesRequest, ListSandboxesResponse, Sandbox,
    sandbox_service_client::SandboxServiceClient,
};

#[derive(Args)]
pub(super) struct SandboxArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Take a sandbox that lives on, and print its id.
    Create(CreateArgs),
    /// Show your sandboxes.
    List {
        /// Only those with this label.
        #[arg(long, short, value_name = "KEY=VALUE", value_parser = pair)]
        label: Vec<(String, String)>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show one of them.
    Get {
        id: String,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Let one live for so long from now on.
    Extend {
        id: String,
        /// Such as 30m.
        #[arg(value_parser = humantime::parse_duration)]
        lifetime: Duration,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// End one, and all that runs in it.
    Delete {
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

#[derive(Args)]
struct CreateArgs {
    /// Take it from this pool instead of the server's default pool.
    #[arg(long)]
    pool: Option<String>,
    /// How long it lives at most, such as 2h [default: the pool's].
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    lifetime: Option<Duration>,
    /// How long it lives without being used [default: the pool's].
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    idle_timeout: Option<Duration>,
    /// Set an environment variable for all its programs.
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// Give it a label.
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = pair)]
    label: Vec<(String, String)>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn main(args: SandboxArgs) -> ExitCode {
    exit_code(act(args).await)
}

async fn act(args: SandboxArgs) -> Result<(), ClientError> {
    let mut client = SandboxServiceClient::new(args.server.connect().await?);
    match args.action {
        Action::Create(args) => {
            let json = args.output.json()?;
            let created = client.create_sandbox(args.request()).await?.into_inner();
            match json {
                Some(json) => json.print(&created)?,
                None => drop(say(&printable(&created.sandbox_id))),
            }
        }
        Action::List { label, output } => {
            let listed = list(client, label.into_iter().collect()).await?;
            match output.json()? {
                Some(json) => json.print(&listed)?,
                None => print(&listed.sandboxes),
            }
        }
        Action::Get { id, output } => {
            let request = GetSandboxRequest { sandbox_id: id };
            show(client.get_sandbox(request).await?.into_inner(), &output)?;
        }
        Action::Extend {
            id,
            lifetime,
            output,
        } => {
            let request = ExtendSandboxRequest {
                sandbox_id: id,
                lifetime: lifetime.try_into().ok(),
            };
            show(client.extend_sandbox(request).await?.into_inner(), &output)?;
        }
        Action::Delete { ids } => {
            for id in ids {
                let request = DeleteSandboxRequest { sandbox_id: id };
                client.delete_sandbox(request).await?;
            }
        }
    }
    Ok(())
}

/// All of them, of however many pages.
pub(super) async fn list(
    mut client: SandboxServiceClient<Connection>,
    labels: HashMap<String, String>,
) -> Result<ListSandboxesResponse, ClientError> {
    let mut listed = ListSandboxesResponse::default();
    let mut page_token = String::new();
    loop {
        let request = Request::new(ListSandboxesRequest {
            labels: labels.clone(),
            page_size: 0,
            page_token,
        });
        let page = client.list_sandboxes(request).await?.into_inner();
        listed.sandboxes.extend(page.sandboxes);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(listed);
        }
    }
}

impl CreateArgs {
    fn request(self) -> CreateSandboxRequest {
        let duration = |time: Option<Duration>| time.and_then(|time| time.try_into().ok());
        CreateSandboxRequest {
            pool: self.pool.unwrap_or_default(),
            lifetime: duration(self.lifetime),
            idle_timeout: duration(self.idle_timeout),
            env: self.env.into_iter().collect(),
            labels: self.label.into_iter().collect(),
            ..CreateSandboxRequest::default()
        }
    }
}

fn show(sandbox: Sandbox, output: &OutputArgs) -> Result<(), ClientError> {
    match output.json()? {
        Some(json) => json.print(&sandbox)?,
        None => print(&[sandbox]),
    }
    Ok(())
}

fn print(sandboxes: &[Sandbox]) {
    let rows: Vec<_> = sandboxes.iter().map(row).collect();
    let head = [
        "SANDBOX",
        "POOL",
        "RUNNING",
        "ENDS",
        "IDLE TIMEOUT",
        "LABELS",
    ];
    let table = Table::new(head, [0; 6], &rows);
    table.print(&rows);
}

fn row(sandbox: &Sandbox) -> [String; 6] {
    let time = sandbox.expire_time.and_then(|time| time.try_into().ok());
    let ends = time.map(|time| humantime::format_rfc3339_seconds(time).to_string());
    let idle: Option<Duration> = sandbox.idle_timeout.and_then(|time| time.try_into().ok());
    let mut labels: Vec<_> = sandbox
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    labels.sort();
    [
        sandbox.sandbox_id.clone(),
        sandbox.pool.clone(),
        sandbox.executions.to_string(),
        ends.unwrap_or_default(),
        idle.map(|time| humantime::format_duration(time).to_string())
            .unwrap_or_default(),
        labels.join(","),
    ]
    .map(|cell| printable(&cell))
}

/// A name and its value.
fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=');
    pair.map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| format!("{text:?} has no '='"))
}
