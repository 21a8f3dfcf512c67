//! `sandpool doctor`: what this machine or the cluster lacks, and what to do about it.
//!
//! `local` and `cluster` look at what each backend needs, `files` at what the server itself reads;
//! here a sandbox of each pool is tried.

mod cluster;
mod files;
mod local;

use std::{process::ExitCode, time::Instant};

use clap::Args;

use super::{client::printable, say::say, sources::SourceArgs};
use crate::{
    backend::SandboxId,
    config::{BackendKind, Config},
    metrics::Metrics,
    pool::Provision,
    serve::pools::{Place, provision},
};

#[derive(Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    sources: SourceArgs,
}

/// What was looked at, and what was found.
type Check = (String, Finding);

/// What a check found out.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    Good(String),
    /// What is wrong, and what to do.
    Bad(String, String),
    /// Why it was not looked at. That is no fault.
    Unknown(String),
}

use Finding::{Bad, Good, Unknown};

pub(super) async fn main(args: DoctorArgs) -> ExitCode {
    let config = match args.sources.into_sources().load() {
        Ok(loaded) => {
            report("configuration", &Good("valid".into()));
            loaded.config
        }
        Err(error) => {
            let remedy =
                "`sandpool config` prints what is in force; docs/configuration.md lists every key";
            report("configuration", &Bad(error.to_string(), remedy.into()));
            return ExitCode::FAILURE;
        }
    };
    let mut checks = match config.backend.kind {
        BackendKind::Local => local::checks(&config.backend.local),
        BackendKind::Kubernetes => cluster::checks(&config).await,
    };
    checks.push(("address".into(), address(&config).await));
    checks.extend(files::checks(&config));
    let mut healthy = true;
    for (name, finding) in &checks {
        healthy &= report(name, finding);
    }
    if !healthy {
        say("skip  sandboxes: only tried when all of the above is well");
        return ExitCode::FAILURE;
    }
    if sandboxes(&config).await {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Prints a finding, which nobody need read; whether it is no fault.
fn report(name: &str, finding: &Finding) -> bool {
    let line = match finding {
        Good(what) => format!("ok    {name}: {what}"),
        Bad(what, remedy) => format!("FAIL  {name}: {what}\n      {remedy}"),
        Unknown(why) => format!("skip  {name}: not looked at: {why}"),
    };
    say(&line);
    !matches!(finding, Bad(..))
}

/// Not a fault when a server runs already: doctor may be asked beside it.
async fn address(config: &Config) -> Finding {
    match tokio::net::TcpListener::bind(config.listen).await {
        Ok(_) => Good(format!("{} is free", config.listen)),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Good(format!(
            "{} is in use: a server runs there already, or set `listen`",
            config.listen
        )),
        Err(error) => Bad(
            format!("{}: {error}", config.listen),
            "set `listen` to an address of this machine, such as 127.0.0.1:50051".into(),
        ),
    }
}

/// Starts and deletes one sandbox of each pool.
async fn sandboxes(config: &Config) -> bool {
    let name = format!("doctor{:08x}", rand::random::<u32>());
    let place = match Place::open(&config.backend, &name).await {
        Ok(place) => place,
        Err(error) => {
            let remedy = match config.backend.kind {
                BackendKind::Local => format!(
                    "see that root may write to {}",
                    config.backend.local.state_dir.display()
                ),
                BackendKind::Kubernetes => cluster::SEE_API_SERVER.into(),
            };
            return report("backend", &Bad(printable(&error.to_string()), remedy));
        }
    };
    let mut healthy = true;
    for pool in config.pools.keys() {
        let finding = sandbox(config, pool, &place, &name).await;
        healthy &= report(&format!("pool {pool}"), &finding);
    }
    place.close().await;
    healthy
}

async fn sandbox(config: &Config, pool: &str, place: &Place, server: &str) -> Finding {
    let begun = Instant::now();
    let metrics = Metrics::default().pool(pool);
    let (provision, info) = match provision(pool, &config.pools[pool], place, metrics.into()) {
        Ok(made) => made,
        Err(error) => {
            let remedy = format!("correct [pools.{pool}]");
            return Bad(error.to_string(), remedy);
        }
    };
    let id = SandboxId::new(pool, server, 0);
    let started = provision.start(&id).await.map(|_| begun.elapsed());
    let deleted = provision.delete(&id).await;
    match (started, deleted) {
        (Ok(time), Ok(())) => {
            let languages: Vec<_> = info.preloads.into_iter().map(|(name, _)| name).collect();
            Good(format!(
                "a gVisor sandbox was warm after {time:.0?}: {}",
                languages.join(", ")
            ))
        }
        (Err(reason), _) => {
            let remedy = match config.backend.kind {
                BackendKind::Local => local::by_hand(&config.backend.local),
                BackendKind::Kubernetes => cluster::remedy(config, pool, &reason),
            };
            Bad(printable(&reason), remedy)
        }
        (_, Err(reason)) => Bad(printable(&reason), "see what still runs of it".into()),
    }
}
