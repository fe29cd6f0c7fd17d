//! What is counted. One struct for each part, owned by the part; the exposition reads them when it is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::message::Grammar;

/// Relaxed: nobody draws conclusions from two counters at a time.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        if n > 0 {
            self.0.fetch_add(n, Relaxed);
        }
    }

    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Relaxed);
    }

    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How a request for an input was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// 200: every output has what it brought.
    Accepted,
    /// 400, 408, 415, 422: it is no good.
    Bad,
    /// 429: there is no room.
    Full,
    /// 409, 503: the outputs do not have it yet, or the server is stopping.
    Late,
    /// 413
    TooLarge,
    /// 401
    Unauthorized,
    /// 404, 405: nothing is taken there.
    Unknown,
}

impl Answered {
    pub const ALL: [Self; 7] =
        [Self::Accepted, Self::Bad, Self::Full, Self::Late, Self::TooLarge, Self::Unauthorized, Self::Unknown];

    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Bad => "bad",
            Self::Full => "full",
            Self::Late => "late",
            Self::TooLarge => "too-large",
            Self::Unauthorized => "unauthorized",
            Self::Unknown => "unknown",
        }
    }
}

#[derive(Debug, Default)]
pub struct InputCounters {
    pub messages: Counter,
    pub bytes: Counter,
    /// By [`Grammar::ALL`].
    pub grammars: [Counter; Grammar::ALL.len()],
    pub truncated: Counter,
    pub miscounted: Counter,
    /// Records that are not plain data, or none at all: shown as text.
    pub foreign: Counter,
    /// Datagrams that the kernel dropped for want of room in the receive buffer.
    pub kernel_drops: Counter,
    pub unrouted: Counter,
    /// Requests by what they were answered.
    pub requests: [Counter; Answered::ALL.len()],
    pub repeated: Counter,
    /// Open now.
    pub connections: Counter,
    pub connections_total: Counter,
    /// Not let in: by the allow-list, by the limit, in the handshake.
    pub refused_allow: Counter,
    pub refused_limit: Counter,
    pub refused_tls: Counter,
}

/// What happened to an output's records up to their acknowledgement.
#[derive(Debug, Default)]
pub struct QueueCounters {
    pub queued: Counter,
    pub delivered: Counter,
    pub dropped_full: Counter,
    pub dropped_rejected: Counter,
    pub dropped_expired: Counter,
    pub dropped_shed: Counter,
    pub dropped_stop: Counter,
    /// In the queue now.
    pub bytes: Counter,
    /// Times that a reader handed records over, and of these how often the output had to be woken.
    pub handovers: Counter,
    pub wakeups: Counter,
    /// Times that somebody else had the lock.
    pub lock_waits: Counter,
    pub disk: Arc<DiskCounters>,
}

/// A queue's part on disk; all zero where it has none.
#[derive(Debug, Default)]
pub struct DiskCounters {
    /// Records written to it.
    pub stored: Counter,
    /// Records that should be there and are not: damage, or a process that was killed had them in memory only.
    pub missing: Counter,
    /// In it now.
    pub records: Counter,
    pub bytes: Counter,
}

#[derive(Debug, Default)]
pub struct OutputCounters {
    /// Deliveries that failed and were tried again.
    pub retries: Counter,
    /// 1 while the last delivery has failed.
    pub failing: Counter,
    /// Records that could not go where they should and were written to the fall-back file.
    pub redirected: Counter,
}

#[derive(Debug, Default)]
pub struct DaemonCounters {
    pub reloads: Counter,
    pub reloads_failed: Counter,
}
