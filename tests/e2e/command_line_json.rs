//! `--output json` says what the API says, in the words of protobuf's JSON mapping.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::harness::*;

/// Nothing happens in it that its test does not do.
fn quiet() -> Server {
    Server::with(
        "[pools.main]\nmin_idle = 1\nmax_sandboxes = 3\nlanguages.bash = {}\n\
         languages.python.interpreter = \"/usr/bin/python3\"\n",
    )
    .start()
}

/// What a command prints, which no terminal would obey.
async fn printed(server: &Server, args: &[&str]) -> Value {
    let output = output(sandpool(server, &[args, &["--output", "json"]].concat())).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let obeyed = text.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(obeyed, None, "{text:?}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What grpcurl shows of the same. It writes null for messages that are not there, which the
/// command leaves out.
fn told(server: &Server, method: &str, request: Value) -> Value {
    let request = request.to_string();
    let method = format!("sandpool.v1.{method}");
    let text = grpcurl(server, &["-emit-defaults", "-d", &request], &[&method]);
    without_nulls(serde_json::from_str(&text).unwrap())
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

#[tokio::test]
async fn pools_are_shown_as_the_api_has_them() {
    let server = quiet();
    let all = printed(&server, &["pools"]).await;
    assert_eq!(all, told(&server, "PoolService/ListPools", json!({})));
    assert_eq!(all["pools"][0]["health"]["state"], "READY");
    let one = printed(&server, &["pools", "main"]).await;
    assert_eq!(one, all["pools"][0]);
    let get = told(&server, "PoolService/GetPool", json!({"name": "main"}));
    assert_eq!(one, get);
}

#[tokio::test]
async fn a_watched_pool_is_a_line_for_each_change() {
    let server = quiet();
    let client = server.client().await;
    let args = ["pools", "main", "--watch", "-o", "json"];
    let mut child = sandpool(&server, &args).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || -> Value {
        let line = soon("a line", lines.next_line()).await.unwrap();
        serde_json::from_str(&line.expect("the watch goes on")).unwrap()
    };
    let now = told(&server, "PoolService/GetPool", json!({"name": "main"}));
    assert_eq!(next().await, now);
    let execution = ready(bash("echo ready; read").stdin_open(), &client).await;
    while next().await["counts"]["leased"] != 1 {}
    drop(execution);
    while next().await["counts"]["leased"] != 0 {}
}

#[tokio::test]
async fn lists_of_nothing_are_lists() {
    let server = quiet();
    for (args, method, list) in [
        (
            ["executions"].as_slice(),
            "ExecutionService/ListExecutions",
            "executions",
        ),
        (
            &["sandbox", "list"],
            "SandboxService/ListSandboxes",
            "sandboxes",
        ),
    ] {
        let empty = printed(&server, args).await;
        assert_eq!(empty, json!({list: [], "nextPageToken": ""}));
        assert_eq!(empty, told(&server, method, json!({})));
    }
}

#[tokio::test]
async fn a_sandbox_and_what_runs_in_it_are_shown_as_the_api_has_them() {
    let server = quiet();
    let label = "what=\u{202e}\"quoted\\ \u{1f600}";
    let create = ["sandbox", "create", "--label", label];
    let created = printed(&server, &create).await;
    let id = created["sandboxId"].as_str().unwrap();
    let get = |id: &str| {
        told(
            &server,
            "SandboxService/GetSandbox",
            json!({"sandboxId": id}),
        )
    };
    assert_eq!(created, get(id));
    assert_eq!(created["labels"]["what"], label["what=".len()..]);
    assert_eq!(printed(&server, &["sandbox", "get", id]).await, created);
    let listed = printed(&server, &["sandbox", "list"]).await;
    let list = told(&server, "SandboxService/ListSandboxes", json!({}));
    assert_eq!(listed, list);
    assert_eq!(listed["sandboxes"], json!([created]));
    let extended = printed(&server, &["sandbox", "extend", id, "90m"]).await;
    assert_eq!(extended, get(id));
    assert_ne!(extended["expireTime"], created["expireTime"]);

    let run = ["run", "--sandbox", id, "-lbash", "-c", "echo out; exit 3"];
    assert_eq!(output(sandpool(&server, &run)).await.status.code(), Some(3));
    let executions = printed(&server, &["executions", "--sandbox", id]).await;
    let method = "ExecutionService/ListExecutions";
    assert_eq!(executions, told(&server, method, json!({"sandboxId": id})));
    let [execution] = &executions["executions"].as_array().unwrap()[..] else {
        panic!("{executions}");
    };
    assert_eq!(execution["stdoutBytes"], "4");
    assert_eq!(execution["finished"]["exited"]["code"], 3);
}

#[tokio::test]
async fn contexts_are_shown_as_the_api_has_them_and_obeyed_by_no_terminal() {
    let server = quiet();
    let created = printed(&server, &["sandbox", "create"]).await;
    let id = created["sandboxId"].as_str().unwrap();
    let list = || {
        told(
            &server,
            "SandboxService/ListContexts",
            json!({"sandboxId": id}),
        )
    };
    let none = printed(&server, &["context", "list", id]).await;
    assert_eq!(none, json!({"contexts": []}));
    assert_eq!(none, list());

    let hostile = "it\u{1b}[2J\u{9b}31m\u{7f}\n";
    let create = ["context", "create", id, "--workdir", hostile];
    let context = printed(&server, &create).await;
    assert_eq!(
        context["workingDirectory"],
        format!("/workspace/{hostile}").as_str()
    );
    let listed = printed(&server, &["context", "list", id]).await;
    assert_eq!(listed, list());
    assert_eq!(listed["contexts"], json!([context]));
}
