//! What the server's account may do: what the server does with it, and what it comes to when a right is
//! taken away while a program runs.

use std::{collections::BTreeSet, fs, time::Duration};

use sandpool::backend::kubernetes::rights;
use serde_json::Value;
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

/// The account's, which then has all its rights.
fn token() -> String {
    give();
    let token = kubectl(&["--namespace", ACCOUNT, "create", "token", ACCOUNT]).unwrap();
    token.trim().to_owned()
}

/// Takes the rule with that right away, and waits until that is in force.
async fn take(rule: usize, verb: &str, resource: &str) {
    let patch = format!(
        r#"--patch=[
            {{"op": "test", "path": "/rules/{rule}/resources", "value": [{resource:?}]}},
            {{"op": "remove", "path": "/rules/{rule}"}}]"#
    );
    let namespace = ["--namespace", NAMESPACE];
    let role = ["patch", "role", ACCOUNT, "--type=json", &patch];
    kubectl(&[&namespace[..], &role].concat()).unwrap();
    let who = format!("--as=system:serviceaccount:{ACCOUNT}:{ACCOUNT}");
    let may = ["auth", "can-i", verb, resource, &who];
    let may = [&namespace[..], &may].concat();
    soon("an end of the right", async {
        while kubectl(&may).is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_right_to_exec_that_is_taken_away_is_told_and_comes_back() {
    let server = Server::with(POOLS).env("SANDPOOL_BACKEND__REATTACH_TIMEOUT", "2s".into());
    let it = Proxied::start_as(Some(&token()), server).await;
    let (execution, used) = partial(&it.client).await;
    take(1, "get", "pods/exec").await;
    it.proxy.all(Fault::Reset);
    was_lost(&execution.finish().await, Cause::Unknown, &["forbidden"]);
    // A new sandbox cannot be attached to, either.
    let sandboxes = it.server.sandboxes("main");
    cluster::delete(sandboxes.iter().find(|id| **id != used).unwrap());
    let told = |pool: &v1::Pool| pool.health.as_ref().unwrap().reason.contains("forbidden");
    it.client.wait_for("main", "what is forbidden", told).await;
    give();
    cluster::settled(&it.client).await;
}

/// A policy may have gone with it: nobody can tell.
#[tokio::test]
async fn without_the_right_to_list_the_policies_nothing_is_leased_until_it_is_back() {
    let kubeconfig = cluster::kubeconfig(cluster::api_server(), Some(&token()));
    let server = Server::with(POOLS).env("KUBECONFIG", kubeconfig.path().into());
    let server = server.start();
    let client = server.client().await;
    let mut execution = python("print(input())").stdin_open().start(&client).await;
    execution.started().await;
    take(3, "list", "networkpolicies").await;
    client.wait_refused("main", "forbidden").await;
    execution.send("still there\n").await;
    execution.finish().await.printed("still there\n");
    give();
    cluster::settled(&client).await;
}

/// Every right that the account has used since the audit log was so long, as `kubectl auth can-i` takes it.
fn used(since: usize) -> BTreeSet<String> {
    let log = cluster::audit();
    let mut used = BTreeSet::new();
    for line in log[since..].lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let object = &event["objectRef"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        // What is no object, such as the version, anyone may read.
        let mut right = match &object["resource"] {
            Value::String(resource) => format!("{} {resource}", text(&event["verb"])),
            _ => continue,
        };
        if let Value::String(part) = &object["subresource"] {
            right += &format!("/{part}");
        }
        if let Value::String(group) = &object["apiGroup"] {
            right += &format!(".{group}");
        }
        let code = &event["responseStatus"]["code"];
        assert_ne!(code, 403, "the right to {right} is missing");
        used.insert(right);
    }
    used
}

#[tokio::test]
async fn a_servers_life_needs_each_right_that_it_has_and_no_other() {
    // One that it must bury.
    let killed = Server::with(POOLS).start();
    killed.kill();
    let token = token();
    let since = cluster::audit().len();
    let kubeconfig = cluster::kubeconfig(cluster::api_server(), Some(&token));
    let user = format!("system:serviceaccount:{ACCOUNT}:{ACCOUNT}");
    let access = format!("[access.kubernetes]\naudience = \"faults\"\ncallers = [{user:?}]\n");
    let server =
        Server::with(&format!("{POOLS}{access}")).env("KUBECONFIG", kubeconfig.path().into());
    let server = server.start();
    let create = ["create", "token", ACCOUNT, "--audience=faults"];
    let callers = kubectl(&[&["--namespace", ACCOUNT][..], &create].concat()).unwrap();
    let client = server.client().await;
    let client = client.authorized(&format!("Bearer {}", callers.trim()));
    python("print('it')").run(&client).await.printed("it\n");
    killed.buried().await;
    server.end();
    // From Kubernetes 1.35 on an exec is the other one of the two.
    let has = rights::SERVER
        .into_iter()
        .chain([rights::CREATE_TOKEN_REVIEWS]);
    let has = has.map(|right| right.to_string());
    let has = has.filter(|right| right != "create pods/exec");
    assert_eq!(used(since), has.collect());
}
