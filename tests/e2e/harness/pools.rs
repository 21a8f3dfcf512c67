//! Waiting for what a pool shows.

use tonic::Streaming;

use super::{Client, Execution, PATIENCE, Spec, bash, soon, v1};

impl Client {
    pub async fn pool(&self, name: &str) -> v1::Pool {
        let request = v1::GetPoolRequest { name: name.into() };
        self.pools
            .clone()
            .get_pool(request)
            .await
            .unwrap()
            .into_inner()
    }

    pub async fn counts(&self, name: &str) -> v1::PoolCounts {
        self.pool(name).await.counts.unwrap()
    }

    pub async fn watch(&self, name: &str) -> Streaming<v1::Pool> {
        let request = v1::WatchPoolRequest { name: name.into() };
        self.pools
            .clone()
            .watch_pool(request)
            .await
            .unwrap()
            .into_inner()
    }

    /// Waits until the pool shows what is wanted.
    pub async fn wait_for(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&v1::Pool) -> bool,
    ) -> v1::Pool {
        let mut changes = self.watch(name).await;
        let mut last = None;
        // A large pool takes many steps.
        let size = self.pool(name).await.spec.unwrap().max_sandboxes;
        let patience = PATIENCE * (1 + size / 10);
        let seen = tokio::time::timeout(patience, async {
            loop {
                let changed = changes.message().await.unwrap();
                assert!(changed.is_some(), "a watch does not end");
                // A watch may lag behind what has been done, GetPool does not.
                let pool = self.pool(name).await;
                if wanted(&pool) {
                    return pool;
                }
                last = Some(pool);
            }
        })
        .await;
        seen.unwrap_or_else(|_| panic!("{name} never showed {what}; the last was {last:#?}"))
    }

    /// Waits until the pool says that no sandbox starts, in a reason that holds these words.
    pub async fn wait_refused(&self, name: &str, words: &str) -> v1::Pool {
        // What refuses it empties it, too, but is not the only one that tells why.
        let refused = |pool: &v1::Pool| {
            pool.health.as_ref().unwrap().reason.contains(words) && pool.counts.unwrap().idle == 0
        };
        self.wait_for(name, words, refused).await
    }

    /// Waits until so many requests wait for a sandbox of the pool.
    pub async fn wait_queued(&self, name: &str, count: u32) {
        let queued = |pool: &v1::Pool| pool.counts.as_ref().unwrap().queued == count;
        self.wait_for(name, &format!("{count} queued"), queued)
            .await;
    }

    /// Waits until all that the pool should have idle is idle, and nothing else is there.
    pub async fn wait_full(&self, name: &str) -> v1::Pool {
        self.wait_for(name, "only idle sandboxes", is_full).await
    }
}

/// A program that has a sandbox of the pool until its stdin is closed.
pub async fn occupy(client: &Client, pool: &str) -> Execution {
    ready(bash("echo ready; cat > /dev/null").pool(pool), client).await
}

/// A program that says when it is ready, and then reads its stdin.
pub async fn ready(program: Spec, client: &Client) -> Execution {
    let mut execution = program.stdin_open().timeout(PATIENCE).start(client).await;
    execution.until_stdout("ready").await;
    execution
}

/// Whether all that the pool should have idle is idle, and nothing else is there.
pub fn is_full(pool: &v1::Pool) -> bool {
    let idle = v1::PoolCounts {
        idle: pool.spec.as_ref().unwrap().min_idle,
        ..Default::default()
    };
    pool.counts == Some(idle)
}

/// Reads a watch until it shows what is wanted.
pub async fn next_that(
    changes: &mut Streaming<v1::Pool>,
    what: &str,
    wanted: impl Fn(&v1::Pool) -> bool,
) -> v1::Pool {
    soon(what, async {
        loop {
            let pool = changes
                .message()
                .await
                .unwrap()
                .expect("a watch does not end");
            if wanted(&pool) {
                return pool;
            }
        }
    })
    .await
}
