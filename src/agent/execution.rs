//! One execution, from its start to its exit, whatever becomes of the connections meanwhile.

mod operate;
mod pump;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
    time::Duration,
};

use bytes::{Buf, Bytes};
use rustix::process::Pid;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};

use super::{
    executions::Sandbox,
    files::{self, OutputFiles},
    interpreters::{Program, Setting},
    marks::Mark,
    memory::Overrun,
    outbox::Outbox,
    pipes::Outputs,
    processes,
    terminal::Terminal,
};
use crate::proto::agent::{
    Acknowledged, Control, Credit, Exited, FromAgent, Input, Open, Opened, Output, Start, Started,
    Stream, control::Action, exited, from_agent::Message, start,
};
use crate::reaper::End;

/// How long the pipes of a program that has ended are kept open for its children's output.
const AFTER_EXIT: Duration = Duration::from_millis(200);

const STREAMS: [Stream; 3] = [Stream::Stdout, Stream::Stderr, Stream::Files];

/// An execution and the streams that the server reads.
pub(super) struct Execution {
    sandbox: Arc<Sandbox>,
    state: Mutex<State>,
    /// Control messages are applied one at a time, in order; the number of the last one.
    applied: tokio::sync::Mutex<u64>,
    /// Credit was given: the readers of the pipes may go on.
    room: Notify,
    /// Input came, or its end.
    input: Notify,
    /// A file operation is to end.
    killed: Notify,
}

#[derive(Default)]
struct State {
    /// Which connection speaks for the server: the last one that opened this execution.
    connection: u64,
    waker: Option<Waker>,
    streams: [Outbox; 3],
    /// Which stream is asked first next time, so that each has its turn.
    turn: usize,
    opened_sent: bool,
    acknowledged: Acknowledged,
    acknowledged_sent: Acknowledged,
    started: Option<Started>,
    started_sent: bool,
    exited: Option<Exited>,
    exited_sent: bool,
    pid: Option<Pid>,
    terminal: Option<Terminal>,
    /// Of its processes, in a sandbox that lives on and runs others.
    mark: Option<Mark>,
    /// The server does not want to hear of it any more: what it still writes is dropped.
    abandoned: bool,
    input: VecDeque<Bytes>,
    /// How far input was received; what comes again after a reconnect is skipped.
    input_received: u64,
    input_ended: bool,
}

impl Execution {
    pub(super) fn new(sandbox: Arc<Sandbox>) -> Self {
        Self {
            sandbox,
            state: Mutex::default(),
            applied: tokio::sync::Mutex::new(0),
            room: Notify::new(),
            input: Notify::new(),
            killed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and lets the connection see whether there is something to send.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }

    /// A connection takes the execution over; returns its number.
    pub(super) fn open(&self, open: &Open) -> u64 {
        let connection = self.change(|state| {
            state.connection += 1;
            state.opened_sent = false;
            state.started_sent = false;
            state.exited_sent = false;
            for credit in &open.credits {
                if let Some(stream) = state.stream(credit.stream) {
                    stream.rewind(credit.received, credit.limit);
                }
            }
            state.connection
        });
        self.room.notify_waiters();
        connection
    }

    /// The next message for the server over that connection. Ready(None) once it is no longer
    /// the one, or has had everything.
    pub(super) fn poll_next(
        &self,
        connection: u64,
        waker: &Waker,
    ) -> std::task::Poll<Option<FromAgent>> {
        use std::task::Poll;
        let mut state = self.state();
        if state.connection != connection {
            return Poll::Ready(None);
        }
        if let Some(message) = state.next() {
            return Poll::Ready(Some(FromAgent {
                message: Some(message),
            }));
        }
        if state.exited_sent {
            return Poll::Ready(None);
        }
        state.waker = Some(waker.clone());
        Poll::Pending
    }

    /// More credit for an output stream.
    pub(super) fn credit(&self, credit: &Credit) {
        self.change(|state| {
            if let Some(stream) = state.stream(credit.stream) {
                stream.credit(credit.received, credit.limit);
            }
        });
        self.room.notify_waiters();
    }

    /// Input for the program. What was received before is skipped.
    pub(super) fn input(&self, input: Input) {
        {
            let mut state = self.state();
            let known = state.input_received.saturating_sub(input.offset);
            let mut data = input.data;
            // A message that was received whole has nothing more to give.
            data.advance(usize::try_from(known).unwrap_or(usize::MAX).min(data.len()));
            state.input_received += data.len() as u64;
            if !data.is_empty() {
                state.input.push_back(data);
            }
            state.input_ended |= input.end;
        }
        self.input.notify_one();
    }

    /// Applies a control message, once, and in order.
    pub(super) async fn control(self: &Arc<Self>, control: Control) {
        let mut applied = self.applied.lock().await;
        if control.sequence != *applied + 1 {
            return;
        }
        match control.action {
            Some(Action::File(chunk)) => {
                if let Err(error) = files::write(&chunk) {
                    self.not_started(format!("cannot write {}: {error}", chunk.path));
                }
            }
            Some(Action::Start(start)) => self.start(start).await,
            Some(Action::Signal(number)) => {
                if let Some(pid) = self.state().pid {
                    processes::signal_group(pid, number);
                }
            }
            Some(Action::Resize(size)) => {
                let (terminal, pid) = {
                    let state = self.state();
                    (state.terminal.clone(), state.pid)
                };
                if let (Some(terminal), Some(pid)) = (terminal, pid) {
                    terminal.resize(size);
                    processes::tell_of_size(pid);
                }
            }
            Some(Action::Kill(_)) => self.kill(),
            None => {}
        }
        *applied = control.sequence;
        self.change(|state| state.acknowledged.control_sequence = control.sequence);
    }

    /// Kills its processes; in a sandbox that is its own, everyone's.
    fn kill(&self) {
        self.killed.notify_one();
        let mark = self.state().mark;
        match mark {
            Some(mark) => mark.kill_all(),
            None => processes::kill_all(),
        }
    }

    /// The server has its end, or has given it up: what is left of it ends, and is told to nobody.
    pub(super) fn abandon(&self) {
        let runs = self.change(|state| {
            state.abandoned = true;
            state.streams = Default::default();
            state.mark.is_some() && state.exited.is_none()
        });
        self.room.notify_waiters();
        if runs {
            self.kill();
        }
    }

    fn not_started(&self, reason: String) {
        self.change(|state| {
            state.exited.get_or_insert_with(|| Exited {
                end: Some(exited::End::NotStarted(reason)),
                ..Exited::default()
            });
        });
    }

    async fn start(self: &Arc<Self>, start: Start) {
        {
            let mut state = self.state();
            state.mark = start.named.map(|_| Mark::new());
            if state.exited.is_some() {
                return;
            }
        }
        if let Some(start::Program::FileOperation(operation)) = start.program {
            self.operate(operation, start.no_input);
            return;
        }
        match self.launch(&start).await {
            Ok(program) => {
                self.change(|state| {
                    state.input_ended |= start.no_input;
                    state.pid = Some(program.process.pid);
                    if let Outputs::Terminal(terminal) = &program.pipes.outputs {
                        state.terminal = Some(terminal.clone());
                    }
                    state.started = Some(Started {
                        warm: program.warm,
                        direct_output: match program.pipes.outputs {
                            Outputs::Direct(pair) => Some(pair),
                            Outputs::Read { .. } | Outputs::Terminal(_) => None,
                        },
                    });
                });
                // Owned by the sandbox: they end by themselves, or with the sandbox.
                if let (Some(start::Program::Code(code)), Some(_)) = (&start.program, start.named) {
                    let (sandbox, language) = (self.sandbox.clone(), code.language.clone());
                    let replace =
                        async move { sandbox.interpreters.replace_spares(&language).await };
                    tokio::spawn(replace);
                }
                tokio::spawn(self.clone().follow(program, start));
            }
            Err(reason) => self.not_started(reason),
        }
    }

    async fn launch(&self, start: &Start) -> Result<Program, String> {
        let directory = &start.working_directory;
        if directory != super::WORKSPACE {
            std::fs::create_dir_all(directory)
                .map_err(|e| format!("cannot create {directory}: {e}"))?;
        }
        let env = start
            .env
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        let interpreters = &self.sandbox.interpreters;
        let prepared = self.sandbox.prepared();
        let prepared = prepared.map_err(|e| format!("cannot read /proc/meminfo: {e}"))?;
        let processes = self.sandbox.limit(&prepared, start.processes);
        let terminal = start.terminal.map(Terminal::open).transpose();
        let terminal = terminal.map_err(|e| format!("cannot open a terminal: {e}"))?;
        let setting = Setting {
            env: &env,
            working_directory: directory,
            processes,
            terminal,
            mark: self.state().mark,
        };
        match &start.program {
            Some(start::Program::Code(code)) => interpreters
                .run(code.clone(), setting)
                .await
                .map_err(|e| format!("cannot start the interpreter: {e}")),
            Some(start::Program::Command(command)) => {
                interpreters.command(&command.args, setting).map_err(|e| {
                    format!(
                        "cannot start {}: {e}",
                        command.args.first().map_or("", String::as_str)
                    )
                })
            }
            Some(start::Program::FileOperation(_)) | None => Err("there is no program".into()),
        }
    }

    /// Follows a program to its end.
    async fn follow(self: Arc<Self>, program: Program, start: Start) {
        let (ended, has_ended) = watch::channel(None);
        let Program {
            process,
            pipes,
            cpu_time_before,
            used_for_start,
            directory,
            memory_before,
            ..
        } = program;
        let mark = self.state().mark;
        let by_the_server = matches!(pipes.outputs, Outputs::Direct(_));
        let feeder = tokio::spawn(self.clone().feed(pipes.stdin));
        let output = async {
            match pipes.outputs {
                Outputs::Direct(_) => {}
                Outputs::Read { stdout, stderr } => {
                    tokio::join!(
                        self.clone().pump(Stream::Stdout, stdout, has_ended.clone()),
                        self.clone().pump(Stream::Stderr, stderr, has_ended),
                    );
                }
                Outputs::Terminal(terminal) => {
                    self.clone().watch_terminal(terminal, has_ended).await;
                }
            }
        };

        let prepared = self.sandbox.prepared().ok();
        let peak = AtomicU64::new(0);
        let mut share = match (start.named, mark, &prepared) {
            (Some(named), Some(mark), Some(prepared)) => {
                let (own, all) = (start.memory_bytes, named.memory_bytes);
                Some(prepared.shares.watch(mark, memory_before, own, all))
            }
            _ => None,
        };
        let exit = async {
            let mut overrun = None;
            let mut exit = process.exit;
            let watch = async {
                match (&mut share, &prepared) {
                    (Some(share), _) => share.overrun().await,
                    (None, Some(prepared)) => {
                        prepared
                            .memory
                            .overrun(start.memory_bytes, start.disk_bytes, &peak)
                            .await
                    }
                    (None, None) => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                exit = &mut exit => return (exit, overrun),
                passed = watch => overrun = Some(passed),
            }
            self.kill();
            (exit.await, overrun)
        };
        let exit = async {
            let exit = exit.await;
            self.change(|state| {
                // It may become another process's.
                state.pid = None;
                state.terminal = None;
            });
            ended.send_replace(Some(Instant::now() + AFTER_EXIT));
            exit
        };
        let ((exit, overrun), ()) = tokio::join!(exit, output);
        feeder.abort();
        drop(used_for_start);
        if let Some(share) = &share {
            peak.store(share.peak(), Ordering::Relaxed);
        }
        if let Some(mark) = mark.filter(|_| !by_the_server) {
            mark.kill_all();
        }
        self.change(|state| {
            // Nobody reads input any more.
            state.input.clear();
            state.acknowledged.input_offset = state.input_received;
        });

        let omitted = self.collect(&start).await;
        let (end, cpu_time) = match exit {
            Ok(exit) => (exit.end, exit.cpu_time.saturating_sub(cpu_time_before)),
            // The reaper never drops what it has not answered.
            Err(_) => (End::Signal(libc::SIGKILL), Duration::ZERO),
        };
        let end = match (overrun, end) {
            (Some(Overrun::Memory(bytes)), _) => exited::End::OutOfMemory(bytes),
            (Some(Overrun::Disk(bytes)), _) => exited::End::DiskLimit(bytes),
            (None, End::Code(code)) => exited::End::Code(code),
            (None, End::Signal(signal)) => exited::End::Signal(signal),
        };
        self.change(|state| {
            state.exited = Some(Exited {
                end: Some(end),
                cpu_time_us: u64::try_from(cpu_time.as_micros()).unwrap_or(u64::MAX),
                peak_memory_bytes: peak.load(Ordering::Relaxed),
                stdout_bytes: state.streams[0].end(),
                stderr_bytes: state.streams[1].end(),
                files_bytes: state.streams[2].end(),
                output_files_omitted: omitted,
            });
        });
        let Some(mark) = mark else { return };
        if by_the_server && mark.is_on_anyone() {
            // The server reads what they write meanwhile.
            sleep(AFTER_EXIT).await;
            mark.kill_all();
        }
        if let Some(directory) = directory {
            // What is left of it costs a little memory.
            let _ = std::fs::remove_dir_all(directory);
        }
    }

    async fn collect(&self, start: &Start) -> u32 {
        let mut files = OutputFiles::find(
            &start.working_directory,
            &start.output_paths,
            start.output_file_bytes,
        );
        while let Some(bytes) = files.next() {
            let mut rest = Bytes::from(bytes);
            while !rest.is_empty() {
                let now = rest.split_to(self.room(2).await.min(rest.len()));
                self.change(|state| state.push(2, now));
            }
        }
        files.omitted
    }
}

impl State {
    /// Adds to a stream what there is room for.
    fn push(&mut self, index: usize, piece: Bytes) {
        if !self.abandoned {
            self.streams[index].push(piece);
        }
    }

    fn stream(&mut self, stream: i32) -> Option<&mut Outbox> {
        let stream = Stream::try_from(stream).ok()?;
        (stream != Stream::Unspecified).then(|| &mut self.streams[index(stream)])
    }

    /// What the server is to hear next.
    fn next(&mut self) -> Option<Message> {
        if !self.opened_sent {
            self.opened_sent = true;
            self.acknowledged_sent = self.acknowledged;
            return Some(Message::Opened(Opened {
                acknowledged: Some(self.acknowledged),
            }));
        }
        if let Some(started) = self.started.filter(|_| !self.started_sent) {
            self.started_sent = true;
            return Some(Message::Started(started));
        }
        for turn in 0..STREAMS.len() {
            let index = (self.turn + turn) % STREAMS.len();
            if let Some((offset, data)) = self.streams[index].next() {
                self.turn = index + 1;
                return Some(Message::Output(Output {
                    stream: STREAMS[index].into(),
                    offset,
                    data,
                }));
            }
        }
        if let Some(exited) = self.exited.clone().filter(|_| !self.exited_sent) {
            self.exited_sent = true;
            return Some(Message::Exited(exited));
        }
        if self.acknowledged_sent != self.acknowledged {
            self.acknowledged_sent = self.acknowledged;
            return Some(Message::Acknowledged(self.acknowledged));
        }
        None
    }
}

/// Where a stream, which is one of the three, stands in [`STREAMS`].
const fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout | Stream::Unspecified => 0,
        Stream::Stderr => 1,
        Stream::Files => 2,
    }
}
