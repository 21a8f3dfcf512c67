//! Files of sandboxes that live on, as tools.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use rmcp::{
    model::ContentBlock,
    schemars::{self, JsonSchema},
};
use serde::Serialize;
use tonic::Status;

use super::{
    answer::Answer,
    arguments::{ListFiles, ReadFile, WriteFile, content},
    excerpt::{self, text_of},
    images::{Images, MAX_IMAGE, TOO_LARGE, mime_type},
    session::Session,
    trouble::Trouble,
};
use crate::{
    cli::client::{Connection, printable},
    proto::v1::{
        ListDirectoryRequest, PathInfo, ReadFileRequest, WriteFileRequest, WriteFileStart,
        file_service_client::FileServiceClient, path_info::Kind, read_file_response::Event as Read,
        write_file_request::Event as Written,
    },
};

/// Bytes of content in one message.
const PIECE: usize = 256 * 1024;
/// How much is read unless more is asked for.
const READ: u64 = 16 * 1024;
/// How much can be asked for.
const MAX_READ: u64 = 1 << 20;
/// Entries of a directory in one answer.
const MAX_ENTRIES: u32 = 500;
/// Bytes of their names, with what links lead to.
const MAX_NAMES: usize = 32 * 1024;

/// A file that was written.
#[derive(Serialize, JsonSchema)]
pub(super) struct WrittenAnswer {
    path: String,
    bytes: u64,
}

/// A part of a file, or an image.
#[derive(Serialize, JsonSchema)]
pub(super) struct ReadAnswer {
    path: String,
    /// Of the whole file.
    bytes: u64,
    offset: u64,
    /// What was read, if it is text.
    text: Option<String>,
    /// What was read, if it is neither text nor an image.
    base64: Option<String>,
    /// Of an image, which the content has.
    mime_type: Option<String>,
    /// Where to read on; null at the end.
    next_offset: Option<u64>,
}

/// What is in a directory.
#[derive(Serialize, JsonSchema)]
pub(super) struct ListAnswer {
    entries: Vec<EntryAnswer>,
    /// Whether there are more than these.
    more: bool,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct EntryAnswer {
    name: String,
    /// file, directory, link or special.
    kind: &'static str,
    bytes: u64,
}

/// Replaces a file, or makes it.
pub(super) async fn write(session: &Session, call: WriteFile) -> Result<Answer, Trouble> {
    let mut rest: Bytes = content("", call.text, call.base64)?;
    let start = WriteFileStart {
        sandbox_id: call.sandbox_id,
        path: call.path,
        mode: if call.executable { 0o755 } else { 0 },
        size: Some(rest.len() as u64),
        ..WriteFileStart::default()
    };
    let message = |event| WriteFileRequest { event: Some(event) };
    let mut messages = vec![message(Written::Start(start))];
    while !rest.is_empty() {
        let piece = rest.split_to(rest.len().min(PIECE));
        messages.push(message(Written::Content(piece)));
    }
    let link = session.link().await?;
    let mut client = FileServiceClient::new(link.connection());
    let info = match client.write_file(tokio_stream::iter(messages)).await {
        Ok(info) => info.into_inner(),
        Err(status) => return Err(session.trouble(&link, status).await),
    };
    let words = format!("{} has {} bytes now", printable(&info.path), info.size);
    let answer = WrittenAnswer {
        path: info.path,
        bytes: info.size,
    };
    Ok(Answer::done(vec![ContentBlock::text(words)], &answer))
}

/// Reads a part of a file, or an image whole.
pub(super) async fn read(session: &Session, call: ReadFile) -> Result<Answer, Trouble> {
    let length = call.length.unwrap_or(READ);
    if length == 0 || length > MAX_READ {
        let reason =
            format!("{length} is not from 1 to {MAX_READ}: read the file in parts, from offset on");
        return Err(Trouble::argument("length", reason));
    }
    let request = ReadFileRequest {
        sandbox_id: call.sandbox_id,
        path: call.path,
        offset: call.offset,
        length: Some(length.max(MAX_IMAGE as u64)),
    };
    let link = session.link().await?;
    let client = FileServiceClient::new(link.connection());
    let (info, content) = match receive(client, request, length).await {
        Ok(received) => received,
        Err(status) => return Err(session.trouble(&link, status).await),
    };
    let info = info.ok_or(Trouble::NoOutcome)?;
    if call.offset > info.size {
        let reason = format!(
            "{} is past the end: the file has only {} bytes",
            call.offset, info.size
        );
        return Err(Trouble::argument("offset", reason));
    }
    Ok(of_file(&info, call.offset, content, length))
}

/// The file's info, and so much of it as is shown.
async fn receive(
    mut client: FileServiceClient<Connection>,
    request: ReadFileRequest,
    length: u64,
) -> Result<(Option<PathInfo>, Vec<u8>), Status> {
    let is_beginning = request.offset == 0;
    let mut responses = client.read_file(request).await?.into_inner();
    let mut info = None;
    let mut content = Vec::new();
    while let Some(response) = responses.message().await? {
        match response.event {
            Some(Read::Info(told)) => info = Some(told),
            Some(Read::Content(piece)) => content.extend_from_slice(&piece),
            None => {}
        }
        let is_image = is_beginning && mime_type(&content).is_some();
        if !is_image && content.len() as u64 >= length {
            break;
        }
    }
    Ok((info, content))
}

fn of_file(info: &PathInfo, offset: u64, mut content: Vec<u8>, length: u64) -> Answer {
    let path = printable(&info.path);
    let bytes = info.size;
    let mut answer = ReadAnswer {
        path: info.path.clone(),
        bytes,
        offset,
        text: None,
        base64: None,
        mime_type: None,
        next_offset: None,
    };
    let mut images = Images::default();
    if offset == 0 && content.len() as u64 == bytes && images.add(&content) {
        answer.mime_type = mime_type(&content).map(str::to_owned);
        let mut blocks = vec![ContentBlock::text(format!(
            "{path}: an image of {bytes} bytes"
        ))];
        blocks.extend(images.into_blocks());
        return Answer::done(blocks, &answer);
    }
    content.truncate(usize::try_from(length).unwrap_or(usize::MAX));
    let more = offset + (content.len() as u64) < bytes;
    let text = text_of(&content, more).map(str::to_owned);
    // The next part begins with a character that is cut.
    let read = text.as_ref().map_or(content.len(), String::len);
    let end = offset + read as u64;
    answer.next_offset = (end < bytes).then_some(end);
    let rest = answer.next_offset.map_or_else(String::new, |next| {
        format!(", of {bytes}: read on with offset={next}")
    });
    let coding = if text.is_some() { "" } else { " in base64" };
    let shown = text
        .clone()
        .unwrap_or_else(|| BASE64_STANDARD.encode(&content));
    match text {
        Some(text) => answer.text = Some(text),
        None => answer.base64 = Some(shown.clone()),
    }
    let mut words = format!("{path}: bytes {offset} to {end}{coding}{rest}");
    if offset == 0 && bytes > MAX_IMAGE as u64 && mime_type(&content).is_some() {
        words = format!("{words}\n{TOO_LARGE}");
    }
    let blocks = vec![ContentBlock::text(words), ContentBlock::text(shown)];
    Answer::done(blocks, &answer)
}

/// What is in a directory, by name.
pub(super) async fn list(session: &Session, call: ListFiles) -> Result<Answer, Trouble> {
    let request = ListDirectoryRequest {
        sandbox_id: call.sandbox_id,
        path: call.path,
        page_size: MAX_ENTRIES,
        page_token: String::new(),
    };
    let link = session.link().await?;
    let mut client = FileServiceClient::new(link.connection());
    let page = match client.list_directory(request).await {
        Ok(page) => page.into_inner(),
        Err(status) => return Err(session.trouble(&link, status).await),
    };
    let mut room = MAX_NAMES;
    let fits = |line: &String| {
        let left = room.checked_sub(line.len());
        room = left.unwrap_or_default();
        left.is_some()
    };
    let mut lines: Vec<_> = page.entries.iter().map(line).take_while(fits).collect();
    let shown = lines.len();
    let more = shown < page.entries.len() || !page.next_page_token.is_empty();
    if more {
        lines.push(format!(
            "and more than these {shown}: use run_command with ls or find"
        ));
    }
    if lines.is_empty() {
        lines.push("the directory is empty".to_owned());
    }
    let entries = page.entries.iter().take(shown);
    let answer = ListAnswer {
        entries: entries.map(EntryAnswer::of).collect(),
        more,
    };
    Ok(Answer::done(
        vec![ContentBlock::text(lines.join("\n"))],
        &answer,
    ))
}

fn name(info: &PathInfo) -> &str {
    info.path.rsplit('/').next().unwrap_or_default()
}

fn line(info: &PathInfo) -> String {
    let name = excerpt::name(name(info));
    match info.kind() {
        Kind::File => format!("{name} ({} bytes)", info.size),
        Kind::Directory => format!("{name}/"),
        Kind::Link => format!("{name} -> {}", excerpt::name(&info.target)),
        Kind::Special | Kind::Unspecified => format!("{name} (no file)"),
    }
}

impl EntryAnswer {
    fn of(info: &PathInfo) -> Self {
        Self {
            name: name(info).to_owned(),
            kind: match info.kind() {
                Kind::File => "file",
                Kind::Directory => "directory",
                Kind::Link => "link",
                Kind::Special | Kind::Unspecified => "special",
            },
            bytes: info.size,
        }
    }
}
