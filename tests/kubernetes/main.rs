//! The Kubernetes backend against the cluster that KUBECONFIG names: `make test-cluster`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod cluster;
mod exec;
