//! A line of the client's as the SDK takes it: it drops what it cannot parse without a word to whoever waits.

use rmcp::{RoleServer, model::ErrorCode, service::RxJsonRpcMessage};
use serde_json::{Value, json};

/// The longest line that the SDK takes, with its end.
pub(super) const MAX_LINE: usize = 16 << 20;
/// What is kept of a longer one, to find its id.
pub(super) const KEPT: usize = 64 << 10;
/// The method that stands for a request that cannot be read: the answer to it says why.
pub(super) const UNREADABLE: &str = "sandpool/unreadable";

/// The lines to be parsed instead of one that has been read, without their ends.
///
/// - What is JSON is left as it is, but an array is taken apart: 2025-03-26 has batches.
/// - Bytes that are no UTF-8, and halves of surrogate pairs, become U+FFFD: models and their clients cut text.
/// - A request that has an id, and is none of MCP's, is replaced by one whose answer says so.
/// - Of any other line the id is sought, so that its request can be answered.
pub(super) fn readable(line: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(line);
    // A byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    if text.trim().is_empty() {
        return Vec::new();
    }
    // Each byte that was no UTF-8 is three now.
    if text.len() >= MAX_LINE {
        return too_long(text.as_bytes());
    }
    if let Ok(value) = serde_json::from_str(text) {
        return messages(value, text);
    }
    let text = without_lone_surrogates(text);
    match serde_json::from_str(&text) {
        Ok(value) => messages(value, &text),
        Err(error) => unreadable(
            &text,
            &format!("the message is no JSON that can be read: {error}"),
        ),
    }
}

/// What stands for a line of which only the beginning was kept.
pub(super) fn too_long(beginning: &[u8]) -> Vec<String> {
    let reason = format!("the message is longer than {MAX_LINE} bytes: write large files in parts");
    let beginning = &beginning[..beginning.len().min(KEPT)];
    unreadable(&String::from_utf8_lossy(beginning), &reason)
}

fn messages(value: Value, text: &str) -> Vec<String> {
    match value {
        // The SDK says what is wrong with an empty one.
        Value::Array(batch) if !batch.is_empty() => batch
            .into_iter()
            .map(|value| {
                let text = value.to_string();
                message(value, &text)
            })
            .collect(),
        _ => vec![message(value, text)],
    }
}

/// The text itself, unless the SDK would answer to it without its id.
fn message(value: Value, text: &str) -> String {
    let id = value.get("id").cloned().filter(is_id);
    match (
        id,
        serde_json::from_value::<RxJsonRpcMessage<RoleServer>>(value),
    ) {
        (Some(id), Err(_)) => {
            let reason = "the message is no request: jsonrpc is \"2.0\", method a string, and params an object";
            refusal(&id, ErrorCode::INVALID_REQUEST, reason)
        }
        _ => text.to_owned(),
    }
}

fn is_id(value: &Value) -> bool {
    value.is_string() || value.is_i64()
}

fn unreadable(text: &str, reason: &str) -> Vec<String> {
    let Some(id) = id(text) else {
        tracing::warn!("a message is dropped, and has no id to answer to: {reason}");
        return Vec::new();
    };
    vec![refusal(&id, ErrorCode::PARSE_ERROR, reason)]
}

/// A request that is answered with an error.
fn refusal(id: &Value, code: ErrorCode, reason: &str) -> String {
    let params = json!({"code": code.0, "reason": reason});
    json!({"jsonrpc": "2.0", "id": id, "method": UNREADABLE, "params": params}).to_string()
}

/// With U+FFFD for each half of a surrogate pair, written as `\ud83d`, whose other half is not there.
fn without_lone_surrogates(text: &str) -> String {
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        whole += before;
        let (taken, is_whole) = match (surrogate(escape), escape.get(6..).and_then(surrogate)) {
            (None, _) => (escape.chars().take(2).map(char::len_utf8).sum(), true),
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (12, true),
            (Some(_), _) => (6, false),
        };
        let (escape, after) = escape.split_at(taken);
        whole += if is_whole { escape } else { "\\ufffd" };
        rest = after;
    }
    whole + rest
}

/// The half of a pair that is written at the beginning.
fn surrogate(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let unit = u32::from_str_radix(digits, 16).ok()?;
    (0xd800..=0xdfff).contains(&unit).then_some(unit)
}

/// The id of a message that is no JSON as a whole: a member of the outermost object, wherever it is.
fn id(text: &str) -> Option<Value> {
    let mut depth = 0_usize;
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}', '[', ']', '"']) {
        let from = &rest[at..];
        rest = &from[1..];
        match from.as_bytes()[0] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {
                let (string, after) = rest.split_at(end_of_string(rest)?);
                rest = after.strip_prefix('"')?;
                let value = rest.trim_start().strip_prefix(':');
                if let Some(value) = value.filter(|_| depth == 1 && string == "id") {
                    return first_value(value).filter(is_id);
                }
            }
        }
    }
    None
}

/// Where the string ends that `text` is within.
fn end_of_string(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })
}

/// The value that `text` begins with, if something comes after it: else it may be cut.
fn first_value(text: &str) -> Option<Value> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter();
    let value = values.next()?.ok()?;
    (values.byte_offset() < text.len()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_json_is_left_as_it_is_and_batches_are_taken_apart() {
        for (line, expected) in [
            (
                r#"{"a": 1.50, "b":"\ud83d\ude00"}"#,
                vec![r#"{"a": 1.50, "b":"\ud83d\ude00"}"#],
            ),
            (r#"[{"a":1}, {"b":2}]"#, vec![r#"{"a":1}"#, r#"{"b":2}"#]),
            ("[]", vec!["[]"]),
            ("\u{feff}{}", vec!["{}"]),
            (" \r", vec![]),
        ] {
            assert_eq!(readable(line.as_bytes()), expected);
        }
    }

    #[test]
    fn what_can_be_repaired_is() {
        for (line, expected) in [
            (&br#"["\ud83d"]"#[..], r#""\ufffd""#),
            (
                br#"["\ude00\ud83d!\\ud83d\ud83d\ude00"]"#,
                "\"\u{fffd}\u{fffd}!\\\\ud83d\u{1f600}\"",
            ),
            (br#"["\ud83d\ud83d\ude00"]"#, "\"\u{fffd}\u{1f600}\""),
            (b"[\"\xff\"]", "\"\u{fffd}\""),
        ] {
            let expected: Value = serde_json::from_str(expected).unwrap();
            assert_eq!(readable(line), [expected.to_string()]);
        }
    }

    #[test]
    fn the_id_of_what_cannot_be_read_is_found_and_no_other() {
        let deep = "[".repeat(200);
        for (line, id) in [
            (r#"{"id":5,"x":1e999}"#.to_owned(), Some(json!(5))),
            (
                format!(r#"{{"x":{deep}{}, "id" : "a\"b" }}"#, "]".repeat(200)),
                Some(json!("a\"b")),
            ),
            (
                r#"{"params":{"id":7,"s":"\"id\":8"},"id":9,}"#.to_owned(),
                Some(json!(9)),
            ),
            (r#"{"params":{"id":7,"#.to_owned(), None),
            (r#"{"id":12"#.to_owned(), None),
            (r#"{"id":1.5,"x":1e999}"#.to_owned(), None),
            (r#"{"id":null,"x":1e999}"#.to_owned(), None),
            ("no JSON".to_owned(), None),
            (r#"]{"id":1,"#.to_owned(), None),
            (r#"{"id"#.to_owned(), None),
        ] {
            let lines = readable(line.as_bytes());
            let told: Option<Value> = lines.first().map(|it| serde_json::from_str(it).unwrap());
            assert_eq!(told.map(|it| it["id"].clone()), id, "{line}");
        }
    }
}
