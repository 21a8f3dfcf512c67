//! Who may call, and how much.

use std::{fs, path::PathBuf, process::Command};

use tempfile::TempDir;
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use v1::{DrainPoolRequest, ListPoolsRequest, ResizePoolRequest};

use crate::harness::*;

const AGENTS: &str = "agents-token-0123456789";
const OTHERS: &str = "others-token-0123456789";
const OPERATOR: &str = "operator-token-0123456789";

fn in_main(request: &mut v1::CreateSandboxRequest) {
    request.pool = "main".into();
}

const POOL: &str = "[pools.main]\nmin_idle = 2\nmax_sandboxes = 4\n\
                    limits.default.queue_timeout = \"80s\"\nlanguages.bash = {}\n";

/// A file of tokens that can change.
struct TokenFile {
    _dir: TempDir,
    path: PathBuf,
}

impl TokenFile {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        let file = Self { _dir: dir, path };
        file.write(&[
            ("agents", "caller", AGENTS),
            ("others", "caller", OTHERS),
            ("operator", "admin", OPERATOR),
        ]);
        file
    }

    fn write(&self, tokens: &[(&str, &str, &str)]) {
        let entries = tokens.iter().map(|(name, role, token)| {
            format!("[[token]]\nname = {name:?}\nrole = {role:?}\ntoken = {token:?}\n")
        });
        fs::write(&self.path, entries.collect::<String>()).unwrap();
    }

    fn server(&self, more: &str) -> Server {
        let path = &self.path;
        Server::with(&format!("{POOL}[access]\ntokens = {path:?}\n{more}")).start()
    }
}

fn with_token(client: &Client, token: &str) -> Client {
    client.authorized(&format!("Bearer {token}"))
}

async fn list(client: &Client) -> Result<v1::ListPoolsResponse, Status> {
    let mut pools = client.pools.clone();
    let answer = pools.list_pools(ListPoolsRequest {}).await;
    answer.map(tonic::Response::into_inner)
}

async fn info(client: &Client) -> Result<v1::ServerInfo, Status> {
    let mut server = client.server.clone();
    let answer = server.get_server_info(v1::GetServerInfoRequest {}).await;
    answer.map(tonic::Response::into_inner)
}

fn assert_tells_nothing(status: &Status, code: Code, message: &str) {
    assert_eq!(status.code(), code, "{status:?}");
    assert_eq!(status.message(), message);
    assert!(status.details().is_empty());
}

#[tokio::test]
async fn without_a_valid_token_nothing_is_answered_but_health() {
    let tokens = TokenFile::new();
    let server = tokens.server("");
    let client = server.client().await;
    for header in [
        None,
        Some("Bearer"),
        Some("Bearer wrong-token-0123456789"),
        Some("Basic YWdlbnRzOmFnZW50cw=="),
        Some(AGENTS),
    ] {
        let caller = header.map_or(client.clone(), |value| client.authorized(value));
        for status in [
            list(&caller).await.unwrap_err(),
            info(&caller).await.unwrap_err(),
            bash("echo never").refused(&caller).await,
            bash("echo never").pool("unknown").refused(&caller).await,
            bash("")
                .run_whole(&caller, true)
                .await
                .map(drop)
                .unwrap_err(),
        ] {
            let message = "a valid bearer token is needed";
            assert_tells_nothing(&status, Code::Unauthenticated, message);
        }
    }
    let reflected = Command::new("grpcurl")
        .args(["-plaintext", &server.address.to_string(), "list"])
        .output()
        .expect("grpcurl is installed");
    let complaint = String::from_utf8_lossy(&reflected.stderr);
    assert!(complaint.contains("a valid bearer token"), "{complaint}");

    let mut health = HealthClient::new(client.channel.clone());
    health.check(HealthCheckRequest::default()).await.unwrap();
    assert!(!server.log().contains("wrong-token"), "no token is logged");
}

#[tokio::test]
async fn a_caller_runs_programs_and_an_admin_changes_pools() {
    let tokens = TokenFile::new();
    let server = tokens.server("");
    let client = server.client().await;
    let agents = with_token(&client, AGENTS);
    bash("echo mine").run(&agents).await.printed("mine\n");
    assert_eq!(list(&agents).await.unwrap().pools.len(), 1);
    assert_ne!(info(&agents).await.unwrap().version, "");
    let resize = ResizePoolRequest {
        name: "main".to_owned(),
        min_idle: Some(1),
        max_sandboxes: None,
    };
    let drain = DrainPoolRequest {
        name: "main".to_owned(),
    };
    for status in [
        agents
            .pools
            .clone()
            .resize_pool(resize.clone())
            .await
            .unwrap_err(),
        agents
            .pools
            .clone()
            .drain_pool(drain.clone())
            .await
            .unwrap_err(),
    ] {
        assert_tells_nothing(&status, Code::PermissionDenied, "this is not allowed");
    }
    let operator = with_token(&client, OPERATOR);
    operator.pools.clone().resize_pool(resize).await.unwrap();
    operator.pools.clone().drain_pool(drain).await.unwrap();

    let log = server.log();
    assert!(
        log.contains("\"caller\":\"agents\""),
        "the log names the caller"
    );
    assert!(!log.contains(AGENTS), "the log holds no token");
}

#[tokio::test]
async fn a_token_that_the_file_loses_is_no_longer_valid() {
    let tokens = TokenFile::new();
    let server = tokens.server("");
    let client = server.client().await;
    let agents = with_token(&client, AGENTS);
    list(&agents).await.unwrap();

    fs::write(&tokens.path, "[[token]]\nname = \"half").unwrap();
    let refused = |line: &str| line.contains("a change is not taken");
    server.logged("the refusal of the file", refused).await;
    list(&agents).await.expect("what was read before stays");

    tokens.write(&[("new", "caller", "new-token-0123456789")]);
    let taken = |line: &str| line.contains("read again after a change");
    server.logged("the new file", taken).await;
    assert_eq!(
        list(&agents).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    list(&with_token(&client, "new-token-0123456789"))
        .await
        .unwrap();
}

#[tokio::test]
async fn one_callers_executions_are_limited_and_ids_are_each_callers_own() {
    let tokens = TokenFile::new();
    let server = tokens.server("[executions]\nmax_concurrent_per_caller = 1\n");
    let client = server.client().await;
    let agents = with_token(&client, AGENTS);
    let others = with_token(&client, OTHERS);
    let mut running = bash("echo ready; cat")
        .id("same")
        .stdin_open()
        .start(&agents)
        .await;
    running.until_stdout("ready").await;

    let status = bash("echo never").refused(&agents).await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    let key = "executions.max_concurrent_per_caller";
    assert!(status.message().contains(key), "{}", status.message());
    bash("echo theirs")
        .id("same")
        .run(&others)
        .await
        .printed("theirs\n");

    running.close_stdin().await;
    running.finish().await.exited(0);
    // One after the other there is always a place.
    for _ in 0..5 {
        bash("echo next").run(&agents).await.printed("next\n");
    }
}

#[tokio::test]
async fn a_sandbox_is_its_creator_s_alone_whatever_the_role() {
    let tokens = TokenFile::new();
    let server = tokens.server("");
    let client = server.client().await;
    let owner = with_token(&client, AGENTS);
    let named = owner.named_with(in_main).await;
    named.write("secret", b"x").await.unwrap();
    let running = bash("sleep 1000").id("owners").within(&named.id);
    let _running = running.start(&owner).await;
    for token in [OTHERS, OPERATOR] {
        let other = with_token(&client, token);
        let mut sandboxes = other.sandboxes.clone();
        let listed = sandboxes.list_sandboxes(v1::ListSandboxesRequest::default());
        assert_eq!(listed.await.unwrap().into_inner().sandboxes, []);
        let extend = v1::ExtendSandboxRequest {
            sandbox_id: named.id.clone(),
            lifetime: None,
        };
        let contexts = v1::ListContextsRequest {
            sandbox_id: named.id.clone(),
        };
        let theirs = named.seen_by(&other);
        let (content, written) = other.begin_write(named.file("secret"));
        drop(content);
        for status in [
            other.get_named(&named.id).await.err(),
            other.delete_named(&named.id).await.err(),
            sandboxes.extend_sandbox(extend).await.err(),
            Some(bash("cat secret").within(&named.id).refused(&other).await),
            theirs.stat("secret").await.err(),
            theirs.read("secret").await.err(),
            theirs.list(".", 0, "").await.err(),
            theirs.make_directory("d", 0).await.err(),
            theirs.move_path("secret", "mine", true).await.err(),
            theirs.remove("secret", false).await.err(),
            theirs.download(".").await.err(),
            theirs.upload(".", &[]).await.err(),
            theirs.try_context(|_| {}).await.err(),
            theirs.delete_context("any").await.err(),
            sandboxes.list_contexts(contexts).await.err(),
            soon("a refusal", written).await.err(),
        ] {
            // As for an id that never was.
            let message = format!("there is no sandbox {:?} of this caller", named.id);
            assert_tells_nothing(&status.expect("it is refused"), Code::NotFound, &message);
        }
        let mut executions = other.executions.clone();
        let listed = executions.list_executions(v1::ListExecutionsRequest::default());
        assert_eq!(listed.await.unwrap().into_inner().executions, []);
        let signal = v1::write_input_request::Event::Signal(v1::Signal { number: 9 });
        for status in [
            other.attach("owners", [0; 2]).await.err(),
            other.write_input("owners", signal).await.err(),
        ] {
            let (theirs, nobodys) = (status.expect("it is refused"), other.attach("none", [0; 2]));
            let nobodys = nobodys.await.err().expect("there is none");
            assert_tells_nothing(&theirs, Code::NotFound, nobodys.message());
        }
    }
    assert_eq!(named.read("secret").await.unwrap(), b"x");
    named.delete().await;
}

#[tokio::test]
async fn sandpool_run_shows_the_token() {
    let tokens = TokenFile::new();
    let server = tokens.server("");
    let file = tokens.path.with_file_name("token");
    fs::write(&file, format!("{AGENTS}\n")).unwrap();
    let run = |variable: Option<&str>, options: &[&str]| {
        let program = ["--language", "bash", "-c", "echo in"];
        let mut command = sandpool(&server, &[&["run"], options, &program].concat());
        command.envs(variable.map(|token| ("SANDPOOL_TOKEN", token)));
        async move {
            let output = output(command).await;
            let said = [output.stdout, output.stderr].concat();
            (output.status.code(), String::from_utf8(said).unwrap())
        }
    };
    let file = file.to_str().unwrap();
    let good = (Some(0), "in\n".to_owned());
    assert_eq!(run(Some(AGENTS), &[]).await, good);
    assert_eq!(run(Some("wrong"), &["--token-file", file]).await, good);
    // A pipe can be read once.
    let pipe = file.to_owned() + ".pipe";
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
    let writes = tokio::task::spawn_blocking({
        let pipe = pipe.clone();
        move || fs::write(pipe, AGENTS)
    });
    assert_eq!(run(None, &["--token-file", &pipe]).await, good);
    writes.await.unwrap().unwrap();
    for (variable, options, complaint) in [
        (
            None,
            &[][..],
            "UNAUTHENTICATED: a valid bearer token is needed",
        ),
        (Some(" "), &[], "the token of SANDPOOL_TOKEN cannot be sent"),
        (None, &["--token-file", "/nowhere"], "cannot read /nowhere"),
    ] {
        let (code, said) = run(variable, options).await;
        assert_eq!(code, Some(125), "{said}");
        assert!(said.contains(complaint), "{said}");
    }
}

#[tokio::test]
async fn a_service_accounts_token_is_let_in_where_the_cluster_vouches_for_it() {
    only_cluster!("nobody else vouches for tokens");
    let kubectl = |arguments: &[&str]| {
        let namespace = ["--namespace", cluster::NAMESPACE];
        cluster::kubectl(&[&namespace[..], arguments].concat())
    };
    for name in ["caller", "stranger"] {
        // It may be there since the last time.
        let _ = kubectl(&["create", "serviceaccount", name]);
    }
    let token = |name: &str, audience: &str| {
        let audience = format!("--audience={audience}");
        let token = kubectl(&["create", "token", name, &audience]).unwrap();
        token.trim().to_owned()
    };
    let user = format!("system:serviceaccount:{}:caller", cluster::NAMESPACE);
    let server = Server::with(&format!(
        "{POOL}[access.kubernetes]\naudience = \"sandpool-e2e\"\ncallers = [{user:?}]\n"
    ))
    .start();
    let client = server.client().await;
    let caller = with_token(&client, &token("caller", "sandpool-e2e"));
    bash("echo in").run(&caller).await.printed("in\n");
    assert!(
        server
            .log()
            .contains(&format!("\"caller\":\"kubernetes:{user}\""))
    );
    for (token, code) in [
        (token("stranger", "sandpool-e2e"), Code::PermissionDenied),
        (token("caller", "another-service"), Code::Unauthenticated),
        ("no-token-at-all".to_owned(), Code::Unauthenticated),
    ] {
        let status = list(&with_token(&client, &token)).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
    }
}

#[tokio::test]
async fn one_caller_keeps_no_more_than_the_pool_s_half() {
    let server = Server::with(
        "[pools.main]\nmin_idle = 1\nmax_sandboxes = 2\nlimits.default.queue_timeout = \"80s\"\n\
         languages.bash = {}\nlanguages.python = {}\n",
    );
    let server = server.start();
    let client = server.client().await;
    let named = client.named_with(in_main).await;
    let status = client.try_named(in_main).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(
        status.message().contains("pools.main.named.max_per_caller"),
        "{status}"
    );
    // Others, and executions in fresh sandboxes, still have theirs.
    bash("echo fresh").run(&client).await.printed("fresh\n");
    named.delete().await;
    // With all that runs in it, its place is free once the deletion is answered.
    for _ in 0..5 {
        let named = client.named_with(in_main).await;
        named.context().await;
        named.delete().await;
    }
}
