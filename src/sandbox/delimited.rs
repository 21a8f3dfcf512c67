//! Messages after their lengths (a varint each), in a stream that comes in pieces and from anyone.

/// The bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// They begin with no length.
    Length,
    /// The message is longer than it may be.
    TooLong,
}

/// The lengths of the next message's prefix and of itself, if it has come whole. `most`: how long it may be, below
/// 256 MiB.
pub(super) fn whole(bytes: &[u8], most: usize) -> Result<Option<(usize, usize)>, Malformed> {
    let mut ahead = bytes;
    // A length below 256 MiB takes four bytes; more than that is not waited for.
    if ahead.len() < 4 && !ahead.iter().any(|byte| byte & 0x80 == 0) {
        return Ok(None);
    }
    let length = prost::decode_length_delimiter(&mut ahead).map_err(|_| Malformed::Length)?;
    if length > most {
        return Err(Malformed::TooLong);
    }
    let prefix = bytes.len() - ahead.len();
    Ok((ahead.len() >= length).then_some((prefix, length)))
}
