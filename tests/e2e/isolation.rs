//! No run sees anything of another one, and the log nothing of any.

use std::time::Duration;

use serde_json::json;

use crate::harness::*;

#[tokio::test]
async fn random_numbers_of_two_sandboxes_differ() {
    let (_server, client) = main_pool().await;
    let source = "
import random, uuid, os, secrets, tempfile
import numpy
print(random.random())
print(numpy.random.random(), numpy.random.default_rng().random())
print(uuid.uuid4())
print(uuid.uuid1())
print(hash('x'))
print(os.urandom(8).hex(), secrets.token_hex(8))
print(tempfile.mktemp())
";
    let run = || python(source).pool("numpy").run(&client);
    let (first, second) = (run().await.exited(0), run().await.exited(0));
    assert!(first.timings().warm && second.timings().warm);
    let (first, second) = (first.out(), second.out());
    assert_eq!(first.lines().count(), 7);
    for (a, b) in first.lines().zip(second.lines()) {
        for (a, b) in a.split_whitespace().zip(b.split_whitespace()) {
            assert_ne!(a, b);
        }
    }
}

#[tokio::test]
async fn a_preloaded_module_is_there_at_once() {
    let (_server, client) = main_pool().await;
    let source = "import sys; print('numpy' in sys.modules); import numpy; print(int(numpy.arange(5).sum()))";
    python(source)
        .pool("numpy")
        .run(&client)
        .await
        .printed("True\n10\n");
}

#[tokio::test]
async fn nothing_of_one_run_is_there_in_the_next() {
    let (_server, client) = main_pool().await;
    let write = "
for dir in /workspace /tmp /home/sandbox /dev/shm /run/sandpool /var/tmp; do
  echo x > $dir/left-behind 2>/dev/null
done
exit 0
";
    let wrote = bash(write).run(&client).await.exited(0);
    // The host's /usr is read-only, and large.
    let look = "find / \\( -path /proc -o -path /usr \\) -prune -o -name 'left-behind*' -print 2>/dev/null; ls -A /workspace /tmp /home/sandbox; exit 0";
    for _ in 0..3 {
        let done = bash(look).run(&client).await;
        assert_ne!(done.sandbox(), wrote.sandbox());
        done.printed("/home/sandbox:\n\n/tmp:\n\n/workspace:\n");
    }
}

#[tokio::test]
async fn no_secret_of_a_run_is_logged_or_listed() {
    let (server, client) = main_pool().await;
    let mut secrets = Vec::new();
    let mut secret = |name: &str| {
        // Said nowhere else, and not whole in this source.
        secrets.push(format!("{name}{}secret", "-never-logged-"));
        secrets.last().unwrap().clone()
    };
    let source = format!(
        "import sys, os\nprint(sys.stdin.read())\nsys.stderr.write('{}')\nopen('out', 'w').write('{}')\nraise ValueError('{}')",
        secret("stderr"),
        secret("output-file"),
        secret("source"),
    );
    let spec = python(&source)
        .args(&[&secret("argument")])
        .env("TOKEN", &secret("env"))
        .file("in", secret("input-file"))
        .output("out")
        .stdin(secret("stdin"))
        .label("visible", "label-in-the-log");
    spec.clone().run(&client).await.exited(1);
    spec.clone().run_whole(&client, true).await.unwrap();
    // Refused, cancelled, not started: errors tell no more.
    spec.clone().directory("..").refused(&client).await;
    drop(spec.clone().start(&client).await);
    command(&["/no/such", &secret("command")])
        .env("TOKEN", &secret("env2"))
        .run(&client)
        .await;
    // In a sandbox that lives on, too.
    let named = client
        .named_with(|request| {
            request.env = [("TOKEN".to_owned(), secret("named-env"))].into();
            request.files = vec![v1::InputFile {
                path: "given".into(),
                content: secret("named-file").into(),
                ..Default::default()
            }];
        })
        .await;
    let context = named.try_context(|request| {
        request.env = [("TOKEN".to_owned(), secret("context-env"))].into();
    });
    let context = context.await.unwrap();
    let source = format!(
        "{:?}\nraise ValueError({:?})",
        secret("cell"),
        secret("error")
    );
    cell(&source, &context).run(&client).await.exited(1);
    named
        .write("later", secret("written").as_bytes())
        .await
        .unwrap();
    named.read("later").await.unwrap();
    let listed = v1::ListSandboxesRequest::default();
    let listed = client.sandboxes.clone().list_sandboxes(listed).await;
    let listed = format!("{:?} {:?}", listed.unwrap(), named.contexts().await);
    assert!(!listed.contains("never-logged"), "{listed}");
    named.delete().await;
    let mut bad_env = spec;
    bad_env = bad_env.env("PYTHONSTARTUP", &secret("env3"));
    let last = bad_env.run(&client).await;

    // Of a server in the cluster, the log comes later.
    let is_last = |line: &str| line.contains("execution ended") && line.contains(last.sandbox());
    server.logged("the end of the last", is_last).await;
    let log = server.log();
    assert!(log.contains("label-in-the-log"), "labels are for the log");
    for secret in &secrets {
        assert!(!log.contains(secret.as_str()), "{secret} is in the log");
    }
    let pools = client
        .pools
        .clone()
        .list_pools(v1::ListPoolsRequest {})
        .await
        .unwrap();
    assert!(!format!("{pools:?}").contains("never-logged"));
}

/// runsc's command line, and the agent in plain namespaces of this machine behind it.
const NOT_GVISOR: &str = r#"#!/bin/bash
set -e
[[ " $* " = *" run "* ]] || { echo "runsc version release-false"; exit; }
while [[ $# -gt 0 ]]; do
    case $1 in
    --bundle) bundle=$2 ;;
    --pid-file) pid_file=$2 ;;
    --pass-fd=*) from_to=${1#*=}; eval "exec ${from_to#*:}>&${from_to%:*}" ;;
    esac
    shift
done
cgroup=$(grep -o '"cgroupsPath": *"[^"]*"' "$bundle/config.json" | cut -d'"' -f4)
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/{memory,pids}; do
    [[ -e $hierarchy/cgroup.procs ]] || continue
    mkdir -p "$hierarchy$cgroup"
    echo $$ >"$hierarchy$cgroup/cgroup.procs"
done
unshare --pid --mount --fork bash -c 'mount -t tmpfs none /run; exec "$@"' - "$AGENT" <&0 &
echo $! >"$pid_file"
"#;

#[tokio::test]
async fn a_sandbox_that_is_not_gvisor_is_never_used() {
    let dir = tempfile::tempdir().unwrap();
    let runsc = dir.path().join("runsc");
    script(&runsc, NOT_GVISOR);
    let server = Server::with("[pools.main]\nmin_idle = 1\nlanguages.bash = {}\n")
        .env("SANDPOOL_BACKEND__LOCAL__RUNSC", runsc)
        .env("AGENT", crate::agent::agent())
        // On a cluster.
        .env("SANDPOOL_POOLS__MAIN__POD__RUNTIME_CLASS", "runc".into())
        .start_cold();
    let client = server.client().await;
    client
        .wait_refused("main", "the sandbox is not gVisor")
        .await;
    let spec = bash("echo never").queue_timeout(Duration::from_secs(1));
    let status = spec.refused(&client).await;
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
}

/// Here the nodes' own network is as good as an open one.
#[tokio::test]
async fn a_sandbox_whose_network_is_open_is_never_used() {
    only_cluster!("on this machine a sandbox has no network at all");
    // Nobody listens there (discard), and a refusal is an answer.
    let operators = format!("{}:9", cluster::api_server().ip());
    let server = Server::with("[pools.main]\nmin_idle = 1\nlanguages.bash = {}\n")
        .env(
            "SANDPOOL_POOLS__MAIN__POD__RUNTIME_CLASS",
            "gvisor-host-network".into(),
        )
        .env(
            "SANDPOOL_BACKEND__KUBERNETES__MUST_NOT_REACH",
            format!("[{operators:?}]").into(),
        )
        .start_cold();
    let client = server.client().await;
    let refused = client
        .wait_refused("main", "network is not closed, it reaches")
        .await;
    let reason = refused.health.unwrap().reason;
    assert!(reason.contains(":6443"), "the API server: {reason}");
    assert!(reason.contains(":10250"), "the node: {reason}");
    assert!(reason.contains(&operators), "the operator's: {reason}");
}

#[tokio::test]
async fn where_policies_leave_the_network_open_no_sandbox_is_made_or_leased() {
    only_cluster!("on this machine a sandbox has no network at all");
    // Only this test's pods: policies of one namespace add up.
    let opens = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "opens"},
        "spec": {
            "podSelector": {"matchLabels": {"sandpool.dev/pool": "open"}},
            "policyTypes": ["Egress"], "egress": [{}],
        },
    });
    cluster::apply(&opens);
    let pools = "[pools.open]\nmin_idle = 1\nmax_sandboxes = 1\nlanguages.bash = {}\n[pools.main]\nmin_idle = 0";
    let server = Server::with(pools).start_cold();
    let client = server.client().await;
    let words = "of the NetworkPolicies, opens lets something through";
    client.wait_refused("open", words).await;
    assert!(server.sandboxes("open").is_empty());
    let policies = ["--namespace", cluster::NAMESPACE, "delete", "networkpolicy"];
    cluster::kubectl(&[&policies[..], &["opens"]].concat()).unwrap();
    client.wait_full("open").await;

    // Opened later: what waits is not used either.
    let before = server.sandboxes("open");
    cluster::apply(&opens);
    client.wait_refused("open", words).await;
    let spec = bash("echo never").pool("open");
    let refused = spec.queue_timeout(Duration::from_secs(1));
    let status = refused.refused(&client).await;
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    cluster::kubectl(&[&policies[..], &["opens"]].concat()).unwrap();
    client.wait_full("open").await;
    let after = server.sandboxes("open");
    assert!(before.iter().all(|old| !after.contains(old)), "{after:?}");
}
