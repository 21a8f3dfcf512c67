//! Prints what is in force.

use std::fmt::Write;

use toml::{Table, Value};

use super::Loaded;

impl Loaded {
    /// The configuration in force as TOML, with a comment at each value that is no default.
    /// Values of the pools' environments, which may be secrets, are not shown.
    #[must_use]
    pub fn to_toml(&self) -> String {
        // A Config serializes to tables, lists, texts and numbers, all of which TOML has.
        let table = Table::try_from(&self.config).unwrap_or_default();
        let mut text = String::new();
        self.write_table(&mut text, &mut Vec::new(), &table);
        text
    }

    fn write_table(&self, text: &mut String, path: &mut Vec<String>, table: &Table) {
        let is_table = |value: &Value| matches!(value, Value::Table(_));
        let has_values = table.values().any(|value| !is_table(value));
        if !path.is_empty() && (has_values || table.is_empty()) {
            let _ = write!(text, "\n[{}]\n", path.join("."));
        }
        for (key, value) in table.iter().filter(|(_, value)| !is_table(value)) {
            path.push(key.clone());
            let shown = match path.as_slice() {
                [pools, _, env, _] if pools == "pools" && env == "env" => {
                    Value::from("(not shown)")
                }
                _ => value.clone(),
            };
            let _ = match self.origin(&path.join(".")) {
                Some(origin) => writeln!(text, "{} = {shown} # from {origin}", quoted(key)),
                None => writeln!(text, "{} = {shown}", quoted(key)),
            };
            path.pop();
        }
        for (key, value) in table {
            if let Value::Table(inner) = value {
                path.push(key.clone());
                self.write_table(text, path, inner);
                path.pop();
            }
        }
    }
}

/// A key as TOML writes it: only names of environment variables can need quotes.
fn quoted(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) {
        key.to_owned()
    } else {
        Value::from(key).to_string()
    }
}
