//! Who has to be told that messages are safe.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Goes with every chunk that has one of some messages. When the last of them is dropped, each queue that took a message
/// has delivered it, has it on disk, or has dropped it by its policy.
pub struct Receipt {
    safe: Arc<AtomicBool>,
    /// Some of the messages were given up at a stop: whoever has sent them keeps them.
    lost: AtomicBool,
    waiting: Arc<Notify>,
}

/// The other end of a receipt.
#[derive(Clone, Debug)]
pub struct Acceptance(Arc<AtomicBool>);

impl Receipt {
    /// `waiting` is told when it is time to look.
    pub fn new(waiting: Arc<Notify>) -> (Arc<Self>, Acceptance) {
        let safe = Arc::new(AtomicBool::new(false));
        (Arc::new(Self { safe: safe.clone(), lost: AtomicBool::new(false), waiting }), Acceptance(safe))
    }

    pub(super) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.safe.store(!self.lost.load(Ordering::Acquire), Ordering::Release);
        self.waiting.notify_one();
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipt")
    }
}

impl Acceptance {
    /// All of the messages are safe.
    pub fn is_given(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
