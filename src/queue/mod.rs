//! Rendered records between the readers and one output. Knows nothing of syslog.
//!
//! A queue is bounded in bytes and is read in two steps: [`Queue::look`] lends chunks to the driver, and only
//! [`Queue::acknowledge`] forgets them. Until then they count as queued, and what is not settled stays with the driver.
//! The lock is held for a few moves and a copy of at most [`COPIED`], once a chunk and never for a message.

mod chunk;
pub mod disk;
mod receipt;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use chunk::ONE_AGE;
pub use chunk::{Answer, CHUNK_BYTES, Chunk, Record, Run, State};
pub use receipt::{Acceptance, Receipt};

use crate::metrics::QueueCounters;

/// What happens to what comes when the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The reader waits, and a stream's sender with it.
    Block,
    /// What comes is dropped and counted.
    DropNewest,
}

/// Above a fill level the less severe records are dropped, so that the severe ones still find room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shed {
    /// Bytes in the queue above which it begins.
    pub above: usize,
    /// Records of this severity number and above go (7: only `debug`).
    pub severity: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes, everything a chunk costs in memory included.
    pub size: usize,
    pub when_full: WhenFull,
    /// For so long a full queue makes its readers wait before anything is dropped: relief is near, or it is not.
    pub patience: Duration,
    pub shed: Option<Shed>,
    /// What has waited for so long is given up.
    pub deadline: Option<Duration>,
}

/// When the driver wants to be woken: at once, or as soon as it pays.
#[derive(Clone, Copy, Debug)]
pub struct Linger {
    /// This many bytes are worth a delivery at any time …
    pub enough: usize,
    /// … and any number is after this moment.
    pub until: Instant,
}

impl Bounds {
    /// Without patience, shedding and deadline.
    pub fn new(size: usize, when_full: WhenFull) -> Self {
        Self { size, when_full, patience: Duration::ZERO, shed: None, deadline: None }
    }

    /// Nobody waits for more than this: a queue that lingers must neither fill nor shed.
    fn comfortable(&self) -> usize {
        self.shed.map_or(self.size, |shed| shed.above.min(self.size)) / 2
    }
}

#[derive(Debug)]
pub struct Queue {
    inner: Mutex<Inner>,
    /// The driver waits on this.
    arrived: Notify,
    /// Blocked readers wait on this.
    room: Notify,
    pub counters: QueueCounters,
}

#[derive(Debug)]
struct Inner {
    bounds: Bounds,
    waiting: VecDeque<Chunk>,
    /// Cost of `waiting`.
    waiting_bytes: usize,
    /// Cost of what has been lent to the driver and is not acknowledged.
    lent_bytes: usize,
    /// Bytes from which on the driver wants to be woken; usize::MAX while it does not wait.
    wanted: usize,
    /// Emptied chunks, to be filled again without asking the allocator; at most [`SPARE`].
    spare: Vec<Chunk>,
    /// When a chunk was first refused since anything has left the queue.
    full_since: Option<Instant>,
    closed: bool,
}

/// A chunk of up to this is copied: cheaper than what one more chunk costs on its way.
const COPIED: usize = 16 << 10;
/// 32 × 128 KiB: what a busy output has on its way at a time.
const SPARE: usize = 32;

impl Queue {
    pub fn new(bounds: Bounds) -> Self {
        let inner = Inner {
            bounds,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            lent_bytes: 0,
            wanted: usize::MAX,
            spare: Vec::new(),
            full_since: None,
            closed: false,
        };
        Self { inner: Mutex::new(inner), arrived: Notify::new(), room: Notify::new(), counters: QueueCounters::default() }
    }

    /// Takes the chunk and leaves an empty one in its place. False: the queue is full and its policy is to block; the
    /// chunk stays where it is.
    pub fn push(&self, chunk: &mut Chunk) -> bool {
        chunk.accepted = now();
        let mut inner = self.lock();
        let fill = inner.fill();
        if let Some(shed) = inner.bounds.shed.filter(|shed| fill > shed.above) {
            self.counters.dropped_shed.add(chunk.shed(shed.severity) as u64);
            if chunk.pending() == 0 {
                chunk.clear();
                return true;
            }
        }
        if inner.blocks(chunk.cost()) {
            inner.full_since.get_or_insert_with(Instant::now);
            return false;
        }
        if inner.closed || inner.is_full(chunk.cost()) {
            if inner.closed {
                self.counters.dropped_stop.add(chunk.pending() as u64);
                chunk.lose();
            } else {
                self.counters.dropped_full.add(chunk.pending() as u64);
                chunk.clear();
            }
            return true;
        }
        self.take(inner, chunk);
        true
    }

    /// Takes the chunk whatever the bounds say: its readers turn to another pipeline, and nobody would bring it again.
    pub fn push_anyway(&self, chunk: &mut Chunk) {
        self.take(self.lock(), chunk);
    }

    fn take(&self, mut inner: MutexGuard<'_, Inner>, chunk: &mut Chunk) {
        self.counters.queued.add(chunk.pending() as u64);
        self.counters.handovers.add(1);
        let cost = chunk.cost();
        inner.append(chunk);
        inner.waiting_bytes += cost;
        self.counters.bytes.set(inner.fill() as u64);
        if inner.waiting_bytes >= inner.wanted {
            inner.wanted = usize::MAX;
            drop(inner);
            self.counters.wakeups.add(1);
            self.arrived.notify_one();
        }
    }

    /// Returns when a chunk of this cost may find room; the caller tries again.
    pub async fn room(&self, cost: usize) {
        let room = self.room.notified();
        tokio::pin!(room);
        room.as_mut().enable();
        let patience = {
            let inner = self.lock();
            if !inner.blocks(cost) {
                return;
            }
            inner.patience_ends()
        };
        match patience {
            Some(end) => drop(timeout_at(end, room).await),
            None => room.await,
        }
    }

    /// Lends what waits, at most `most` bytes of it but at least one chunk. False: the queue is closed and empty.
    /// Cancel-safe: nothing is taken before it returns.
    pub async fn look(&self, batch: &mut Vec<Chunk>, linger: Linger, most: usize) -> bool {
        let more = self.gathered(linger).await;
        if more {
            self.lend_now(batch, most);
        }
        more
    }

    /// Returns when there is something worth taking. False: the queue is closed and empty.
    pub async fn gathered(&self, linger: Linger) -> bool {
        loop {
            let arrived = self.arrived.notified();
            let lingering = {
                let mut inner = self.lock();
                let enough = linger.enough.min(inner.bounds.comfortable());
                let due = inner.closed || inner.waiting_bytes >= enough || linger.until <= Instant::now();
                if !inner.waiting.is_empty() && due {
                    return true;
                }
                if inner.closed {
                    return false;
                }
                inner.wanted = if due { 1 } else { enough };
                !due
            };
            if lingering {
                // Past the moment any number of bytes will do.
                let _ = timeout_at(linger.until, arrived).await;
            } else {
                arrived.await;
            }
        }
    }

    /// Lends what waits at this moment, without waiting for more.
    pub fn lend_now(&self, batch: &mut Vec<Chunk>, most: usize) {
        self.lock().lend(batch, most);
    }

    /// The chunks that are settled are forgotten and their memory used again; the others stay in the batch.
    pub fn acknowledge(&self, batch: &mut Vec<Chunk>) {
        let mut inner = self.lock();
        for mut chunk in batch.extract_if(.., |chunk| chunk.open() == 0) {
            inner.lent_bytes -= chunk.lent;
            self.count_settled(&chunk);
            chunk.clear();
            inner.recycle(chunk);
        }
        self.made_room(inner);
    }

    /// The records that are settled are counted and leave the chunks.
    pub fn compact(&self, batch: &mut [Chunk]) {
        for chunk in batch {
            self.count_settled(chunk);
            chunk.forget_settled();
        }
    }

    fn count_settled(&self, chunk: &Chunk) {
        self.counters.delivered.add(chunk.count(State::Delivered) as u64);
        self.counters.dropped_rejected.add(chunk.count(State::Rejected) as u64);
        self.counters.dropped_expired.add(chunk.count(State::Expired) as u64);
    }

    /// Drops what is less severe, and counts it.
    pub fn shed(&self, batch: &mut [Chunk], severity: u8) {
        let shed: usize = batch.iter_mut().map(|chunk| chunk.shed(severity)).sum();
        self.counters.dropped_shed.add(shed as u64);
    }

    /// The chunks are kept somewhere else: here they are forgotten.
    pub fn release(&self, chunks: impl Iterator<Item = Chunk>) {
        let mut inner = self.lock();
        for mut chunk in chunks {
            inner.lent_bytes -= chunk.lent;
            chunk.clear();
            inner.recycle(chunk);
        }
        self.made_room(inner);
    }

    /// What was lent last waits again, in its old place.
    pub fn give_back(&self, chunks: impl DoubleEndedIterator<Item = Chunk>) {
        let mut inner = self.lock();
        for mut chunk in chunks.rev() {
            let cost = std::mem::take(&mut chunk.lent);
            inner.lent_bytes -= cost;
            inner.waiting_bytes += cost;
            inner.waiting.push_front(chunk);
        }
    }

    fn made_room(&self, mut inner: MutexGuard<'_, Inner>) {
        inner.full_since = None;
        self.counters.bytes.set(inner.fill() as u64);
        drop(inner);
        self.room.notify_waiters();
    }

    /// Nothing more comes: the driver ends when the queue is empty, and blocked readers go on (what they still bring is
    /// counted as dropped).
    pub fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
        self.room.notify_waiters();
    }

    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub fn configure(&self, bounds: Bounds) {
        self.lock().bounds = bounds;
        self.room.notify_waiters();
    }

    pub fn deadline(&self) -> Option<Duration> {
        self.lock().bounds.deadline
    }

    pub fn set_patience(&self, patience: Duration) {
        self.lock().bounds.patience = patience;
        self.room.notify_waiters();
    }

    /// Everything that waits is given up; how many records that were.
    pub fn abandon(&self) -> usize {
        let mut inner = self.lock();
        let mut records = 0;
        for mut chunk in inner.waiting.drain(..) {
            records += chunk.pending();
            chunk.lose();
        }
        inner.waiting_bytes = 0;
        records
    }

    /// Bytes in the queue, lent ones included.
    pub fn fill(&self) -> usize {
        self.lock().fill()
    }

    /// Nothing that is done under the lock panics; if it did, the chunks would still be whole.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        match self.inner.try_lock() {
            Ok(inner) => inner,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.counters.lock_waits.add(1);
                self.inner.lock().unwrap_or_else(PoisonError::into_inner)
            }
        }
    }
}

impl Inner {
    fn fill(&self) -> usize {
        self.waiting_bytes + self.lent_bytes
    }

    /// A chunk that is larger than the whole queue passes when the queue is empty, or it would wait for ever.
    fn is_full(&self, cost: usize) -> bool {
        self.fill() > 0 && self.fill() + cost > self.bounds.size
    }

    fn blocks(&self, cost: usize) -> bool {
        !self.closed && self.is_full(cost) && self.patience_ends().is_none_or(|end| Instant::now() < end)
    }

    /// None: never.
    fn patience_ends(&self) -> Option<Instant> {
        let since = || self.full_since.unwrap_or_else(Instant::now);
        (self.bounds.when_full == WhenFull::DropNewest).then(|| since() + self.bounds.patience)
    }

    fn lend(&mut self, batch: &mut Vec<Chunk>, most: usize) {
        let mut bytes = 0;
        while let Some(chunk) = self.waiting.front() {
            if bytes > 0 && bytes + chunk.cost() > most {
                break;
            }
            let cost = chunk.cost();
            bytes += cost;
            batch.extend(self.waiting.pop_front());
            if let Some(chunk) = batch.last_mut() {
                chunk.lent = cost;
            }
        }
        self.waiting_bytes -= bytes;
        self.lent_bytes += bytes;
        self.wanted = usize::MAX;
    }

    /// Little is copied behind what waits already, so that an output finds few large chunks; much changes hands.
    fn append(&mut self, chunk: &mut Chunk) {
        match self.waiting.back_mut() {
            Some(last)
                if last.form == chunk.form
                    && chunk.accepted.abs_diff(last.accepted) <= ONE_AGE
                    && chunk.cost() <= COPIED
                    && last.cost() + chunk.cost() <= CHUNK_BYTES =>
            {
                last.append(chunk)
            }
            _ => {
                let taken = std::mem::replace(chunk, self.spare.pop().unwrap_or_default());
                self.waiting.push_back(taken);
            }
        }
    }

    fn recycle(&mut self, chunk: Chunk) {
        if self.spare.len() < SPARE && chunk.is_worth_keeping() {
            self.spare.push(chunk);
        }
    }
}

/// Seconds since 1970.
fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX - ONE_AGE)
}

impl Linger {
    /// As soon as anything is there.
    pub fn not_at_all() -> Self {
        Self { enough: 1, until: Instant::now() }
    }

    pub fn for_up_to(time: Duration, enough: usize) -> Self {
        Self { enough, until: Instant::now() + time }
    }
}
