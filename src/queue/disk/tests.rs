//! The queue over a folder in memory whose calls fail, write half, and forget what was not synced.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard};

use super::*;

#[derive(Clone, Debug, Default)]
struct File {
    now: Vec<u8>,
    /// What a power cut leaves at least.
    synced: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, File>,
    rng: Option<fastrand::Rng>,
}

/// A folder in memory; while it has a generator of random numbers, one call in eight fails.
#[derive(Clone, Debug, Default)]
struct Memory(Arc<Mutex<State>>);

#[derive(Debug)]
struct Open(Memory, String);

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic")
    }

    fn fails(&self) -> io::Result<()> {
        let fails = self.state().rng.as_mut().is_some_and(|rng| rng.u8(..8) == 0);
        if fails { Err(io::Error::from_raw_os_error(libc::ENOSPC)) } else { Ok(()) }
    }

    fn set_faults(&self, seed: Option<u64>) {
        self.state().rng = seed.map(fastrand::Rng::with_seed);
    }

    /// What was not synced is there up to some octet.
    fn cut_power(&self, rng: &mut fastrand::Rng) {
        for file in self.state().files.values_mut() {
            let same = file.now.iter().zip(&file.synced).take_while(|(now, synced)| now == synced).count();
            let kept = rng.usize(same.min(file.now.len())..=file.now.len());
            let kept = kept.max(file.synced.len().min(file.now.len()));
            file.now.truncate(kept);
        }
    }

    /// Does something to the bytes of every file in turn, at every place, and puts them back.
    fn at_every_octet(&self, kind: &str, mut change: impl FnMut(&mut Vec<u8>, usize), mut check: impl FnMut(&str)) {
        let before = self.state().files.clone();
        for (name, file) in before.iter().filter(|(name, _)| name.contains(kind)) {
            for at in 0..file.now.len() {
                let mut files = before.clone();
                change(&mut files.get_mut(name).expect("it is there").now, at);
                self.state().files = files;
                check(&format!("{name} at {at}"));
            }
        }
        self.state().files = before;
    }
}

impl Folder for Memory {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().files.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Handle>> {
        self.fails()?;
        assert!(self.state().files.insert(name.to_owned(), File::default()).is_none());
        self.open(name)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Handle>> {
        let known = self.state().files.contains_key(name);
        if known { Ok(Box::new(Open(self.clone(), name.to_owned()))) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let file = self.state().files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.state().files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.state().files.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync(&self) -> io::Result<()> {
        self.fails()
    }
}

impl Open {
    fn file<T>(&self, act: impl FnOnce(&mut File) -> T) -> T {
        act(self.0.state().files.entry(self.1.clone()).or_default())
    }
}

impl Handle for Open {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file(|file| file.now.len()) as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let offset = offset as usize;
        // A few octets at a time, so that every loop has to go on.
        Ok(self.file(|file| {
            let rest = file.now.get(offset..).unwrap_or_default();
            let count = rest.len().min(buffer.len()).min(4099);
            buffer[..count].copy_from_slice(&rest[..count]);
            count
        }))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let failed = self.0.fails();
        let half = self.0.state().rng.as_mut().map(|rng| rng.usize(..=bytes.len())).filter(|_| bytes.len() > 32);
        let count = half.unwrap_or(bytes.len());
        if failed.is_ok() || bytes.len() > 32 {
            self.file(|file| {
                let end = offset as usize + count;
                file.now.resize(file.now.len().max(end), 0);
                file.now[offset as usize..end].copy_from_slice(&bytes[..count]);
            });
        }
        failed.map(|()| count)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.fails()?;
        self.file(|file| file.now.resize(len as usize, 0));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.fails()?;
        self.file(|file| file.synced = file.now.clone());
        Ok(())
    }
}

fn settings(sync: Sync) -> Settings {
    Settings { size: 1 << 20, segment: 2_000, sync }
}

fn open(folder: &Memory, sync: Sync) -> (Disk, Found) {
    Disk::open_in(Box::new(folder.clone()), settings(sync), Arc::default()).expect("it opens")
}

fn chunk(texts: &[String]) -> Chunk {
    let mut chunk = Chunk::default();
    texts.iter().for_each(|text| chunk.add(b"", text.as_bytes(), 6));
    chunk
}

fn texts(batch: &[Chunk]) -> Vec<String> {
    let text = |chunk: &Chunk, span: crate::message::Span| String::from_utf8_lossy(span.of(&chunk.bytes)).into_owned();
    batch.iter().flat_map(|chunk| chunk.unsettled().map(move |(_, record)| text(chunk, record.body))).collect()
}

/// Everything that waits, and how much is missing.
fn drained(disk: &mut Disk) -> (Vec<String>, u64) {
    let (mut batch, mut missing) = (Vec::new(), 0);
    while disk.unread() > 0 {
        missing += disk.read(&mut batch, 3_000).expect("it can be read").1;
    }
    (texts(&batch), missing)
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|i| format!("{i} {}", "x".repeat(i % 90))).collect()
}

/// Some segments with these records, of which the first three have been delivered.
fn filled(folder: &Memory, records: usize) -> Vec<String> {
    let all = numbered(0..records);
    let (mut disk, _) = open(folder, Sync::Batch);
    all.chunks(5).for_each(|some| disk.append(&mut [chunk(some)]).expect("appended"));
    disk.settled(3);
    all[3..].to_vec()
}

#[test]
fn what_was_appended_is_there_after_a_kill_in_order_and_counted() {
    let folder = Memory::default();
    let expected = filled(&folder, 200);
    let (mut disk, found) = open(&folder, Sync::Batch);
    assert_eq!((found.records, found.torn, found.unreadable), (197, 0, 0));
    assert!(folder.list().expect("a list").len() > 5, "several segments");
    assert_eq!(drained(&mut disk), (expected, 0));
    disk.settled(disk.position());
    disk.close().expect("closed");
    assert_eq!(folder.list().expect("a list"), ["cursor"], "what was delivered is gone");
}

/// Appending, delivering and reopening in any order while calls fail: nothing is lost, nothing is invented, the order is
/// kept, and only what had been delivered may come again after a kill.
#[test]
fn a_model_of_the_queue_agrees_while_calls_fail() {
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let folder = Memory::default();
        let (mut disk, _) = open(&folder, Sync::Batch);
        // What has been accepted and not been settled.
        let mut waiting = VecDeque::new();
        let (mut made, made_up) = (0, numbered(0..1_000));
        for step in 0..60 {
            folder.set_faults((rng.u8(..3) > 0).then_some(seed * 1_000 + step));
            match rng.u8(..10) {
                0..=5 => {
                    let some: Vec<_> = (0..rng.usize(1..4)).map(|_| numbered(made..made + rng.usize(1..6))).collect();
                    let mut chunks: Vec<_> = some.iter().map(|texts| chunk(texts)).collect();
                    let _ = disk.append(&mut chunks);
                    for (chunk, texts) in chunks.iter().zip(some) {
                        waiting.extend(chunk.stored.map_or(Vec::new(), |_| texts));
                    }
                    made += 10;
                }
                6..=8 => {
                    let mut batch = Vec::new();
                    let (_, missing) = disk.read(&mut batch, rng.usize(1..2_000)).expect("it can be read");
                    assert_eq!(missing, 0, "seed {seed} step {step}");
                    let read = texts(&batch);
                    assert_eq!(read, waiting.drain(..read.len()).collect::<Vec<_>>(), "seed {seed} step {step}");
                    disk.settled(disk.position());
                }
                _ => {
                    folder.set_faults(None);
                    if rng.bool() {
                        folder.cut_power(&mut rng);
                    }
                    // Twice: an empty last segment hides what a failed append left in the one before.
                    drop(open(&folder, Sync::Batch));
                    (disk, _) = open(&folder, Sync::Batch);
                    let (all, missing) = drained(&mut disk);
                    assert_eq!(missing, 0, "seed {seed} step {step}");
                    // What a failed append left whole may come too: it was received, and is no invention.
                    let mut came = all.iter();
                    assert!(waiting.iter().all(|text| came.any(|other| other == text)), "seed {seed} step {step}");
                    assert!(all.iter().all(|text| made_up.contains(text)), "seed {seed} step {step}");
                    waiting = all.into();
                    (disk, _) = open(&folder, Sync::Batch);
                }
            }
        }
    }
}

#[test]
fn one_damaged_octet_costs_one_record_at_most_and_it_is_counted() {
    let folder = Memory::default();
    let expected = filled(&folder, 40);
    folder.at_every_octet(
        ".segment",
        |bytes, at| bytes[at] ^= 0x41,
        |place| {
            let (mut disk, found) = open(&folder, Sync::Batch);
            let (came, missing) = drained(&mut disk);
            let mut left = came.iter();
            assert!(left.all(|text| expected.contains(text)), "{place}: nothing is invented");
            assert!(came.len() + 1 >= expected.len(), "{place}: {} of {}", came.len(), expected.len());
            let counted = came.len() as u64 + missing == 37 || found.torn + found.unreadable > 0 || came.len() == 37;
            assert!(counted || came.last() != expected.last(), "{place}: {} came, {missing} are missing", came.len());
            disk.settled(disk.position());
            disk.close().expect("closed");
        },
    );
    let all = numbered(0..40);
    folder.at_every_octet(
        "cursor",
        |bytes, at| bytes[at] ^= 0x41,
        |place| {
            let (came, missing) = drained(&mut open(&folder, Sync::Batch).0);
            assert_eq!(missing, 0, "{place}");
            assert!(came == expected || came == all, "{place}: from the cursor, or everything that is there");
        },
    );
}

#[test]
fn a_tail_that_is_torn_or_zero_is_cut_and_a_segment_in_the_middle_is_counted() {
    for zero in [false, true] {
        let folder = Memory::default();
        let expected = filled(&folder, 40);
        let last = folder.list().expect("a list").into_iter().rfind(|name| name.contains(".segment")).expect("a segment");
        folder.at_every_octet(
            ".segment",
            |bytes, at| match zero {
                true => bytes[at..].fill(0),
                false => bytes.truncate(at),
            },
            |place| {
                let (mut disk, found) = open(&folder, Sync::Batch);
                let before = drained(&mut disk);
                let mut rest = expected.iter();
                assert!(before.0.iter().all(|text| rest.any(|other| other == text)), "{place}: in order, nothing invented");
                if !place.starts_with(&last) {
                    assert_eq!(before.0.len() as u64 + before.1, 37, "{place}: what is missing is counted");
                    assert_eq!(found.torn, 0);
                }
                let mut more = [chunk(&["more".to_owned()])];
                disk.append(&mut more).expect("appended");
                assert_eq!(drained(&mut disk).0, ["more"], "{place}: it goes on behind it");
                drop(disk);
                let after = drained(&mut open(&folder, Sync::Batch).0).0;
                assert_eq!(after[..after.len() - 1], before.0, "{place}");
            },
        );
    }
}

#[test]
fn a_damaged_segment_is_set_aside_when_the_rest_of_it_is_delivered() {
    let folder = Memory::default();
    filled(&folder, 40);
    let name = folder.list().expect("a list").into_iter().find(|name| name.contains(".segment")).expect("a segment");
    folder.state().files.get_mut(&name).expect("it is there").now[500] ^= 1;
    let (mut disk, _) = open(&folder, Sync::Batch);
    let (_, missing) = drained(&mut disk);
    disk.settled(disk.position());
    disk.close().expect("closed");
    assert_eq!((missing, disk.counters.missing.get()), (1, 1));
    assert_eq!(folder.list().expect("a list"), [name + SET_ASIDE, "cursor".to_owned()]);
}

#[test]
fn what_somebody_has_in_his_hands_keeps_its_place() {
    let folder = Memory::default();
    let (mut disk, _) = open(&folder, Sync::Segment);
    let all = numbered(0..30);
    let mut hands = [chunk(&all[..10])];
    let numbers = disk.reserve(10);
    disk.append(&mut [chunk(&all[10..])]).expect("appended");
    (0..4).for_each(|record| hands[0].settle(record, crate::queue::State::Delivered));
    disk.put(&numbers, &mut hands).expect("put");
    assert_eq!(hands[0].stored, Some(4));
    assert_eq!(drained(&mut disk), (all[10..].to_vec(), 0), "they are in his hands, and come after them");
    drop(disk);
    assert_eq!(drained(&mut open(&folder, Sync::Segment).0), (all[4..].to_vec(), 0));

    // The same without the put: a kill took what was in his hands.
    let folder = Memory::default();
    let (mut disk, _) = open(&folder, Sync::Segment);
    disk.reserve(10);
    disk.append(&mut [chunk(&all[10..])]).expect("appended");
    drop(disk);
    assert_eq!(drained(&mut open(&folder, Sync::Segment).0), (all[10..].to_vec(), 10));
}

#[test]
fn its_size_is_kept_and_there_is_room_again() {
    let folder = Memory::default();
    let (mut disk, _) = open(&folder, Sync::Segment);
    disk.configure(Settings { size: 10_000, ..settings(Sync::Segment) });
    let (mut made, mut waiting) = (0, VecDeque::new());
    for _ in 0..5 {
        loop {
            let some = numbered(made..made + 20);
            let mut chunks = [chunk(&some)];
            match disk.append(&mut chunks) {
                Ok(()) => waiting.extend(some),
                Err(Trouble::Full) => break,
                Err(trouble) => panic!("{trouble}"),
            }
            made += 20;
        }
        assert!((5_000..10_000).contains(&disk.counters.bytes.get()));
        assert_eq!(drained(&mut disk).0, waiting.drain(..).collect::<Vec<_>>());
        disk.settled(disk.position());
    }
}

#[test]
fn a_folder_is_used_by_one_server_and_looked_into_by_anybody() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("queue");
    let (mut disk, _) = Disk::open(&path, settings(Sync::Batch), Arc::default()).expect("it opens");
    disk.append(&mut [chunk(&numbered(0..50))]).expect("appended");
    let busy = Disk::open(&path, settings(Sync::Batch), Arc::default()).expect_err("it is in use");
    assert_eq!(busy.kind(), io::ErrorKind::ResourceBusy);
    let mut seen = Vec::new();
    let (found, missing) = Disk::look(&path, |waiting| {
        seen.push(waiting.number);
        Ok(())
    })
    .expect("it can be looked into");
    assert_eq!((found.records, missing), (50, 0));
    assert_eq!(seen, (0..50).collect::<Vec<_>>());
}
