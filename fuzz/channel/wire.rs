//! What an agent says, made of the fuzzer's bytes: as they are, as h2 frames, or as messages.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use sandpool::proto::agent::{
    Acknowledged, CodeError, Display, Exited, FileChunk, Form, FromAgent, Opened, Output, Started,
    exited, from_agent::Message as Said,
};

use super::stream::{End, Script};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// The first stream that a client opens.
const REQUEST: u32 = 1;
/// Connections that a run may have, beyond which there is nothing new to be seen.
const MAX_CONNECTIONS: usize = 6;
/// :status 200 (index 8), content-type (index 31): application/grpc (RFC 7541, 6.1 and 6.2.2).
const RESPONSE: &[u8] = b"\x88\x0f\x10\x10application/grpc";

/// Reads numbers off the fuzzer's bytes; they end as zeroes.
struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (now, later) = self.0.split_at(count.min(self.0.len()));
        self.0 = later;
        now
    }

    /// Mostly small, and sometimes as large as it gets.
    fn number(&mut self) -> u64 {
        match self.byte() {
            byte @ ..=0xdf => u64::from(byte),
            0xe0..=0xef => {
                let bytes = self.bytes(3);
                bytes
                    .iter()
                    .fold(0, |sum, &byte| sum << 8 | u64::from(byte))
            }
            _ => {
                let bytes = self.bytes(8);
                bytes
                    .iter()
                    .fold(0, |sum, &byte| sum << 8 | u64::from(byte))
            }
        }
    }

    fn end(&mut self) -> End {
        match self.byte() % 3 {
            0 => End::Closed,
            1 => End::Reset,
            _ => End::Silent,
        }
    }
}

/// One connection while it is written.
#[derive(Default)]
pub(super) struct Wire(BytesMut);

impl Wire {
    /// The bytes as they are, before and after a request.
    pub(super) fn raw(data: &[u8]) -> Vec<Script> {
        let mut source = Source(data);
        let mut scripts = Vec::new();
        while !source.is_empty() && scripts.len() < MAX_CONNECTIONS {
            let piece = usize::from(source.byte());
            let end = source.end();
            let greeting = usize::try_from(source.number()).unwrap_or(usize::MAX);
            let greeting = Bytes::copy_from_slice(source.bytes(greeting));
            let answer = usize::try_from(source.number()).unwrap_or(usize::MAX);
            let answer = Bytes::copy_from_slice(source.bytes(answer));
            scripts.push(Script::new(greeting, answer, piece, end));
        }
        scripts
    }

    /// A server's beginning, then frames of any kind.
    pub(super) fn frames(data: &[u8]) -> Vec<Script> {
        let mut source = Source(data);
        let mut scripts = Vec::new();
        while !source.is_empty() && scripts.len() < MAX_CONNECTIONS {
            let piece = usize::from(source.byte()) * 16;
            let end = source.end();
            let mut wire = Self::default();
            if source.byte() & 1 == 0 {
                wire.frame(HEADERS, END_HEADERS, REQUEST, RESPONSE);
            }
            // 255 ends the connection.
            while !source.is_empty() {
                let kind = source.byte();
                if kind == 255 {
                    break;
                }
                let flags = source.byte();
                let stream = source.number() as u32;
                let length = source.number() as usize % 70_000;
                let repeated = source.byte().max(1);
                let payload = source.bytes(length);
                for _ in 0..repeated {
                    wire.frame(kind, flags, stream, payload);
                }
            }
            scripts.push(wire.script(piece, end));
        }
        scripts
    }

    /// A server whose messages can be decoded.
    pub(super) fn messages(data: &[u8]) -> Vec<Script> {
        let mut source = Source(data);
        let mut scripts = Vec::new();
        // How far each stream is, so that what is said can make sense.
        let mut sent = [0; 4];
        while !source.is_empty() && scripts.len() < MAX_CONNECTIONS {
            let mut wire = Self::default();
            wire.frame(HEADERS, END_HEADERS, REQUEST, RESPONSE);
            let end = loop {
                if source.is_empty() {
                    break End::Silent;
                }
                match source.byte() % 16 {
                    0 => break source.end(),
                    1 => {
                        let trailers = b"\x00\x0bgrpc-status\x012";
                        wire.frame(HEADERS, END_HEADERS | END_STREAM, REQUEST, trailers);
                    }
                    2 => {
                        let length = usize::from(source.byte());
                        let bytes = source.bytes(length);
                        wire.message(bytes);
                    }
                    kind => wire.message(&said(kind, &mut source, &mut sent).encode_to_vec()),
                }
            };
            scripts.push(wire.script(4096, end));
        }
        scripts
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.0.put_uint(payload.len() as u64, 3);
        self.0.put_u8(kind);
        self.0.put_u8(flags);
        self.0.put_u32(stream);
        self.0.put_slice(payload);
    }

    /// gRPC's length-prefixed message, in as many frames as it takes.
    fn message(&mut self, message: &[u8]) {
        let mut framed = vec![0];
        framed.put_u32(message.len() as u32);
        framed.put_slice(message);
        for piece in framed.chunks(16_384) {
            self.frame(DATA, 0, REQUEST, piece);
        }
    }

    fn script(self, piece: usize, end: End) -> Script {
        let mut greeting = Self::default();
        greeting.frame(SETTINGS, 0, 0, &[]);
        greeting.frame(SETTINGS, ACK, 0, &[]);
        Script::new(greeting.0.freeze(), self.0.freeze(), piece, end)
    }
}

/// One message, which may make sense.
fn said(kind: u8, source: &mut Source<'_>, sent: &mut [u64; 4]) -> FromAgent {
    let message = match kind {
        3 => Some(Said::Opened(Opened {
            acknowledged: Some(acknowledged(source)),
        })),
        4 => Some(Said::Acknowledged(acknowledged(source))),
        5 | 6 => Some(Said::Started(Started {
            warm: source.byte() & 1 != 0,
            // There are none here: a claim that ends the execution.
            direct_output: (source.byte() == 0).then_some(0),
        })),
        7..=9 => {
            let stream = usize::from(kind) - 7;
            let length = source.number() as usize % 300_000;
            Some(output(stream, vec![b'x'; length], sent))
        }
        10 => {
            let chunk = file_chunk(source);
            Some(output(2, chunk.encode_length_delimited_to_vec(), sent))
        }
        11 => {
            let length = usize::from(source.byte());
            Some(output(2, source.bytes(length).to_vec(), sent))
        }
        12 => Some(Said::Output(Output {
            stream: source.byte().into(),
            offset: source.number(),
            data: Bytes::copy_from_slice(source.bytes(3)),
        })),
        13 | 14 => Some(Said::Exited(exited(source))),
        15 => {
            let data = match source.byte() % 4 {
                0 => source.bytes(20).to_vec(),
                _ => display(source).encode_length_delimited_to_vec(),
            };
            Some(output(3, data, sent))
        }
        _ => None,
    };
    FromAgent { message }
}

fn acknowledged(source: &mut Source<'_>) -> Acknowledged {
    Acknowledged {
        control_sequence: source.number(),
        input_offset: source.number(),
    }
}

/// The next bytes of a stream.
fn output(stream: usize, data: Vec<u8>, sent: &mut [u64; 4]) -> Said {
    let offset = sent[stream];
    sent[stream] += data.len() as u64;
    Said::Output(Output {
        stream: stream as i32 + 1,
        offset,
        data: data.into(),
    })
}

fn file_chunk(source: &mut Source<'_>) -> FileChunk {
    let length = usize::from(source.byte());
    let path = String::from_utf8_lossy(source.bytes(length % 8)).into_owned();
    let (size, offset) = (source.number(), source.number());
    let length = source.number() as usize % 2000;
    FileChunk {
        path,
        mode: source.number() as u32,
        size,
        offset,
        content: vec![b'f'; length].into(),
        last: offset.saturating_add(length as u64) >= size,
    }
}

fn display(source: &mut Source<'_>) -> Display {
    let form = |source: &mut Source<'_>| Form {
        mime_type: "m".repeat(source.number() as usize % 300),
        data: vec![b'd'; source.number() as usize % 2000].into(),
    };
    Display {
        forms: (0..source.byte() % 70).map(|_| form(source)).collect(),
        stdout_offset: source.number(),
        stderr_offset: source.number(),
        is_result: source.byte() & 1 != 0,
        ..Display::default()
    }
}

fn exited(source: &mut Source<'_>) -> Exited {
    let number = source.number();
    Exited {
        end: match source.byte() % 6 {
            0 => Some(exited::End::Code(number as i32)),
            1 => Some(exited::End::Signal(number as i32)),
            2 => Some(exited::End::OutOfMemory(number)),
            3 => Some(exited::End::DiskLimit(number)),
            4 => {
                let reason = source.bytes(number as usize % 2000);
                let reason = String::from_utf8_lossy(reason).into_owned();
                Some(exited::End::NotStarted(reason))
            }
            _ => None,
        },
        cpu_time_us: source.number(),
        peak_memory_bytes: source.number(),
        stdout_bytes: source.number(),
        stderr_bytes: source.number(),
        files_bytes: source.number(),
        output_files_omitted: source.number() as u32,
        displays_bytes: source.number(),
        error: (source.byte() & 1 != 0).then(|| CodeError {
            name: "é".repeat(source.number() as usize % 1000),
            value: "e".repeat(source.number() as usize % 100_000),
            traceback: String::new(),
        }),
        context_ended: source.byte() & 1 != 0,
    }
}
