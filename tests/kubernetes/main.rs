//! The Kubernetes backend against the cluster that KUBECONFIG names: `make test-cluster`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cluster;
mod exec;
