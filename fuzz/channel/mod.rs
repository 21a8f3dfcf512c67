//! What is fuzzed: the server's end of an agent's byte stream, with an agent that says anything.
//!
//! - `stream`: the byte stream; `wire`: what goes over it, made of the fuzzer's bytes
//!
//! Time is tokio's own and paused: it jumps to the next timer whenever nothing else can happen, so
//! every timeout is reached at once, and a run that never ends would be one that is always busy.

mod stream;
mod wire;

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use sandpool::{
    backend::{
        Backend, BoxedByteStream, ConnectError, Death, DeleteError, SandboxId, StartError,
        StartedSandbox,
    },
    execution::{InputFile, Limits, LostCause, Outcome, Program, Spec, Tenancy},
    sandbox::{Channel, Event, Input, Run, Sandbox},
};
use tokio::sync::{mpsc, watch};

use self::{stream::Script, wire::Wire};

const OUTPUT_LIMIT: u64 = 100_000;
const FILES_LIMIT: u64 = 10_000;
/// What the sandbox returns at most, whatever it claims.
const MAX_FILES: u64 = 1000;
/// A run is polled once for what comes, goes and times out; far fewer times than this.
const POLLS: u64 = 200_000;

/// The agents of one run: one for each connection, in order.
struct Agents(Mutex<VecDeque<Script>>);

impl Agents {
    fn next(&self) -> Option<Script> {
        self.0.lock().unwrap().pop_front()
    }
}

#[async_trait]
impl Backend for Agents {
    async fn start(&self, _: &SandboxId, _: u32) -> Result<StartedSandbox, StartError> {
        unreachable!("the sandbox is made of a channel")
    }

    async fn connect(&self, id: &SandboxId) -> Result<BoxedByteStream, ConnectError> {
        match self.next() {
            Some(script) => Ok(Box::pin(script)),
            None => Err(ConnectError {
                id: id.clone(),
                reason: "there is no further agent".into(),
            }),
        }
    }

    async fn delete(&self, _: &SandboxId) -> Result<(), DeleteError> {
        Ok(())
    }
}

/// What the caller got.
#[derive(Default)]
struct Got {
    events: u64,
    started: u64,
    output: [u64; 2],
    files: u64,
    file_bytes: u64,
    forms: u64,
}

impl Got {
    fn take(&mut self, event: &Event) {
        assert!(self.started == 1 || self.events == 0, "before Started");
        self.events += 1;
        match event {
            Event::Started(_) => self.started += 1,
            Event::Stdout(data) => self.output[0] += data.len() as u64,
            Event::Stderr(data) => self.output[1] += data.len() as u64,
            Event::Display(display) => {
                self.forms += display.data.values().map(|it| it.len() as u64).sum::<u64>();
            }
            Event::File(chunk) => {
                self.files += u64::from(chunk.last);
                self.file_bytes += chunk.content.len() as u64;
                assert!(
                    !chunk
                        .path
                        .split('/')
                        .any(|part| part.is_empty() || part == "..")
                );
            }
        }
        assert_eq!(self.started, 1, "Started does not come first");
        assert!(self.output[0] + self.output[1] + self.forms <= OUTPUT_LIMIT);
        assert!(self.files <= MAX_FILES && self.file_bytes <= FILES_LIMIT);
    }
}

/// How the caller behaves: three bits of the input.
#[derive(Clone, Copy)]
struct Caller {
    stdin_open: bool,
    reads: bool,
    stays: bool,
}

/// Lets an agent made of `data` speak to the server's end, and checks what must hold whatever it
/// says: no panic, an end within bounded work, one outcome, and bounded output before it.
pub(crate) fn run(data: &[u8]) {
    let [mode, caller, data @ ..] = data else {
        return;
    };
    let scripts = match mode % 3 {
        0 => Wire::raw(data),
        1 => Wire::frames(data),
        _ => Wire::messages(data),
    };
    let caller = Caller {
        stdin_open: caller & 1 != 0,
        reads: caller & 2 == 0,
        stays: caller & 4 == 0,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut polls = 0;
        let mut run = pin!(drive(scripts, caller));
        poll_fn(|cx| {
            polls += 1;
            assert!(polls < POLLS, "it is polled without end");
            run.as_mut().poll(cx)
        })
        .await;
    });
}

async fn drive(scripts: Vec<Script>, caller: Caller) {
    let agents = Arc::new(Agents(Mutex::new(scripts.into())));
    let id = SandboxId::new("fuzz", "0", 0);
    let Some(first) = agents.next() else { return };
    let Ok(channel) = Channel::connect(Box::pin(first)).await else {
        return;
    };
    let (_alive, death) = watch::channel::<Option<Death>>(None);
    let sandbox = Sandbox::from_channel(agents, id, channel, death);
    let (to_program, mut input) = mpsc::channel(4);
    let (to_caller, mut events) = mpsc::channel::<Event>(4);
    let (_stopper, stop) = watch::channel(None);
    let spec = spec(caller.stdin_open);

    let run = sandbox.run(Run {
        execution_id: "fuzz",
        spec: &spec,
        input: &mut input,
        events: &to_caller,
        stop,
        reattach_timeout: Duration::from_secs(3),
    });
    let mut got = Got::default();
    let client = async {
        if caller.stdin_open {
            // Fails once the program has ended.
            let _ = to_program
                .send(Input::Data(Bytes::from_static(&[7; 70_000])))
                .await;
            let _ = to_program.send(Input::Signal(15)).await;
        }
        if caller.reads {
            while let Some(event) = events.recv().await {
                got.take(&event);
            }
        }
        if caller.stays {
            std::future::pending::<()>().await;
        }
        drop(events);
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = run => ended,
        () = client => unreachable!("the client stays"),
    };
    match ended {
        Err(_) => assert_eq!(got.events, 0, "events of a program that never started"),
        Ok(ended) => check(ended, got, caller),
    }
}

fn check(ended: sandpool::sandbox::Ended, mut got: Got, caller: Caller) {
    let mut rest = ended.rest.iter();
    if !caller.reads && !rest.any(|event| matches!(event, Event::Started(_))) {
        // It is in the channel, where nobody has looked, or never was.
        got.started = 1;
    }
    for event in &ended.rest {
        got.take(event);
    }
    let delivered = [ended.usage.stdout_bytes, ended.usage.stderr_bytes];
    // The channel to the caller holds a few events that it may never have read.
    assert!(got.output[0] <= delivered[0] && got.output[1] <= delivered[1]);
    let all = delivered[0] + delivered[1] + ended.usage.display_bytes;
    assert!(all <= OUTPUT_LIMIT);
    if let Some(error) = ended.error {
        assert!(error.name.chars().count() <= 256 && error.value.chars().count() <= 16_384);
    }
    if ended.started_at.is_none() {
        let before_start = matches!(
            ended.outcome,
            Outcome::NotStarted(_) | Outcome::Cancelled(_)
        );
        assert!(got.events == 0 || before_start || got.started == 1);
    }
    match ended.outcome {
        Outcome::Lost(cause, reason) => {
            assert_eq!(cause, LostCause::Unknown);
            assert!(reason.chars().count() < 1000 && !reason.contains('\n'));
        }
        Outcome::NotStarted(reason) => {
            assert!(reason.chars().count() <= 600 && !reason.contains(char::is_control));
        }
        Outcome::OutputLimit(bytes) => {
            assert_eq!(bytes, OUTPUT_LIMIT);
            assert_eq!(all, OUTPUT_LIMIT);
        }
        Outcome::Cancelled(_) => assert!(!caller.stays),
        Outcome::Exited(_)
        | Outcome::Signaled(_)
        | Outcome::TimedOut(_)
        | Outcome::OutOfMemory(_)
        | Outcome::DiskLimit(_) => {}
    }
}

fn spec(stdin_open: bool) -> Spec {
    Spec {
        // Which may have all that a program may, and displays.
        program: Program::Cell {
            context_id: "c".into(),
            source: "1".into(),
            number: 1,
        },
        env: Default::default(),
        working_directory: "/workspace".into(),
        files: vec![InputFile {
            path: "/workspace/file".into(),
            content: Bytes::from_static(b"content"),
            mode: 0o644,
        }],
        output_paths: vec!["*".into()],
        known_files: Vec::new(),
        limits: Limits {
            timeout: Duration::from_secs(10),
            queue_timeout: Duration::from_secs(1),
            memory_bytes: 1 << 20,
            disk_bytes: 1 << 20,
            output_bytes: OUTPUT_LIMIT,
            output_file_bytes: FILES_LIMIT,
            processes: 1,
        },
        stdin_open,
        labels: Default::default(),
        tenancy: Tenancy::SingleUse,
        terminal: None,
        keep_after_disconnect: None,
    }
}
