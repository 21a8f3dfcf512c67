//! The execution's limits: the pool's defaults where nothing is asked for, never over its maximum.

use std::{fmt::Display, time::Duration};

use crate::{
    api::violations::Violations,
    execution::{LimitBounds, Limits},
    proto::v1,
};

/// The longest time that means something: more than any pool allows.
pub(super) const ENDLESS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A limit that is refused is taken as the maximum, so that what depends on it can be checked too.
pub(super) fn check(
    given: Option<v1::Limits>,
    bounds: &LimitBounds,
    violations: &mut Violations,
) -> Limits {
    let given = given.unwrap_or_default();
    let LimitBounds { default, max } = bounds;
    Limits {
        timeout: duration(
            "limits.timeout",
            given.timeout,
            default.timeout,
            max.timeout,
            violations,
        ),
        queue_timeout: duration(
            "limits.queue_timeout",
            given.queue_timeout,
            default.queue_timeout,
            max.queue_timeout,
            violations,
        ),
        memory_bytes: amount(
            "limits.memory_bytes",
            given.memory_bytes,
            default.memory_bytes,
            max.memory_bytes,
            violations,
        ),
        disk_bytes: amount(
            "limits.disk_bytes",
            given.disk_bytes,
            default.disk_bytes,
            max.disk_bytes,
            violations,
        ),
        output_bytes: amount(
            "limits.output_bytes",
            given.output_bytes,
            default.output_bytes,
            max.output_bytes,
            violations,
        ),
        output_file_bytes: amount(
            "limits.output_file_bytes",
            given.output_file_bytes,
            default.output_file_bytes,
            max.output_file_bytes,
            violations,
        ),
        processes: amount(
            "limits.processes",
            given.processes,
            default.processes,
            max.processes,
            violations,
        ),
    }
}

/// What a sandbox that lives on has for all its executions, none can ask for.
pub(super) fn refuse_for_named(
    given: Option<&v1::Limits>,
    is_cell: bool,
    violations: &mut Violations,
) {
    let Some(given) = given else { return };
    // A cell waits for those before it.
    if given.queue_timeout.is_some() && !is_cell {
        violations.add(
            "limits.queue_timeout",
            "means nothing with sandbox_id, since that sandbox is there already: leave it out",
        );
    }
    if given.disk_bytes != 0 {
        violations.add(
            "limits.disk_bytes",
            format!(
                "{} means nothing with sandbox_id, since its files are not this execution's alone: leave it out",
                given.disk_bytes
            ),
        );
    }
}

/// 0 is what the proto calls unset.
fn amount<T: Copy + Default + Display + PartialOrd>(
    field: &str,
    given: T,
    default: T,
    max: T,
    violations: &mut Violations,
) -> T {
    if given == T::default() {
        return default;
    }
    if given > max {
        violations.add(
            field,
            format!("{given} is over the pool's maximum of {max}: ask for at most {max}"),
        );
        return max;
    }
    given
}

/// Converted by hand: prost's own conversions overflow at the ends of i64.
pub(super) fn duration(
    field: &str,
    given: Option<prost_types::Duration>,
    default: Duration,
    max: Duration,
    violations: &mut Violations,
) -> Duration {
    const MAX_NANOS: u32 = 999_999_999;

    let prost_types::Duration { seconds, nanos } = given.unwrap_or_default();
    let (Ok(whole_seconds), Ok(part)) = (u64::try_from(seconds), u32::try_from(nanos)) else {
        violations.add(
            field,
            format!(
                "{} is negative: ask for 0s, which is the pool's default of {default:?}, up to {max:?}",
                as_given(seconds, nanos)
            ),
        );
        return max;
    };
    if part > MAX_NANOS {
        violations.add(
            field,
            format!("{part} nanos are over {MAX_NANOS}: carry them into seconds"),
        );
        return max;
    }
    let wanted = Duration::new(whole_seconds, part);
    if wanted.is_zero() {
        return default;
    }
    if wanted > max {
        violations.add(
            field,
            format!("{wanted:?} is over the pool's maximum of {max:?}: ask for at most {max:?}"),
        );
        return max;
    }
    wanted
}

fn as_given(seconds: i64, nanos: i32) -> String {
    match (seconds, nanos) {
        (_, 0) => format!("{seconds}s"),
        (0, _) => format!("{nanos}ns"),
        (_, _) => format!("{seconds}s and {nanos}ns"),
    }
}
