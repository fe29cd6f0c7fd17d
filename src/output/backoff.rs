//! Waiting longer and longer, and never all at once.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// Exponential, with jitter of a quarter, so that outputs which failed together do not come back together.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(super) fn next(&mut self) -> Duration {
        let base = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures += 1;
        base.mul_f64(0.75 + fastrand::f64() / 2.0)
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_half_a_minute_and_start_again() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..20).map(|_| backoff.next()).collect();
        assert!(waits[0] < Duration::from_millis(150) && waits[5] > waits[0]);
        assert!(waits.iter().all(|wait| *wait < Duration::from_secs(38)) && waits[19] > Duration::from_secs(20));
        backoff.reset();
        assert!(backoff.next() < Duration::from_millis(150));
    }
}
