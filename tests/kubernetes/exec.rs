//! A program in a pod, by the exec client alone.

use std::io;

use k8s_openapi::api::{authentication::v1::TokenRequest, core::v1::ServiceAccount};
use kube::{Api, Client, api::PostParams};
use sandpool::backend::kubernetes::{
    client,
    exec::{End, Ended, Exec, ExecEnd, ExecError, PodStream, open},
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cluster::{admin, config, namespace, soon, waiting_pod};

async fn exec(pod: &str, command: &[&str]) -> Result<PodStream, ExecError> {
    exec_by(&admin().await, pod, "main", command).await
}

async fn exec_by(
    client: &Client,
    pod: &str,
    container: &str,
    command: &[&str],
) -> Result<PodStream, ExecError> {
    let exec = Exec {
        namespace: namespace().await,
        pod,
        container,
        command,
    };
    soon("an answer", open(client, exec)).await
}

/// Reads to the end; how that came is told by the error.
async fn read_all(stream: &mut (impl AsyncReadExt + Unpin)) -> (Vec<u8>, ExecEnd) {
    let mut all = Vec::new();
    let error = soon("the end", async {
        loop {
            let mut piece = [0; 32 * 1024];
            match stream.read(&mut piece).await {
                Ok(length) => all.extend_from_slice(&piece[..length]),
                Err(error) => return error,
            }
        }
    });
    let end = end_of(&error.await);
    (all, end)
}

fn end_of(error: &io::Error) -> ExecEnd {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    inner.cloned().expect("an ExecEnd")
}

fn exited(code: i32) -> ExecEnd {
    ExecEnd::Ended(Ended {
        end: End::Exited(code),
        stderr: String::new(),
    })
}

#[tokio::test]
async fn bytes_pass_unchanged_in_both_directions_and_stdin_ends() {
    let pod = waiting_pod().await;
    let (mut reader, mut writer) = tokio::io::split(exec(&pod, &["cat"]).await.unwrap());
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let copy = sent.clone();
    let writing = tokio::spawn(async move {
        writer.write_all(&copy).await.unwrap();
        writer.shutdown().await.unwrap();
        // Dropping it is not what ends stdin.
        writer
    });
    let (received, end) = read_all(&mut reader).await;
    assert_eq!(end, exited(0));
    assert!(
        received == sent,
        "{} of {} bytes",
        received.len(),
        sent.len()
    );
    drop(writing.await.unwrap());
}

#[tokio::test]
async fn an_exit_code_comes_with_the_last_words_on_stderr() {
    let pod = waiting_pod().await;
    let script = "echo out; head -c 5000 /dev/zero | tr '\\0' x >&2; echo last words >&2; exit 7";
    let mut stream = exec(&pod, &["sh", "-c", script]).await.unwrap();
    let (output, end) = read_all(&mut stream).await;
    assert_eq!(output, b"out\n");
    let ExecEnd::Ended(Ended { end, stderr }) = end else {
        panic!("{end:?}");
    };
    assert_eq!(end, End::Exited(7));
    assert_eq!(stderr.len(), 1024);
    assert!(
        stderr.ends_with("xx\n") || stderr.ends_with("last words\n"),
        "{stderr}"
    );
    // It stays so, for reads and writes alike.
    assert!(stream.read_u8().await.is_err());
    let written = stream.write_all(b"x").await.unwrap_err();
    assert_eq!(written.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_program_that_is_not_there_ends_the_stream_with_kubernetes_words() {
    let pod = waiting_pod().await;
    let mut stream = exec(&pod, &["/no/such/program"]).await.unwrap();
    let (output, end) = read_all(&mut stream).await;
    assert_eq!(output, b"");
    let ExecEnd::Ended(ended) = end else {
        panic!("{end:?}");
    };
    assert_ne!(ended.end, End::Exited(0));
}

#[tokio::test]
async fn a_pod_that_is_not_there_is_not_found() {
    let refused = exec("nobody", &["true"]).await.err();
    assert!(
        matches!(&refused, Some(ExecError::NotFound(words)) if words.contains("nobody")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_container_that_is_not_there_is_refused() {
    let pod = waiting_pod().await;
    let client = admin().await;
    let refused = exec_by(&client, &pod, "other", &["true"]).await.err();
    assert!(
        matches!(&refused, Some(ExecError::Refused { code: 400, .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn an_account_without_the_right_is_forbidden() {
    let namespace = namespace().await;
    let accounts: Api<ServiceAccount> = Api::namespaced(admin().await, namespace);
    let account = serde_json::from_value(json!({"metadata": {"name": "nobody"}})).unwrap();
    accounts
        .create(&PostParams::default(), &account)
        .await
        .unwrap();
    let request: TokenRequest = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
    let token = accounts
        .create_token_request("nobody", &PostParams::default(), &request)
        .await
        .unwrap();
    let mut config = config().await;
    config.auth_info = kube::config::AuthInfo {
        token: Some(token.status.unwrap().token.into()),
        ..Default::default()
    };
    let client = client(config).unwrap();
    let refused = exec_by(&client, "nobody", "main", &["true"]).await.err();
    assert!(
        matches!(&refused, Some(ExecError::Forbidden(words)) if words.contains("pods/exec")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn an_api_server_that_is_not_there_is_unreachable() {
    let mut config = config().await;
    config.cluster_url = "https://127.0.0.1:1".parse().unwrap();
    let client = client(config).unwrap();
    let refused = exec_by(&client, "any", "main", &["true"]).await.err();
    assert!(
        matches!(refused, Some(ExecError::Unreachable(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_deleted_pod_ends_its_streams() {
    use k8s_openapi::api::core::v1::Pod;
    let pod = waiting_pod().await;
    let mut stream = exec(&pod, &["sh", "-c", "echo ready; sleep infinity"])
        .await
        .unwrap();
    let mut line = [0; 6];
    soon("its output", stream.read_exact(&mut line))
        .await
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(admin().await, namespace().await);
    pods.delete(&pod, &Default::default()).await.unwrap();
    // 137, an error or a cut: what it looks like is not to be relied on.
    let (_, end) = read_all(&mut stream).await;
    assert_ne!(end, exited(0));
}
