//! The agent's program, shared by the test binaries.

use std::path::{Path, PathBuf};

/// SANDPOOL_AGENT, or what `make agent` made.
pub(crate) fn agent() -> PathBuf {
    let path = std::env::var_os("SANDPOOL_AGENT").map_or_else(
        || {
            let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("target/agent")
                .join(host)
                .join("agent/sandpool-agent")
        },
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "there is no agent at {}: run `make agent`, or set SANDPOOL_AGENT",
        path.display()
    );
    path
}
