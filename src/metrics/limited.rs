//! At most one line a minute for what the network can trigger at will.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use std::sync::LazyLock;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// One for each kind of line; lives in a `static` or beside what it speaks of.
#[derive(Debug, Default)]
pub struct Limited {
    /// Seconds since the start plus one; 0: never said.
    said: AtomicU64,
    kept_back: AtomicU64,
}

impl Limited {
    pub const fn new() -> Self {
        Self { said: AtomicU64::new(0), kept_back: AtomicU64::new(0) }
    }

    /// Some(n) if the line may be said now; n were kept back since the last.
    pub fn may_say(&self) -> Option<u64> {
        let now = START.elapsed().as_secs() + 1;
        let said = self.said.load(Relaxed);
        let due = said == 0 || now >= said + 60;
        if due && self.said.compare_exchange(said, now, Relaxed, Relaxed).is_ok() {
            return Some(self.kept_back.swap(0, Relaxed));
        }
        self.kept_back.fetch_add(1, Relaxed);
        None
    }
}

/// Says a warning through a [`Limited`], with how many like it were kept back.
#[macro_export]
macro_rules! warn_limited {
    ($limited:expr, $($text:tt)+) => {
        if let Some(kept_back) = $limited.may_say() {
            match kept_back {
                0 => ::tracing::warn!("{}", format_args!($($text)+)),
                n => ::tracing::warn!("{} ({n} more like this since the last time)", format_args!($($text)+)),
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_line_within_the_minute_is_kept_back() {
        let limited = Limited::default();
        assert_eq!(limited.may_say(), Some(0));
        assert_eq!(limited.may_say(), None);
        assert_eq!(limited.may_say(), None);
        limited.said.store(0, Relaxed);
        assert_eq!(limited.may_say(), Some(2));
    }
}
