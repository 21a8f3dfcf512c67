//! What goes to the agent: control messages and input, kept until the agent has them.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{inbox::Violation, operations};
use crate::execution::{self, Program, Spec, Tenancy, TerminalSize};
use crate::proto::agent::{
    Acknowledged, Cell, Code, Command, Context, Control, Credit, FileChunk, INPUT_ACKNOWLEDGED,
    Input, Kill, KnownFile, Named, Start, Terminal, ToAgent, control::Action, start,
    to_agent::Message,
};

/// Input that the agent may have before the program takes it, at first and at most: twice as much whenever the
/// program has taken as much.
const FIRST_INPUT_WINDOW: u64 = 256 * 1024;
const MAX_INPUT_WINDOW: u64 = 1 << 20;
/// Else both would wait: the agent leaves less than that unacknowledged, of whole pieces.
const _: () = assert!(INPUT_ACKNOWLEDGED + INPUT_PIECE as u64 <= FIRST_INPUT_WINDOW);
/// Control messages that the agent has not applied yet, from when on the caller has to wait.
const MAX_CONTROLS: usize = 64;
const INPUT_PIECE: usize = 64 * 1024;
const FILE_PIECE: usize = 256 * 1024;

/// The two numbered sequences to the agent.
#[derive(Default)]
pub(super) struct Outbound {
    /// What the present connection has not been given yet.
    queue: VecDeque<ToAgent>,
    credits: VecDeque<Credit>,
    controls: VecDeque<Control>,
    last_sequence: u64,
    input: VecDeque<Bytes>,
    /// Input before this was taken by the program, or dropped.
    input_acknowledged: u64,
    input_end: u64,
    input_ended: bool,
    input_window: u64,
    /// The window grows once the program has taken input up to here.
    grows_at: u64,
}

impl Outbound {
    /// Files first, then the start.
    pub(super) fn new(spec: &Spec) -> Self {
        let mut outbound = Self {
            input_window: FIRST_INPUT_WINDOW,
            grows_at: FIRST_INPUT_WINDOW,
            ..Self::default()
        };
        for file in &spec.files {
            let size = file.content.len();
            let mut offset = 0;
            loop {
                let end = (offset + FILE_PIECE).min(size);
                outbound.control(Action::File(FileChunk {
                    path: file.path.clone(),
                    mode: file.mode,
                    size: size as u64,
                    offset: offset as u64,
                    content: file.content.slice(offset..end),
                    last: end == size,
                }));
                offset = end;
                if offset == size {
                    break;
                }
            }
        }
        outbound.control(Action::Start(start_message(spec)));
        // The start says so: a message of its own would wake the agent while the program starts.
        outbound.input_ended = !spec.stdin_open;
        outbound
    }

    fn control(&mut self, action: Action) {
        self.last_sequence += 1;
        let control = Control {
            sequence: self.last_sequence,
            action: Some(action),
        };
        self.controls.push_back(control.clone());
        self.queue.push_back(message(Message::Control(control)));
    }

    pub(super) fn signal(&mut self, number: i32) {
        self.control(Action::Signal(number));
    }

    pub(super) fn resize(&mut self, size: TerminalSize) {
        self.control(Action::Resize(terminal(size)));
    }

    pub(super) fn kill(&mut self) {
        self.control(Action::Kill(Kill {}));
    }

    /// More credit for an output stream. Only the newest of each waits: an agent that sends and
    /// does not listen makes nothing grow. One that is lost with its connection is not sent again,
    /// since opening the next one tells the same.
    pub(super) fn credit(&mut self, credit: Credit) {
        match self
            .credits
            .iter_mut()
            .find(|old| old.stream == credit.stream)
        {
            Some(old) => *old = credit,
            None => self.credits.push_back(credit),
        }
    }

    /// Whether there is room for more from the caller. Signals still come when input has ended.
    pub(super) fn takes_more(&self) -> bool {
        self.controls.len() < MAX_CONTROLS
            && (self.input_ended || self.input_end - self.input_acknowledged < self.input_window)
    }

    pub(super) fn input(&mut self, mut data: Bytes) {
        while !data.is_empty() && !self.input_ended {
            let piece = data.split_to(data.len().min(INPUT_PIECE));
            self.queue.push_back(message(Message::Input(Input {
                offset: self.input_end,
                data: piece.clone(),
                end: false,
            })));
            self.input_end += piece.len() as u64;
            self.input.push_back(piece);
        }
    }

    pub(super) fn close_input(&mut self) {
        if !self.input_ended {
            self.input_ended = true;
            self.queue.push_back(self.end_of_input());
        }
    }

    fn end_of_input(&self) -> ToAgent {
        message(Message::Input(Input {
            offset: self.input_end,
            data: Bytes::new(),
            end: true,
        }))
    }

    /// What the agent has, need not be kept.
    pub(super) fn acknowledge(&mut self, acknowledged: Acknowledged) -> Result<(), Violation> {
        let Acknowledged {
            control_sequence,
            input_offset,
        } = acknowledged;
        if control_sequence > self.last_sequence || input_offset > self.input_end {
            return Err(Violation::Acknowledgement);
        }
        while self
            .controls
            .front()
            .is_some_and(|control| control.sequence <= control_sequence)
        {
            self.controls.pop_front();
        }
        while let Some(piece) = self.input.front_mut() {
            let end = self.input_acknowledged + piece.len() as u64;
            if end > input_offset {
                break;
            }
            self.input_acknowledged = end;
            self.input.pop_front();
        }
        if self.input_acknowledged >= self.grows_at {
            self.input_window = (self.input_window * 2).min(MAX_INPUT_WINDOW);
            self.grows_at = self.input_acknowledged + self.input_window;
        }
        Ok(())
    }

    /// A new connection, over which everything is sent again that the agent may not have.
    pub(super) fn restart(&mut self) {
        self.credits.clear();
        self.queue = self
            .controls
            .iter()
            .map(|control| message(Message::Control(control.clone())))
            .collect();
        let mut offset = self.input_acknowledged;
        for piece in &self.input {
            self.queue.push_back(message(Message::Input(Input {
                offset,
                data: piece.clone(),
                end: false,
            })));
            offset += piece.len() as u64;
        }
        if self.input_ended {
            self.queue.push_back(self.end_of_input());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.credits.is_empty()
    }

    pub(super) fn pop(&mut self) -> Option<ToAgent> {
        match self.credits.pop_front() {
            Some(credit) => Some(message(Message::Credit(credit))),
            None => self.queue.pop_front(),
        }
    }
}

const fn message(message: Message) -> ToAgent {
    ToAgent {
        message: Some(message),
    }
}

const fn terminal(size: TerminalSize) -> Terminal {
    Terminal {
        rows: size.rows,
        columns: size.columns,
    }
}

fn start_message(spec: &Spec) -> Start {
    let limits = &spec.limits;
    Start {
        program: Some(match &spec.program {
            Program::Code {
                language,
                source,
                args,
            } => start::Program::Code(Code {
                language: language.clone(),
                source: source.clone(),
                args: args.clone(),
            }),
            Program::Command { args } => start::Program::Command(Command { args: args.clone() }),
            Program::File(operation) => {
                start::Program::FileOperation(operations::message(operation))
            }
            Program::Context {
                context_id,
                language,
            } => start::Program::Context(Context {
                id: context_id.clone(),
                language: language.clone(),
            }),
            Program::Cell {
                context_id,
                source,
                number,
            } => start::Program::Cell(Cell {
                context_id: context_id.clone(),
                source: source.clone(),
                number: *number,
            }),
        }),
        env: spec.env.clone().into_iter().collect(),
        working_directory: spec.working_directory.clone(),
        output_paths: spec.output_paths.clone(),
        known_files: spec.known_files.iter().map(known_file).collect(),
        output_file_bytes: limits.output_file_bytes,
        memory_bytes: limits.memory_bytes,
        disk_bytes: limits.disk_bytes,
        processes: limits.processes,
        no_input: !spec.stdin_open,
        terminal: spec.terminal.map(terminal),
        named: match spec.tenancy {
            Tenancy::SingleUse => None,
            Tenancy::Named { memory_bytes } => Some(Named { memory_bytes }),
        },
    }
}

fn known_file(file: &execution::KnownFile) -> KnownFile {
    KnownFile {
        path: file.path.clone(),
        size: file.size,
        sha256: Bytes::copy_from_slice(&file.sha256),
    }
}
