//! PoolService shows what there is, and changes a pool's size.

use std::time::Duration;

use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::*;
use v1::pool_health::State;

const SMALL: &str = r#"
[pools.main]
min_idle = 1
max_sandboxes = 2
env = { POOL_TOKEN = "pool-secret-never-shown" }
limits.default = { timeout = "7s", queue_timeout = "80s" }
limits.max = { timeout = "70s" }
languages.bash = {}
"#;

fn counts(pool: &v1::Pool) -> v1::PoolCounts {
    pool.counts.unwrap()
}

fn state(pool: &v1::Pool) -> State {
    pool.health.as_ref().unwrap().state()
}

async fn resize(
    client: &Client,
    min_idle: Option<u32>,
    max_sandboxes: Option<u32>,
) -> Result<v1::Pool, tonic::Status> {
    let request = v1::ResizePoolRequest {
        name: "main".into(),
        min_idle,
        max_sandboxes,
    };
    client
        .pools
        .clone()
        .resize_pool(request)
        .await
        .map(tonic::Response::into_inner)
}

#[tokio::test]
async fn pools_are_listed_with_what_they_allow() {
    let (_server, client) = main_pool().await;
    let pools = client
        .pools
        .clone()
        .list_pools(v1::ListPoolsRequest {})
        .await
        .unwrap()
        .into_inner()
        .pools;
    let names: Vec<&str> = pools
        .iter()
        .map(|pool| pool.spec.as_ref().unwrap().name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "main", "named", "node", "numpy", "still", "tight", "watched"
        ]
    );
    let numpy = pools[3].spec.as_ref().unwrap();
    let backend = if on_kubernetes() {
        "kubernetes"
    } else {
        "local"
    };
    assert_eq!((numpy.default, numpy.backend.as_str()), (false, backend));
    assert_eq!((numpy.min_idle, numpy.max_sandboxes), (1, 2));
    assert_eq!(numpy.languages[0].name, "python");
    assert_eq!(
        numpy.languages[0].preload,
        ["numpy", "uuid", "random", "asyncio"]
    );
    let limits = numpy.default_limits.as_ref().unwrap();
    assert_eq!(limits.memory_bytes, 256 << 20);
    assert_eq!(limits.queue_timeout.unwrap().seconds, 80);
    assert_eq!(
        numpy.max_limits.as_ref().unwrap().timeout.unwrap().seconds,
        600
    );
    assert!(pools[0].spec.as_ref().unwrap().default);
}

#[tokio::test]
async fn an_unknown_pool_is_not_found() {
    let (_server, client) = main_pool().await;
    let name = || "nowhere".to_owned();
    let mut pools = client.pools.clone();
    for status in [
        pools
            .get_pool(v1::GetPoolRequest { name: name() })
            .await
            .err(),
        pools
            .watch_pool(v1::WatchPoolRequest { name: name() })
            .await
            .err(),
        pools
            .drain_pool(v1::DrainPoolRequest { name: name() })
            .await
            .err(),
        pools
            .resize_pool(v1::ResizePoolRequest {
                name: name(),
                ..Default::default()
            })
            .await
            .err(),
    ] {
        let status = status.expect("an error");
        assert_eq!(status.code(), Code::NotFound, "{status}");
        assert!(status.message().contains("\"nowhere\""), "{status}");
    }
}

#[tokio::test]
async fn a_pool_is_watched_resized_and_drained() {
    let server = Server::with(SMALL).start();
    let client = server.client().await;
    let mut changes = client.watch("main").await;
    let pool = next_that(&mut changes, "the pool as it is", |_| true).await;
    assert_eq!(state(&pool), State::Ready);

    // The pool's environment and limits are in force, and its secrets are not shown.
    bash("echo $POOL_TOKEN")
        .run(&client)
        .await
        .printed("pool-secret-never-shown\n");
    assert_eq!(
        pool.spec
            .as_ref()
            .unwrap()
            .default_limits
            .as_ref()
            .unwrap()
            .timeout
            .unwrap()
            .seconds,
        7
    );
    assert!(!format!("{pool:?}").contains("secret"));
    assert!(!server.log().contains("pool-secret"));
    client.wait_full("main").await;

    // A lease is seen, and so is what replaces it.
    let mut running = bash("echo ready; cat")
        .stdin_open()
        .timeout(Duration::from_secs(70))
        .start(&client)
        .await;
    running.until_stdout("ready").await;
    next_that(&mut changes, "a lease, and another one idle", |pool| {
        counts(pool)
            == v1::PoolCounts {
                leased: 1,
                idle: 1,
                ..Default::default()
            }
    })
    .await;

    // It grows and shrinks.
    resize(&client, Some(2), Some(3)).await.unwrap();
    next_that(&mut changes, "two idle", |pool| counts(pool).idle == 2).await;
    let shrunk = resize(&client, Some(0), None).await.unwrap();
    assert_eq!(shrunk.spec.unwrap().min_idle, 0);

    // What cannot be is refused.
    for (min_idle, max_sandboxes, field) in [
        (Some(4), None, "min_idle"),
        (None, Some(0), "max_sandboxes"),
    ] {
        let status = resize(&client, min_idle, max_sandboxes)
            .await
            .expect_err("a refusal");
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        let details = status.get_details_bad_request().expect("BadRequest");
        assert_eq!(details.field_violations[0].field, field, "{status}");
    }

    // Drained, it leases nothing; what runs goes on.
    let request = v1::DrainPoolRequest {
        name: "main".into(),
    };
    let drained = client
        .pools
        .clone()
        .drain_pool(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(state(&drained), State::Drained);
    let status = bash("true").refused(&client).await;
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("drained"), "{status}");
    let status = resize(&client, Some(1), None).await.expect_err("a refusal");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    next_that(&mut changes, "nothing but the lease", |pool| {
        counts(pool)
            == v1::PoolCounts {
                leased: 1,
                ..Default::default()
            }
    })
    .await;
    running.send("still here\n").await;
    running.until_stdout("still here\n").await;
    running.close_stdin().await;
    running.finish().await.exited(0);
    next_that(&mut changes, "nothing at all", |pool| {
        counts(pool) == v1::PoolCounts::default()
    })
    .await;
}

#[tokio::test]
async fn a_pool_of_none_starts_one_on_demand() {
    let config = SMALL.replace("min_idle = 1", "min_idle = 0");
    let server = Server::with(&config).start();
    let client = server.client().await;
    assert_eq!(client.counts("main").await, v1::PoolCounts::default());
    let done = bash("echo on demand")
        .run(&client)
        .await
        .printed("on demand\n");
    let leased = Duration::try_from(done.timings().leased.unwrap()).unwrap();
    assert!(
        leased > Duration::from_millis(50),
        "a start takes its time: {leased:?}"
    );
    client
        .wait_for("main", "nothing left", |pool| {
            counts(pool) == v1::PoolCounts::default()
        })
        .await;
}

#[tokio::test]
async fn a_pool_that_cannot_start_says_why_and_others_serve() {
    let config = format!(
        "{SMALL}\n[pools.broken]\nmin_idle = 1\nmax_sandboxes = 1\n\
         languages.python = {{ interpreter = \"/usr/bin/python3\", preload = [\"no_such_module\"] }}\n"
    );
    let server = Server::with(&config).start_cold();
    let client = server.client().await;
    let pool = client
        .wait_for("broken", "two failures", |pool| {
            pool.health.as_ref().unwrap().failed_starts >= 2
        })
        .await;
    assert_eq!(state(&pool), State::Unhealthy);
    let reason = pool.health.unwrap().reason;
    assert!(reason.contains("no_such_module"), "{reason}");
    bash("echo serves").run(&client).await.printed("serves\n");
    let status = python("print()")
        .pool("broken")
        .queue_timeout(Duration::from_millis(300))
        .refused(&client)
        .await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
}

#[tokio::test]
async fn sandboxes_without_a_connection_get_one_when_they_come_to_be_leased() {
    let pools = r#"
[pools.main]
min_idle = 3
max_sandboxes = 4
connected_idle = 1
limits.default.queue_timeout = "80s"
languages.bash = {}
[pools.none]
min_idle = 1
max_sandboxes = 2
connected_idle = 0
limits.default.queue_timeout = "80s"
languages.bash = {}
"#;
    let server = Server::with(pools).start();
    let client = server.client().await;
    let connected_again =
        |scrape: &Scrape, pool| scrape.value("sandpool_reattaches_total", &[("pool", pool)]);
    let scrape = server.scrape().await;
    assert_eq!(connected_again(&scrape, "main"), 0.0);
    bash("echo first").run(&client).await.printed("first\n");
    let next = |scrape: &Scrape| connected_again(scrape, "main") >= 1.0;
    server
        .scrape_that("a connection for the next one", next)
        .await;
    // More at once than are connected.
    let all = ["a", "b", "c"].map(|word| {
        let client = client.clone();
        async move { bash(&format!("echo {word}")).run(&client).await.out() }
    });
    let [a, b, c] = all.map(tokio::spawn);
    let said = [a.await.unwrap(), b.await.unwrap(), c.await.unwrap()];
    assert_eq!(said, ["a\n", "b\n", "c\n"]);

    let done = bash("echo it").pool("none").run(&client).await;
    done.printed("it\n");
    assert!(connected_again(&server.scrape().await, "none") >= 1.0);
}

#[tokio::test]
async fn a_pod_whose_image_holds_the_agent_needs_no_init_container() {
    only_cluster!("images are a cluster's");
    let pools = "[pools.main]\nmin_idle = 1\nmax_sandboxes = 1\n\
                 limits.default.queue_timeout = \"80s\"\nlanguages.bash = {}\n";
    let server = Server::with(pools)
        .env(
            "SANDPOOL_POOLS__MAIN__POD__IMAGE",
            cluster::whole_image().into(),
        )
        .env("SANDPOOL_POOLS__MAIN__POD__AGENT_IN_IMAGE", "true".into());
    let server = server.start();
    let client = server.client().await;
    let pod = &server.sandboxes("main")[0];
    let containers = "--output=jsonpath={.spec.initContainers}{.status.containerStatuses[*].name}";
    let get = ["--namespace", cluster::NAMESPACE, "get", "pod", pod];
    let containers = cluster::kubectl(&[&get[..], &[containers]].concat());
    assert_eq!(containers.unwrap(), "sandbox");
    let done = bash("(: >/sandpool/agent) 2>&1; ls /sandpool/private 2>&1; echo it").run(&client);
    let out = done.await.exited(0).out();
    let lines: Vec<_> = out.lines().collect();
    assert!(lines[0].contains("/sandpool/agent"), "{out}");
    assert!(lines[1].contains("Permission denied"), "{out}");
    assert_eq!(lines[2..], ["it"]);
}
