//! The server's binary as a child, with a small pool of warm python3 interpreters.

use std::{process::Stdio, time::Duration};

use sandpool::proto::v1::execution_service_client::ExecutionServiceClient;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};
use tonic::transport::{Channel, Endpoint};

/// Two sandboxes for each program that runs at a time, and as many that start meanwhile.
const CONFIG: &str = r#"
listen = "127.0.0.1:0"

[log]
level = "warn"

[backend.local]
state_dir = "STATE"
agent = "AGENT"

[pools.default]
min_idle = 4
max_sandboxes = 10

[pools.default.limits.default]
timeout = "60s"
queue_timeout = "60s"

[pools.default.languages.python]
interpreter = "/usr/bin/python3"
"#;

/// Deletes its sandboxes when told to stop.
pub(crate) struct Server {
    child: Child,
    pub(crate) client: ExecutionServiceClient<Channel>,
    _state: tempfile::TempDir,
}

impl Server {
    /// Resolves once the pool is warm.
    pub(crate) async fn start() -> Self {
        let state = tempfile::tempdir().unwrap();
        let file = state.path().join("sandpool.toml");
        let config = CONFIG
            .replace("STATE", state.path().join("state").to_str().unwrap())
            .replace("AGENT", crate::agent::agent().to_str().unwrap());
        std::fs::write(&file, config).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_sandpool"))
            .arg("serve")
            .arg("--config")
            .arg(&file)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = None;
        loop {
            let line = timeout(Duration::from_secs(60), lines.next_line()).await;
            let line = line.expect("the server is not ready").unwrap();
            let line = line.expect("the server ended");
            if let Some(listens) = line.strip_prefix("listening on ") {
                address = Some(listens.to_owned());
            }
            if line.starts_with("ready") {
                break;
            }
        }
        // Whatever else it prints: it must not find its stdout closed.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let address = format!(
            "http://{}",
            address.expect("it does not say where it listens")
        );
        let channel = Endpoint::from_shared(address).unwrap().connect().await;
        let client = ExecutionServiceClient::new(channel.unwrap());
        Self {
            child,
            client,
            _state: state,
        }
    }

    pub(crate) async fn stop(mut self) {
        let pid = self
            .child
            .id()
            .and_then(|pid| rustix::process::Pid::from_raw(pid as i32));
        rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::TERM).unwrap();
        let ended = timeout(Duration::from_secs(60), self.child.wait()).await;
        assert!(ended.expect("the server does not stop").unwrap().success());
    }
}
