//! What the cells of a context show, other than by writing: all of it is the sandbox's claim.

use std::collections::BTreeMap;

use bytes::Bytes;

/// What a form takes beside its bytes, about.
const FORM: usize = 96;

/// One value in its forms.
#[derive(Clone, Default)]
pub struct Display {
    /// By MIME type; together at most 3 MiB. Texts are UTF-8.
    pub data: BTreeMap<String, Bytes>,
    /// A JSON object by MIME type, of at most 64 KiB, or empty.
    pub metadata: String,
    /// Whether it is the value of the cell's last expression.
    pub is_result: bool,
    /// Forms that were too large, and their bytes, as far as they are known.
    pub omitted: Vec<(String, u64)>,
    /// How much of stdout and stderr the cell had written before, in bytes.
    pub offsets: [u64; 2],
}

impl Display {
    /// Bytes that it takes, about.
    #[must_use]
    pub fn size(&self) -> usize {
        let forms = self.data.iter();
        let forms = forms.map(|(mime_type, data)| FORM + mime_type.len() + data.len());
        let omitted = self.omitted.iter();
        let omitted = omitted.map(|(mime_type, _)| FORM + mime_type.len());
        forms.chain(omitted).sum::<usize>() + self.metadata.len() + size_of::<Self>()
    }
}

/// An exception that a cell did not catch: the sandbox's claim.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CodeError {
    /// The exception's type.
    pub name: String,
    /// The exception as a text.
    pub value: String,
    /// Where it came from, as the interpreter shows it.
    pub traceback: String,
}

impl CodeError {
    /// Bytes that it takes, about.
    #[must_use]
    pub fn size(&self) -> usize {
        self.name.len() + self.value.len() + self.traceback.len()
    }

    /// The same with no more than its name.
    #[must_use]
    pub fn named(&self) -> Self {
        Self {
            name: self.name.clone(),
            ..Self::default()
        }
    }
}
