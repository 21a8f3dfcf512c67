//! `--output`: the same for each command that lists or shows, in columns or as JSON.

use clap::{Args, ValueEnum};
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use super::{client::ClientError, say::say};
use crate::proto::v1;

#[derive(Args)]
pub(super) struct OutputArgs {
    /// How to print it.
    #[arg(long, short, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    output: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Columns, for people; of what was created, its id.
    Table,
    /// The API's message as one JSON document; each message on a line of its own where more come.
    Json,
}

impl OutputArgs {
    /// What prints JSON; none, if columns are wanted.
    pub(super) fn json(&self) -> Result<Option<Json>, ClientError> {
        match self.output {
            Format::Table => Ok(None),
            Format::Json => Json::new().map(Some),
        }
    }
}

/// The API's messages in protobuf's own JSON mapping: lowerCamelCase, 64-bit integers as strings,
/// durations as "1.5s", times as RFC 3339 has them. What is empty or 0 is there, too, so that a
/// script need not know that it could be missing.
pub(super) struct Json {
    descriptors: DescriptorPool,
}

impl Json {
    fn new() -> Result<Self, ClientError> {
        let descriptors = DescriptorPool::decode(v1::DESCRIPTORS).map_err(unprintable)?;
        Ok(Self { descriptors })
    }

    /// A whole document. Nobody need read it.
    pub(super) fn print<M: Message + Name>(&self, message: &M) -> Result<(), ClientError> {
        let text = serde_json::to_string_pretty(&self.value(message)?);
        say(&without_controls(&text.map_err(unprintable)?));
        Ok(())
    }

    /// One of many, in a line; false: nobody reads any further.
    pub(super) fn print_line<M: Message + Name>(&self, message: &M) -> Result<bool, ClientError> {
        let text = self.value(message)?.to_string();
        Ok(say(&without_controls(&text)))
    }

    fn value<M: Message + Name>(&self, message: &M) -> Result<serde_json::Value, ClientError> {
        let name = M::full_name();
        let descriptor = self.descriptors.get_message_by_name(&name);
        let descriptor = descriptor.ok_or_else(|| unprintable(format!("{name} is unknown")))?;
        let mut dynamic = DynamicMessage::new(descriptor);
        dynamic.transcode_from(message).map_err(unprintable)?;
        let options = SerializeOptions::new().skip_default_fields(false);
        let value = dynamic.serialize_with_options(serde_json::value::Serializer, &options);
        value.map_err(unprintable)
    }
}

fn unprintable(error: impl std::fmt::Display) -> ClientError {
    ClientError::Unprintable {
        reason: error.to_string(),
    }
}

/// JSON may hold what a terminal obeys (DEL and C1, such as U+009B). It means the same escaped, and
/// is never outside of a string.
fn without_controls(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_control() && c != '\n' {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::proto::v1::{ListSandboxesResponse, PoolHealth, Sandbox};

    fn value<M: Message + Name>(message: &M) -> serde_json::Value {
        let Ok(json) = Json::new() else {
            panic!("the descriptors can be read");
        };
        json.value(message).ok().unwrap()
    }

    #[test]
    fn a_message_is_what_protobufs_json_mapping_makes_of_it() {
        let sandbox = Sandbox {
            sandbox_id: "a".to_owned(),
            labels: [("task".to_owned(), "\u{1b}[2J\"\n".to_owned())].into(),
            create_time: Some(prost_types::Timestamp {
                seconds: 1_700_000_000,
                nanos: 500_000_000,
            }),
            idle_timeout: Some(prost_types::Duration {
                seconds: 1,
                nanos: 500_000_000,
            }),
            executions: 2,
            ..Sandbox::default()
        };
        let expected = serde_json::json!({
            "sandboxId": "a",
            "pool": "",
            "labels": {"task": "\u{1b}[2J\"\n"},
            "createTime": "2023-11-14T22:13:20.500Z",
            "idleTimeout": "1.500s",
            "executions": 2,
        });
        assert_eq!(value(&sandbox), expected);
    }

    #[test]
    fn what_is_empty_is_there() {
        let expected = serde_json::json!({"sandboxes": [], "nextPageToken": ""});
        assert_eq!(value(&ListSandboxesResponse::default()), expected);
        let health = value(&PoolHealth::default());
        assert_eq!(health["failedStarts"], 0);
        assert_eq!(health["state"], "STATE_UNSPECIFIED");
    }

    #[test]
    fn a_terminal_obeys_nothing_of_it_and_a_parser_reads_all() {
        let hostile = "\u{0}\u{1b}[2J\u{7f}\u{9b}31m\r\n\"\\ä\u{1f600}";
        let json = serde_json::to_string_pretty(&serde_json::json!({ "it": hostile })).unwrap();
        let safe = without_controls(&json);
        assert!(safe.chars().all(|c| !c.is_control() || c == '\n'), "{safe}");
        let parsed: serde_json::Value = serde_json::from_str(&safe).unwrap();
        assert_eq!(parsed["it"], hostile);
    }
}
