//! A server under test: its process, its log, and what it leaves behind.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::retry_on_intr,
    process::{Pid, PidfdFlags, Resource, Rlimit, getrlimit, pidfd_open, setrlimit},
};
use tempfile::TempDir;
use tokio::io::AsyncBufReadExt;

use super::{PATIENCE, cluster, deployed::Deployed, host};

/// How many files a server may have open unless it asks for more: too few for a pool.
const FEW_FILES: u64 = 64;

/// A new state directory, which several servers may share.
pub fn state_dir() -> Arc<TempDir> {
    let dir = tempfile::Builder::new().prefix("sandpool-e2e-").tempdir();
    Arc::new(dir.unwrap())
}

/// A server that is not started yet.
pub struct ServerBuilder {
    config: String,
    env: Vec<(&'static str, PathBuf)>,
    state_dir: Arc<TempDir>,
}

impl ServerBuilder {
    /// Shares a state directory with other servers.
    pub fn state_dir(mut self, dir: &Arc<TempDir>) -> Self {
        self.state_dir = dir.clone();
        self
    }

    /// Sets an environment variable of the server's.
    pub fn env(mut self, name: &'static str, value: PathBuf) -> Self {
        self.env.push((name, value));
        self
    }

    /// Starts the server, and waits until every pool is warm.
    pub fn start(self) -> Server {
        let server = self.start_cold();
        server.wait_ready();
        server
    }

    /// Starts the server, and waits until it listens.
    pub fn start_cold(self) -> Server {
        let Self {
            config,
            env,
            state_dir,
        } = self;
        let own = tempfile::tempdir().unwrap();
        let config_path = own.path().join("sandpool.toml");
        fs::write(&config_path, config_text(&config, state_dir.path())).unwrap();
        let log = own.path().join("log");

        let mut command = Command::new(env!("CARGO_BIN_EXE_sandpool"));
        command
            .arg("serve")
            .arg("--config")
            .arg(&config_path)
            .envs(env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap());
        let mut child = spawn(command);
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut server = Server {
            child: Mutex::new(child),
            ended: Mutex::new(None),
            killed: AtomicBool::new(false),
            lines: Mutex::new(lines),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            metrics: SocketAddr::from(([127, 0, 0, 1], 0)),
            name: String::new(),
            deployed: None,
            state_dir,
            log,
            own,
        };
        server.address = server.wait_address("listening on ");
        server.metrics = server.wait_address("metrics on ");
        server.name = name_in(&server.log());
        server
    }
}

fn config_text(rest: &str, state_dir: &Path) -> String {
    let backend = if cluster::is_used() {
        let config: toml::Table = rest.parse().unwrap();
        let pools = config["pools"].as_table().unwrap();
        cluster::config(pools.keys().cloned())
    } else {
        let agent = crate::agent::agent();
        format!("[backend.local]\nstate_dir = {state_dir:?}\nagent = {agent:?}\n")
    };
    // What is given may itself begin with top-level keys, so it comes before the tables.
    format!(
        "listen = \"127.0.0.1:0\"\ndefault_pool = \"main\"\n{rest}\n\
         [metrics]\nlisten = \"127.0.0.1:0\"\n\
         [log]\nlevel = \"info,sandpool=trace\"\n{backend}"
    )
}

/// What a server calls itself, in its log.
fn name_in(log: &str) -> String {
    let before = "\"server\":\"";
    let (_, rest) = log.split_once(before).expect("a server logs its name");
    rest.split('"').next().unwrap().to_owned()
}

/// Starts a process that ends with this one, however this one ends.
///
/// The kernel counts the end of the thread that started it, so there is one thread for that.
fn spawn(mut command: Command) -> Child {
    type Request = (Command, mpsc::Sender<Child>);
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Request>>> = OnceLock::new();
    // SAFETY: prctl and setrlimit are async-signal-safe, and are given numbers only.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            // As a shell or a service manager leaves it: fewer open files than are allowed.
            let limit = getrlimit(Resource::Nofile);
            let current = Some(FEW_FILES);
            setrlimit(Resource::Nofile, Rlimit { current, ..limit })?;
            Ok(())
        });
    }
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, answer) in requests {
                answer.send(command.spawn().unwrap()).unwrap();
            }
        });
        Mutex::new(sender)
    });
    let (sender, answer) = mpsc::channel();
    spawner.lock().unwrap().send((command, sender)).unwrap();
    answer.recv().unwrap()
}

/// A server that runs. Dropped, it is ended by SIGTERM, and must have left nothing.
pub struct Server {
    child: Mutex<Child>,
    ended: Mutex<Option<ExitStatus>>,
    /// By a test; whoever else kills it makes a test fail.
    killed: AtomicBool,
    lines: Mutex<mpsc::Receiver<String>>,
    pub address: SocketAddr,
    /// Where it answers for metrics and probes.
    pub metrics: SocketAddr,
    /// Its part of the sandboxes' ids.
    pub name: String,
    /// If it runs in the cluster, and the child only brings its log.
    pub(super) deployed: Option<Deployed>,
    state_dir: Arc<TempDir>,
    log: PathBuf,
    own: TempDir,
}

impl Server {
    /// A server with these pools, one of which is called main.
    pub fn with(config: &str) -> ServerBuilder {
        ServerBuilder {
            config: config.to_owned(),
            env: Vec::new(),
            state_dir: state_dir(),
        }
    }

    /// The server that was deployed, whose end is not the tests' own.
    pub fn deployed(deployed: Deployed) -> Self {
        let own = tempfile::tempdir().unwrap();
        let log = own.path().join("log");
        let so_far = deployed.logs(false).output().unwrap().stdout;
        let mut follow = deployed.logs(true);
        follow.stdout(File::create(&log).unwrap());
        Self {
            child: Mutex::new(spawn(follow)),
            ended: Mutex::new(None),
            killed: AtomicBool::new(false),
            lines: Mutex::new(mpsc::channel().1),
            address: deployed.address,
            metrics: deployed.metrics,
            name: name_in(&String::from_utf8(so_far).unwrap()),
            deployed: Some(deployed),
            state_dir: state_dir(),
            log,
            own,
        }
    }

    /// Waits until every pool has been warm.
    pub fn wait_ready(&self) {
        self.wait_line("ready");
    }

    fn wait_address(&self, before: &str) -> SocketAddr {
        let line = self.wait_line(before);
        line[before.len()..].trim().parse().unwrap()
    }

    fn wait_line(&self, start: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let lines = self.lines.lock().unwrap();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match lines.recv_timeout(left) {
                Ok(line) if line.starts_with(start) => return line,
                Ok(_) => {}
                Err(error) => panic!(
                    "the server printed no line beginning with {start:?} ({error}):\n{}",
                    self.log()
                ),
            }
        }
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits for a line in the log, or finds it there.
    pub async fn logged(&self, what: &str, wanted: impl Fn(&str) -> bool) {
        let mut tail = tokio::process::Command::new("tail")
            .args(["-n", "+1", "-f"])
            .arg(&self.log)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = tokio::io::BufReader::new(tail.stdout.take().unwrap());
        let mut lines = log.lines();
        super::soon(what, async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if wanted(&line) {
                    return;
                }
            }
            panic!("tail ended");
        })
        .await;
    }

    /// Waits until another server of the cluster has removed what is left of it.
    pub async fn buried(&self) {
        let name = self.name.clone();
        let waiting = tokio::task::spawn_blocking(move || cluster::wait_buried(&name));
        super::soon("the burial", waiting).await.unwrap();
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Ends it as kill -9 does; what it leaves is not looked at.
    pub fn kill(&self) {
        assert!(self.deployed.is_none(), "it is not the tests' own");
        self.killed.store(true, Ordering::Relaxed);
        self.signal(libc::SIGKILL);
        self.wait();
    }

    fn signal(&self, signal: i32) {
        // The child has not been waited for, so its pid is still its own.
        if self.ended.lock().unwrap().is_none() {
            let pid = self.child.lock().unwrap().id();
            host::kill(i32::try_from(pid).unwrap(), signal);
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        assert!(self.deployed.is_none(), "it is on another machine");
        self.child.lock().unwrap().id()
    }

    /// Waits for its end.
    pub fn wait(&self) -> ExitStatus {
        let mut ended = self.ended.lock().unwrap();
        if let Some(status) = *ended {
            return status;
        }
        let mut child = self.child.lock().unwrap();
        let pid = Pid::from_child(&child);
        let end = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let patience = Timespec::try_from(PATIENCE).unwrap();
        // Another child's end interrupts it.
        let ready =
            retry_on_intr(|| poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&patience)));
        assert_eq!(ready, Ok(1), "the server does not end");
        let status = child.wait().unwrap();
        *ended = Some(status);
        status
    }

    /// A sandbox of it, seen from outside.
    pub fn sandbox(&self, id: &str) -> SandboxFromOutside {
        SandboxFromOutside {
            server: self.name.clone(),
            dir: self.state_dir.path().join(&self.name).join(id),
            id: id.to_owned(),
        }
    }

    /// The ids of its sandboxes in a pool.
    pub fn sandboxes(&self, pool: &str) -> Vec<String> {
        let start = format!("{pool}-{}-", self.name);
        let mut ids = sandboxes(&self.name);
        ids.retain(|id| id.starts_with(&start));
        ids
    }

    /// What there is of this server and its sandboxes.
    pub fn traces(&self) -> Vec<String> {
        if cluster::is_used() {
            cluster::pods(&self.name)
        } else {
            host::traces(&self.name, &self.state_dir.path().join(&self.name))
        }
    }

    /// Ends it by SIGTERM, and asserts that it ended well and left nothing.
    pub fn end(&self) {
        self.terminate();
        let status = self.wait();
        if self.killed.load(Ordering::Relaxed) || self.deployed.is_some() {
            return;
        }
        let traces = self.traces();
        assert!(
            status.success(),
            "the server ended with {status}:\n{}",
            self.log()
        );
        assert!(traces.is_empty(), "the server left behind: {traces:#?}");
    }

    /// Removes its directories, for a server that is never dropped.
    pub fn remove_directories(&self) {
        for dir in [self.state_dir.path(), self.own.path()] {
            let _ = fs::remove_dir_all(dir);
        }
    }

    /// The end of its log, for a test that fails.
    pub fn print_log_tail(&self) {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        println!("the end of the server's log:");
        for line in &lines[lines.len().saturating_sub(20)..] {
            println!("{}", line.chars().take(400).collect::<String>());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            self.print_log_tail();
            self.terminate();
            self.wait();
            return;
        }
        self.end();
    }
}

fn sandboxes(server: &str) -> Vec<String> {
    if cluster::is_used() {
        cluster::pods(server)
    } else {
        host::sandboxes(server)
    }
}

/// One sandbox, seen from outside.
pub struct SandboxFromOutside {
    server: String,
    /// Where a local one keeps what it has.
    dir: PathBuf,
    id: String,
}

impl SandboxFromOutside {
    /// Whether there is anything of it.
    pub fn exists(&self) -> bool {
        sandboxes(&self.server).contains(&self.id)
    }

    /// Signals gVisor's kernel for it: the process that is the sandbox.
    pub fn signal(&self, signal: i32) {
        if cluster::is_used() {
            cluster::signal(&self.id, signal);
        } else {
            host::signal(&self.server, &self.id, signal);
        }
    }

    /// Connects to its agent once more, as the server does after a cut, and says nothing: the
    /// connection lasts until the child's stdin is closed.
    pub fn attach(&self) -> Child {
        let mut command = if cluster::is_used() {
            cluster::exec(&self.id)
        } else {
            host::exec(&self.dir, &self.id)
        };
        command.args(["/sandpool/agent", "attach"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut attached = spawn(command);
        // HTTP/2's own greeting: the agent has taken the connection.
        let greeting = attached.stdout.as_mut().unwrap().read_exact(&mut [0; 9]);
        greeting.expect("the agent greets");
        attached
    }
}
