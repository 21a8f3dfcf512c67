//! One program, from its spec to its end, with what there is to show of it.

use bytes::Bytes;
use tonic::Streaming;

use super::{
    connection::Link,
    excerpt::{Excerpt, name, text_of},
    images::{Images, MAX_IMAGE, mime_type},
    outcome::Outcome,
    progress::Progress,
    session::Session,
    trouble::Trouble,
};
use crate::{
    cli::run::request,
    proto::v1::{
        CloseStdin, Display, ExecuteResponse, ExecutionSpec, Finished, OutputFile,
        execute_request::Event as Sent, execute_response::Event,
        execution_service_client::ExecutionServiceClient,
    },
};

/// Bytes of standard input in one message.
const PIECE: usize = 1 << 20;
/// Output files that are quoted.
const MAX_TEXTS: usize = 4;
/// Output files and displays that are named.
const MAX_NAMED: usize = 100;
const TEXT: &str = "text/plain";
/// Forms of a display that are images, the best first.
const IMAGES: [&str; 4] = ["image/png", "image/webp", "image/gif", "image/jpeg"];

/// What came of a program.
#[derive(Default)]
pub(super) struct Ran {
    pub(super) execution_id: String,
    /// With the text of what was displayed, in its place.
    pub(super) stdout: Excerpt,
    pub(super) stderr: Excerpt,
    pub(super) images: Images,
    pub(super) files: Vec<Found>,
    /// Beyond those of `files`.
    pub(super) more_files: u64,
    /// What was displayed and is not shown, in words.
    pub(super) unseen: Vec<String>,
    /// In a sandbox where the files stay.
    pub(super) stays: bool,
    texts: usize,
    current: Option<Current>,
}

/// An output file.
pub(super) struct Found {
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) shown: Shown,
}

/// How an output file is shown.
#[derive(Debug, PartialEq)]
pub(super) enum Shown {
    Image,
    Text(String),
    /// An image that no answer has room for.
    LargeImage,
    /// It is neither, or there is no room for it.
    No,
}

/// An output file whose pieces come.
struct Current {
    path: String,
    size: u64,
    beginning: Vec<u8>,
    excerpt: Excerpt,
}

/// Runs it. Dropped, it is cancelled on the server.
pub(super) async fn execute(
    session: &Session,
    mut spec: ExecutionSpec,
    stdin: String,
    progress: Option<&Progress>,
) -> Result<(Ran, Outcome, Finished), Trouble> {
    spec.keep_after_disconnect = Some(prost_types::Duration::default());
    let stays = !spec.sandbox_id.is_empty();
    spec.stdin_open = !stdin.is_empty();
    let mut requests = vec![request(Sent::Start(spec))];
    if !stdin.is_empty() {
        let mut rest = Bytes::from(stdin);
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(PIECE));
            requests.push(request(Sent::Stdin(piece)));
        }
        requests.push(request(Sent::CloseStdin(CloseStdin {})));
    }
    let link = session.link().await?;
    let ran = Ran {
        stays,
        ..Ran::default()
    };
    let mut client = ExecutionServiceClient::new(link.connection());
    let follow = async {
        let ended = match client.execute(tokio_stream::iter(requests)).await {
            Ok(answers) => follow(session, &link, ran, answers.into_inner(), progress).await,
            Err(status) => Err(session.trouble(&link, status).await),
        };
        if let Some(progress) = progress {
            progress.finish();
        }
        ended
    };
    let tell = async {
        if let Some(progress) = progress {
            progress.tell().await;
        }
    };
    tokio::join!(follow, tell).0
}

async fn follow(
    session: &Session,
    link: &Link,
    mut ran: Ran,
    mut answers: Streaming<ExecuteResponse>,
    progress: Option<&Progress>,
) -> Result<(Ran, Outcome, Finished), Trouble> {
    let told = |bytes: &[u8]| {
        if let Some(progress) = progress {
            progress.add(bytes);
        }
    };
    loop {
        let answer = match answers.message().await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Err(Trouble::NoOutcome),
            Err(status) => return Err(session.trouble(link, status).await),
        };
        match answer.event {
            Some(Event::Started(started)) => {
                ran.execution_id = started.execution_id;
                if let Some(progress) = progress {
                    progress.start();
                }
            }
            Some(Event::Stdout(bytes)) => {
                told(&bytes);
                ran.stdout.push(&bytes);
            }
            Some(Event::Stderr(bytes)) => {
                told(&bytes);
                ran.stderr.push(&bytes);
            }
            Some(Event::Display(display)) => told(&ran.display(display)),
            Some(Event::OutputFile(piece)) => ran.piece(piece),
            Some(Event::Finished(finished)) => {
                let outcome = Outcome::of(&finished).ok_or(Trouble::NoOutcome)?;
                return Ok((ran, outcome, finished));
            }
            // Only of executions that outlive their calls.
            Some(Event::Gap(_)) | None => {}
        }
    }
}

impl Ran {
    /// Takes the text and the image of a display; returns its text.
    fn display(&mut self, mut display: Display) -> Vec<u8> {
        let mut text = display.data.remove(TEXT).unwrap_or_default().to_vec();
        if !text.is_empty() {
            text.push(b'\n');
            self.stdout.push(&text);
        }
        // They show the same: one is enough.
        let image = IMAGES.iter().find_map(|it| display.data.get(*it));
        if let Some(image) = image
            && !self.images.add(image)
        {
            let bytes = image.len();
            self.unseen(format!(
                "an image of {bytes} bytes: an answer has no room for it, or it is none"
            ));
        }
        let is_seen = !text.is_empty() || image.is_some();
        if !is_seen && let Some(mime_type) = display.data.keys().next() {
            self.unseen(format!("a display of {}", name(mime_type)));
        }
        for omitted in &display.omitted {
            let mime_type = name(&omitted.mime_type);
            self.unseen(format!("{mime_type}: it is too large for a display"));
        }
        text
    }

    fn unseen(&mut self, words: String) {
        if self.unseen.len() < MAX_NAMED {
            self.unseen.push(words);
        }
    }

    fn piece(&mut self, piece: OutputFile) {
        let mut current = self.current.take().unwrap_or_else(|| Current {
            path: name(&piece.path),
            size: piece.size,
            beginning: Vec::new(),
            excerpt: Excerpt::default(),
        });
        // One byte more than an image may have: then it is none.
        let room = (MAX_IMAGE + 1).saturating_sub(current.beginning.len());
        let kept = &piece.content[..piece.content.len().min(room)];
        current.beginning.extend_from_slice(kept);
        current.excerpt.push(&piece.content);
        if !piece.last {
            self.current = Some(current);
        } else if self.files.len() == MAX_NAMED {
            self.more_files += 1;
        } else {
            let shown = self.shown(&current);
            self.files.push(Found {
                path: current.path,
                bytes: current.size,
                shown,
            });
        }
    }

    fn shown(&mut self, file: &Current) -> Shown {
        if mime_type(&file.beginning).is_some() {
            return match self.images.add(&file.beginning) {
                true => Shown::Image,
                false if file.beginning.len() > MAX_IMAGE => Shown::LargeImage,
                false => Shown::No,
            };
        }
        let more = (file.beginning.len() as u64) < file.excerpt.total();
        let is_text = text_of(&file.beginning, more).is_some() && file.excerpt.is_utf8();
        if self.texts == MAX_TEXTS || !is_text {
            return Shown::No;
        }
        self.texts += 1;
        Shown::Text(file.excerpt.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n....";

    fn piece(path: &str, offset: u64, content: &'static [u8], last: bool) -> OutputFile {
        OutputFile {
            path: path.to_owned(),
            size: 1234,
            offset,
            content: content.into(),
            last,
            ..OutputFile::default()
        }
    }

    fn display(data: &[(&str, &'static [u8])]) -> Display {
        let data = data
            .iter()
            .map(|(name, content)| ((*name).to_owned(), Bytes::from_static(content)));
        Display {
            data: data.collect(),
            ..Display::default()
        }
    }

    #[test]
    fn a_file_is_an_image_or_a_text_or_only_named() {
        let mut ran = Ran::default();
        ran.piece(piece("plot.png", 0, &PNG[..5], false));
        ran.piece(piece("plot.png", 5, &PNG[5..], true));
        ran.piece(piece("a.csv", 0, b"x,y\n", true));
        ran.piece(piece("a.bin", 0, b"\0\xff", true));
        ran.piece(piece("latin.txt", 0, b"caf\xe9", true));
        let shown: Vec<_> = ran
            .files
            .iter()
            .map(|it| (it.path.as_str(), &it.shown))
            .collect();
        let text = Shown::Text("x,y\n".to_owned());
        let expected = [
            ("plot.png", &Shown::Image),
            ("a.csv", &text),
            ("a.bin", &Shown::No),
            ("latin.txt", &Shown::No),
        ];
        assert_eq!(shown, expected);
        assert_eq!(ran.images.count(), 1);
    }

    #[test]
    fn so_many_texts_are_quoted_and_so_many_files_named() {
        let mut ran = Ran::default();
        for _ in 0..=MAX_NAMED {
            ran.piece(piece("a", 0, b"text", true));
        }
        let quoted = ran.files.iter().filter(|it| it.shown != Shown::No).count();
        assert_eq!(
            (quoted, ran.files.len(), ran.more_files),
            (MAX_TEXTS, MAX_NAMED, 1)
        );
    }

    #[test]
    fn a_display_is_shown_as_text_and_image_and_what_is_not_is_named() {
        let mut ran = Ran::default();
        ran.display(display(&[
            (TEXT, b"<Figure>"),
            ("image/png", PNG),
            ("image/jpeg", b"\xff\xd8\xff\xe0"),
            ("text/html", b"<p>"),
        ]));
        assert_eq!(
            (ran.stdout.text().as_str(), ran.images.count()),
            ("<Figure>\n", 1)
        );
        assert!(ran.unseen.is_empty());
        ran.display(display(&[("text/html", b"<p>")]));
        assert_eq!(ran.unseen, ["a display of text/html"]);
    }
}
