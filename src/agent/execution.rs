//! One execution, from its start to its exit, whatever becomes of the connections meanwhile.

mod cell;
mod follow;
mod operate;
mod pump;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Duration,
};

use bytes::{Buf, Bytes};
use rustix::process::Pid;
use tokio::sync::Notify;

use super::{
    contexts::Context,
    executions::Sandbox,
    files,
    interpreters::{Program, Setting},
    marks::Mark,
    outbox::Outbox,
    pipes::Outputs,
    processes,
    terminal::Terminal,
};
use crate::proto::agent::{
    self, Acknowledged, Control, Credit, Exited, FromAgent, Input, Open, Opened, Output, Start,
    Started, Stream, control::Action, exited, from_agent::Message, start,
};

const STREAMS: [Stream; 4] = [
    Stream::Stdout,
    Stream::Stderr,
    Stream::Files,
    Stream::Displays,
];
/// How long the pipes of a program that has ended are kept open for its children's output.
const AFTER_EXIT: Duration = Duration::from_millis(200);

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
    /// A file operation or a cell is to end.
    killed: Notify,
}

#[derive(Default)]
struct State {
    /// Which connection speaks for the server: the last one that opened this execution.
    connection: u64,
    waker: Option<Waker>,
    streams: [Outbox; 4],
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
    /// It has a context's processes, which go on.
    is_cell: bool,
    /// How many it was sent, as far as that can be counted.
    interrupts: u8,
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
                if let Err(failure) = files::write(&chunk) {
                    self.not_started(format!("cannot write {}: {}", chunk.path, failure.words));
                }
            }
            Some(Action::Start(start)) => self.start(start).await,
            Some(Action::Signal(number)) => {
                let mut state = self.state();
                if let Some(pid) = state.pid {
                    if number == libc::SIGINT {
                        state.count_interrupt();
                    }
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

    /// Kills its processes; in a sandbox that is its own, everyone's. A cell is interrupted first.
    fn kill(&self) {
        self.killed.notify_one();
        let (mark, is_cell) = {
            let state = self.state();
            (state.mark, state.is_cell)
        };
        match mark {
            _ if is_cell => {}
            Some(mark) => mark.kill_all(),
            None => processes::kill_all(),
        }
    }

    /// The server has its end, or has given it up: what is left of it ends, and is told to nobody.
    pub(super) fn abandon(&self) {
        let runs = self.change(|state| {
            state.abandoned = true;
            state.streams = Default::default();
            (state.mark.is_some() || state.is_cell) && state.exited.is_none()
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
            let is_cell = matches!(start.program, Some(start::Program::Cell(_)));
            state.is_cell = is_cell;
            state.mark = start.named.filter(|_| !is_cell).map(|_| Mark::new());
            if state.exited.is_some() {
                return;
            }
        }
        let mut start = start;
        match start.program.take() {
            Some(start::Program::FileOperation(operation)) => {
                return self.operate(operation, start.no_input);
            }
            Some(start::Program::Cell(cell)) => return self.run_cell(cell, start).await,
            program => start.program = program,
        }
        let launched = self.launch(&start).await;
        let taken = match &start.program {
            Some(start::Program::Code(code)) => Some(&code.language),
            Some(start::Program::Context(context)) => Some(&context.language),
            _ => None,
        };
        if let (Some(language), Some(_)) = (taken, start.named) {
            let (sandbox, language) = (self.sandbox.clone(), language.clone());
            // Owned by the sandbox, as what follows: they end by themselves, or with it.
            tokio::spawn(async move { sandbox.interpreters.replace_spares(&language).await });
        }
        match launched {
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
            Some(start::Program::Context(context)) => self.launch_context(context, setting).await,
            Some(start::Program::FileOperation(_) | start::Program::Cell(_)) | None => {
                Err("there is no program".into())
            }
        }
    }

    async fn launch_context(
        &self,
        context: &agent::Context,
        setting: Setting<'_>,
    ) -> Result<Program, String> {
        let cannot = |reason: String| format!("cannot start the context: {reason}");
        let mark = setting.mark;
        let mark = mark.ok_or_else(|| cannot("the sandbox does not live on".into()))?;
        let interpreters = &self.sandbox.interpreters;
        let launched = interpreters.context(context.language.clone(), setting);
        let mut program = launched.await.map_err(|error| cannot(error.to_string()))?;
        match Context::open(&mut program, mark).await {
            Ok(opened) => self.sandbox.contexts.insert(context.id.clone(), opened),
            Err(reason) => {
                mark.kill_all();
                if let Some(directory) = program.directory {
                    // What is left of it costs a little memory.
                    let _ = std::fs::remove_dir_all(directory);
                }
                return Err(cannot(reason));
            }
        }
        Ok(program)
    }

    /// Tells the end, which says nothing of the streams yet.
    fn has_exited(&self, exited: Exited) {
        self.change(|state| {
            state.exited = Some(Exited {
                stdout_bytes: state.streams[0].end(),
                stderr_bytes: state.streams[1].end(),
                files_bytes: state.streams[2].end(),
                displays_bytes: state.streams[3].end(),
                ..exited
            });
        });
    }
}

impl State {
    /// Adds to a stream what there is room for.
    fn push(&mut self, index: usize, piece: Bytes) {
        if !self.abandoned {
            self.streams[index].push(piece);
        }
    }

    fn count_interrupt(&mut self) {
        self.interrupts = self.interrupts.saturating_add(1);
    }

    /// Nobody reads input any more.
    fn drop_input(&mut self) {
        self.input.clear();
        self.acknowledged.input_offset = self.input_received;
    }

    fn stream(&mut self, stream: i32) -> Option<&mut Outbox> {
        let stream = Stream::try_from(stream).ok()?;
        (stream != Stream::Unspecified).then(|| &mut self.streams[index(stream)])
    }

    /// Control messages are few. Input can be much, and a message for each piece of it would go all the way back.
    fn is_acknowledgement_due(&self) -> bool {
        let (known, now) = (self.acknowledged_sent, self.acknowledged);
        known.control_sequence != now.control_sequence
            || now.input_offset - known.input_offset >= agent::INPUT_ACKNOWLEDGED
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
        if self.is_acknowledgement_due() {
            self.acknowledged_sent = self.acknowledged;
            return Some(Message::Acknowledged(self.acknowledged));
        }
        None
    }
}

/// Where a stream, which is one of the four, stands in [`STREAMS`].
const fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout | Stream::Unspecified => 0,
        Stream::Stderr => 1,
        Stream::Files => 2,
        Stream::Displays => 3,
    }
}
