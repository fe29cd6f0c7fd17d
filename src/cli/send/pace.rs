//! When which message is due: arithmetic on the time since the start, so that no error adds up.
//!
//! The timer of the runtime wakes at whole milliseconds; what became due meanwhile goes in one batch. A sender that was
//! held up makes up for it.

use std::time::Duration;

const SECOND: u128 = 1_000_000_000;

pub(super) struct Pace {
    /// Messages a second, at least one; None: no bound.
    rate: Option<u64>,
}

impl Pace {
    pub(super) fn new(rate: Option<u64>) -> Self {
        Self { rate: rate.map(|rate| rate.max(1)) }
    }

    /// How many messages are to be sent within that time; the first is due at once.
    pub(super) fn due(&self, elapsed: Duration) -> u64 {
        let Some(rate) = self.rate else { return u64::MAX };
        let due = elapsed.as_nanos().saturating_mul(u128::from(rate)) / SECOND;
        u64::try_from(due).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// When the message after the first `sent` is due, from the start.
    pub(super) fn moment(&self, sent: u64) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        let nanos = (u128::from(sent) * SECOND).div_ceil(u128::from(rate));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_evenly() {
        let pace = Pace::new(Some(10));
        let due = |millis| pace.due(Duration::from_millis(millis));
        assert_eq!([due(0), due(99), due(100), due(950), due(1000)], [1, 1, 2, 10, 11]);
        assert_eq!([pace.moment(0), pace.moment(1), pace.moment(10)], [0, 100, 1000].map(Duration::from_millis));
        assert_eq!(Pace::new(Some(300_000)).due(Duration::from_millis(1)), 301);
        assert_eq!(Pace::new(None).due(Duration::ZERO), u64::MAX);
    }

    #[test]
    fn at_its_moment_a_message_is_due() {
        for rate in [1, 3, 7, 299_999, 300_000, u64::MAX] {
            let pace = Pace::new(Some(rate));
            for sent in [0, 1, 2, 1000, 999_999_999] {
                assert!(pace.due(pace.moment(sent)) > sent, "{sent} at {rate}/s");
            }
        }
    }
}
