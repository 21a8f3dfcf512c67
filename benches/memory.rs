//! Memory of an idle sandbox, host-wide: the server's share, gVisor's processes, the spares.
//!
//! The same pool is measured with few and with many idle sandboxes; a sandbox's share is the
//! difference, divided. PSS counts a page that processes share once.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout
)]

mod common;

use std::{collections::BTreeMap, fs};

use common::{Server, process, setting};

const FEW: u32 = 2;

/// PSS in KiB of the processes of each kind.
fn pss(server: &Server) -> BTreeMap<String, f64> {
    let mut by_kind = BTreeMap::from([("server".to_owned(), process::pss(server.pid()))]);
    let sandboxes = server.sandboxes();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let cgroups = fs::read_to_string(process.path().join("cgroup")).unwrap_or_default();
        let ours = sandboxes.iter().any(|dir| {
            let name = dir.file_name().unwrap().to_str().unwrap();
            cgroups.lines().any(|line| line.ends_with(name))
        });
        if ours {
            let command = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
            let kind = match command.split('\0').next().unwrap_or_default() {
                name if name.contains("gofer") => "gofer",
                name if name.contains("sandbox") => "sentry, with the memory of all inside",
                _ => "systrap's stubs",
            };
            *by_kind.entry(kind.to_owned()).or_default() += process::pss(pid);
        }
    }
    by_kind
}

async fn measure(name: &str, language: &str) {
    let many = setting("SANDBOXES", 12) as u32;
    let server = Server::start(&format!(
        "[pools.default]\nmin_idle = {FEW}\nmax_sandboxes = {many}\nlanguages.python = {language}\n"
    ))
    .await;
    let before = pss(&server);
    server.fill(many).await;
    let after = pss(&server);
    println!("\n{name}: KiB an idle sandbox (PSS, between {FEW} and {many} of them)\n");
    println!("| part | KiB |\n|---|---|");
    let mut total = 0.0;
    for (kind, kib) in &after {
        let each = (kib - before.get(kind).unwrap_or(&0.0)) / f64::from(many - FEW);
        total += each;
        println!("| {kind} | {each:.0} |");
    }
    println!("| in all | {total:.0} |");
}

#[tokio::main]
async fn main() {
    measure("without spares", "{ spares = 0 }").await;
    measure("one Python", "{ spares = 1 }").await;
    measure(
        "one Python with numpy",
        "{ spares = 1, preload = [\"numpy\"] }",
    )
    .await;
}
