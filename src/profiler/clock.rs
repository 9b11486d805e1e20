//! The one clock of a trace. Host ranges read it, and the device's records are converted to it.

use std::fmt;
use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The clock's zero, by the monotonic clock and by the wall clock.
static ZERO: LazyLock<(Instant, SystemTime)> =
    LazyLock::new(|| (Instant::now(), SystemTime::now()));

/// Nanoseconds since the clock's zero.
///
/// Displayed as a trace has it: microseconds with three decimals. An absolute count of
/// nanoseconds would not survive its readers' doubles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let nanoseconds = ZERO.0.elapsed().as_nanos();
        Self(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// From `earlier` to `self`; zero when it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// Sets the zero, unless it is set.
pub fn start() {
    LazyLock::force(&ZERO);
}

/// The wall clock at the zero, in nanoseconds since 1970.
#[must_use]
pub fn zero_since_epoch_ns() -> u64 {
    let since_epoch = ZERO.1.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_have_three_decimals() {
        for (nanoseconds, text) in [(0, "0.000"), (1, "0.001"), (1_000_050, "1000.050")] {
            assert_eq!(Timestamp(nanoseconds).to_string(), text);
        }
        assert_eq!(Timestamp(5).since(Timestamp(3)), Timestamp(2));
        assert_eq!(Timestamp(3).since(Timestamp(5)), Timestamp(0));
    }

    #[test]
    fn the_clock_agrees_with_the_wall_clock() {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970");
        let clock = zero_since_epoch_ns() + Timestamp::now().0;
        assert!(u128::from(clock).abs_diff(wall.as_nanos()) < 1_000_000_000);
    }
}
