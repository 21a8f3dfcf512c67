//! Where values come from: the defaults, a file, variables and flags, each with its name.

use std::{fs, path::Path};

use figment::{
    Error, Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};

use super::ConfigError;

/// What all variables begin with.
const PREFIX: &str = "SANDPOOL_";
/// Variables with the prefix that are read elsewhere: the file's path, what the client commands need to
/// call a server, and the agent that the tests use.
const ELSEWHERE: [&str; 8] = [
    "CONFIG",
    "ADDRESS",
    "TOKEN",
    "TOKEN_FILE",
    "CA",
    "CLIENT_CERTIFICATE",
    "CLIENT_KEY",
    "AGENT",
];

/// What the defaults are called.
pub(super) const DEFAULTS: &str = "defaults";

/// Values of one origin, over those of the layers below it.
pub(super) struct Layer {
    origin: String,
    values: Dict,
}

impl Layer {
    /// `values` as defaults.
    pub(super) fn defaults(values: Dict) -> Self {
        Self {
            origin: DEFAULTS.to_owned(),
            values,
        }
    }

    /// The file at `path`.
    pub(super) fn file(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let values = toml::from_str(&text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            reason: error.to_string().trim_end().to_owned(),
        })?;
        Ok(Self {
            origin: path.display().to_string(),
            values,
        })
    }

    /// The variable `name`, or nothing if it is none of the configuration's.
    pub(super) fn variable(name: &str, text: &str) -> Option<Self> {
        let rest = name.strip_prefix(PREFIX)?;
        if ELSEWHERE.contains(&rest) || is_service_link(rest) {
            return None;
        }
        let mut keys: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
        let mut value = variable_value(text);
        if keys.len() == 4 && keys[0] == "pools" && keys[2] == "env" {
            // These are the operator's own names and texts, so they stay as they are.
            keys[3] = rest.split("__").skip(3).collect();
            value = Value::from(text);
        }
        Some(Self {
            origin: format!("environment variable {name}"),
            values: nest(&keys, value),
        })
    }

    /// The flag `--name` for the dotted `key`.
    pub(super) fn flag(name: &str, key: &str, text: &str) -> Self {
        let keys: Vec<String> = key.split('.').map(str::to_owned).collect();
        Self {
            origin: format!("flag --{name}"),
            values: nest(&keys, Value::from(text)),
        }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// Kubernetes sets SANDPOOL_SERVICE_HOST, SANDPOOL_PORT_50051_TCP and the like in every pod beside
/// a service that is called sandpool; they are not meant for it.
fn is_service_link(rest: &str) -> bool {
    rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_")
}

/// A number, a truth value, a list or a table as TOML writes it, or else the text itself.
fn variable_value(text: &str) -> Value {
    let parsed: Option<toml::Table> = toml::from_str(&format!("value = {text}")).ok();
    match parsed {
        Some(mut table) if table.len() == 1 => match table.remove("value") {
            Some(toml::Value::Datetime(_)) | None => Value::from(text),
            Some(value) => Value::serialize(value).unwrap_or_else(|_| Value::from(text)),
        },
        _ => Value::from(text),
    }
}

fn nest(keys: &[String], value: Value) -> Dict {
    let mut dict = Dict::new();
    match keys {
        [] => {}
        [last] => {
            dict.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            dict.insert(first.clone(), Value::from(nest(rest, value)));
        }
    }
    dict
}
