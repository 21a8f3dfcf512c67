//! Sandboxes that are not reached again.

use std::time::{Duration, Instant};

use prometheus_client::encoding::text::encode;
use sandpool::{
    execution::{LostCause, Outcome},
    metrics::Metrics,
};

use crate::{
    program::Plan,
    relay::{Fault, When},
};

const WAIT: Duration = Duration::from_secs(2);

#[test]
fn an_agent_that_cannot_be_reached_in_time_is_lost() {
    let mut plan = Plan::python("print('ready')\ninput()");
    plan.reattach_timeout = WAIT;
    let (ended, (seen, since)) = plan.run(
        |_| {},
        async |mut client| {
            client.until("ready\n").await;
            client.faults.refuse(true);
            client.faults.now(Fault::Cut);
            let since = Instant::now();
            (client.rest().await, since)
        },
    );
    let Outcome::Lost(LostCause::Unknown, reason) = ended.unwrap().outcome else {
        panic!("it was not lost");
    };
    assert!(reason.contains("refused by the test"), "{reason}");
    assert!(since.elapsed() >= WAIT);
    assert_eq!(seen.stdout, b"ready\n");
}

#[test]
fn an_agent_that_does_not_answer_in_time_is_lost() {
    let mut plan = Plan::python("print('ready')\ninput()");
    plan.reattach_timeout = WAIT;
    let (ended, _) = plan.run(
        |faults| {
            faults.plan(When::Told, Fault::Cut);
            faults.plan(When::FromAgent(0), Fault::Stall);
        },
        async |mut client| {
            client.until("ready\n").await;
            client.faults.now(Fault::Cut);
            client.rest().await
        },
    );
    let outcome = ended.unwrap().outcome;
    assert!(
        matches!(outcome, Outcome::Lost(LostCause::Unknown, _)),
        "{}",
        outcome.name()
    );
}

#[test]
fn an_agent_that_comes_back_in_time_is_not_lost() {
    let (ended, seen) = Plan::python("print('ready')\nprint(input())").run(
        |_| {},
        async |mut client| {
            client.until("ready\n").await;
            client.faults.refuse(true);
            client.faults.now(Fault::Cut);
            client.send("late\n").await;
            client.faults.has_refused(3).await;
            client.faults.refuse(false);
            client.rest().await
        },
    );
    assert_eq!(ended.unwrap().outcome, Outcome::Exited(0));
    assert_eq!(seen.stdout, b"ready\nlate\n");
}

#[test]
fn each_attempt_to_reach_an_agent_again_is_counted() {
    let metrics = Metrics::default();
    let mut plan = Plan::python("print('ready')\nprint(input())");
    plan.reattaches = metrics.pool("t").reattaches;
    let (ended, _) = plan.run(
        |_| {},
        async |mut client| {
            client.until("ready\n").await;
            client.faults.refuse(true);
            client.faults.now(Fault::Cut);
            client.faults.has_refused(3).await;
            client.faults.refuse(false);
            client.send("late\n").await;
            client.rest().await
        },
    );
    assert_eq!(ended.unwrap().outcome, Outcome::Exited(0));
    let mut shown = String::new();
    encode(&mut shown, &metrics.into_registry()).unwrap();
    let value = |name: &str| -> u64 {
        let sample = format!("sandpool_{name}_total{{pool=\"t\"}} ");
        let value = shown.lines().find_map(|it| it.strip_prefix(&sample));
        value.unwrap().parse().unwrap()
    };
    let failures = value("reattach_failures");
    assert!(failures >= 3, "{failures}");
    assert_eq!(value("reattaches"), failures + 1);
}

#[test]
fn a_caller_that_goes_while_the_agent_is_away_is_not_waited_for() {
    let (ended, ()) = Plan::python("print('ready')\ninput()").run(
        |_| {},
        async |mut client| {
            client.until("ready\n").await;
            client.faults.refuse(true);
            client.faults.now(Fault::Cut);
        },
    );
    assert!(matches!(ended.unwrap().outcome, Outcome::Cancelled(_)));
}
