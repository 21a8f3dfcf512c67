//! A sandbox of a test's own, and a program in it whose connections the test controls.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use sandpool::{
    backend::{
        Backend, SandboxId,
        local::{Cgroups, LocalBackend, Machine, StateDir, Template, Volumes},
    },
    execution::{InputFile, Limits, Program, Spec, Tenancy},
    metrics::Attempts,
    proto::agent::Language,
    sandbox::{Ended, Event, Input, NotConfirmed, Preparation, Run, Sandbox},
};
use tokio::{
    runtime::Runtime,
    sync::{mpsc, watch},
};

use crate::{
    agent,
    relay::{Fault, Faults, Relayed},
};

const MIB: u64 = 1 << 20;

/// One for all tests: the task that reaps children belongs to it.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    // Says nothing unless RUST_LOG asks for it.
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).try_init();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
});

static BACKEND: LazyLock<Arc<LocalBackend>> = LazyLock::new(|| {
    let cgroups = Cgroups::find().unwrap();
    let parent = std::env::temp_dir().join("sandpool-reattach");
    let server = format!("{:08x}", std::process::id());
    let state = StateDir::open(&parent, &server, &cgroups).unwrap();
    let machine = Machine::new(
        state,
        cgroups,
        "runsc".into(),
        "systrap".into(),
        agent::agent(),
    );
    Arc::new(LocalBackend::new(machine.unwrap(), template()).unwrap())
});

/// What a test runs, and how long it waits for an agent that cannot be reached.
pub(crate) struct Plan {
    pub(crate) spec: Spec,
    pub(crate) reattach_timeout: Duration,
    /// Whether the sandbox's connection is cut before the program comes.
    pub(crate) idle: IdleCut,
    /// Where attempts to reach the agent again count.
    pub(crate) reattaches: Attempts,
}

/// What happens to the connection of a sandbox that waits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdleCut {
    None,
    /// It is cut and made again.
    Mended,
    /// It is cut and made again, and nothing has come over it yet.
    NotAnswered,
    /// It is cut, and could not be made again yet.
    NotMended,
}

impl Plan {
    pub(crate) fn python(source: &str) -> Self {
        Self::new(Program::Code {
            language: "python".into(),
            source: source.into(),
            args: Vec::new(),
        })
    }

    pub(crate) fn command(args: &[&str]) -> Self {
        Self::new(Program::Command {
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
        })
    }

    /// An interpreter that runs cells.
    pub(crate) fn context(id: &str) -> Self {
        Self::new(Program::Context {
            context_id: id.into(),
            language: "python".into(),
        })
    }

    pub(crate) fn cell(context: &str, number: u64, source: &str) -> Self {
        Self::new(Program::Cell {
            context_id: context.into(),
            source: source.into(),
            number,
        })
    }

    fn new(program: Program) -> Self {
        Self {
            spec: Spec {
                program,
                env: Default::default(),
                working_directory: "/workspace".into(),
                files: Vec::new(),
                output_paths: Vec::new(),
                known_files: Vec::new(),
                limits: Limits {
                    timeout: Duration::from_secs(120),
                    queue_timeout: Duration::from_secs(10),
                    memory_bytes: 128 * MIB,
                    disk_bytes: 64 * MIB,
                    output_bytes: 1024 * MIB,
                    output_file_bytes: 16 * MIB,
                    processes: 64,
                },
                stdin_open: true,
                labels: Default::default(),
                tenancy: Tenancy::SingleUse,
                terminal: None,
                keep_after_disconnect: None,
            },
            reattach_timeout: Duration::from_secs(30),
            idle: IdleCut::None,
            reattaches: Attempts::default(),
        }
    }

    pub(crate) fn file(mut self, name: &str, content: Bytes) -> Self {
        self.spec.files.push(InputFile {
            path: format!("/workspace/{name}"),
            content,
            mode: 0o644,
        });
        self
    }

    /// Runs it in a sandbox of its own while `client` speaks to it. Returns how it ended, and
    /// what the client made of it.
    pub(crate) fn run<T, F>(
        self,
        faults: impl FnOnce(&Faults),
        client: impl FnOnce(Client) -> F,
    ) -> (Result<Ended, NotConfirmed>, T)
    where
        F: Future<Output = T>,
    {
        RUNTIME.block_on(async {
            let backend = Arc::new(Relayed::new(BACKEND.clone()));
            faults(&backend.faults);
            let (id, sandbox) = start(&backend, self.reattaches.clone()).await;

            assert!(sandbox.is_connected());
            let relays = &backend.faults;
            if self.idle == IdleCut::NotMended {
                relays.refuse(true);
            }
            if self.idle != IdleCut::None {
                relays.now(Fault::Cut);
            }
            match self.idle {
                IdleCut::None => {}
                IdleCut::Mended => relays.connected(2).await,
                IdleCut::NotAnswered => relays.called_in_vain().await,
                IdleCut::NotMended => {
                    relays.has_refused(1).await;
                    assert!(!sandbox.is_connected());
                }
            }
            relays.refuse(false);

            let (to_program, mut input) = mpsc::channel(4);
            let (to_client, events) = mpsc::channel(4);
            let (stopper, stop) = watch::channel(None);
            let client = client(Client {
                input: Some(to_program),
                events,
                faults: backend.faults.clone(),
                seen: Seen::default(),
            });
            let run = async {
                let mut ended = sandbox
                    .run(Run {
                        execution_id: "test",
                        spec: &self.spec,
                        input: &mut input,
                        events: &to_client,
                        stop,
                        reattach_timeout: self.reattach_timeout,
                    })
                    .await;
                if let Ok(ended) = &mut ended {
                    for event in ended.rest.drain(..) {
                        // The client may have gone.
                        let _ = to_client.send(event).await;
                    }
                }
                // The client's sign that nothing follows.
                drop(to_client);
                ended
            };
            let both = async { tokio::join!(run, client) };
            let result = tokio::time::timeout(Duration::from_secs(120), both)
                .await
                .expect("the program or its client hangs");
            drop(stopper);
            backend.delete(&id).await.unwrap();
            result
        })
    }
}

/// A warm sandbox.
async fn start(backend: &Arc<Relayed>, reattaches: Attempts) -> (SandboxId, Sandbox) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let server = format!("{:08x}", std::process::id());
    let id = SandboxId::new("t", &server, NEXT.fetch_add(1, Ordering::Relaxed));
    let preparation = Preparation {
        languages: vec![Language {
            name: "python".into(),
            preload: Vec::new(),
            spares: 1,
            interpreter: "/usr/bin/python3".into(),
        }],
        timeout: Duration::from_secs(60),
        ..Preparation::default()
    };
    let sandbox = Sandbox::start(backend.clone(), id.clone(), &preparation, reattaches);
    (id, sandbox.await.unwrap())
}

/// Gives the test a sandbox that lives on, and what becomes of its connections.
pub(crate) fn in_one_sandbox(
    faults: impl FnOnce(&Faults),
    test: impl AsyncFnOnce(&Sandbox, &Faults),
) {
    RUNTIME.block_on(async {
        let backend = Arc::new(Relayed::new(BACKEND.clone()));
        faults(&backend.faults);
        let (id, sandbox) = start(&backend, Attempts::default()).await;
        let test = test(&sandbox, &backend.faults);
        tokio::time::timeout(Duration::from_secs(120), test)
            .await
            .expect("the test hangs");
        backend.delete(&id).await.unwrap();
    });
}

/// A program beside others: its output, and how it ended.
pub(crate) async fn run_in(
    sandbox: &Sandbox,
    execution_id: &str,
    plan: Plan,
) -> (Result<Ended, NotConfirmed>, Vec<u8>) {
    run_in_and_see(sandbox, execution_id, plan, |_| {}).await
}

/// The same; `see` is told all of stdout whenever more of it has come.
pub(crate) async fn run_in_and_see(
    sandbox: &Sandbox,
    execution_id: &str,
    plan: Plan,
    see: impl Fn(&[u8]),
) -> (Result<Ended, NotConfirmed>, Vec<u8>) {
    let mut stdout = Vec::new();
    let ended = run_in_for_events(sandbox, execution_id, plan, |event| {
        if let Event::Stdout(data) = event {
            stdout.extend_from_slice(&data);
            see(&stdout);
        }
    });
    (ended.await, stdout)
}

/// The same; `take` is given each event.
pub(crate) async fn run_in_for_events(
    sandbox: &Sandbox,
    execution_id: &str,
    mut plan: Plan,
    mut take: impl FnMut(Event),
) -> Result<Ended, NotConfirmed> {
    plan.spec.tenancy = Tenancy::Named {
        memory_bytes: 256 * MIB,
    };
    plan.spec.stdin_open = false;
    let (_, mut input) = mpsc::channel(1);
    let (to_client, mut events) = mpsc::channel::<Event>(4);
    let (_stopper, stop) = watch::channel(None);
    let run = async {
        let run = Run {
            execution_id,
            spec: &plan.spec,
            input: &mut input,
            events: &to_client,
            stop,
            reattach_timeout: plan.reattach_timeout,
        };
        let ended = sandbox.run(run).await;
        drop(to_client);
        ended
    };
    let take_all = async {
        while let Some(event) = events.recv().await {
            take(event);
        }
    };
    let (mut ended, ()) = tokio::join!(run, take_all);
    let rest = ended.iter_mut().flat_map(|ended| ended.rest.drain(..));
    rest.for_each(take);
    ended
}

fn template() -> Template {
    Template {
        rootfs: None,
        user: 65_532,
        group: 65_532,
        cpus: 2.0,
        memory_bytes: 512 * MIB,
        volumes: Volumes {
            workspace: 64 * MIB,
            tmp: 16 * MIB,
            home: 16 * MIB,
        },
    }
}

/// What the program has said so far.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) started: u32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// The program's caller.
pub(crate) struct Client {
    pub(crate) input: Option<mpsc::Sender<Input>>,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) seen: Seen,
}

impl Client {
    pub(crate) async fn send(&self, data: impl Into<Bytes>) {
        self.give(Input::Data(data.into())).await;
    }

    pub(crate) async fn signal(&self, number: i32) {
        self.give(Input::Signal(number)).await;
    }

    pub(crate) async fn close_input(&self) {
        self.give(Input::Close).await;
    }

    async fn give(&self, input: Input) {
        self.input.as_ref().unwrap().send(input).await.unwrap();
    }

    /// The next event, if there is one.
    pub(crate) async fn next(&mut self) -> bool {
        match self.events.recv().await {
            Some(Event::Started(_)) => self.seen.started += 1,
            Some(Event::Stdout(data)) => self.seen.stdout.extend_from_slice(&data),
            Some(Event::Stderr(data)) => self.seen.stderr.extend_from_slice(&data),
            Some(Event::File(_) | Event::Display(_)) => {}
            None => return false,
        }
        true
    }

    /// Waits until the program has started.
    pub(crate) async fn started(&mut self) {
        while self.seen.started == 0 {
            assert!(self.next().await, "it never started");
        }
    }

    /// Waits until stdout ends with `text`.
    pub(crate) async fn until(&mut self, text: &str) {
        while !self.seen.stdout.ends_with(text.as_bytes()) {
            assert!(
                self.next().await,
                "{text:?} never came; stdout: {:?} stderr: {:?}",
                String::from_utf8_lossy(&self.seen.stdout),
                String::from_utf8_lossy(&self.seen.stderr),
            );
        }
    }

    /// Takes everything that is left.
    pub(crate) async fn rest(mut self) -> Seen {
        while self.next().await {}
        self.seen
    }
}
