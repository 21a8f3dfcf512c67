//! Metrics count what happens, and the probes say what a server is good for.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;

use crate::harness::*;

/// One sandbox, and room for one that waits.
const ONE: &str = r#"
[pools.main]
min_idle = 1
max_sandboxes = 1
max_queued = 2
max_queued_per_caller = 1
limits.default.queue_timeout = "80s"
languages.bash = {}
"#;

async fn release(execution: Execution) {
    execution.close_stdin().await;
    execution.finish().await.exited(0);
}

/// A number of the pool main.
fn of_main(scrape: &Scrape, name: &str) -> f64 {
    scrape.value(name, &[("pool", "main")])
}

fn sandboxes(scrape: &Scrape) -> [f64; 4] {
    ["starting", "idle", "leased", "recycling"]
        .map(|state| scrape.value("sandpool_sandboxes", &[("pool", "main"), ("state", state)]))
}

#[tokio::test]
async fn what_ended_and_what_was_refused_is_counted() {
    let server = Server::with(ONE).start();
    let client = server.client().await;
    let ended = |scrape: &Scrape, outcome| {
        scrape.value(
            "sandpool_executions_total",
            &[("pool", "main"), ("outcome", outcome)],
        )
    };
    let refused = |scrape: &Scrape, reason| {
        scrape.value(
            "sandpool_requests_refused_total",
            &[("pool", "main"), ("reason", reason)],
        )
    };

    bash("echo out").run(&client).await.printed("out\n");
    bash("exit 3").id("mine").run(&client).await.exited(3);
    let late = bash("sleep 1000").timeout(Duration::from_millis(100));
    late.run(&client).await.timed_out();

    let again = bash("true").id("mine").refused(&client).await;
    assert_eq!(again.code(), Code::AlreadyExists, "{again}");
    let running = occupy(&client, "main").await;
    let impatient = bash("true").queue_timeout(Duration::from_millis(100));
    impatient.refused(&client).await;
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move { bash("true").run(&client).await })
    };
    client.wait_queued("main", 1).await;
    bash("true").refused(&client).await;
    waiting.abort();
    let gone = |scrape: &Scrape| refused(scrape, "caller_gone") == 1.0;
    server.scrape_that("the caller's leaving", gone).await;
    release(running).await;
    client.wait_full("main").await;

    let scrape = server.scrape().await;
    assert_eq!(ended(&scrape, "exited"), 3.0);
    assert_eq!(ended(&scrape, "timed_out"), 1.0);
    assert_eq!(ended(&scrape, "cancelled"), 0.0);
    for reason in [
        "already_exists",
        "queue_timeout",
        "caller_queue_full",
        "caller_gone",
    ] {
        assert_eq!(refused(&scrape, reason), 1.0, "{reason}");
    }
    assert_eq!(refused(&scrape, "drained"), 0.0);
    for (histogram, count) in [
        ("sandpool_queue_wait_seconds", 4.0),
        ("sandpool_request_to_lease_seconds", 4.0),
        ("sandpool_request_to_first_output_seconds", 2.0),
    ] {
        let counted = of_main(&scrape, &format!("{histogram}_count"));
        assert_eq!(counted, count, "{histogram}");
    }
    let succeeded = |what: &str| {
        let attempts = of_main(&scrape, &format!("sandpool_sandbox_{what}s_total"));
        attempts - of_main(&scrape, &format!("sandpool_sandbox_{what}_failures_total"))
    };
    // More if a sandbox was too slow to confirm a program, which got another one then.
    let started = succeeded("start");
    assert!(started >= 5.0, "{started}");
    assert_eq!(
        of_main(&scrape, "sandpool_sandbox_start_seconds_count"),
        started
    );
    assert_eq!(succeeded("delete"), started - 1.0, "one is idle");
}

#[tokio::test]
async fn gauges_follow_the_pool() {
    let server = Server::with(ONE).start();
    let client = server.client().await;
    let scrape = server.scrape().await;
    assert_eq!(sandboxes(&scrape), [0.0, 1.0, 0.0, 0.0]);
    assert_eq!(of_main(&scrape, "sandpool_pool_min_idle"), 1.0);
    assert_eq!(of_main(&scrape, "sandpool_pool_max_sandboxes"), 1.0);
    assert_eq!(of_main(&scrape, "sandpool_pool_ready"), 1.0);

    let running = occupy(&client, "main").await;
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move { bash("true").run(&client).await })
    };
    client.wait_queued("main", 1).await;
    let scrape = server.scrape().await;
    assert_eq!(sandboxes(&scrape), [0.0, 0.0, 1.0, 0.0]);
    assert_eq!(of_main(&scrape, "sandpool_queued_requests"), 1.0);
    release(running).await;
    waiting.await.unwrap().exited(0);

    let mut pools = client.pools.clone();
    let request = v1::ResizePoolRequest {
        name: "main".into(),
        min_idle: Some(0),
        max_sandboxes: Some(7),
    };
    pools.resize_pool(request).await.unwrap();
    let request = v1::DrainPoolRequest {
        name: "main".into(),
    };
    pools.drain_pool(request).await.unwrap();
    client
        .wait_for("main", "nothing left", |pool| {
            pool.counts == Some(v1::PoolCounts::default())
        })
        .await;
    let scrape = server.scrape().await;
    assert_eq!(sandboxes(&scrape), [0.0; 4]);
    assert_eq!(of_main(&scrape, "sandpool_queued_requests"), 0.0);
    assert_eq!(of_main(&scrape, "sandpool_pool_min_idle"), 0.0);
    assert_eq!(of_main(&scrape, "sandpool_pool_max_sandboxes"), 7.0);
    assert_eq!(of_main(&scrape, "sandpool_pool_ready"), 0.0);
}

#[tokio::test]
async fn a_server_is_not_ready_while_a_pool_is_cold() {
    let config = format!(
        "{ONE}\n[pools.broken]\nmin_idle = 1\nmax_sandboxes = 1\n\
         languages.python = {{ interpreter = \"/usr/bin/python3\", preload = [\"no_such_module\"] }}\n"
    );
    let server = Server::with(&config).start_cold();
    let client = server.client().await;
    client.wait_full("main").await;
    client
        .wait_for("broken", "a failure", |pool| {
            pool.health.as_ref().unwrap().failed_starts > 0
        })
        .await;
    let answer = server.page("/readyz").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (503, "not warm yet: broken\n")
    );
    assert_eq!(server.page("/livez").await.status, 200);
    let scrape = server.scrape().await;
    let broken = &[("pool", "broken")];
    assert!(scrape.value("sandpool_sandbox_start_failures_total", broken) > 0.0);
    assert_eq!(scrape.value("sandpool_pool_ready", broken), 0.0);
    assert_eq!(of_main(&scrape, "sandpool_pool_ready"), 1.0);
}

#[tokio::test]
async fn a_server_is_ready_until_it_shuts_down_and_answers_to_its_end() {
    let server = Server::with(&format!("{ONE}\n[shutdown]\ngrace = \"90s\"\n")).start();
    let client = server.client().await;
    let answer = server.page("/readyz").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ready\n"));

    let running = occupy(&client, "main").await;
    server.terminate();
    soon("a refusal", async {
        while server.page("/readyz").await.status == 200 {}
    })
    .await;
    let answer = server.page("/readyz").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (503, "shutting down\n")
    );
    assert_eq!(server.page("/livez").await.status, 200);
    bash("true").refused(&server.client().await).await;
    let scrape = server.scrape().await;
    let labels = [("pool", "main"), ("reason", "shutting_down")];
    let refused = scrape.value("sandpool_requests_refused_total", &labels);
    assert_eq!(refused, 1.0);
    release(running).await;
    server.end();
}

#[tokio::test]
async fn other_pages_and_methods_are_refused() {
    let server = shared();
    for path in ["/", "/metrics/", "/debug/pprof", "*"] {
        assert_eq!(server.page(path).await.status, 404, "{path}");
    }
    for (method, path) in [
        ("POST", "/metrics"),
        ("DELETE", "/readyz"),
        ("HEAD", "/livez"),
    ] {
        let answer = server.ask(method, path).await;
        assert_eq!(answer.status, 405, "{method} {path}");
        assert!(
            answer.head.contains("\r\nallow: get\r\n"),
            "{}",
            answer.head
        );
    }
    let answer = server.page("/metrics?name=x").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.head.contains(
            "\r\ncontent-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"
        ),
        "{}",
        answer.head
    );
    assert!(answer.body.ends_with("\n# EOF\n"), "{}", answer.body);
}

#[tokio::test]
async fn a_huge_or_slow_request_keeps_nobody_away() {
    let server = Server::with(ONE).start();
    let mut huge = server.metrics_connection().await;
    let request = format!(
        "GET /metrics HTTP/1.1\r\nx: {}\r\n\r\n",
        "y".repeat(4 << 20)
    );
    // It is hung up on before it has said all that.
    let _ = huge.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = soon("the end of a huge request", huge.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "it was answered");

    // More than are let in at once.
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut connection = server.metrics_connection().await;
        let begun = b"GET /metrics HTTP/1.1\r\nx: ";
        connection.write_all(begun).await.unwrap();
        slow.push(connection);
    }
    assert_eq!(server.page("/livez").await.status, 200);
    for mut connection in slow {
        let _ = soon("the end of a slow request", connection.read_u8()).await;
    }
    server.scrape().await;
}

#[tokio::test]
async fn no_label_comes_from_a_caller() {
    let server = Server::with(ONE).start();
    let client = server.client().await;
    bash("echo a-callers-output >&2; exit 3")
        .id("a-callers-id")
        .label("a-callers-label", "a-callers-value")
        .env("A_CALLERS_VARIABLE", "1")
        .run(&client)
        .await
        .exited(3);
    bash("true").pool("a-callers-pool").refused(&client).await;
    command(&["a-callers-command"]).run(&client).await;

    let scrape = server.scrape().await;
    assert!(
        !scrape
            .0
            .to_lowercase()
            .replace('_', "-")
            .contains("a-callers"),
        "{}",
        scrape.0
    );
    let labels = scrape.labels();
    let names: BTreeSet<&str> = labels.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        BTreeSet::from(["cause", "le", "outcome", "pool", "reason", "state"])
    );
    let pools = labels.iter().filter(|(name, _)| *name == "pool");
    assert!(pools.into_iter().all(|(_, value)| *value == "main"));
}

#[tokio::test]
async fn every_metric_is_documented_and_every_documented_one_is_there() {
    let scrape = shared().scrape().await;
    let shown: BTreeSet<String> = scrape.names().into_iter().collect();
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let document = fs::read_to_string(document).unwrap();
    let rows = document.lines().filter_map(|it| it.strip_prefix("| `"));
    let documented: BTreeSet<String> = rows
        .filter_map(|it| Some(it.split_once(['`', '{'])?.0.to_owned()))
        .filter(|name| name.starts_with("sandpool_"))
        .filter(|name| on_kubernetes() || !name.starts_with("sandpool_kubernetes_"))
        .collect();
    assert_eq!(shown, documented);
}
