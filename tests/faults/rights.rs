//! The server's account loses a right while a program runs, and gets it back.

use std::{fs, time::Duration};

use tempfile::NamedTempFile;

use crate::{
    POOLS, cluster,
    harness::{
        cluster::{NAMESPACE, kubectl},
        *,
    },
    pods::{partial, was_lost},
    proxied::Proxied,
    proxy::Fault,
};
use v1::sandbox_lost::Cause;

const RIGHTS: &str = include_str!("../../deploy/base/rights.yaml");
/// In the namespace of the same name.
const ACCOUNT: &str = "sandpool";

/// Gives the account the rights that it is deployed with, for the tests' namespace.
fn give() {
    let file = NamedTempFile::new().unwrap();
    fs::write(&file, RIGHTS.replace("sandpool-sandboxes", NAMESPACE)).unwrap();
    let file = file.path().to_str().unwrap();
    kubectl(&["apply", "--filename", file]).unwrap();
}

/// Takes the rule about pods/exec away, and waits until that is in force.
async fn take_exec() {
    let patch = r#"--patch=[
        {"op": "test", "path": "/rules/1/resources", "value": ["pods/exec"]},
        {"op": "remove", "path": "/rules/1"}]"#;
    let role = ["--namespace", NAMESPACE, "patch", "role", ACCOUNT];
    kubectl(&[&role[..], &["--type=json", patch]].concat()).unwrap();
    let who = format!("--as=system:serviceaccount:{ACCOUNT}:{ACCOUNT}");
    let may = [
        "auth",
        "can-i",
        "get",
        "pods/exec",
        &who,
        "--namespace",
        NAMESPACE,
    ];
    soon("an end of the right", async {
        while kubectl(&may).is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_right_to_exec_that_is_taken_away_is_told_and_comes_back() {
    give();
    let token = kubectl(&["--namespace", ACCOUNT, "create", "token", ACCOUNT]).unwrap();
    let server = Server::with(POOLS).env("SANDPOOL_BACKEND__REATTACH_TIMEOUT", "2s".into());
    let it = Proxied::start_as(Some(token.trim()), server).await;
    let (execution, _) = partial(&it.client).await;
    take_exec().await;
    it.proxy.all(Fault::Reset);
    was_lost(&execution.finish().await, Cause::Unknown, "forbidden");
    // A new sandbox cannot be attached to, either.
    cluster::delete(&it.server.sandboxes("main")[0]);
    let told = |pool: &v1::Pool| pool.health.as_ref().unwrap().reason.contains("forbidden");
    it.client.wait_for("main", "what is forbidden", told).await;
    give();
    cluster::settled(&it.client).await;
}
