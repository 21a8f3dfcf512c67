//! An Execute call: its messages, which must come in their order.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::{soon, spec::request, v1};
use v1::{execute_request::Event as Sent, execute_response::Event, finished::Outcome};

/// A program that runs, and what it has sent so far.
pub struct Execution {
    messages: Streaming<v1::ExecuteResponse>,
    input: Option<Input>,
    so_far: Done,
}

/// The client's half of the call. Dropped, it is over.
pub struct Input(mpsc::Sender<v1::ExecuteRequest>);

/// What a program has sent. `finished` is there once it has ended.
#[derive(Default)]
pub struct Done {
    pub started: Option<v1::Started>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub files: BTreeMap<String, File>,
    pub displays: Vec<v1::Display>,
    pub finished: Option<v1::Finished>,
    /// Of stdout, stderr and displays: what was had before, and what is no longer kept.
    pub missed: [u64; 3],
    open: Option<String>,
}

/// An output file, put together.
#[derive(Debug, PartialEq, Eq)]
pub struct File {
    pub mode: u32,
    pub size: u64,
    pub content: Vec<u8>,
}

impl Execution {
    pub(super) fn new(
        messages: Streaming<v1::ExecuteResponse>,
        input: mpsc::Sender<v1::ExecuteRequest>,
    ) -> Self {
        Self {
            messages,
            input: Some(Input(input)),
            so_far: Done::default(),
        }
    }

    /// One that others have read before.
    pub(super) fn attached(messages: Streaming<v1::ExecuteResponse>, offsets: [u64; 3]) -> Self {
        Self {
            messages,
            input: None,
            so_far: Done {
                missed: offsets,
                ..Done::default()
            },
        }
    }

    /// Takes the next message; false at the end of the stream.
    async fn step(&mut self) -> Result<bool, Status> {
        match self.messages.message().await? {
            Some(message) => {
                self.so_far
                    .take(message.event.expect("a message has an event"));
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Reads until `condition` holds for what has come so far.
    pub async fn until(&mut self, what: &str, condition: impl Fn(&Done) -> bool) -> &Done {
        soon(what, async {
            while !condition(&self.so_far) {
                let more = self
                    .step()
                    .await
                    .unwrap_or_else(|status| panic!("{what}: {status}"));
                assert!(
                    more,
                    "the stream ended before {what}: {}",
                    self.so_far.describe()
                );
            }
        })
        .await;
        &self.so_far
    }

    /// Reads until it has started; returns the sandbox's id.
    pub async fn started(&mut self) -> String {
        let so_far = self.until("Started", |done| done.started.is_some()).await;
        so_far.started.as_ref().unwrap().sandbox_id.clone()
    }

    /// Reads until stdout holds `text`.
    pub async fn until_stdout(&mut self, text: &str) -> &Done {
        self.until(text, |done| done.out().contains(text)).await
    }

    /// Reads to the end, which must be Finished and nothing after it.
    pub async fn finish(mut self) -> Done {
        self.until("Finished", |done| done.finished.is_some()).await;
        let more = soon("the stream's end", self.step()).await.unwrap();
        assert!(!more, "something came after Finished");
        self.so_far
    }

    /// Reads to the error that must end the call.
    pub async fn fails(mut self) -> (Done, Status) {
        let status = soon("an error", async {
            loop {
                match self.step().await {
                    Ok(true) => {}
                    Ok(false) => panic!("the stream ended well: {}", self.so_far.describe()),
                    Err(status) => return status,
                }
            }
        })
        .await;
        (self.so_far, status)
    }

    fn input(&self) -> &Input {
        self.input.as_ref().expect("input is open")
    }

    pub async fn send_event(&self, event: Sent) {
        self.input().send_event(event).await;
    }

    pub async fn send(&self, bytes: impl Into<Bytes>) {
        self.input().send(bytes).await;
    }

    pub async fn close_stdin(&self) {
        self.input().close_stdin().await;
    }

    pub async fn signal(&self, number: i32) {
        self.send_event(Sent::Signal(v1::Signal { number })).await;
    }

    /// The client's half of the call, to be used while the other one is read.
    pub fn take_input(&mut self) -> Input {
        self.input.take().expect("input is open")
    }

    /// Ends the client's half of the call.
    pub fn half_close(&mut self) {
        drop(self.take_input());
    }
}

impl Input {
    pub async fn send_event(&self, event: Sent) {
        // Closed: the program has ended.
        let _ = self.0.send(request(event)).await;
    }

    pub async fn send(&self, bytes: impl Into<Bytes>) {
        self.send_event(Sent::Stdin(bytes.into())).await;
    }

    pub async fn close_stdin(&self) {
        self.send_event(Sent::CloseStdin(v1::CloseStdin {})).await;
    }
}

impl Done {
    fn take(&mut self, event: Event) {
        assert!(self.finished.is_none(), "something came after Finished");
        if !matches!(event, Event::Started(_) | Event::Finished(_)) {
            assert!(self.started.is_some(), "something came before Started");
        }
        match event {
            Event::Started(started) => {
                assert!(
                    self.started.replace(started).is_none(),
                    "Started came twice"
                );
            }
            Event::Stdout(bytes) => self.stdout.extend_from_slice(&bytes),
            Event::Stderr(bytes) => self.stderr.extend_from_slice(&bytes),
            Event::Display(display) => {
                // Whatever was written before it has come before it.
                let had = |index: usize, bytes: &[u8]| self.missed[index] + bytes.len() as u64;
                assert!(had(0, &self.stdout) >= display.stdout_offset, "stdout");
                assert!(had(1, &self.stderr) >= display.stderr_offset, "stderr");
                self.displays.push(display);
            }
            Event::Gap(gap) => {
                let (index, had) = match gap.stream() {
                    v1::gap::Stream::Stdout => (0, self.stdout.len()),
                    v1::gap::Stream::Stderr => (1, self.stderr.len()),
                    v1::gap::Stream::Displays => (2, self.displays.len()),
                    v1::gap::Stream::OutputFiles => {
                        panic!("nothing here keeps less than all files")
                    }
                    v1::gap::Stream::Unspecified => panic!("a gap is of a stream"),
                };
                assert_eq!(
                    gap.offset,
                    self.missed[index] + had as u64,
                    "a gap's offset"
                );
                self.missed[index] += gap.bytes;
            }
            Event::OutputFile(piece) => self.take_piece(piece),
            Event::Finished(finished) => {
                assert!(self.open.is_none(), "a file is not whole: {:?}", self.open);
                let usage = finished.usage.as_ref().expect("Finished has a usage");
                let [out, err, _] = self.missed;
                assert_eq!(
                    usage.stdout_bytes,
                    out + self.stdout.len() as u64,
                    "stdout_bytes"
                );
                assert_eq!(
                    usage.stderr_bytes,
                    err + self.stderr.len() as u64,
                    "stderr_bytes"
                );
                let timings = finished.timings.as_ref().expect("Finished has timings");
                check_timings(timings, self.started.is_some());
                self.finished = Some(finished);
            }
        }
    }

    /// Pieces of a file come in order, and not mixed with another's.
    fn take_piece(&mut self, piece: v1::OutputFile) {
        if let Some(open) = &self.open {
            assert_eq!(open, &piece.path, "pieces of two files are mixed");
        } else {
            assert!(
                !self.files.contains_key(&piece.path),
                "{} came twice",
                piece.path
            );
        }
        let file = self.files.entry(piece.path.clone()).or_insert(File {
            mode: piece.mode,
            size: piece.size,
            content: Vec::new(),
        });
        assert_eq!(
            piece.offset,
            file.content.len() as u64,
            "offset of {}",
            piece.path
        );
        assert_eq!((piece.mode, piece.size), (file.mode, file.size));
        file.content.extend_from_slice(&piece.content);
        assert_eq!(
            piece.last,
            file.content.len() as u64 == file.size,
            "last piece of {}",
            piece.path
        );
        self.open = (!piece.last).then_some(piece.path);
    }

    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The text of each display.
    pub fn shown(&self) -> Vec<String> {
        let text = |display: &v1::Display| {
            let text = display.data.get("text/plain").cloned().unwrap_or_default();
            String::from_utf8(text.to_vec()).expect("a text is UTF-8")
        };
        self.displays.iter().map(text).collect()
    }

    /// Asserts that an exception ended the cell, and its context goes on; returns it.
    #[track_caller]
    pub fn raised(&self, name: &str) -> v1::CodeError {
        let finished = self.finished.as_ref().expect("it has finished");
        let error = finished.error.clone().unwrap_or_default();
        assert_eq!(error.name, name, "{}\n{}", error.traceback, self.describe());
        assert!(!finished.context_ended);
        error
    }

    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    pub fn sandbox(&self) -> &str {
        &self.started.as_ref().expect("it started").sandbox_id
    }

    pub fn outcome(&self) -> &Outcome {
        let finished = self.finished.as_ref().expect("it has finished");
        finished.outcome.as_ref().expect("Finished has an outcome")
    }

    pub fn usage(&self) -> &v1::Usage {
        self.finished.as_ref().unwrap().usage.as_ref().unwrap()
    }

    pub fn timings(&self) -> &v1::Timings {
        self.finished.as_ref().unwrap().timings.as_ref().unwrap()
    }

    /// Asserts that it exited with this code.
    #[track_caller]
    pub fn exited(self, code: i32) -> Self {
        assert_eq!(
            self.outcome(),
            &Outcome::Exited(v1::Exited { code }),
            "{}",
            self.describe()
        );
        self
    }

    /// Asserts that it exited with 0 and printed exactly this.
    #[track_caller]
    pub fn printed(self, text: &str) -> Self {
        let done = self.exited(0);
        assert_eq!(done.out(), text, "{}", done.describe());
        assert_eq!(done.err(), "");
        done
    }

    /// Asserts that a signal ended it.
    #[track_caller]
    pub fn signaled(self, signal: i32, name: &str) -> Self {
        let expected = Outcome::Signaled(v1::Signaled {
            signal,
            name: name.into(),
        });
        assert_eq!(self.outcome(), &expected, "{}", self.describe());
        self
    }

    /// Asserts that it timed out.
    #[track_caller]
    pub fn timed_out(self) -> Self {
        assert!(
            matches!(self.outcome(), Outcome::TimedOut(_)),
            "{}",
            self.describe()
        );
        self
    }

    /// Asserts that the sandbox was lost after the start; returns the reason.
    #[track_caller]
    pub fn lost(&self) -> &str {
        match self.outcome() {
            Outcome::SandboxLost(lost) => {
                assert_eq!(
                    lost.cause(),
                    v1::sandbox_lost::Cause::Unknown,
                    "{}",
                    self.describe()
                );
                &lost.reason
            }
            _ => panic!("{}", self.describe()),
        }
    }

    /// For a test that fails.
    pub fn describe(&self) -> String {
        let end = |bytes: &[u8]| {
            String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(2000)..]).into_owned()
        };
        let outcome = self
            .finished
            .as_ref()
            .and_then(|finished| finished.outcome.as_ref());
        format!(
            "outcome {outcome:?}\nstdout: {}\nstderr: {}",
            end(&self.stdout),
            end(&self.stderr)
        )
    }
}

/// The stages come one after the other, and those that were reached are there.
fn check_timings(timings: &v1::Timings, started: bool) {
    let at = |duration: &Option<prost_types::Duration>| {
        duration.map(|d| std::time::Duration::try_from(d).expect("a duration is not negative"))
    };
    let queued = at(&timings.queued).expect("queued");
    let leased = at(&timings.leased).expect("leased");
    let finished = at(&timings.finished).expect("finished");
    assert!(queued <= leased && leased <= finished, "{timings:?}");
    assert_eq!(timings.started.is_some(), started, "{timings:?}");
    for stage in [at(&timings.started), at(&timings.first_output)]
        .into_iter()
        .flatten()
    {
        assert!(leased <= stage && stage <= finished, "{timings:?}");
    }
}
