//! The cluster under test, and pods in it.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
    runtime::wait::{await_condition, conditions::is_pod_running},
};
use sandpool::backend::kubernetes::client;
use serde_json::json;
use tokio::sync::OnceCell;

/// No single step of a test takes this long, on however busy a machine: it hangs.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// What all namespaces of these tests are labelled with.
const LABEL: &str = "sandpool.dev/test";

/// What KUBECONFIG says.
pub async fn config() -> Config {
    Config::infer()
        .await
        .expect("a cluster: run `make cluster`, and set KUBECONFIG as it says")
}

/// An administrator's client.
pub async fn admin() -> Client {
    client(config().await).unwrap()
}

/// This run's namespace. Those of earlier runs are deleted first.
pub async fn namespace() -> &'static str {
    static NAME: OnceCell<String> = OnceCell::const_new();
    NAME.get_or_init(|| async {
        let namespaces: Api<Namespace> = Api::all(admin().await);
        let old = ListParams::default().labels(LABEL);
        for namespace in namespaces.list(&old).await.unwrap() {
            let _ = namespaces
                .delete(&namespace.name_any(), &DeleteParams::default())
                .await;
        }
        let namespace = serde_json::from_value(json!({
            "metadata": {"generateName": "sandpool-test-", "labels": {LABEL: "true"}},
        }));
        let namespace = namespaces
            .create(&PostParams::default(), &namespace.unwrap())
            .await
            .unwrap()
            .name_any();
        // Pods are refused until it has one.
        let accounts: Api<ServiceAccount> = Api::namespaced(admin().await, &namespace);
        let is_there = |account: Option<&ServiceAccount>| account.is_some();
        let there = await_condition(accounts, "default", is_there);
        soon("the default account", there).await.unwrap();
        namespace
    })
    .await
}

/// Waits for something that must come.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not come within {PATIENCE:?}"),
    }
}

/// An image with a shell and Python.
fn image() -> String {
    std::env::var("TEST_IMAGE").unwrap_or_else(|_| "localhost/languages:1".to_owned())
}

/// A gVisor pod that waits. It ends by itself after five minutes, whatever becomes of the test.
pub async fn waiting_pod() -> String {
    let pods: Api<Pod> = Api::namespaced(admin().await, namespace().await);
    let pod = serde_json::from_value(json!({
        "metadata": {"generateName": "waiting-"},
        "spec": {
            "runtimeClassName": "gvisor",
            "restartPolicy": "Never",
            "activeDeadlineSeconds": 300,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "containers": [{"name": "main", "image": image(), "command": ["sleep", "infinity"]}],
        },
    }));
    let pod = pods
        .create(&PostParams::default(), &pod.unwrap())
        .await
        .unwrap();
    let name = pod.name_any();
    let running = await_condition(pods, &name, is_pod_running());
    soon("a running pod", running).await.unwrap();
    name
}
