//! What a scrape shows after what happened.

use std::time::Duration;

use prometheus_client::encoding::text::encode;

use super::*;
use crate::execution::{LostCause, Outcome};

const MILLISECOND: Duration = Duration::from_millis(1);

/// What a scrape shows.
fn shown(metrics: Metrics) -> String {
    let mut text = String::new();
    encode(&mut text, &metrics.into_registry()).unwrap();
    text
}

#[track_caller]
fn shows(text: &str, line: &str) {
    assert!(text.lines().any(|it| it == line), "no {line}:\n{text}");
}

#[test]
fn what_has_not_happened_yet_is_shown_as_0() {
    let metrics = Metrics::default();
    let _pool = metrics.pool("py");
    let text = shown(metrics);
    for outcome in Outcome::NAMES {
        let labels = format!("{{pool=\"py\",outcome=\"{outcome}\"}}");
        shows(&text, &format!("sandpool_executions_total{labels} 0"));
    }
    for cause in LostCause::ALL {
        let labels = format!("{{pool=\"py\",cause=\"{}\"}}", cause.name());
        shows(&text, &format!("sandpool_sandboxes_lost_total{labels} 0"));
    }
    for reason in RefusalReason::ALL {
        let labels = format!("{{pool=\"py\",reason=\"{}\"}}", reason.name());
        shows(&text, &format!("sandpool_requests_refused_total{labels} 0"));
    }
    shows(&text, "sandpool_reattach_failures_total{pool=\"py\"} 0");
}

#[test]
fn pools_are_counted_apart_and_a_loss_by_its_cause_too() {
    let metrics = Metrics::default();
    let [py, js] = ["py", "js"].map(|name| metrics.pool(name));
    let lost = Outcome::Lost(LostCause::BeforeStart, "the reason is no label".into());
    py.end(&lost, None);
    js.end(&Outcome::Exited(3), Some(3 * MILLISECOND));
    let text = shown(metrics);
    for line in [
        "sandpool_executions_total{pool=\"py\",outcome=\"sandbox_lost\"} 1",
        "sandpool_executions_total{pool=\"js\",outcome=\"sandbox_lost\"} 0",
        "sandpool_sandboxes_lost_total{pool=\"py\",cause=\"before_start\"} 1",
        "sandpool_executions_total{pool=\"js\",outcome=\"exited\"} 1",
        "sandpool_request_to_first_output_seconds_count{pool=\"py\"} 0",
        "sandpool_request_to_first_output_seconds_count{pool=\"js\"} 1",
        "sandpool_request_to_first_output_seconds_bucket{le=\"0.002\",pool=\"js\"} 0",
        "sandpool_request_to_first_output_seconds_bucket{le=\"0.003\",pool=\"js\"} 1",
    ] {
        shows(&text, line);
    }
    assert!(!text.contains("reason is no label"), "{text}");
}

#[test]
fn a_request_is_granted_or_refused_and_counts_as_gone_when_it_is_dropped() {
    let metrics = Metrics::default();
    let pool = metrics.pool("py");
    pool.ask().granted(MILLISECOND, 2 * MILLISECOND);
    pool.ask().refused(RefusalReason::QueueFull);
    drop(pool.ask());
    let text = shown(metrics);
    for line in [
        "sandpool_queue_wait_seconds_count{pool=\"py\"} 1",
        "sandpool_queue_wait_seconds_sum{pool=\"py\"} 0.001",
        "sandpool_request_to_lease_seconds_sum{pool=\"py\"} 0.002",
        "sandpool_requests_refused_total{pool=\"py\",reason=\"queue_full\"} 1",
        "sandpool_requests_refused_total{pool=\"py\",reason=\"caller_gone\"} 1",
    ] {
        shows(&text, line);
    }
}
