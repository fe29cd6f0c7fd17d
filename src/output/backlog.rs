//! What an output has still to deliver, in order: in its hands, on disk, in memory.
//!
//! Without a disk this is the queue in memory. With one, records go to the disk as soon as the destination falls behind
//! (`overflow`), or before they are delivered (`always`); while anything is there, what is in memory comes after it.
//! docs/queue.md has the table of states.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::dead_letters::DeadLetters;
use super::queue_config::PATIENCE;
use crate::metrics::Limited;
use crate::queue::disk::{Disk, Trouble};
use crate::queue::{Chunk, Linger, Queue, Shed};
use crate::warn_limited;

/// Lent or read at a time.
pub(super) const MOST: usize = 4 << 20;
/// When nothing has arrived for longer, that is no reason to keep in memory what has come meanwhile.
pub(super) const BEHIND: Duration = Duration::from_secs(1);
/// While nothing can be delivered, so much or so long is gathered for one write.
const GATHERED: usize = 256 << 10;
const GATHERING: Duration = Duration::from_millis(5);
/// A disk that refused is not asked again before this.
const REST: Duration = Duration::from_secs(1);
/// Out of descriptors: what is on disk is read a little later.
const READ_AGAIN: Duration = Duration::from_millis(100);

/// When records are written to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// When the destination falls behind, and at a stop.
    Overflow,
    /// All of them, before they are delivered.
    Always,
}

pub(super) struct Backlog {
    pub(super) name: Arc<str>,
    pub(super) queue: Arc<Queue>,
    pub(super) store: Option<Store>,
    pub(super) letters: DeadLetters,
    pub(super) log: Limited,
}

/// The part on disk.
pub struct Store {
    pub disk: Disk,
    pub mode: Mode,
    /// In octets on disk.
    pub shed: Option<Shed>,
    /// The numbers of what is in the output's hands and not on disk, when something is on disk that comes after it.
    hands: Option<Range<u64>>,
    /// When the disk has refused records.
    refused: Option<Instant>,
}

impl Store {
    pub fn new(disk: Disk, mode: Mode, shed: Option<Shed>) -> Self {
        Self { disk, mode, shed, hands: None, refused: None }
    }
}

/// How many records of the batch are in memory only.
pub(super) fn unstored(batch: &[Chunk]) -> u64 {
    batch.iter().filter(|chunk| chunk.stored.is_none()).map(|chunk| chunk.open() as u64).sum()
}

impl Backlog {
    /// Adds to a batch of which everything has gone. False: nothing is left and nothing more comes. Cancel-safe.
    pub(super) async fn fill(&mut self, batch: &mut Vec<Chunk>, linger: Linger) -> bool {
        while batch.iter().all(|chunk| chunk.pending() == 0) {
            if self.is_behind() {
                if unstored(batch) > 0 {
                    // Until they have arrived or are on disk: their numbers come before those that are read.
                    return std::future::pending().await;
                }
                if !self.read(batch, MOST) {
                    sleep(READ_AGAIN).await;
                }
            } else if self.queue.look(batch, linger, MOST).await {
                if self.store.as_ref().is_some_and(|store| store.mode == Mode::Always) {
                    self.secure(batch);
                }
            } else {
                return false;
            }
        }
        true
    }

    /// More of what is there, behind what the batch has.
    pub(super) fn extend(&mut self, batch: &mut Vec<Chunk>, most: usize) {
        if !self.is_behind() {
            self.queue.lend_now(batch, most);
        } else if unstored(batch) == 0 {
            self.read(batch, most);
        }
    }

    /// Something on disk has not been read.
    fn is_behind(&self) -> bool {
        self.store.as_ref().is_some_and(|store| store.disk.unread() > 0)
    }

    /// False: not now.
    fn read(&mut self, batch: &mut Vec<Chunk>, most: usize) -> bool {
        let Some(store) = &mut self.store else { return true };
        match store.disk.read(batch, most) {
            Ok((_, 0)) => true,
            Ok((_, missing)) => {
                warn_limited!(
                    self.log,
                    "output `{}`: {missing} messages are missing in its queue on disk: the disk is damaged, or a server that \
                     was killed had them in memory only",
                    self.name
                );
                true
            }
            Err(error) => {
                warn_limited!(self.log, "output `{}`: cannot read its queue: {}", self.name, crate::sys::reason(&error));
                false
            }
        }
    }

    /// Octets that wait, in memory and on disk.
    pub(super) fn weight(&self) -> u64 {
        self.queue.fill() as u64 + self.queue.counters.disk.bytes.get()
    }

    /// What is settled is forgotten everywhere.
    pub(super) fn acknowledge(&mut self, batch: &mut Vec<Chunk>) {
        self.letters.keep(&self.name, batch);
        if let Some(store) = &mut self.store {
            if unstored(batch) == 0 {
                store.hands = None;
            }
            match batch.iter().find_map(|chunk| Some((chunk, chunk.unsettled().next()?.0))) {
                Some((chunk, index)) => drop(chunk.stored.map(|first| store.disk.settled(first + index as u64))),
                None => store.disk.settled(store.disk.position()),
            }
        }
        self.queue.acknowledge(batch);
    }

    /// Puts on disk what of the batch is not there; the batch goes on as it is. What cannot be put there stays in memory.
    pub(super) fn secure(&mut self, batch: &mut [Chunk]) {
        if self.store.is_none() || unstored(batch) == 0 || (self.rests() && !self.queue.is_closed()) {
            return;
        }
        // What is on disk was read before, or not at all: it stands in front.
        let first = batch.iter().position(|chunk| chunk.stored.is_none() && chunk.open() > 0);
        let batch = &mut batch[first.unwrap_or(0)..];
        self.letters.keep(&self.name, batch);
        self.queue.compact(batch);
        let Some(store) = &mut self.store else { return };
        let result = match &store.hands {
            Some(numbers) => store.disk.put(numbers, batch),
            None => {
                let result = store.disk.append(batch);
                store.disk.pass_over();
                result
            }
        };
        if unstored(batch) == 0 {
            store.hands = None;
        }
        self.judge(result);
    }

    /// The disk has refused records a moment ago.
    fn rests(&self) -> bool {
        self.store.as_ref().is_some_and(|store| store.refused.is_some_and(|refused| refused.elapsed() < REST))
    }

    /// Returns when what waits in memory should be put on disk: while `in_hands` are being delivered since some moment,
    /// or cannot be delivered.
    pub(super) async fn pressed(&self, since: Instant, fails: bool) {
        let Some(store) = &self.store else { return std::future::pending().await };
        if let Some(refused) = store.refused {
            sleep_until(refused + REST).await;
        }
        let linger = match store.mode {
            Mode::Always => Linger::not_at_all(),
            Mode::Overflow if fails || since.elapsed() > BEHIND => Linger::for_up_to(GATHERING, GATHERED),
            Mode::Overflow => Linger { enough: usize::MAX, until: since + BEHIND },
        };
        if !self.queue.gathered(linger).await {
            std::future::pending().await
        }
    }

    /// Puts on disk what waits in memory, behind what is in the output's hands; so many of those are not on disk.
    pub(super) fn absorb(&mut self, in_hands: u64) {
        let Some(store) = &mut self.store else { return };
        let mut taken = Vec::new();
        self.queue.lend_now(&mut taken, MOST);
        if let Some(shed) = store.shed.filter(|shed| self.queue.counters.disk.bytes.get() > shed.above as u64) {
            self.queue.shed(&mut taken, shed.severity);
        }
        if in_hands > 0 && store.hands.is_none() {
            store.hands = Some(store.disk.reserve(in_hands));
        }
        let result = store.disk.append(&mut taken);
        if let Some(numbers) = &store.hands
            && store.disk.unread() == 0
            && store.disk.unreserve(numbers)
        {
            store.hands = None;
        }
        let stored = taken.iter().take_while(|chunk| chunk.stored.is_some() || chunk.pending() == 0).count();
        let refused = taken.split_off(stored);
        self.queue.release(taken.into_iter());
        self.queue.give_back(refused.into_iter());
        self.judge(result);
    }

    /// A disk that takes nothing leaves it to `when-full`, and is asked again.
    fn judge(&mut self, result: Result<(), Trouble>) {
        let Some(store) = &mut self.store else { return };
        match result {
            Ok(()) => {
                if store.refused.take().is_some() {
                    self.queue.set_patience(PATIENCE);
                }
            }
            Err(trouble) => {
                if store.refused.replace(Instant::now()).is_none() {
                    self.queue.set_patience(Duration::ZERO);
                }
                warn_limited!(
                    self.log,
                    "output `{}`: its queue on disk takes no more: {trouble}; what comes stays in memory, and `when-full` holds",
                    self.name
                );
            }
        }
    }

    /// The end is near and not everything can be delivered before it: what there is belongs on disk.
    pub(super) fn is_to_be_parked(&self, fails: bool) -> bool {
        self.store.is_some() && self.queue.is_closed() && (fails || self.is_behind())
    }

    /// Leaves everything for the next start; how many records cannot be.
    pub(super) fn park(&mut self, batch: &mut Vec<Chunk>) -> usize {
        self.secure(batch);
        let mut lost = unstored(batch) as usize;
        loop {
            let before = self.queue.fill();
            self.absorb(unstored(batch));
            if self.queue.fill() == before {
                break;
            }
        }
        self.acknowledge(batch);
        if let Some(store) = &mut self.store
            && let Err(error) = store.disk.close()
        {
            tracing::error!("output `{}`: its queue on disk could not be synced: {}", self.name, crate::sys::reason(&error));
        }
        lost += self.queue.abandon();
        batch.iter_mut().filter(|chunk| chunk.open() > 0 && chunk.stored.is_none()).for_each(Chunk::lose);
        batch.clear();
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::disk::{Settings, Sync};
    use crate::queue::{Bounds, State, WhenFull};

    fn push(backlog: &Backlog, text: &str) {
        let mut chunk = Chunk::default();
        chunk.add(b"", text.as_bytes(), 6);
        assert!(backlog.queue.push(&mut chunk));
    }

    fn backlog(folder: &std::path::Path, size: u64) -> Backlog {
        let bounds = Bounds::new(1 << 20, WhenFull::Block);
        Backlog {
            name: "up".into(),
            queue: Arc::new(Queue::new(bounds)),
            store: Some(Store::new(open(folder, size), Mode::Overflow, None)),
            letters: DeadLetters::at(None),
            log: Limited::default(),
        }
    }

    fn settings(size: u64) -> Settings {
        Settings { size, segment: 1 << 16, sync: Sync::Segment }
    }

    fn open(folder: &std::path::Path, size: u64) -> Disk {
        Disk::open(&folder.join("queue"), settings(size), Arc::default()).expect("opened").0
    }

    fn numbers(batch: &[Chunk]) -> Vec<Option<u64>> {
        batch.iter().map(|chunk| chunk.stored).collect()
    }

    /// The disk takes nothing that comes behind what is in hands: that needs no numbers before it.
    #[tokio::test]
    async fn numbers_are_not_kept_for_what_a_full_disk_refuses() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut backlog, mut batch) = (backlog(folder.path(), 10), Vec::new());
        push(&backlog, "first");
        assert!(backlog.fill(&mut batch, Linger::not_at_all()).await);
        push(&backlog, "second");
        backlog.absorb(unstored(&batch));
        batch[0].settle(0, State::Sent);
        // It waits in memory.
        assert!(backlog.fill(&mut batch, Linger::not_at_all()).await);
        let store = backlog.store.as_mut().expect("it has one");
        store.disk.configure(settings(1 << 20));
        assert!(store.refused.take().is_some());
        backlog.secure(&mut batch);
        assert_eq!(numbers(&batch), [Some(0), Some(1)]);
    }

    /// What is on its way and not on disk has numbers before those that are read: it is put on disk, or has arrived, first.
    #[tokio::test]
    async fn nothing_is_read_behind_what_is_on_its_way_in_memory() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut backlog, mut batch) = (backlog(folder.path(), 1 << 20), Vec::new());
        push(&backlog, "first");
        assert!(backlog.fill(&mut batch, Linger::not_at_all()).await);
        push(&backlog, "second");
        backlog.absorb(unstored(&batch));
        batch[0].settle(0, State::Sent);
        tokio::select! {
            biased;
            _ = backlog.fill(&mut batch, Linger::not_at_all()) => panic!("it was read"),
            () = std::future::ready(()) => {}
        }
        backlog.secure(&mut batch);
        assert!(backlog.fill(&mut batch, Linger::not_at_all()).await);
        assert_eq!(numbers(&batch), [Some(0), Some(1)]);
        drop(backlog);
        let (mut disk, mut chunks) = (open(folder.path(), 1 << 20), Vec::new());
        assert_eq!(disk.read(&mut chunks, MOST).expect("read"), (2, 0));
    }
}
