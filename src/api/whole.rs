//! Run's answer: an execution's events as one bounded message.

use bytes::BytesMut;

use super::translate::outcome::{display, finished, output_file};
use crate::{
    dispatch::{OutputStream, Update},
    execution::Display,
    proto::v1,
    sandbox::{Event, OutputChunk},
};

/// Below gRPC's usual limit of 4 MiB for a message, with room for all that is no content.
const BUDGET: usize = (4 << 20) - (512 << 10);

/// Collects what fits, and counts what does not.
pub(super) struct Whole {
    response: v1::RunResponse,
    text: bool,
    budget: usize,
    stdout: BytesMut,
    stderr: BytesMut,
    cut: v1::Cut,
    file: BytesMut,
}

impl Whole {
    pub(super) fn new(execution_id: String, pool: String, text: bool) -> Self {
        Self {
            response: v1::RunResponse {
                execution_id,
                pool,
                ..v1::RunResponse::default()
            },
            text,
            budget: BUDGET,
            stdout: BytesMut::new(),
            stderr: BytesMut::new(),
            cut: v1::Cut::default(),
            file: BytesMut::new(),
        }
    }

    pub(super) fn add(&mut self, update: Update) {
        match update {
            Update::Event(Event::Started(sandbox)) => {
                self.response.sandbox_id = sandbox.to_string();
            }
            Update::Event(Event::Stdout(data)) => {
                let kept = self.spend(data.len());
                self.stdout.extend_from_slice(&data[..kept]);
                self.cut.stdout_bytes += (data.len() - kept) as u64;
            }
            Update::Event(Event::Stderr(data)) => {
                let kept = self.spend(data.len());
                self.stderr.extend_from_slice(&data[..kept]);
                self.cut.stderr_bytes += (data.len() - kept) as u64;
            }
            Update::Event(Event::File(chunk)) => self.add_file(chunk),
            Update::Event(Event::Display(display)) => self.add_display(display),
            Update::Finished(end) => self.response.finished = Some(finished(*end)),
        }
    }

    /// Counts output that is no longer kept.
    pub(super) fn miss(&mut self, stream: OutputStream, bytes: u64) {
        match stream {
            OutputStream::Stdout => self.cut.stdout_bytes += bytes,
            OutputStream::Stderr => self.cut.stderr_bytes += bytes,
            OutputStream::Displays => self.cut.displays += u32::try_from(bytes).unwrap_or(u32::MAX),
            OutputStream::Files => {
                self.cut.output_files += u32::try_from(bytes).unwrap_or(u32::MAX)
            }
        }
    }

    /// Displays come whole or not at all.
    fn add_display(&mut self, shown: Display) {
        let size = shown.size();
        if size > self.budget {
            self.cut.displays += 1;
            return;
        }
        self.budget -= size;
        let mut shown = display(shown);
        if self.text {
            let forms = std::mem::take(&mut shown.data);
            for (mime_type, data) in forms {
                match String::from_utf8(data.into()) {
                    Ok(text) => shown.text.insert(mime_type, text).map(drop),
                    Err(error) => {
                        let data = error.into_bytes().into();
                        shown.data.insert(mime_type, data).map(drop)
                    }
                };
            }
        }
        self.response.displays.push(shown);
    }

    /// As many of these bytes as there is room for.
    fn spend(&mut self, bytes: usize) -> usize {
        let kept = bytes.min(self.budget);
        self.budget -= kept;
        kept
    }

    /// Files come whole or not at all.
    fn add_file(&mut self, chunk: OutputChunk) {
        if chunk.offset == 0 {
            self.file.clear();
            let size = usize::try_from(chunk.size).unwrap_or(usize::MAX);
            let whole = size.saturating_add(chunk.path.len());
            if whole <= self.budget {
                self.budget -= whole;
            } else {
                // Paths are bounded by the agent's number of files; what is over the budget is
                // not even named.
                if self.spend(chunk.path.len()) == chunk.path.len() {
                    self.cut.output_paths.push(chunk.path);
                }
                return;
            }
        } else if self.cut.output_paths.last() == Some(&chunk.path) {
            return;
        }
        self.file.extend_from_slice(&chunk.content);
        if chunk.last && self.file.len() as u64 == chunk.size {
            self.response.output_files.push(v1::OutputFile {
                offset: 0,
                content: self.file.split().freeze(),
                ..output_file(chunk)
            });
        }
    }

    /// `None`: there was no end.
    pub(super) fn response(mut self) -> Option<v1::RunResponse> {
        self.response.finished.as_ref()?;
        if self.text {
            (self.response.stdout_text, self.cut.stdout_bytes) =
                text(&self.stdout, &mut self.budget, self.cut.stdout_bytes);
            (self.response.stderr_text, self.cut.stderr_bytes) =
                text(&self.stderr, &mut self.budget, self.cut.stderr_bytes);
        } else {
            self.response.stdout = self.stdout.freeze();
            self.response.stderr = self.stderr.freeze();
        }
        if self.cut != v1::Cut::default() {
            self.response.cut = Some(self.cut);
        }
        Some(self.response)
    }
}

/// Bytes as text. What is not UTF-8 may become longer, and is cut if that is too long.
fn text(bytes: &[u8], budget: &mut usize, cut: u64) -> (String, u64) {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            let longer = 3 - chunk.invalid().len();
            if *budget < longer {
                // Counted in bytes of the output, of which `valid` and before are in the text.
                let done = chunk.invalid().as_ptr() as usize - bytes.as_ptr() as usize;
                return (text, cut + (bytes.len() - done) as u64);
            }
            *budget -= longer;
            text.push('\u{fffd}');
        }
    }
    (text, cut)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::dispatch::Finished;

    fn end() -> Update {
        Update::Finished(Finished::exited(0))
    }

    fn run(text: bool, events: Vec<Event>) -> v1::RunResponse {
        let mut whole = Whole::new("id".into(), "pool".into(), text);
        events
            .into_iter()
            .map(Update::Event)
            .chain([end()])
            .for_each(|update| whole.add(update));
        whole.response().unwrap()
    }

    #[test]
    fn the_answer_stays_below_4_mib_and_says_what_was_cut() {
        use prost::Message;
        for text in [false, true] {
            let loud = (0..100).map(|_| Event::Stdout(Bytes::from(vec![0xff; 64 << 10])));
            let response = run(text, loud.collect());
            assert!(response.encoded_len() < 4 << 20);
            let kept = response.stdout.len() + response.stdout_text.chars().count();
            let cut = response.cut.unwrap().stdout_bytes;
            assert_eq!(kept as u64 + cut, 100 * (64 << 10));
        }
    }

    #[test]
    fn a_file_comes_whole_or_is_named() {
        let chunk = |path: &str, size, offset, content: &'static [u8]| {
            Event::File(OutputChunk {
                path: path.into(),
                mode: 0o644,
                size,
                offset,
                content: Bytes::from(content),
                last: offset + content.len() as u64 == size,
            })
        };
        let response = run(
            false,
            vec![
                chunk("a", 3, 0, b"ab"),
                chunk("a", 3, 2, b"c"),
                chunk("huge", 5 << 20, 0, b"x"),
                chunk("huge", 5 << 20, 1, b"x"),
                chunk("z", 1, 0, b"z"),
            ],
        );
        let files: Vec<_> = response
            .output_files
            .iter()
            .map(|file| (file.path.as_str(), &file.content[..]))
            .collect();
        assert_eq!(files, [("a", &b"abc"[..]), ("z", b"z")]);
        assert_eq!(response.cut.unwrap().output_paths, ["huge"]);
    }
}
