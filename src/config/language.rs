//! `[pools.NAME.languages.LANG]`: the interpreters that wait in a pool's sandboxes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{check::Check, units};

/// Where an interpreter is searched in the root file system when none is named.
const SEARCHED: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// Every language that a pool can have.
pub const LANGUAGES: [LanguageName; 3] =
    [LanguageName::Python, LanguageName::Bash, LanguageName::Node];

/// A language that a pool can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LanguageName {
    /// Python 3.
    Python,
    /// Bash.
    Bash,
    /// Node.js.
    Node,
}

impl LanguageName {
    /// The language that is called `name`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        LANGUAGES
            .into_iter()
            .find(|language| language.as_str() == name)
    }

    /// What requests and the configuration call it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Bash => "bash",
            Self::Node => "node",
        }
    }

    /// Name of its usual interpreter.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::Python => "python3",
            Self::Bash => "bash",
            Self::Node => "node",
        }
    }
}

/// One language of a pool. No value has a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LanguageConfig {
    /// Absolute path of the interpreter in the sandbox's root file system; "" (the default)
    /// searches /usr/local/bin, /usr/bin and /bin for python3, bash or node.
    #[serde(with = "units::path_or_empty")]
    pub interpreter: Option<PathBuf>,
    /// Modules that the waiting interpreter has already imported; bash has none. Default [].
    pub preload: Vec<String>,
    /// How many interpreters wait in each sandbox; with 0 each program waits for the start of
    /// one. A number from 0 to 16; default 1.
    pub spares: u32,
    /// Whether the language is left out, with a line in the log, where the root file system lacks
    /// the interpreter; otherwise such a pool does not start. Default false.
    pub optional: bool,
}

impl Default for LanguageConfig {
    fn default() -> Self {
        Self {
            interpreter: None,
            preload: Vec::new(),
            spares: 1,
            optional: false,
        }
    }
}

impl LanguageConfig {
    /// Absolute paths in the sandbox's root file system; the first that exists is the interpreter.
    #[must_use]
    pub fn candidates(&self, language: LanguageName) -> Vec<PathBuf> {
        match &self.interpreter {
            Some(path) => vec![path.clone()],
            None => SEARCHED
                .iter()
                .map(|directory| PathBuf::from(directory).join(language.program()))
                .collect(),
        }
    }

    pub(super) fn check(&self, key: &str, language: LanguageName, check: &mut Check) {
        if self
            .interpreter
            .as_ref()
            .is_some_and(|path| !path.is_absolute())
        {
            check.problem(format!("{key}.interpreter"), "an absolute path, or \"\"");
        }
        if language == LanguageName::Bash && !self.preload.is_empty() {
            check.problem(format!("{key}.preload"), "[], since bash imports nothing");
        } else if !self.preload.iter().all(|module| is_module_name(module)) {
            check.problem(
                format!("{key}.preload"),
                "a list of module names such as [\"numpy\", \"os.path\"]",
            );
        }
        check.range(format!("{key}.spares"), self.spares, 0, 16);
    }
}

/// A name that an import statement can hold, and nothing that could be more than a name.
fn is_module_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 200
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-/@:".contains(c))
}
