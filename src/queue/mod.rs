//! Rendered records between the readers and one output. Knows nothing of syslog.
//!
//! A queue is bounded in bytes and is read in two steps: [`Queue::look`] lends chunks to the driver, and only
//! [`Queue::acknowledge`] forgets them. Until then they count as queued, and what is not settled stays with the driver.
//! The lock is held for a few moves and a copy of at most [`COPIED`], once a chunk and never for a message.

mod chunk;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

pub use chunk::{CHUNK_BYTES, Chunk, Record, Run, State};

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
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shed {
    /// Bytes in the queue above which it begins.
    pub above: usize,
    /// Records of this severity number and above go (7: only `debug`).
    pub severity: u8,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Bytes, everything a chunk costs in memory included.
    pub size: usize,
    pub when_full: WhenFull,
    pub shed: Option<Shed>,
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
            closed: false,
        };
        Self { inner: Mutex::new(inner), arrived: Notify::new(), room: Notify::new(), counters: QueueCounters::default() }
    }

    /// Takes the chunk and leaves an empty one in its place. False: the queue is full and its policy is to block; the
    /// chunk stays where it is.
    pub fn push(&self, chunk: &mut Chunk) -> bool {
        let inner = self.lock();
        let fill = inner.fill();
        if let Some(shed) = inner.bounds.shed.filter(|shed| fill > shed.above) {
            self.counters.dropped_shed.add(chunk.shed(shed.severity) as u64);
            if chunk.pending() == 0 {
                chunk.clear();
                return true;
            }
        }
        if inner.blocks(chunk.cost()) {
            return false;
        }
        if inner.closed || inner.is_full(chunk.cost()) {
            let reason = if inner.closed { &self.counters.dropped_stop } else { &self.counters.dropped_full };
            reason.add(chunk.pending() as u64);
            chunk.clear();
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
        if self.lock().blocks(cost) {
            room.await;
        }
    }

    /// Lends what waits, at most `most` bytes of it but at least one chunk. False: the queue is closed and empty.
    /// Cancel-safe: nothing is taken before it returns.
    pub async fn look(&self, batch: &mut Vec<Chunk>, linger: Linger, most: usize) -> bool {
        loop {
            let arrived = self.arrived.notified();
            let lingering = {
                let mut inner = self.lock();
                let enough = linger.enough.min(inner.bounds.comfortable());
                let due = inner.closed || inner.waiting_bytes >= enough || linger.until <= Instant::now();
                if !inner.waiting.is_empty() && due {
                    inner.lend(batch, most);
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
        for mut chunk in batch.extract_if(.., |chunk| chunk.pending() == 0) {
            inner.lent_bytes -= chunk.cost();
            self.counters.delivered.add(chunk.count(State::Delivered) as u64);
            self.counters.dropped_rejected.add(chunk.count(State::Rejected) as u64);
            chunk.clear();
            inner.recycle(chunk);
        }
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

    pub fn configure(&self, bounds: Bounds) {
        self.lock().bounds = bounds;
        self.room.notify_waiters();
    }

    /// Everything that waits is given up; how many records that were.
    pub fn abandon(&self) -> usize {
        let mut inner = self.lock();
        let records = inner.waiting.drain(..).map(|chunk| chunk.pending()).sum();
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
        self.bounds.when_full == WhenFull::Block && !self.closed && self.is_full(cost)
    }

    fn lend(&mut self, batch: &mut Vec<Chunk>, most: usize) {
        let mut bytes = 0;
        while let Some(chunk) = self.waiting.front() {
            if bytes > 0 && bytes + chunk.cost() > most {
                break;
            }
            bytes += chunk.cost();
            batch.extend(self.waiting.pop_front());
        }
        self.waiting_bytes -= bytes;
        self.lent_bytes += bytes;
        self.wanted = usize::MAX;
    }

    /// Little is copied behind what waits already, so that an output finds few large chunks; much changes hands.
    fn append(&mut self, chunk: &mut Chunk) {
        match self.waiting.back_mut() {
            Some(last) if chunk.cost() <= COPIED && last.cost() + chunk.cost() <= CHUNK_BYTES => last.append(chunk),
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

impl Linger {
    /// As soon as anything is there.
    pub fn not_at_all() -> Self {
        Self { enough: 1, until: Instant::now() }
    }

    pub fn for_up_to(time: Duration, enough: usize) -> Self {
        Self { enough, until: Instant::now() + time }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn chunk(texts: &[&str], severity: u8) -> Chunk {
        let mut chunk = Chunk::default();
        for text in texts {
            chunk.add(b"", text.as_bytes(), severity);
        }
        chunk
    }

    fn queue(size: usize, when_full: WhenFull) -> Arc<Queue> {
        Arc::new(Queue::new(Bounds { size, when_full, shed: None }))
    }

    async fn looked(queue: &Queue) -> Vec<Chunk> {
        let mut batch = Vec::new();
        assert!(queue.look(&mut batch, Linger::not_at_all(), usize::MAX).await);
        batch
    }

    #[tokio::test]
    async fn little_is_put_together_and_counts_until_it_is_acknowledged() {
        let queue = queue(1 << 20, WhenFull::Block);
        for text in ["a", "b"] {
            assert!(queue.push(&mut chunk(&[text], 6)));
        }
        let mut batch = looked(&queue).await;
        assert!(queue.push(&mut chunk(&["c"], 6)));
        queue.lend_now(&mut batch, usize::MAX);
        let texts: Vec<_> = batch.iter().map(|chunk| chunk.bytes.clone()).collect();
        assert_eq!(texts, [b"ab".to_vec(), b"c".to_vec()], "what is lent is left alone");
        batch[1].settle_all();
        queue.acknowledge(&mut batch);
        assert_eq!((batch.len(), queue.fill(), queue.counters.delivered.get()), (1, batch[0].cost(), 1));
        batch[0].settle_all();
        queue.acknowledge(&mut batch);
        assert_eq!((queue.fill(), queue.counters.delivered.get()), (0, 3));
    }

    /// Neither readers nor the shedding must wait for a driver that waits for more than the queue may hold.
    #[tokio::test(start_paused = true)]
    async fn a_lingering_driver_wants_no_more_than_half_of_what_fits() {
        for shed in [None, Some(Shed { above: 30_000, severity: 7 })] {
            let queue = Queue::new(Bounds { size: 40_000, when_full: WhenFull::Block, shed });
            let (mut batch, start) = (Vec::new(), Instant::now());
            for _ in 0..3 {
                assert!(queue.push(&mut chunk(&["x".repeat(7_000).as_str()], 6)));
            }
            assert!(queue.look(&mut batch, Linger::for_up_to(Duration::from_secs(9), 1 << 20), usize::MAX).await);
            assert_eq!(start.elapsed(), Duration::ZERO);
        }
    }

    #[tokio::test]
    async fn a_full_queue_blocks_or_drops_as_it_is_told() {
        let blocking = queue(300, WhenFull::Block);
        let text = "x".repeat(200);
        assert!(blocking.push(&mut chunk(&[&text], 6)));
        let mut second = chunk(&[&text], 6);
        assert!(!blocking.push(&mut second));
        assert_eq!(second.pending(), 1, "a refused chunk keeps its records");
        let waiting = tokio::spawn({
            let queue = blocking.clone();
            async move { queue.room(200).await }
        });
        let mut batch = looked(&blocking).await;
        tokio::task::yield_now().await;
        batch.iter_mut().for_each(Chunk::settle_all);
        blocking.acknowledge(&mut batch);
        waiting.await.expect("the reader goes on");
        assert!(blocking.push(&mut second));

        let dropping = queue(300, WhenFull::DropNewest);
        for _ in 0..3 {
            assert!(dropping.push(&mut chunk(&[&text], 6)));
        }
        assert_eq!(dropping.counters.dropped_full.get(), 2);
        assert_eq!(looked(&dropping).await.len(), 1);
    }

    /// A reader that was told there is room while its chunk did not fit would turn in circles.
    #[tokio::test]
    async fn room_is_room_for_the_very_chunk_that_waits() {
        let queue = queue(300, WhenFull::Block);
        assert!(queue.push(&mut chunk(&[&"x".repeat(150)], 6)));
        let mut large = chunk(&[&"x".repeat(150)], 6);
        assert!(!queue.push(&mut large));
        let cost = large.cost();
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.room(cost).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "a smaller one would fit");
        let mut batch = looked(&queue).await;
        batch.iter_mut().for_each(Chunk::settle_all);
        queue.acknowledge(&mut batch);
        waiting.await.expect("it goes on");
        assert!(queue.push(&mut large));
    }

    #[tokio::test]
    async fn above_the_mark_only_the_severe_are_taken() {
        let queue = queue(1 << 20, WhenFull::Block);
        queue.configure(Bounds { size: 1 << 20, when_full: WhenFull::Block, shed: Some(Shed { above: 10, severity: 6 }) });
        assert!(queue.push(&mut chunk(&["first"], 7)));
        assert!(queue.push(&mut chunk(&["debug"], 7)));
        assert!(queue.push(&mut chunk(&["error"], 3)));
        assert_eq!(queue.counters.dropped_shed.get(), 1);
        let kept: usize = looked(&queue).await.iter().map(Chunk::pending).sum();
        assert_eq!(kept, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lingering_driver_is_woken_by_enough_or_by_time() {
        let queue = queue(1 << 20, WhenFull::Block);
        let looking = |linger| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let mut batch = Vec::new();
                queue.look(&mut batch, linger, usize::MAX).await.then_some(batch.len())
            })
        };
        let by_time = looking(Linger::for_up_to(Duration::from_millis(100), 1 << 20));
        tokio::task::yield_now().await;
        assert!(queue.push(&mut chunk(&["a"], 6)));
        assert_eq!(by_time.await.expect("no panic"), Some(1));
        let by_size = looking(Linger::for_up_to(Duration::from_secs(3600), 400));
        tokio::task::yield_now().await;
        for _ in 0..5 {
            assert!(queue.push(&mut chunk(&[&"x".repeat(100)], 6)));
        }
        assert!(by_size.await.expect("no panic").is_some());
        queue.close();
        let mut rest = Vec::new();
        while queue.look(&mut rest, Linger::not_at_all(), usize::MAX).await {}
    }
}
