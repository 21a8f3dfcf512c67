//! How long to wait before the next attempt.

use std::time::Duration;

/// Gives a number from 0 to 1. Passed in, so that tests know it.
pub(crate) type Jitter = fn() -> f64;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// The delay after the `failures`th failure in a row: doubled each time, 0.5 s to 30 s, and up to
/// a quarter less, so that what failed together is not retried together.
pub(super) fn delay(failures: u32, jitter: Jitter) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let full = LONGEST.min(FIRST * (1 << doublings));
    full.mul_f64(1.0 - 0.25 * jitter().clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_up_to_half_a_minute() {
        let delays: Vec<_> = (1..=8).map(|n| delay(n, || 0.0).as_millis()).collect();
        assert_eq!(
            delays,
            [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]
        );
        assert_eq!(delay(u32::MAX, || 1.0), Duration::from_millis(22_500));
    }
}
