//! Paths, and what is known of them.

use crate::{
    api::violations::{InvalidRequest, Violations, quoted},
    execution::{PathInfo, PathKind, paths},
    proto::v1,
};

const MAX_MODE: u32 = 0o777;

/// The path in that field, absolute and normalised.
pub(in crate::api) fn path(field: &str, given: &str) -> Result<String, InvalidRequest> {
    paths::anywhere(given)
        .map_err(|error| InvalidRequest::of(field, format!("{} {error}", quoted(given))))
}

/// Permission bits: `default` for 0.
pub(in crate::api) fn mode(field: &str, given: u32, default: u32) -> Result<u32, InvalidRequest> {
    let mut violations = Violations::default();
    check_mode(field, given, &mut violations);
    if violations.is_empty() {
        Ok(if given == 0 { default } else { given })
    } else {
        Err(InvalidRequest::from(violations).within(""))
    }
}

/// Refuses what are not permission bits.
pub(super) fn check_mode(field: impl Into<String>, given: u32, violations: &mut Violations) {
    if given > MAX_MODE {
        violations.add(
            field,
            format!("{given:#o} has more than permission bits: give at most {MAX_MODE:#o}"),
        );
    }
}

/// What a client is told of a path.
pub(in crate::api) fn info(info: PathInfo) -> v1::PathInfo {
    use v1::path_info::Kind;
    v1::PathInfo {
        path: info.path,
        kind: match info.kind {
            PathKind::File => Kind::File,
            PathKind::Directory => Kind::Directory,
            PathKind::Link => Kind::Link,
            PathKind::Special => Kind::Special,
        }
        .into(),
        size: info.size,
        mode: info.mode,
        modify_time: Some(prost_types::Timestamp {
            seconds: info.modified_ns.div_euclid(1_000_000_000),
            // Below 1,000,000,000.
            nanos: info.modified_ns.rem_euclid(1_000_000_000) as i32,
        }),
        target: info.target,
    }
}
