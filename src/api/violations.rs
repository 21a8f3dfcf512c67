//! Everything that is wrong with a spec, told at once, in texts that are safe to log.

use std::fmt::Display;

/// How many violations are told; further ones are counted. More would help nobody, and a client
/// could make the server build a list as long as its message.
const MAX_VIOLATIONS: usize = 32;

/// Bytes of a client's value that are repeated to it: enough to recognise it by.
const MAX_QUOTED_BYTES: usize = 80;

/// How many names of a list are told.
const MAX_NAMES: usize = 20;

/// One field and what is wrong with it. Neither text holds source, arguments, values of the
/// environment or contents of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path from the spec to the field, in the proto's names: `files[2].path`, `env["A"]`.
    pub field: String,
    /// What was given, and what is allowed instead.
    pub text: String,
}

/// Why a spec is refused: one violation at least.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request is invalid")]
pub struct InvalidRequest {
    /// The field of the request that holds the spec; "": what is wrong is the request's own fields.
    pub root: &'static str,
    /// What is wrong, in the order of the spec's fields; 32 at most.
    pub violations: Vec<Violation>,
    /// How many violations are not in the list.
    pub omitted: usize,
}

impl InvalidRequest {
    /// The spec names a pool that is not there; `known` are those that the caller may use.
    #[must_use]
    pub fn unknown_pool<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let mut violations = Violations::default();
        violations.add(
            "pool",
            format!(
                "there is no pool {}: use {}",
                quoted(given),
                one_of(known, "none, since no pool is configured")
            ),
        );
        violations.into()
    }

    /// One of the request's own fields is wrong.
    pub(super) fn of(field: &str, text: String) -> Self {
        let mut violations = Violations::default();
        violations.add(field, text);
        Self::from(violations).within("")
    }

    /// The same, for a spec in the request's field `root`: "spec" in Run, which is what it is
    /// without this, "start" in Execute.
    #[must_use]
    pub fn within(mut self, root: &'static str) -> Self {
        self.root = root;
        self
    }
}

/// Collects violations while a spec is checked.
#[derive(Default)]
pub(super) struct Violations {
    list: Vec<Violation>,
    omitted: usize,
}

impl Violations {
    pub(super) fn add(&mut self, field: impl Into<String>, text: impl Into<String>) {
        if self.list.len() < MAX_VIOLATIONS {
            self.list.push(Violation {
                field: field.into(),
                text: text.into(),
            });
        } else {
            self.omitted += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl From<Violations> for InvalidRequest {
    fn from(violations: Violations) -> Self {
        Self {
            root: "spec",
            violations: violations.list,
            omitted: violations.omitted,
        }
    }
}

/// A client's text as part of an error: in quotes, escaped, and cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        let escaped = character.escape_debug();
        let bytes: usize = escaped.clone().map(char::len_utf8).sum();
        if out.len() + bytes > MAX_QUOTED_BYTES {
            out.push_str("...");
            break;
        }
        out.extend(escaped);
    }
    out.push('"');
    out
}

/// `names` for people, or `none` if there are none.
pub(super) fn one_of<T: Display>(names: impl IntoIterator<Item = T>, none: &str) -> String {
    let mut names = names.into_iter();
    let mut listed: Vec<String> = names
        .by_ref()
        .take(MAX_NAMES)
        .map(|name| name.to_string())
        .collect();
    if listed.is_empty() {
        return none.to_owned();
    }
    let more = names.count();
    if more > 0 {
        listed.push(format!("or one of {more} more"));
        return listed.join(", ");
    }
    match listed.pop() {
        Some(last) if !listed.is_empty() => format!("{} or {last}", listed.join(", ")),
        Some(only) => only,
        None => none.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_text_is_escaped_and_cut() {
        assert_eq!(quoted("a\n\"\0"), r#""a\n\"\0""#);
        let cut = quoted(&"é".repeat(1000));
        assert!(cut.ends_with("...\"") && cut.len() <= MAX_QUOTED_BYTES + 4);
    }

    #[test]
    fn names_are_listed_for_people() {
        assert_eq!(one_of(["a"; 0], "nothing"), "nothing");
        assert_eq!(one_of(["a"], ""), "a");
        assert_eq!(one_of(["a", "b", "c"], ""), "a, b or c");
        assert!(one_of(0..50, "").ends_with("19, or one of 30 more"));
    }

    #[test]
    fn what_is_not_listed_is_counted() {
        let mut violations = Violations::default();
        for index in 0..40 {
            violations.add(format!("files[{index}]"), "bad");
        }
        let invalid = InvalidRequest::from(violations);
        assert_eq!((invalid.violations.len(), invalid.omitted), (32, 8));
    }

    #[test]
    fn an_unknown_pool_is_named_beside_the_known_ones() {
        let invalid = InvalidRequest::unknown_pool("gpu", ["default", "numpy"]);
        assert_eq!(invalid.violations[0].field, "pool");
        assert_eq!(
            invalid.violations[0].text,
            "there is no pool \"gpu\": use default or numpy"
        );
    }
}
