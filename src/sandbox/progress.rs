//! What is known of an execution: what it has had, what it may still have, and how it ends.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Ended, Event,
    direct::Direct,
    displays::DisplayReader,
    files::FileReader,
    inbox::{Inbox, Violation},
    outbound::Outbound,
    words,
};
use crate::{
    backend::{OutputPipes, SandboxId},
    execution::{CodeError, Display, LostCause, Outcome, Program, Spec, Tenancy, Usage},
    proto::agent::{self, Exited, FromAgent, Output, Stream, exited, from_agent},
};

/// How long a program that was told to end may take, its output files included.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// What is told of an exception at most, in characters.
const MAX_NAME_CHARS: usize = 256;
const MAX_VALUE_CHARS: usize = 5000;
const MAX_TRACEBACK_CHARS: usize = 34_000;

/// What is known of the execution so far.
pub(super) struct Progress {
    pub(super) outbound: Outbound,
    pub(super) streams: [Inbox; 4],
    /// So that stdout and stderr take turns with a caller who takes less than there is.
    stdout_was_last: bool,
    /// Where stdout and stderr come from, if not from the agent.
    pub(super) direct: Option<Direct>,
    files: Option<FileReader>,
    displays: Option<DisplayReader>,
    /// The next one, which waits for the output before it.
    display: Option<Display>,
    usage: Usage,
    output_left: u64,
    output_limit: u64,
    pub(super) memory_limit: u64,
    sandbox: SandboxId,
    pub(super) started: Option<Started>,
    first_output_at: Option<Instant>,
    /// Once the server has decided how it ends.
    pub(super) verdict: Option<Outcome>,
    pub(super) exited: Option<Exited>,
    pub(super) deadline: Instant,
    /// The caller sends nothing any more.
    pub(super) caller_done: bool,
    /// Whether the sandbox lives on, and runs others.
    pub(super) is_named: bool,
    /// Whether anything of it was handed to a connection.
    pub(super) was_sent: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Started {
    at: Instant,
    warm: bool,
    announced: bool,
}

impl Progress {
    pub(super) fn new(sandbox: SandboxId, spec: &Spec) -> Self {
        Self {
            outbound: Outbound::new(spec),
            streams: [(); 4].map(|()| Inbox::new()),
            stdout_was_last: false,
            direct: None,
            files: Some(FileReader::new(spec.limits.output_file_bytes)),
            displays: Some(DisplayReader::new()),
            display: None,
            usage: Usage::default(),
            output_left: spec.limits.output_bytes,
            output_limit: spec.limits.output_bytes,
            memory_limit: spec.limits.memory_bytes,
            sandbox,
            started: None,
            first_output_at: None,
            verdict: None,
            exited: None,
            deadline: Instant::now() + spec.limits.timeout,
            caller_done: false,
            is_named: matches!(spec.tenancy, Tenancy::Named { .. }),
            was_sent: false,
        }
    }

    /// Ends the program for a reason of the server's own. The first one stands.
    pub(super) fn decide(&mut self, verdict: Outcome) {
        if self.verdict.is_none() {
            self.verdict = Some(verdict);
            self.outbound.kill();
            self.deadline = Instant::now() + KILL_GRACE;
        }
    }

    /// Before the start, not even input is taken, so that another sandbox can have it.
    pub(super) fn takes_input(&self) -> bool {
        self.started.is_some()
            && self.verdict.is_none()
            && !self.caller_done
            && self.outbound.takes_more()
    }

    pub(super) fn hear(
        &mut self,
        message: FromAgent,
        spec: &Spec,
        take_outputs: impl FnOnce(usize) -> Option<OutputPipes>,
    ) -> Result<(), Violation> {
        match message.message.ok_or(Violation::Message)? {
            from_agent::Message::Opened(opened) => self
                .outbound
                .acknowledge(opened.acknowledged.unwrap_or_default())?,
            from_agent::Message::Acknowledged(acknowledged) => {
                self.outbound.acknowledge(acknowledged)?;
            }
            from_agent::Message::Started(started) => {
                if self.started.is_none() {
                    if let Some(number) = started.direct_output {
                        let pipes = take_outputs(number as usize);
                        self.direct = Some(Direct::new(pipes.ok_or(Violation::Message)?));
                    }
                    self.started = Some(Started {
                        at: Instant::now(),
                        warm: started.warm,
                        announced: false,
                    });
                    if self.verdict.is_none() {
                        self.deadline = Instant::now() + spec.limits.timeout;
                    }
                }
            }
            from_agent::Message::Output(output) => {
                let is_cell = matches!(spec.program, Program::Cell { .. });
                if output.stream() == Stream::Displays && !is_cell {
                    return Err(Violation::Message);
                }
                self.take_output(&output)?;
            }
            from_agent::Message::Exited(exited) => {
                let not_started = matches!(exited.end, Some(exited::End::NotStarted(_)));
                if self.started.is_none() && !not_started {
                    return Err(Violation::NotStarted);
                }
                self.exited = Some(exited);
                if let Some(direct) = &mut self.direct {
                    direct.program_ended();
                }
            }
        }
        Ok(())
    }

    fn take_output(&mut self, output: &Output) -> Result<(), Violation> {
        // The caller hears Started first, and nothing of a sandbox that is to be replaced.
        if self.started.is_none() {
            return Err(Violation::NotStarted);
        }
        let index = match output.stream() {
            Stream::Stdout => 0,
            Stream::Stderr => 1,
            Stream::Files => 2,
            Stream::Displays => 3,
            Stream::Unspecified => return Err(Violation::Message),
        };
        self.streams[index].push(output.offset, &output.data)?;
        self.count(index, output.data.len() as u64);
        Ok(())
    }

    /// A stream has so many more bytes: the caller's, up to the limit.
    pub(super) fn count(&mut self, index: usize, length: u64) {
        let counter = match index {
            0 => &mut self.usage.stdout_bytes,
            1 => &mut self.usage.stderr_bytes,
            3 => &mut self.usage.display_bytes,
            _ => return,
        };
        if length > 0 {
            self.first_output_at.get_or_insert_with(Instant::now);
        }
        let kept = length.min(self.output_left);
        self.output_left -= kept;
        *counter += kept;
        if kept < length {
            self.streams[index].drop_last(length - kept);
            self.decide(Outcome::OutputLimit(self.output_limit));
            match &mut self.direct {
                Some(direct) => direct.close(),
                None => self.extend_credit(),
            }
        }
    }

    /// Takes what the program had written before it, or its sandbox, ended.
    pub(super) fn drain(&mut self) {
        if let Some(direct) = &mut self.direct {
            let lengths = direct.drain(&mut self.streams);
            for (index, length) in lengths.into_iter().enumerate() {
                self.count(index, length);
            }
        }
    }

    pub(super) fn extend_credit(&mut self) {
        for (stream, inbox) in (1..).zip(&mut self.streams) {
            let is_output = [Stream::Stdout, Stream::Stderr]
                .map(i32::from)
                .contains(&stream);
            let is_the_agents = self.direct.is_none() || !is_output;
            if inbox.extend() && is_the_agents {
                self.outbound.credit(inbox.credit(stream));
            }
        }
    }

    pub(super) fn has_event(&self) -> bool {
        let [stdout, stderr, files, displays] = &self.streams;
        self.started.is_some_and(|started| !started.announced)
            || self.display_is_due()
            || !stdout.is_empty() && stdout.delivered() < self.before_display(0)
            || !stderr.is_empty() && stderr.delivered() < self.before_display(1)
            || !files.is_empty()
            // With one that waits no others are read.
            || self.display.is_none() && !displays.is_empty()
            // One piece of the stream may hold many files.
            || self.files.as_ref().is_some_and(FileReader::has_next)
    }

    /// What the caller is to hear next. May be nothing yet, when a file's piece is not whole.
    pub(super) fn next_event(&mut self) -> Option<Event> {
        if let Some(started) = &mut self.started
            && !started.announced
        {
            started.announced = true;
            return Some(Event::Started(self.sandbox.clone()));
        }
        self.look_for_display();
        if self.display_is_due() {
            let display = self.display.take();
            // One piece of the stream may hold many.
            self.look_for_display();
            return display.map(Event::Display);
        }
        let stdout_first = !self.stdout_was_last;
        for is_stdout in [stdout_first, !stdout_first] {
            let index = usize::from(!is_stdout);
            let before_display = self.before_display(index);
            if let Some(data) = self.streams[index].pop_until(before_display) {
                self.stdout_was_last = is_stdout;
                return Some(if is_stdout {
                    Event::Stdout(data)
                } else {
                    Event::Stderr(data)
                });
            }
        }
        self.next_file()
    }

    /// Reads the next display, if there is one.
    fn look_for_display(&mut self) {
        while self.display.is_none() {
            let Some(displays) = &mut self.displays else {
                while self.streams[3].pop().is_some() {}
                return;
            };
            match displays.next() {
                Ok(Some(display)) => self.display = Some(display),
                Ok(None) => match self.streams[3].pop() {
                    Some(data) => displays.push(&data),
                    None => return,
                },
                Err(error) => {
                    tracing::warn!(%error, "displays are not delivered");
                    self.displays = None;
                }
            }
        }
    }

    /// How far a stream may be told before the next display.
    fn before_display(&self, index: usize) -> u64 {
        let display = self.display.as_ref();
        display.map_or(u64::MAX, |display| display.offsets[index])
    }

    /// Whether all output has been told that came before the next display, as far as there is any.
    fn display_is_due(&self) -> bool {
        let is_over = self.exited.is_some() || self.verdict.is_some();
        self.display.is_some()
            && self.streams[..2].iter().enumerate().all(|(index, stream)| {
                stream.delivered() >= self.before_display(index) || is_over && stream.is_empty()
            })
    }

    fn next_file(&mut self) -> Option<Event> {
        loop {
            let next = self.files.as_mut().map_or(Ok(None), FileReader::next);
            match next {
                Ok(Some(chunk)) => return Some(Event::File(chunk)),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "output files are not delivered");
                    self.files = None;
                    self.omit(1);
                }
            }
            let data = self.streams[2].pop()?;
            if let Some(files) = &mut self.files {
                files.push(&data);
            }
        }
    }

    /// Counts output files that are not delivered; the agent's own number may be any.
    fn omit(&mut self, files: u32) {
        let omitted = &mut self.usage.output_files_omitted;
        *omitted = omitted.saturating_add(files);
    }

    pub(super) fn end(mut self, outcome: Outcome) -> Ended {
        let (mut error, mut context_ended) = (None, false);
        if let Some(exited) = &mut self.exited {
            self.usage.cpu_time = Duration::from_micros(exited.cpu_time_us);
            self.usage.peak_memory_bytes = exited.peak_memory_bytes;
            // What the server has decided has no other reason.
            let is_not_its_end = !matches!(outcome, Outcome::Exited(_)) || exited.context_ended;
            error = exited
                .error
                .take()
                .filter(|_| !is_not_its_end)
                .map(code_error);
            context_ended = exited.context_ended;
            let omitted = exited.output_files_omitted;
            self.omit(omitted);
        }
        // Whatever a display still waits for does not come any more.
        self.exited.get_or_insert_default();
        let mut rest = Vec::new();
        while self.has_event() {
            rest.extend(self.next_event());
        }
        self.usage.displays_omitted = self.displays.as_ref().map_or(0, |it| it.omitted);
        Ended {
            outcome,
            usage: self.usage,
            started_at: self.started.map(|started| started.at),
            first_output_at: self.first_output_at,
            warm: self.started.is_some_and(|started| started.warm),
            error,
            context_ended,
            rest,
        }
    }
}

/// An exception in the sandbox's words: the agent's bounds, again.
fn code_error(error: agent::CodeError) -> CodeError {
    let cut = |text: String, most: usize| match text.char_indices().nth(most) {
        Some((end, _)) => text[..end].to_owned(),
        None => text,
    };
    CodeError {
        name: cut(error.name, MAX_NAME_CHARS),
        value: cut(error.value, MAX_VALUE_CHARS),
        traceback: cut(error.traceback, MAX_TRACEBACK_CHARS),
    }
}

pub(super) fn outcome_of(exited: &Exited) -> Outcome {
    match &exited.end {
        Some(exited::End::Code(code)) => Outcome::Exited(*code),
        Some(exited::End::Signal(signal)) => Outcome::Signaled(*signal),
        Some(exited::End::OutOfMemory(bytes)) => Outcome::OutOfMemory(*bytes),
        Some(exited::End::DiskLimit(bytes)) => Outcome::DiskLimit(*bytes),
        Some(exited::End::NotStarted(reason)) => Outcome::NotStarted(words(reason)),
        None => Outcome::Lost(
            LostCause::Unknown,
            "the sandbox does not say how the program ended".into(),
        ),
    }
}
