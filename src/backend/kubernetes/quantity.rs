//! Kubernetes' numbers: "250m" of a processor, "2Gi" of memory.

use std::{
    fmt,
    iter::Sum,
    ops::{Add, Mul},
    str::FromStr,
};

/// An exact number of whatever it is a quantity of. Kubernetes keeps nothing smaller than a
/// thousand-millionth, and nothing beyond 2^63; sums stop at the largest that fits here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    nanos: i128,
}

const NANOS: i128 = 1_000_000_000;

/// What a suffix multiplies by, in thousand-millionths (apimachinery/pkg/api/resource/quantity.go).
const SUFFIXES: [(&str, i128); 16] = [
    ("n", 1),
    ("u", 1_000),
    ("m", 1_000_000),
    ("", NANOS),
    ("k", NANOS * 1_000),
    ("M", NANOS * 1_000_000),
    ("G", NANOS * 1_000_000_000),
    ("T", NANOS * 1_000_000_000_000),
    ("P", NANOS * 1_000_000_000_000_000),
    ("E", NANOS * 1_000_000_000_000_000_000),
    ("Ki", NANOS << 10),
    ("Mi", NANOS << 20),
    ("Gi", NANOS << 30),
    ("Ti", NANOS << 40),
    ("Pi", NANOS << 50),
    ("Ei", NANOS << 60),
];

/// The text is no [`Quantity`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a quantity as Kubernetes writes them")]
pub struct NotAQuantity(String);

impl Quantity {
    /// Exactly one.
    pub const ONE: Self = Self { nanos: NANOS };

    /// The number, where it is a whole one.
    #[must_use]
    pub fn whole(self) -> Option<u64> {
        if self.nanos % NANOS != 0 {
            return None;
        }
        (self.nanos / NANOS).try_into().ok()
    }
}

impl FromStr for Quantity {
    type Err = NotAQuantity;

    /// Reads a decimal number with a suffix ("1.5Gi") or an exponent ("15e2").
    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        parse(text).ok_or_else(|| NotAQuantity(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Quantity> {
    let (unsigned, sign) = match text.strip_prefix('-') {
        Some(rest) => (rest, -1),
        None => (text.strip_prefix('+').unwrap_or(text), 1),
    };
    let end = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // Empty where there is no digit, and none where there is a second point.
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let product = digits.checked_mul(scale(suffix)?)?;
    let divisor = 10_i128.checked_pow(fraction.len().try_into().ok()?)?;
    // What is smaller than the smallest is rounded up, as Kubernetes does.
    let nanos = product / divisor + i128::from(product % divisor != 0);
    Some(Quantity {
        nanos: sign * nanos,
    })
}

/// In thousand-millionths.
fn scale(suffix: &str) -> Option<i128> {
    if let Some((_, scale)) = SUFFIXES.iter().find(|(name, _)| *name == suffix) {
        return Some(*scale);
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let power = u32::try_from(exponent.checked_add(9)?).ok()?;
    10_i128.checked_pow(power)
}

impl fmt::Display for Quantity {
    /// As a decimal number without a suffix, exactly.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.nanos / NANOS, (self.nanos % NANOS).abs());
        if self.nanos < 0 && whole == 0 {
            f.write_str("-")?;
        }
        write!(f, "{whole}")?;
        if rest == 0 {
            return Ok(());
        }
        write!(f, ".{}", format!("{rest:09}").trim_end_matches('0'))
    }
}

impl Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            nanos: self.nanos.saturating_add(other.nanos),
        }
    }
}

impl Mul<u32> for Quantity {
    type Output = Self;

    fn mul(self, factor: u32) -> Self {
        Self {
            nanos: self.nanos.saturating_mul(factor.into()),
        }
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(quantities: I) -> Self {
        quantities.fold(Self::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantity(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    #[test]
    fn each_way_to_write_a_number_is_read() {
        for (text, same) in [
            ("1500m", "1.5"),
            ("0.5", "500m"),
            ("2Gi", "2147483648"),
            ("1.5Ki", "1536"),
            ("3M", "3000000"),
            ("12e6", "12M"),
            ("5E", "5e18"),
            ("15e-1", "1.5"),
            ("+1", "1"),
            (".5", "500m"),
            ("5.", "5"),
            ("1u", "1000n"),
            ("0.1n", "1n"),
            ("9223372036854775807", "9223372036854775807.0"),
        ] {
            assert_eq!(quantity(text), quantity(same), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "", ".", "Gi", "1GiB", "1 Gi", "1.2.3", "--1", "1e", "1e99", "abc", "-",
        ] {
            assert_eq!(
                text.parse::<Quantity>(),
                Err(NotAQuantity(text.into())),
                "{text}"
            );
        }
    }

    #[test]
    fn numbers_are_written_exactly() {
        for (text, written) in [
            ("250m", "0.25"),
            ("2Gi", "2147483648"),
            ("-500m", "-0.5"),
            ("1n", "0.000000001"),
            ("0", "0"),
        ] {
            assert_eq!(quantity(text).to_string(), written);
        }
        assert_eq!(quantity("64Ki").whole(), Some(65_536));
        assert_eq!(quantity("100m").whole(), None);
        assert_eq!(quantity("-1").whole(), None);
    }

    #[test]
    fn sums_stop_at_the_largest() {
        assert_eq!(quantity("250m") * 10, quantity("2.5"));
        assert_eq!(quantity("250m") + quantity("750m"), Quantity::ONE);
        let large = quantity("9223372036854775807") * u32::MAX;
        assert_eq!(large * u32::MAX, large * u32::MAX * 2);
    }
}
