//! The pool as a whole, over sandboxes in memory and on a paused clock.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod memory;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::{task::JoinHandle, time::Instant};

use self::memory::Memory;
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn settings() -> PoolSettings {
    PoolSettings {
        name: "py".into(),
        min_idle: 1,
        max_sandboxes: 2,
        max_queued: 4,
        max_queued_per_caller: None,
        max_starting: 4,
        start_delay: Duration::ZERO,
        connected_idle: 500,
        max_idle_age: HOUR,
    }
}

fn pool(settings: PoolSettings) -> (Arc<Pool<Memory>>, Arc<Memory>) {
    let memory = Arc::new(Memory::default());
    (Pool::spawn(settings, Arc::clone(&memory), "s1"), memory)
}

async fn warm_pool(settings: PoolSettings) -> (Arc<Pool<Memory>>, Arc<Memory>) {
    let (pool, memory) = pool(settings);
    pool.warm().await;
    (pool, memory)
}

/// Asks as `caller` in a task, and returns when it stands in the queue.
async fn queue(pool: &Arc<Pool<Memory>>, caller: &'static str) -> JoinHandle<GrantedOrNot> {
    let queued = pool.status().queued;
    let asking = Arc::clone(pool);
    let task = tokio::spawn(async move { asking.lease(caller, HOUR).await });
    until(pool, |status| status.queued == queued + 1).await;
    task
}

type GrantedOrNot = Result<Lease<Memory>, LeaseError>;

/// The watch may be a little late, so it only says when to look.
async fn until(pool: &Pool<Memory>, mut what: impl FnMut(&PoolStatus) -> bool) -> PoolStatus {
    let mut watch = pool.watch();
    let changed = async {
        while !what(&pool.status()) {
            watch.changed().await.unwrap();
        }
    };
    tokio::time::timeout(HOUR, changed).await.unwrap();
    pool.status()
}

#[tokio::test(start_paused = true)]
async fn an_idle_sandbox_is_leased_at_once_and_deleted_after_use() {
    let (pool, memory) = warm_pool(settings()).await;
    let asked = Instant::now();
    let lease = pool.lease("a", Duration::ZERO).await.unwrap();
    assert_eq!(asked.elapsed(), Duration::ZERO);
    assert_eq!(lease.id().as_str(), "py-s1-0");
    drop(lease);
    until(&pool, |status| status.idle == 1 && status.sandboxes() == 1).await;
    assert_eq!(memory.deleted(), ["py-s1-0"]);
    assert_eq!(memory.alive(), ["py-s1-1"]);
}

#[tokio::test(start_paused = true)]
async fn failing_starts_are_seen_deleted_and_retried_with_backoff() {
    let (pool, memory) = pool(settings());
    memory.fail_starts(3);
    let begin = Instant::now();
    let status = until(&pool, |status| status.health != PoolHealth::Warming).await;
    let reason = "no memory left".into();
    assert_eq!(
        status.health,
        PoolHealth::Unhealthy {
            reason,
            failed_starts: 1
        }
    );
    pool.warm().await;
    assert_eq!(pool.status().health, PoolHealth::Ready);
    assert_eq!(memory.deleted(), ["py-s1-0", "py-s1-1", "py-s1-2"]);
    let backoff = begin.elapsed() - 4 * memory::START;
    assert!(
        (2625..=3520).contains(&backoff.as_millis()),
        "0.5 + 1 + 2 s, not {backoff:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failing_delete_is_retried_until_the_sandbox_is_gone() {
    let (pool, memory) = warm_pool(PoolSettings {
        max_sandboxes: 1,
        ..settings()
    })
    .await;
    memory.fail_deletes(5);
    drop(pool.lease("a", SECOND).await.unwrap());
    let lease = pool.lease("a", HOUR).await.unwrap();
    assert_eq!(lease.id().as_str(), "py-s1-1");
    assert_eq!(memory.deletes(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_like_any_other() {
    let (pool, memory) = pool(settings());
    memory.panic_starts(2);
    memory.panic_deletes(2);
    let status = until(&pool, |status| status.health != PoolHealth::Warming).await;
    let PoolHealth::Unhealthy { reason, .. } = status.health else {
        panic!("{status:?}")
    };
    assert_eq!(&*reason, "panicked: start is broken");
    pool.warm().await;
    pool.shutdown().await;
    assert_eq!(memory.alive(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_too_long_is_told_how_long() {
    let (pool, _memory) = warm_pool(PoolSettings {
        max_sandboxes: 1,
        ..settings()
    })
    .await;
    let _lease = pool.lease("a", SECOND).await.unwrap();
    let error = pool.lease("b", 5 * SECOND).await.unwrap_err();
    assert_eq!(error, LeaseError::QueueTimeout { waited: 5 * SECOND });
    assert_eq!(pool.status().queued, 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_leaves_the_queue_to_the_next() {
    let (pool, _memory) = warm_pool(PoolSettings {
        max_sandboxes: 1,
        ..settings()
    })
    .await;
    let lease = pool.lease("a", SECOND).await.unwrap();
    let gives_up = queue(&pool, "b").await;
    let waits = queue(&pool, "c").await;
    gives_up.abort();
    until(&pool, |status| status.queued == 1).await;
    drop(lease);
    assert_eq!(waits.await.unwrap().unwrap().id().as_str(), "py-s1-1");
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_granted_to_one_who_just_left_is_recycled() {
    let (pool, memory) = warm_pool(PoolSettings {
        max_sandboxes: 1,
        ..settings()
    })
    .await;
    let lease = pool.lease("a", SECOND).await.unwrap();
    {
        let mut leaves = pin!(pool.lease("b", HOUR));
        let polled = poll_fn(|context| Poll::Ready(leaves.as_mut().poll(context))).await;
        assert!(polled.is_pending());
        drop(lease);
        until(&pool, |status| status.leased == 1 && status.queued == 0).await;
    }
    until(&pool, |status| status.idle == 1).await;
    assert_eq!(memory.deleted(), ["py-s1-0", "py-s1-1"]);
}

#[tokio::test(start_paused = true)]
async fn one_caller_cannot_fill_the_queue() {
    let (pool, _memory) = warm_pool(PoolSettings {
        max_sandboxes: 1,
        ..settings()
    })
    .await;
    let _lease = pool.lease("greedy", SECOND).await.unwrap();
    let _first = queue(&pool, "greedy").await;
    let _second = queue(&pool, "greedy").await;
    let error = pool.lease("greedy", HOUR).await.unwrap_err();
    let LeaseError::CallerQueueFull {
        limit: 2,
        retry_after,
        ..
    } = error
    else {
        panic!("{error}")
    };
    assert!((100..=30_000).contains(&retry_after.as_millis()));
    let _modest = queue(&pool, "modest").await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_idle_sandbox_is_replaced() {
    let (pool, memory) = warm_pool(settings()).await;
    tokio::time::advance(60 * SECOND).await;
    memory.kill("py-s1-0");
    until(&pool, |status| status.idle == 0).await;
    until(&pool, |status| status.idle == 1).await;
    assert_eq!(memory.alive(), ["py-s1-1"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_leased_while_there_is_a_reason_against_it() {
    let (pool, memory) = warm_pool(settings()).await;
    let lease = pool.lease("a", SECOND).await.unwrap();
    until(&pool, |status| status.idle == 1).await;
    memory.refuse(Some("the network is open"));
    let status = until(&pool, |status| status.idle == 0).await;
    let PoolHealth::Unhealthy { reason, .. } = status.health else {
        panic!("{:?}", status.health)
    };
    assert_eq!(&*reason, "the network is open");
    let refused = pool.lease("b", 60 * SECOND).await;
    assert!(matches!(refused, Err(LeaseError::QueueTimeout { .. })));
    // Another attempt may have been under way just then.
    until(&pool, |status| status.sandboxes() == 1).await;
    assert_eq!(memory.alive(), [lease.id().as_str()]);
    memory.refuse(None);
    until(&pool, |status| status.idle == 1).await;
    assert_eq!(pool.status().health, PoolHealth::Ready);
}

/// The first look at it comes before the first sandbox is ready.
#[tokio::test(start_paused = true)]
async fn a_reason_from_the_beginning_counts() {
    let memory = Arc::new(Memory::default());
    memory.refuse(Some("the network is open"));
    let pool = Pool::spawn(settings(), Arc::clone(&memory), "s1");
    let refused = pool.lease("a", 60 * SECOND).await;
    assert!(matches!(refused, Err(LeaseError::QueueTimeout { .. })));
    assert!(!pool.status().warmed);
}

#[tokio::test(start_paused = true)]
async fn a_dead_leased_sandbox_is_deleted_before_its_lease_ends() {
    let (pool, memory) = warm_pool(PoolSettings {
        max_sandboxes: 1,
        ..settings()
    })
    .await;
    let lease = pool.lease("a", SECOND).await.unwrap();
    memory.kill("py-s1-0");
    until(&pool, |status| status.leased == 0 && status.idle == 1).await;
    assert_eq!(memory.deleted(), ["py-s1-0"]);
    drop(lease);
    assert_eq!(pool.status().idle, 1);
    pool.shutdown().await;
    assert_eq!(memory.deletes(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_old_idle_sandbox_is_replaced_without_a_gap() {
    let (pool, memory) = warm_pool(settings()).await;
    let (mut watch, mut changes) = (pool.watch(), 0);
    while memory.deleted().is_empty() {
        watch.changed().await.unwrap();
        assert!(watch.borrow().idle > 0, "{:?}", *watch.borrow());
        changes += 1;
    }
    assert!(changes > 0);
}

#[tokio::test(start_paused = true)]
async fn a_resized_pool_grows_and_shrinks() {
    let (pool, memory) = warm_pool(settings()).await;
    pool.resize(Some(5), Some(8)).unwrap();
    until(&pool, |status| status.idle == 5).await;
    pool.resize(Some(2), None).unwrap();
    until(&pool, |status| status.idle == 2 && status.sandboxes() == 2).await;
    assert_eq!(memory.alive().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_drained_pool_refuses_and_keeps_its_leases() {
    let (pool, memory) = warm_pool(PoolSettings {
        max_sandboxes: 1,
        ..settings()
    })
    .await;
    let lease = pool.lease("a", SECOND).await.unwrap();
    let waits = queue(&pool, "b").await;
    pool.drain();
    assert_eq!(waits.await.unwrap().unwrap_err(), LeaseError::Drained);
    assert_eq!(
        pool.lease("c", SECOND).await.unwrap_err(),
        LeaseError::Drained
    );
    assert_eq!(memory.alive(), ["py-s1-0"]);
    drop(lease);
    let status = until(&pool, |status| status.sandboxes() == 0).await;
    assert_eq!(status.health, PoolHealth::Drained);
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_starts_before_it_deletes_them_and_waits_for_leases() {
    let (pool, memory) = warm_pool(PoolSettings {
        max_sandboxes: 4,
        ..settings()
    })
    .await;
    let lease = pool.lease("a", SECOND).await.unwrap();
    memory.hang_starts();
    pool.resize(Some(3), None).unwrap();
    until(&pool, |status| status.starting >= 2).await;
    let mut shutdown = pin!(pool.shutdown());
    assert!(
        tokio::time::timeout(60 * SECOND, shutdown.as_mut())
            .await
            .is_err()
    );
    assert_eq!(memory.alive(), ["py-s1-0"]);
    assert_eq!(
        pool.lease("b", SECOND).await.unwrap_err(),
        LeaseError::ShuttingDown
    );
    drop(lease);
    tokio::time::timeout(HOUR, shutdown).await.unwrap();
    assert_eq!(memory.alive(), [""; 0]);
    assert_eq!(pool.status().sandboxes(), 0);
    assert_eq!(memory.deleted_while_starting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_never_warms_ends_the_wait_when_it_is_drained() {
    let (pool, memory) = pool(settings());
    memory.hang_starts();
    let mut warm = pin!(pool.warm());
    assert!(
        tokio::time::timeout(60 * SECOND, warm.as_mut())
            .await
            .is_err()
    );
    pool.drain();
    warm.await;
}

#[tokio::test(start_paused = true)]
async fn the_watch_shows_a_burst_as_few_changes() {
    let settings = PoolSettings {
        min_idle: 50,
        max_sandboxes: 100,
        max_starting: 50,
        ..settings()
    };
    let (pool, memory) = warm_pool(settings).await;
    let mut watch = pool.watch();
    watch.mark_unchanged();
    let burst = tokio::spawn(async move {
        for _ in 0..50 {
            drop(pool.lease("a", SECOND).await.unwrap());
            tokio::task::yield_now().await;
        }
        until(&pool, |status| {
            status.idle == 50 && status.sandboxes() == 50
        })
        .await;
    });
    let mut changes = 0;
    // The channel closes when the pool, which only the burst holds, is dropped.
    while watch.changed().await.is_ok() {
        changes += 1;
    }
    burst.await.unwrap();
    assert_eq!(memory.deleted().len(), 50);
    // 150 changes of state; all happen within a little more than one start.
    assert!((1..=12).contains(&changes), "{changes} changes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_between_threads() {
    let memory = Arc::new(Memory::hasty());
    let settings = PoolSettings {
        max_sandboxes: 3,
        max_queued: 64,
        max_queued_per_caller: Some(64),
        ..settings()
    };
    let pool = Pool::spawn(settings, Arc::clone(&memory), "s1");
    let callers = (0..8_u64).map(|caller| {
        let pool = Arc::clone(&pool);
        tokio::spawn(async move {
            let mut leased = Vec::new();
            for round in 0..500 {
                // Some have no patience: they leave the queue as others are granted.
                let wait = if (round + caller) % 3 == 0 {
                    Duration::ZERO
                } else {
                    HOUR
                };
                match pool.lease("a", wait).await {
                    Ok(lease) => leased.push(lease.id().as_str().to_owned()),
                    Err(error) => assert!(matches!(error, LeaseError::QueueTimeout { .. })),
                }
            }
            leased
        })
    });
    let mut leased = Vec::new();
    for caller in callers.collect::<Vec<_>>() {
        leased.append(&mut caller.await.unwrap());
    }
    let count = leased.len();
    leased.sort_unstable();
    leased.dedup();
    assert_eq!(leased.len(), count, "one was leased twice");
    pool.shutdown().await;
    assert_eq!(memory.alive(), [""; 0]);
    assert!(memory.deleted().len() >= count);
    let status = pool.status();
    assert_eq!((status.sandboxes(), status.queued), (0, 0));
}
