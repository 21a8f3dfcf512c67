//! What happens when more is asked for than there are sandboxes.

use std::time::{Duration, Instant};

use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::*;

/// One sandbox, and room for two that wait, of whom one caller may have both.
const ONE: &str = r#"
[pools.main]
min_idle = 1
max_sandboxes = 1
max_queued = 2
max_queued_per_caller = 2
limits.default.queue_timeout = "80s"
languages.bash = {}

# Where one caller may have one of the two places in the queue.
[pools.fair]
min_idle = 1
max_sandboxes = 1
max_queued = 2
max_queued_per_caller = 1
languages.bash = {}
"#;

fn spawn_waiting(client: &Client, name: &str) -> tokio::task::JoinHandle<Done> {
    let (client, name) = (client.clone(), name.to_owned());
    tokio::spawn(async move { bash(&format!("echo {name}")).run(&client).await.exited(0) })
}

#[tokio::test]
async fn the_queue_is_bounded_fair_and_can_be_left() {
    let server = Server::with(ONE).start();
    let client = server.client().await;

    // First come, first served.
    let running = occupy(&client, "main").await;
    let first = spawn_waiting(&client, "first");
    client.wait_queued("main", 1).await;
    let second = spawn_waiting(&client, "second");
    client.wait_queued("main", 2).await;

    // One more is too many; it is told which key raises the limit, and when to come again.
    let status = bash("true").refused(&client).await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(
        status.message().contains("pools.main.max_queued"),
        "{status}"
    );
    let retry = status
        .get_details_retry_info()
        .expect("RetryInfo")
        .retry_delay
        .expect("a delay");
    assert!(
        retry >= Duration::from_millis(100) && retry <= Duration::from_secs(30),
        "{retry:?}"
    );

    // Whoever gives up leaves the queue.
    second.abort();
    client.wait_queued("main", 1).await;
    let third = spawn_waiting(&client, "third");
    client.wait_queued("main", 2).await;

    running.close_stdin().await;
    running.finish().await.exited(0);
    let first = first.await.unwrap();
    let third = third.await.unwrap();
    assert_eq!(
        (first.out().as_str(), third.out().as_str()),
        ("first\n", "third\n")
    );
    let number = |done: &Done| {
        done.sandbox()
            .rsplit('-')
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    assert!(number(&first) < number(&third), "first come, first served");
    client.wait_full("main").await;
}

#[tokio::test]
async fn waiting_ends_at_the_queue_timeout_or_the_clients_deadline() {
    let server = Server::with(ONE).start();
    let client = server.client().await;
    let running = occupy(&client, "main").await;

    let timeout = Duration::from_millis(700);
    let since = Instant::now();
    let status = bash("true").queue_timeout(timeout).refused(&client).await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(
        status.message().contains("no sandbox became free within "),
        "{status}"
    );
    assert!(since.elapsed() >= timeout);

    // The client's own deadline comes first.
    let mut request = tonic::Request::new(v1::RunRequest {
        spec: Some(bash("true").message),
        ..Default::default()
    });
    request.set_timeout(timeout);
    let status = client
        .executions
        .clone()
        .run(request)
        .await
        .err()
        .expect("a refusal");
    assert!(
        matches!(
            status.code(),
            Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled
        ),
        "{status}"
    );
    client.wait_queued("main", 0).await;

    // An id under which nothing ran is free again.
    let status = bash("true")
        .id("mine")
        .queue_timeout(timeout)
        .refused(&client)
        .await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    running.close_stdin().await;
    running.finish().await.exited(0);
    bash("echo ran")
        .id("mine")
        .run(&client)
        .await
        .printed("ran\n");

    // One caller leaves room for others.
    let running = occupy(&client, "fair").await;
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move {
            bash("true")
                .pool("fair")
                .queue_timeout(PATIENCE)
                .run(&client)
                .await
        })
    };
    client.wait_queued("fair", 1).await;
    let status = bash("true").pool("fair").refused(&client).await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(
        status
            .message()
            .contains("pools.fair.max_queued_per_caller"),
        "{status}"
    );
    assert!(status.get_details_retry_info().is_some());
    running.close_stdin().await;
    running.finish().await.exited(0);
    waiting.await.unwrap().exited(0);
}
