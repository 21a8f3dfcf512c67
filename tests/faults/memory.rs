//! A pod that takes more memory than its node gives it.

use crate::{cluster, harness::*};
use v1::finished::Outcome;

const POOL: &str = r#"
[pools.main]
min_idle = 1
max_sandboxes = 2
volumes = { workspace = "1MiB", tmp = "1MiB", home = "1MiB" }
limits.default = { timeout = "5m", queue_timeout = "80s", memory = "128MiB" }
limits.max = { timeout = "10m", memory = "128MiB" }
languages.python.interpreter = "/usr/bin/python3"
"#;

/// What waits in a pipe is in the memory of gVisor itself, which no program inside can see.
const SOURCE: &str = "
import fcntl, os
print('begins', flush=True)
pipes = []
while True:
    reader, writer = os.pipe()
    pipes.append((reader, writer))
    size = fcntl.fcntl(writer, 1031, 1 << 20)
    os.write(writer, bytes(size))
";

#[tokio::test]
async fn a_pod_that_its_node_kills_for_its_memory_is_out_of_memory() {
    let server = Server::with(POOL).start();
    let client = server.client().await;
    let done = python(SOURCE).run(&client).await;
    let expected = Outcome::OutOfMemory(v1::OutOfMemory {
        memory_bytes: 128 << 20,
    });
    assert_eq!(done.outcome(), &expected, "{}", done.describe());
    assert_eq!(done.out(), "begins\n");
    let peak = done.usage().peak_memory_bytes;
    assert_eq!(peak, 0, "the agent, which would tell, died with it");
    cluster::settled(&client).await;
}
