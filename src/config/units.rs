//! Values that carry their unit in the text, and the serde of the few other texts.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Unexpected, Visitor},
};

const UNITS: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// A number of bytes, written with its unit: "512MiB".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    /// `bytes` bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// `count` times 1024 x 1024 bytes.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ByteSize {
    /// In the largest unit that divides it, so that nothing is rounded.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit) = UNITS
            .into_iter()
            .find(|(_, unit)| self.0 != 0 && self.0.is_multiple_of(*unit))
            .unwrap_or(("B", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

/// The text is no [`ByteSize`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a size: write a whole number and its unit (B, KiB, MiB, GiB or TiB), such as 512MiB")]
pub struct NotASize;

impl FromStr for ByteSize {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Self, NotASize> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = text[digits.len()..].trim();
        let (_, factor) = UNITS
            .into_iter()
            .find(|(name, _)| *name == unit)
            .ok_or(NotASize)?;
        let count: u64 = digits.trim().parse().map_err(|_| NotASize)?;
        count.checked_mul(factor).map(Self).ok_or(NotASize)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text {
            parse: |text| text.parse().ok(),
            expected: "a size with its unit (B, KiB, MiB, GiB or TiB), such as \"512MiB\"",
        })
    }
}

/// A text that `parse` understands; any other, and any number, is refused with `expected`.
struct Text<T> {
    parse: fn(&str) -> Option<T>,
    expected: &'static str,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// A [`Duration`] as text with units, for `#[serde(with)]`.
pub(super) mod duration {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*value))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        from.deserialize_any(Text {
            // humantime takes "0" without a unit; here nothing goes without.
            parse: |text| {
                text.ends_with(|c: char| c.is_ascii_alphabetic())
                    .then(|| humantime::parse_duration(text).ok())?
            },
            expected: "a duration with its unit (ms, s, m, h or d), such as \"30s\"",
        })
    }
}

/// An address and port as text, for `#[serde(with)]`.
pub(super) mod address {
    use std::net::SocketAddr;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &SocketAddr, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
        from.deserialize_any(Text {
            parse: |text| text.parse().ok(),
            expected: "an IP address and a port, such as \"127.0.0.1:50051\"",
        })
    }
}

/// An address and port for which "" means that none is given, for `#[serde(with)]`.
pub(super) mod address_or_empty {
    use std::net::SocketAddr;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<SocketAddr>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(address) => to.collect_str(address),
            None => to.serialize_str(""),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<SocketAddr>, D::Error> {
        from.deserialize_any(Text {
            parse: |text| match text {
                "" => Some(None),
                text => text.parse().ok().map(Some),
            },
            expected: "an IP address and a port, such as \"0.0.0.0:9464\", or \"\"",
        })
    }
}

/// A path for which "" means that none is given, for `#[serde(with)]`.
pub(super) mod path_or_empty {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<PathBuf>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(path) => to.collect_str(&path.display()),
            None => to.serialize_str(""),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        from.deserialize_any(Text {
            parse: |text| Some((!text.is_empty()).then(|| PathBuf::from(text))),
            expected: "a path, or \"\"",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_printed_in_the_largest_unit_that_loses_nothing() {
        for text in ["0B", "1B", "1023B", "1KiB", "1536MiB", "2GiB", "3TiB"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
        assert_eq!("2048 MiB".parse::<ByteSize>().unwrap().to_string(), "2GiB");
    }

    #[test]
    fn a_size_without_a_unit_or_too_large_is_refused() {
        for text in [
            "",
            "1",
            "MiB",
            "1mib",
            "1MB",
            "-1MiB",
            "1.5GiB",
            "+",
            "99999999TiB",
            "é1B",
        ] {
            assert_eq!(text.parse::<ByteSize>(), Err(NotASize), "{text}");
        }
    }
}
