//! File operations in a sandbox, as programs of the agent's own.

use std::{collections::VecDeque, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use tokio::sync::{mpsc, watch};

use super::{
    Ended, Event, Input, Run, Sandbox,
    delimited::{Malformed, whole},
    words,
};
use crate::{
    execution::{FileOperation, FileStatus, Outcome, PathInfo, PathKind, Program, Spec, WriteHow},
    proto::agent::{self, file_operation, write_file::How},
};

/// The longest info of a path, encoded: the path and a link's target, and some numbers.
const MAX_INFO: usize = 16 * 1024;
/// What is said of a failure at most, in bytes: the agent's own bound.
const MAX_WORDS: usize = 1024;
/// Events on their way from the sandbox.
const EVENTS: usize = 2;

/// What an operation gives.
pub enum FileOutput {
    /// What is known of a path.
    Info(PathInfo),
    /// Content of a file.
    Content(Bytes),
}

/// An operation and its two ends.
pub struct Operation<'a> {
    /// Names it to the agent.
    pub id: &'a str,
    /// What is done: a file operation.
    pub spec: &'a Spec,
    /// Content that is written. Closed means its end.
    pub input: &'a mut mpsc::Receiver<Input>,
    /// Where what it gives goes. Closed means that nobody wants it any more: the operation is given up.
    pub output: &'a mpsc::Sender<FileOutput>,
    /// A reason to give it up, once there is one.
    pub stop: watch::Receiver<Option<String>>,
    /// How long a sandbox that cannot be reached is waited for.
    pub reattach_timeout: Duration,
}

/// Why it was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// The sandbox says so, in these words.
    #[error("{1}")]
    Failed(FileStatus, String),
    /// The sandbox is gone; the reason.
    #[error("the sandbox is lost: {0}")]
    Lost(String),
    /// It was given up; the reason.
    #[error("{0}")]
    Cancelled(String),
}

impl Sandbox {
    /// Does something with files. What it gave and nobody has taken yet is returned, at most a few MiB: the
    /// sandbox is not needed for it.
    ///
    /// # Errors
    /// See [`OperationError`].
    pub async fn operate(
        &self,
        operation: Operation<'_>,
    ) -> Result<VecDeque<FileOutput>, OperationError> {
        let mut reader = OutputReader::new(operation.spec);
        let (events, mut received) = mpsc::channel::<Event>(EVENTS);
        let run = self.run(Run {
            execution_id: operation.id,
            spec: operation.spec,
            input: operation.input,
            events: &events,
            stop: operation.stop,
            reattach_timeout: operation.reattach_timeout,
        });
        tokio::pin!(run);
        let output = operation.output;
        // Closed once what comes is wrong, or nobody wants it: that ends the operation.
        let mut broken: Option<OperationError> = None;
        let ended = loop {
            tokio::select! {
                ended = &mut run => break ended,
                () = output.closed(), if broken.is_none() => broken = Some(unwanted()),
                permit = output.reserve(), if broken.is_none() && !reader.given.is_empty() => {
                    if let (Ok(permit), Some(given)) = (permit, reader.given.pop_front()) {
                        permit.send(given);
                    }
                }
                event = received.recv(), if broken.is_none() && reader.given.is_empty() => {
                    broken = event.and_then(|event| reader.take(event).err());
                }
            }
            if broken.is_some() {
                received.close();
            }
        };
        let Ended { outcome, rest, .. } =
            ended.map_err(|not_confirmed| OperationError::Lost(not_confirmed.to_string()))?;
        if let Some(broken) = broken {
            return Err(broken);
        }
        let mut late = Vec::new();
        while let Ok(event) = received.try_recv() {
            late.push(event);
        }
        for event in late.into_iter().chain(rest) {
            reader.take(event)?;
        }
        reader.end(outcome)
    }
}

/// Reads what an operation writes to its two streams.
struct OutputReader {
    bytes: BytesMut,
    /// How many infos may still come, and whether content follows them.
    infos_left: u64,
    content_left: Option<u64>,
    words: Vec<u8>,
    /// What was read and not taken.
    given: VecDeque<FileOutput>,
}

impl OutputReader {
    fn new(spec: &Spec) -> Self {
        let (infos_left, content_left) = match &spec.program {
            Program::File(FileOperation::Read { length, .. }) => {
                (1, Some(length.unwrap_or(u64::MAX)))
            }
            Program::File(FileOperation::List { limit, .. }) => (u64::from(*limit), None),
            Program::File(FileOperation::Pack { .. }) => (0, Some(u64::MAX)),
            _ => (1, None),
        };
        Self {
            bytes: BytesMut::new(),
            infos_left,
            content_left,
            words: Vec::new(),
            given: VecDeque::new(),
        }
    }

    fn take(&mut self, event: Event) -> Result<(), OperationError> {
        let data = match event {
            Event::Stdout(data) => data,
            Event::Stderr(data) => {
                self.words.extend_from_slice(&data);
                if self.words.len() > MAX_WORDS {
                    return Err(broken("too many words"));
                }
                return Ok(());
            }
            Event::Started(_) | Event::File(_) | Event::Display(_) => return Ok(()),
        };
        if self.infos_left == 0 {
            return self.content(data);
        }
        self.bytes.extend_from_slice(&data);
        while self.infos_left > 0 {
            let Some(info) = self.info()? else {
                return Ok(());
            };
            self.infos_left -= 1;
            self.given.push_back(FileOutput::Info(info));
        }
        let rest = self.bytes.split().freeze();
        self.content(rest)
    }

    fn content(&mut self, data: Bytes) -> Result<(), OperationError> {
        if data.is_empty() {
            return Ok(());
        }
        let left = self.content_left.unwrap_or(0);
        let left = left.checked_sub(data.len() as u64);
        self.content_left = Some(left.ok_or_else(|| broken("more than was asked for"))?);
        self.given.push_back(FileOutput::Content(data));
        Ok(())
    }

    /// The next info, once it has come whole.
    fn info(&mut self) -> Result<Option<PathInfo>, OperationError> {
        let whole = whole(&self.bytes, MAX_INFO).map_err(|malformed| {
            broken(match malformed {
                Malformed::Length => "a length that cannot be read",
                Malformed::TooLong => "an info that is too long",
            })
        })?;
        let Some((prefix, length)) = whole else {
            return Ok(None);
        };
        self.bytes.advance(prefix);
        let info = self.bytes.split_to(length);
        let info = agent::PathInfo::decode(&info[..])
            .map_err(|_| broken("an info that cannot be read"))?;
        Ok(Some(path_info(info)))
    }

    fn end(self, outcome: Outcome) -> Result<VecDeque<FileOutput>, OperationError> {
        match outcome {
            Outcome::Exited(code) => match file_status(code) {
                None if self.bytes.is_empty() => Ok(self.given),
                None => Err(broken("half an info")),
                Some(status) => {
                    let said = String::from_utf8_lossy(&self.words);
                    Err(OperationError::Failed(status, words(&said)))
                }
            },
            Outcome::Cancelled(reason) => Err(OperationError::Cancelled(reason)),
            Outcome::Lost(_, reason) | Outcome::NotStarted(reason) => {
                Err(OperationError::Lost(reason))
            }
            other => Err(OperationError::Lost(format!(
                "the operation ended as {}",
                other.name()
            ))),
        }
    }
}

fn unwanted() -> OperationError {
    OperationError::Cancelled("nobody wants it any more".into())
}

fn broken(what: &str) -> OperationError {
    OperationError::Lost(format!("it broke the protocol: it sent {what}"))
}

/// `None`: all went well.
fn file_status(code: i32) -> Option<FileStatus> {
    Some(match agent::FileStatus::try_from(code) {
        Ok(agent::FileStatus::Ok) => return None,
        Ok(agent::FileStatus::NotFound) => FileStatus::NotFound,
        Ok(agent::FileStatus::AlreadyExists) => FileStatus::AlreadyExists,
        Ok(agent::FileStatus::Full) => FileStatus::Full,
        Ok(agent::FileStatus::NotADirectory) => FileStatus::NotADirectory,
        Ok(agent::FileStatus::NotAFile) => FileStatus::NotAFile,
        Ok(agent::FileStatus::NotEmpty) => FileStatus::NotEmpty,
        Ok(agent::FileStatus::Outside) => FileStatus::Outside,
        Ok(agent::FileStatus::Denied) => FileStatus::Denied,
        Ok(agent::FileStatus::BadArchive) => FileStatus::BadArchive,
        Ok(agent::FileStatus::Other) | Err(_) => FileStatus::Other,
    })
}

fn path_info(info: agent::PathInfo) -> PathInfo {
    PathInfo {
        kind: match info.kind() {
            agent::PathKind::File => PathKind::File,
            agent::PathKind::Directory => PathKind::Directory,
            agent::PathKind::Link => PathKind::Link,
            agent::PathKind::Special | agent::PathKind::Unspecified => PathKind::Special,
        },
        path: info.path,
        size: info.size,
        mode: info.mode & 0o7777,
        modified_ns: info.modified_ns,
        target: info.target,
    }
}

/// What the agent is told to do.
pub(super) fn message(operation: &FileOperation) -> agent::FileOperation {
    use file_operation::Operation as Message;
    let message = match operation {
        FileOperation::Read {
            path,
            offset,
            length,
        } => Message::Read(agent::ReadFile {
            path: path.clone(),
            offset: *offset,
            length: *length,
        }),
        FileOperation::Write { path, mode, how } => Message::Write(agent::WriteFile {
            path: path.clone(),
            mode: *mode,
            how: Some(match how {
                WriteHow::Replace => How::Replace(agent::Replace {}),
                WriteHow::Create => How::Create(agent::Create {}),
                WriteHow::At(offset) => How::Offset(*offset),
            }),
        }),
        FileOperation::List { path, after, limit } => Message::List(agent::ListDirectory {
            path: path.clone(),
            after: after.clone(),
            limit: *limit,
        }),
        FileOperation::Stat { path } => Message::Stat(agent::StatPath { path: path.clone() }),
        FileOperation::MakeDirectory { path, mode } => {
            Message::MakeDirectory(agent::MakeDirectory {
                path: path.clone(),
                mode: *mode,
            })
        }
        FileOperation::Move { from, to, replace } => Message::Move(agent::MovePath {
            from: from.clone(),
            to: to.clone(),
            replace: *replace,
        }),
        FileOperation::Pack { path } => Message::Pack(agent::Pack { path: path.clone() }),
        FileOperation::Unpack { path } => Message::Unpack(agent::Unpack { path: path.clone() }),
        FileOperation::Remove { path, recursive } => Message::Remove(agent::RemovePath {
            path: path.clone(),
            recursive: *recursive,
        }),
    };
    agent::FileOperation {
        operation: Some(message),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn reader(operation: FileOperation) -> OutputReader {
        OutputReader::new(&Spec::file_operation(operation))
    }

    fn read(length: u64) -> OutputReader {
        reader(FileOperation::Read {
            path: String::new(),
            offset: 0,
            length: Some(length),
        })
    }

    fn info(path: &str) -> Vec<u8> {
        let info = agent::PathInfo {
            path: path.to_owned(),
            ..agent::PathInfo::default()
        };
        info.encode_length_delimited_to_vec()
    }

    #[test]
    fn an_info_may_come_in_pieces_and_content_follows_it() {
        let mut reader = read(5);
        let mut stream = info("a-path");
        stream.extend(b"hello");
        for byte in stream {
            reader
                .take(Event::Stdout(Bytes::copy_from_slice(&[byte])))
                .unwrap();
        }
        let given = reader.end(Outcome::Exited(0)).unwrap();
        assert!(matches!(&given[0], FileOutput::Info(info) if info.path == "a-path"));
        let content = given.iter().skip(1).map(|given| match given {
            FileOutput::Content(content) => &content[..],
            FileOutput::Info(_) => panic!("there is one info"),
        });
        assert_eq!(content.collect::<Vec<_>>().concat(), b"hello");
    }

    #[test]
    fn a_sandbox_that_says_something_else_is_not_believed() {
        let stdout = |bytes: Vec<u8>| Event::Stdout(bytes.into());
        let mut too_much = read(4);
        too_much.take(stdout(info("p"))).unwrap();
        assert!(too_much.take(stdout(b"hello".to_vec())).is_err());
        let mut content_of_none = reader(FileOperation::Stat {
            path: String::new(),
        });
        content_of_none.take(stdout(info("p"))).unwrap();
        assert!(content_of_none.take(stdout(vec![0])).is_err());
        assert!(read(1).take(stdout(vec![0xff; 20])).is_err());
        assert!(read(1).take(stdout(info(&"x".repeat(MAX_INFO)))).is_err());
        let mut half = read(1);
        half.take(stdout(info("p")[..2].to_vec())).unwrap();
        assert!(half.end(Outcome::Exited(0)).is_err());
        let mut talks = read(1);
        talks
            .take(Event::Stderr(vec![b'x'; MAX_WORDS].into()))
            .unwrap();
        assert!(talks.take(Event::Stderr(vec![b'x'].into())).is_err());
    }

    #[test]
    fn an_exit_code_is_a_status_and_others_are_told_in_words() {
        let mut failed = read(1);
        failed.take(Event::Stderr("why".into())).unwrap();
        let status = agent::FileStatus::Full.into();
        assert_eq!(
            failed.end(Outcome::Exited(status)).err(),
            Some(OperationError::Failed(FileStatus::Full, "why".into()))
        );
        assert_eq!(
            read(1).end(Outcome::Exited(99)).err(),
            Some(OperationError::Failed(FileStatus::Other, String::new()))
        );
        let lost = read(1).end(Outcome::Signaled(9)).err();
        assert!(matches!(lost, Some(OperationError::Lost(_))));
    }
}
