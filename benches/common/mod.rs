//! What the benches share: a server of the release build, its client, quantiles, a table.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout
)]

pub mod cells;
pub mod floor;
pub mod loud;
pub mod named;
pub mod process;
pub mod rates;
pub mod sample;

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use sandpool::proto::v1::{
    self, ResizePoolRequest, WatchPoolRequest, execution_service_client::ExecutionServiceClient,
    pool_service_client::PoolServiceClient,
};
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

pub type Executions = ExecutionServiceClient<Channel>;

/// A server with one pool, killed and cleaned up when dropped.
pub struct Server {
    child: Child,
    pub channel: Channel,
    pub address: String,
    pub state_dir: PathBuf,
    _config: tempfile::NamedTempFile,
}

/// Holds this bench's own code on huge pages, as the server does its own: what a client's cold pages
/// cost is neither Sandpool's nor the floor's. To be called while there is one thread.
pub fn hold_client() {
    sandpool::huge_pages::hold_program().unwrap();
}

/// The agent that `make build` makes beside the release build.
fn agent() -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_sandpool")).with_file_name("sandpool-agent");
    let agent = std::env::var_os("SANDPOOL_AGENT").map_or(built, PathBuf::from);
    assert!(
        agent.exists(),
        "no agent at {}: run `make build`",
        agent.display()
    );
    agent.canonicalize().unwrap()
}

fn state_dir() -> PathBuf {
    PathBuf::from(format!("/run/sandpool-bench-{}", std::process::id()))
}

impl Server {
    /// Starts a server on this machine; `pool` is the text of `[pools.default]`, languages included.
    pub async fn start(pool: &str) -> Self {
        let state_dir = state_dir();
        let agent = agent();
        Self::with(&format!(
            "[backend.local]\nagent = {agent:?}\nstate_dir = {state_dir:?}\n{pool}"
        ))
        .await
    }

    /// Starts a server with that configuration of backend and pools.
    pub async fn with(backend_and_pools: &str) -> Self {
        let config = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        let text =
            format!("listen = \"127.0.0.1:0\"\n[log]\nlevel = \"warn\"\n{backend_and_pools}");
        std::fs::write(config.path(), text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_sandpool"))
            .args(["serve", "--config"])
            .arg(config.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let address = first.strip_prefix("listening on ").unwrap().to_owned();
        std::thread::spawn(move || lines.for_each(drop));
        let channel = Channel::from_shared(format!("http://{address}"))
            .unwrap()
            .tcp_nodelay(true)
            // As `sandpool run` does.
            .max_frame_size(256 * 1024)
            .initial_stream_window_size(512 * 1024)
            .initial_connection_window_size(1 << 20)
            .connect()
            .await
            .unwrap();
        let server = Self {
            child,
            channel,
            address,
            state_dir: state_dir(),
            _config: config,
        };
        server.settled().await;
        server
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn client(&self) -> Executions {
        ExecutionServiceClient::new(self.channel.clone()).max_decoding_message_size(16 << 20)
    }

    /// Waits until as many sandboxes are idle as shall be, and nothing else goes on.
    pub async fn settled(&self) {
        self.has_idle(0).await;
    }

    /// The same, and until so many are idle.
    pub async fn has_idle(&self, least: u32) {
        let mut pools = PoolServiceClient::new(self.channel.clone());
        let request = WatchPoolRequest {
            name: "default".into(),
        };
        let mut changes = pools.watch_pool(request).await.unwrap().into_inner();
        while let Some(pool) = changes.message().await.unwrap() {
            let (counts, spec) = (pool.counts.unwrap(), pool.spec.unwrap());
            let moving = counts.starting + counts.leased + counts.recycling + counts.queued;
            if moving == 0 && counts.idle >= spec.min_idle.max(least) {
                return;
            }
        }
    }

    /// Has the pool keep so many idle, and waits until they are.
    pub async fn fill(&self, min_idle: u32) {
        let mut pools = PoolServiceClient::new(self.channel.clone());
        let request = ResizePoolRequest {
            name: "default".into(),
            min_idle: Some(min_idle),
            max_sandboxes: None,
        };
        pools.resize_pool(request).await.unwrap();
        self.has_idle(min_idle).await;
    }

    /// Directories of the sandboxes that there are.
    pub fn sandboxes(&self) -> Vec<PathBuf> {
        std::fs::read_dir(&self.state_dir)
            .unwrap()
            .flatten()
            .filter(|server| server.path().join("lock").exists())
            .flat_map(|server| std::fs::read_dir(server.path()).unwrap().flatten())
            .map(|entry| entry.path())
            .filter(|path| path.join("config.json").exists())
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.state_dir);
    }
}

/// A call that does nothing: what every call of a server's costs.
pub struct Nothing(HealthClient<Channel>);

impl Nothing {
    pub fn of(server: &Server) -> Self {
        Self(HealthClient::new(server.channel.clone()))
    }

    pub async fn call(&mut self) -> Duration {
        let begun = Instant::now();
        self.0.check(HealthCheckRequest::default()).await.unwrap();
        begun.elapsed()
    }
}

/// A spec that runs Python.
pub fn python(source: &str) -> v1::ExecutionSpec {
    v1::ExecutionSpec {
        program: Some(v1::execution_spec::Program::Code(v1::Code {
            language: "python".into(),
            source: source.into(),
            args: Vec::new(),
        })),
        ..v1::ExecutionSpec::default()
    }
}

/// A quantile of samples, by rank.
pub fn quantile(samples: &mut [Duration], q: f64) -> Duration {
    samples.sort();
    let rank = ((samples.len() as f64 * q).ceil() as usize).clamp(1, samples.len());
    samples[rank - 1]
}

/// Measures something again and again beside something else, each after the same idle time.
pub async fn compare(
    name: &str,
    floor_name: &str,
    mut ours: impl AsyncFnMut() -> Duration,
    mut floor: impl AsyncFnMut() -> Duration,
) {
    let samples = setting("SAMPLES", 300);
    let idle = Duration::from_millis(setting("IDLE_MS", 300) as u64);
    let (mut times, mut floor_times) = (Vec::new(), Vec::new());
    for turn in 0..samples * 2 {
        tokio::time::sleep(idle).await;
        // They take turns in going first.
        if matches!(turn % 4, 0 | 3) {
            times.push(ours().await);
        } else {
            floor_times.push(floor().await);
        }
    }
    println!(
        "\n{name} beside {floor_name}, n = {samples} a side, alternating, idle for {idle:?} before\n"
    );
    print_latencies_head();
    let floor = median_and_p99(&mut floor_times);
    print_latencies(name, median_and_p99(&mut times), floor);
}

/// Prints the head of a table of latencies beside their floor.
pub fn print_latencies_head() {
    println!("| | p50 ms | p99 ms | floor p50 | floor p99 | ratio p50 | ratio p99 |");
    println!("|---|---|---|---|---|---|---|");
}

/// Prints a line of it: two quantiles of each.
pub fn print_latencies(name: &str, ours: [Duration; 2], floor: [Duration; 2]) {
    let ratio = |i: usize| ours[i].as_secs_f64() / floor[i].as_secs_f64();
    println!(
        "| {name} | {} | {} | {} | {} | {:.2} | {:.2} |",
        ms(ours[0]),
        ms(ours[1]),
        ms(floor[0]),
        ms(floor[1]),
        ratio(0),
        ratio(1)
    );
}

/// The median and the 99th percentile.
pub fn median_and_p99(samples: &mut [Duration]) -> [Duration; 2] {
    [0.5, 0.99].map(|q| quantile(samples, q))
}

pub fn ms(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64() * 1e3)
}

/// A number from the environment, for shorter runs.
pub fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}
