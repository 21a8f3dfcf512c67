//! `sandpool pools`

use std::process::ExitCode;

use clap::Args;
use tokio::sync::mpsc;
use tonic::Status;

use super::{
    client::{ClientError, Connection, ServerArgs, printable},
    exit_code,
    output::{Json, OutputArgs},
    say::say,
    table::Table,
};
use crate::proto::v1::{
    GetPoolRequest, ListPoolsRequest, ListPoolsResponse, Pool, WatchPoolRequest,
    pool_health::State, pool_service_client::PoolServiceClient,
};

#[derive(Args)]
pub(super) struct PoolsArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Only this pool.
    name: Option<String>,
    /// Go on and print a line whenever something changes.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    output: OutputArgs,
}

const COLUMNS: [&str; 9] = [
    "POOL",
    "STATE",
    "IDLE",
    "LEASED",
    "STARTING",
    "RECYCLING",
    "QUEUED",
    "MAX",
    "LANGUAGES",
];
/// Wide enough for what a watched pool may become later.
const LEAST_WIDTHS: [usize; 9] = [8, 9, 5, 6, 8, 9, 6, 4, 9];

type Row = [String; 9];

pub(super) async fn main(args: PoolsArgs) -> ExitCode {
    exit_code(show(args).await)
}

async fn show(args: PoolsArgs) -> Result<(), ClientError> {
    let mut client = PoolServiceClient::new(args.server.connect().await?);
    let one = args.name.is_some();
    let listed = match args.name {
        Some(name) => ListPoolsResponse {
            pools: vec![client.get_pool(GetPoolRequest { name }).await?.into_inner()],
        },
        None => client.list_pools(ListPoolsRequest {}).await?.into_inner(),
    };
    match args.output.json()? {
        Some(json) if args.watch => watch(client, listed.pools, |pool| json.print_line(pool)).await,
        Some(json) => print_document(&json, &listed, one),
        None => show_table(client, listed.pools, args.watch).await,
    }
}

/// As the API has it: a pool that was named is not in a list.
fn print_document(json: &Json, listed: &ListPoolsResponse, one: bool) -> Result<(), ClientError> {
    match &listed.pools[..] {
        [pool] if one => json.print(pool),
        _ => json.print(listed),
    }
}

async fn show_table(
    client: PoolServiceClient<Connection>,
    pools: Vec<Pool>,
    watched: bool,
) -> Result<(), ClientError> {
    let rows: Vec<Row> = pools.iter().map(row).collect();
    let table = Table::new(COLUMNS, LEAST_WIDTHS, &rows);
    say(&table.head());
    if watched {
        let print = |pool: &Pool| Ok(print_pool(pool, &row(pool), &table));
        return watch(client, pools, print).await;
    }
    for (pool, row) in pools.iter().zip(&rows) {
        print_pool(pool, row, &table);
    }
    Ok(())
}

/// Each pool now and after each change, until the server ends the watch or nobody reads any further.
async fn watch(
    client: PoolServiceClient<Connection>,
    pools: Vec<Pool>,
    print: impl Fn(&Pool) -> Result<bool, ClientError>,
) -> Result<(), ClientError> {
    let (changes, mut changed) = mpsc::channel(16);
    for pool in pools {
        let (mut client, changes) = (client.clone(), changes.clone());
        let name = pool.spec.unwrap_or_default().name;
        tokio::spawn(async move {
            if let Err(status) = forward(&mut client, name, &changes).await {
                // No receiver: the first error has ended the command.
                let _ = changes.send(Err(status)).await;
            }
        });
    }
    drop(changes);
    while let Some(change) = changed.recv().await {
        if !print(&change?)? {
            break;
        }
    }
    Ok(())
}

async fn forward(
    client: &mut PoolServiceClient<Connection>,
    name: String,
    changes: &mpsc::Sender<Result<Pool, Status>>,
) -> Result<(), Status> {
    let mut stream = client
        .watch_pool(WatchPoolRequest { name })
        .await?
        .into_inner();
    while let Some(pool) = stream.message().await? {
        if changes.send(Ok(pool)).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn row(pool: &Pool) -> Row {
    let spec = pool.spec.clone().unwrap_or_default();
    let counts = pool.counts.unwrap_or_default();
    let state = match pool.health.as_ref().map(|health| health.state()) {
        None | Some(State::Unspecified) => "unknown",
        Some(State::Warming) => "warming",
        Some(State::Ready) => "ready",
        Some(State::Unhealthy) => "unhealthy",
        Some(State::Drained) => "drained",
    };
    let languages: Vec<&str> = spec.languages.iter().map(|l| l.name.as_str()).collect();
    [
        format!("{}{}", spec.name, if spec.default { "*" } else { "" }),
        state.to_owned(),
        format!("{}/{}", counts.idle, spec.min_idle),
        counts.leased.to_string(),
        counts.starting.to_string(),
        counts.recycling.to_string(),
        counts.queued.to_string(),
        spec.max_sandboxes.to_string(),
        languages.join(","),
    ]
    .map(|cell| printable(&cell))
}

/// False: nobody reads any further.
fn print_pool(pool: &Pool, row: &Row, table: &Table<9>) -> bool {
    let reason = pool.health.as_ref().map(|health| health.reason.as_str());
    let reason = reason.filter(|reason| !reason.is_empty());
    say(&table.line(row)) && reason.is_none_or(|reason| say(&format!("  {}", printable(reason))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{PoolCounts, PoolHealth, PoolLanguage, PoolSpec};

    #[test]
    fn columns_are_aligned_below_their_names() {
        let pool = Pool {
            spec: Some(PoolSpec {
                name: "a-pool-with-a-name".to_owned(),
                default: true,
                min_idle: 4,
                max_sandboxes: 16,
                languages: vec![PoolLanguage {
                    name: "python".to_owned(),
                    preload: Vec::new(),
                }],
                ..PoolSpec::default()
            }),
            counts: Some(PoolCounts {
                idle: 3,
                leased: 2,
                ..PoolCounts::default()
            }),
            health: Some(PoolHealth {
                state: State::Ready.into(),
                ..PoolHealth::default()
            }),
        };
        let row = row(&pool);
        let table = Table::new(COLUMNS, LEAST_WIDTHS, std::slice::from_ref(&row));
        let (head, line) = (table.head(), table.line(&row));
        assert!(line.starts_with("a-pool-with-a-name*  ready      3/4"));
        for (name, cell) in [("IDLE", "3/4"), ("MAX", "16"), ("LANGUAGES", "python")] {
            assert_eq!(head.find(name), line.find(cell), "\n{head}\n{line}");
        }
    }
}
