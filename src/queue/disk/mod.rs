//! A queue on disk: segments of records, and a cursor that moves when they have been delivered. docs/queue.md has the
//! states and what is promised.
//!
//! Numbers go up by one from record to record and across segments, so that what is missing can be counted. Whoever appends
//! and reads is one thread; nobody waits for the disk but that thread.

mod cursor;
mod folder;
mod read;
mod record;
mod segment;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::{CHUNK_BYTES, Chunk, ONE_AGE};
use crate::metrics::DiskCounters;

use cursor::Cursor;
use folder::{Folder, Handle, OnDisk};
use read::Reader;
use record::Stored;
use segment::{Contents, ENDING, HEADER, SET_ASIDE, Segment};

/// When what was appended is made to survive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Before it counts as appended.
    Batch,
    /// When a segment is full, and at a stop.
    Segment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Octets in all.
    pub size: u64,
    /// Octets from which on a segment is full.
    pub segment: u64,
    pub sync: Sync,
}

/// Why records could not be appended. They are where they were.
#[derive(Debug)]
pub enum Trouble {
    /// The queue has its size.
    Full,
    Disk(io::Error),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("it has its full size"),
            Self::Disk(error) => f.write_str(&crate::sys::reason(error)),
        }
    }
}

#[derive(Debug)]
pub struct Disk {
    folder: Box<dyn Folder>,
    settings: Settings,
    contents: Contents,
    cursor: Cursor,
    /// Of the last segment, while that one is written.
    writer: Option<Box<dyn Handle>>,
    reader: Reader,
    /// Records on their way to the disk.
    scratch: Vec<u8>,
    counters: Arc<DiskCounters>,
}

/// What an opened queue has to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub records: u64,
    pub bytes: u64,
    /// Octets of records that were not written to their end; they are cut.
    pub torn: u64,
    /// Octets of a last segment in which nothing is whole; it is set aside.
    pub unreadable: u64,
}

/// One record of [`Disk::look`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub number: u64,
    pub severity: u8,
    pub address: Vec<u8>,
    pub body: Vec<u8>,
}

impl Disk {
    /// Opens or makes the queue in this folder, whatever was done to it.
    pub fn open(path: &Path, settings: Settings, counters: Arc<DiskCounters>) -> io::Result<(Self, Found)> {
        Self::open_in(Box::new(OnDisk::own(path)?), settings, counters)
    }

    /// Reads what waits without touching it; a server may be using it. Returns what is there and how many are missing.
    pub fn look(path: &Path, mut each: impl FnMut(Waiting) -> io::Result<()>) -> io::Result<(Found, u64)> {
        let (mut disk, found) = Self::view(Box::new(OnDisk::look(path)))?;
        let (mut chunks, mut missing) = (Vec::new(), 0);
        while disk.unread() > 0 {
            let number = disk.reader.number;
            let (read, lost) = disk.read(&mut chunks, CHUNK_BYTES)?;
            missing += lost;
            for chunk in chunks.drain(..) {
                let first = chunk.stored.unwrap_or(number);
                for (i, record) in chunk.records.iter().enumerate() {
                    let [address, body] = [record.address, record.body].map(|span| span.of(&chunk.bytes).to_vec());
                    each(Waiting { number: first + i as u64, severity: record.severity, address, body })?;
                }
            }
            if read == 0 {
                break;
            }
        }
        Ok((found, missing))
    }

    fn view(folder: Box<dyn Folder>) -> io::Result<(Self, Found)> {
        let contents = Contents::look(folder.as_ref())?;
        let found =
            Found { records: contents.next - contents.cursor, bytes: contents.bytes(), torn: contents.torn, unreadable: 0 };
        let cursor = Cursor::at(contents.cursor);
        let reader = Reader::at(contents.cursor);
        let settings = Settings { size: u64::MAX, segment: u64::MAX, sync: Sync::Segment };
        let (writer, scratch, counters) = (None, Vec::new(), Arc::default());
        Ok((Self { folder, settings, contents, cursor, writer, reader, scratch, counters }, found))
    }

    fn open_in(folder: Box<dyn Folder>, settings: Settings, counters: Arc<DiskCounters>) -> io::Result<(Self, Found)> {
        let (mut disk, found) = Self::view(folder)?;
        disk.settings = settings;
        disk.counters = counters;
        let unreadable = disk.repair();
        // Now there is room for it, whatever comes.
        disk.cursor.write(disk.cursor.number, disk.folder.as_ref())?;
        disk.forget_delivered();
        disk.count();
        Ok((disk, Found { unreadable, ..found }))
    }

    /// Cuts a torn tail, and sets a last segment aside in which nothing is whole: its numbers will be used again. Returns
    /// that one's octets.
    fn repair(&mut self) -> u64 {
        let torn = std::mem::take(&mut self.contents.torn);
        let Some(last) = self.contents.segments.back_mut() else { return 0 };
        if let Ok(handle) = self.folder.open(&last.name()) {
            if torn > 0 && handle.set_len(last.bytes - torn).is_ok() {
                last.bytes -= torn;
            }
            // What was found belongs to the queue, as if it had been synced before the process was killed.
            let _ = handle.sync();
        }
        let nothing = last.first == self.contents.next;
        let (name, bytes) = (last.name(), if last.is_empty() { 0 } else { last.bytes });
        if nothing {
            let _ = if bytes == 0 { self.folder.remove(&name) } else { self.folder.rename(&name, &(name.clone() + SET_ASIDE)) };
            self.contents.segments.pop_back();
            return bytes;
        }
        0
    }

    /// Records that have not been read.
    pub fn unread(&self) -> u64 {
        self.contents.next - self.reader.number
    }

    pub fn configure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Appends the pending records of the chunks and notes their numbers in them. Where it fails the first of them may have
    /// been appended, and the others are as they were.
    pub fn append(&mut self, chunks: &mut [Chunk]) -> Result<(), Trouble> {
        if chunks.iter().all(|chunk| chunk.open() == 0) {
            return Ok(());
        }
        self.begin()?;
        let room = self.settings.size.saturating_sub(self.contents.bytes());
        let (Some(writer), Some(segment)) = (&self.writer, self.contents.segments.back_mut()) else {
            return Ok(());
        };
        let (start, first) = (segment.bytes, self.contents.next);
        let (mut at, mut number, mut done, mut result) = (start, first, 0, Ok(()));
        for chunk in chunks.iter() {
            self.scratch.clear();
            encode(chunk, number, segment.seed, &mut self.scratch);
            if at - start + self.scratch.len() as u64 > room {
                result = Err(Trouble::Full);
                break;
            }
            if let Err(error) = write_all(writer.as_ref(), &self.scratch, at) {
                result = Err(Trouble::Disk(error));
                break;
            }
            at += self.scratch.len() as u64;
            number += chunk.open() as u64;
            done += 1;
        }
        let failed = matches!(result, Err(Trouble::Disk(_)));
        let mut usable = !failed || writer.set_len(at).is_ok();
        if self.settings.sync == Sync::Batch
            && done > 0
            && let Err(error) = writer.sync()
        {
            // What a failed sync leaves is anybody's guess: nothing of it counts, and nothing more comes there.
            (at, number, done, usable) = (start, first, 0, false);
            let _ = writer.set_len(start);
            result = Err(Trouble::Disk(error));
        }
        segment.bytes = at;
        note_stored(&mut chunks[..done], first);
        self.contents.next = number;
        if !usable {
            self.end_segment();
        }
        self.counters.stored.add(number - first);
        self.count();
        result
    }

    /// Nothing of what has been appended needs to be read: the caller has it in his hands.
    pub fn pass_over(&mut self) {
        self.reader.number = self.contents.next;
    }

    /// Numbers for records that stand before all that is appended from now on, and may be written later with
    /// [`Disk::put`]: somebody has them in his hands. Nothing is unread.
    pub fn reserve(&mut self, count: u64) -> Range<u64> {
        self.end_segment();
        let first = self.contents.next;
        self.contents.next += count;
        self.pass_over();
        first..self.contents.next
    }

    /// Takes back numbers that were reserved, when nothing has been appended behind them. False: they stay reserved.
    pub fn unreserve(&mut self, numbers: &Range<u64>) -> bool {
        if self.contents.next != numbers.end {
            return false;
        }
        if self.writer.is_some() {
            // It was begun for what comes behind.
            let Some(last) = self.contents.segments.back().filter(|last| last.is_empty()) else { return false };
            if self.folder.remove(&last.name()).is_err() {
                return false;
            }
            self.contents.segments.pop_back();
            self.writer = None;
        }
        self.contents.next = numbers.start;
        self.pass_over();
        true
    }

    /// Writes records that have the last of these numbers, all or none.
    pub fn put(&mut self, numbers: &Range<u64>, chunks: &mut [Chunk]) -> Result<(), Trouble> {
        let pending: u64 = chunks.iter().map(|chunk| chunk.open() as u64).sum();
        if pending == 0 {
            return Ok(());
        }
        if pending > numbers.end - numbers.start {
            return Err(Trouble::Disk(io::Error::other("there are more records than numbers were reserved")));
        }
        let mut segment = Segment::new(numbers.end - pending);
        let mut number = segment.first;
        self.scratch.clear();
        for chunk in chunks.iter() {
            encode(chunk, number, segment.seed, &mut self.scratch);
            number += chunk.open() as u64;
        }
        if self.contents.bytes() + self.scratch.len() as u64 > self.settings.size {
            return Err(Trouble::Full);
        }
        // Those before have been delivered; in this order nobody will take them for missing.
        self.settled(segment.first);
        let name = segment.name();
        let written = self.folder.create(&name).and_then(|handle| {
            write_all(handle.as_ref(), HEADER, 0)?;
            write_all(handle.as_ref(), &self.scratch, segment.bytes)?;
            handle.sync()?;
            self.folder.sync()
        });
        if let Err(error) = written {
            let _ = self.folder.remove(&name);
            return Err(Trouble::Disk(error));
        }
        segment.bytes += self.scratch.len() as u64;
        let place = self.contents.segments.partition_point(|other| other.first < segment.first);
        self.contents.segments.insert(place, segment);
        note_stored(chunks, segment.first);
        self.counters.stored.add(pending);
        self.count();
        Ok(())
    }

    /// A segment that takes more.
    fn begin(&mut self) -> Result<(), Trouble> {
        let full = self.contents.segments.back().is_some_and(|segment| segment.bytes >= self.settings.segment);
        if full {
            if let Some(writer) = &self.writer {
                writer.sync().map_err(Trouble::Disk)?;
            }
            self.writer = None;
        }
        if self.writer.is_some() {
            return Ok(());
        }
        let segment = Segment::new(self.contents.next);
        let name = segment.name();
        let handle = self.folder.create(&name).map_err(Trouble::Disk)?;
        let begun = write_all(handle.as_ref(), HEADER, 0).and_then(|()| self.folder.sync());
        if let Err(error) = begun {
            let _ = self.folder.remove(&name);
            return Err(Trouble::Disk(error));
        }
        self.contents.segments.push_back(segment);
        self.writer = Some(handle);
        Ok(())
    }

    /// Nothing more is written to the last segment; one without records goes.
    fn end_segment(&mut self) {
        let Some(writer) = self.writer.take() else { return };
        if self.contents.segments.back().is_some_and(Segment::is_empty) {
            let empty = self.contents.segments.pop_back();
            let _ = empty.map(|segment| self.folder.remove(&segment.name()));
        } else {
            // Where it fails, a process that is killed still loses nothing.
            let _ = writer.sync();
        }
    }

    /// Records before this number need not be kept any more.
    pub fn settled(&mut self, number: u64) {
        if number > self.cursor.number {
            // Where it fails the segments stay too, or they would be missed after the next start.
            if self.cursor.write(number, self.folder.as_ref()).is_ok() {
                self.forget_delivered();
            }
            self.count();
        }
    }

    /// The number of the record that is read next.
    pub fn position(&self) -> u64 {
        self.reader.number
    }

    fn forget_delivered(&mut self) {
        let delivered = |index: &usize| self.contents.end(*index) <= self.cursor.number;
        let written = usize::from(self.writer.is_some());
        let count = (0..self.contents.segments.len() - written.min(self.contents.segments.len())).take_while(delivered).count();
        // After a power cut a cursor that is older than they are would miss them.
        if count == 0 || self.cursor.sync().is_err() {
            return;
        }
        for segment in self.contents.segments.drain(..count) {
            let name = segment.name();
            let _ = match segment.damaged {
                true => self.folder.rename(&name, &(name.clone() + SET_ASIDE)),
                false => self.folder.remove(&name),
            };
        }
    }

    /// Everything that was appended survives a power cut from here on.
    pub fn close(&mut self) -> io::Result<()> {
        let synced = self.writer.as_ref().map_or(Ok(()), |writer| writer.sync());
        self.writer = None;
        self.forget_delivered();
        synced
    }

    fn count(&self) {
        self.counters.bytes.set(self.contents.bytes());
        self.counters.records.set(self.contents.next - self.cursor.number);
    }
}

/// The folder has nothing but what a queue leaves behind: no segment, damaged or not.
pub fn is_empty(path: &Path) -> io::Result<bool> {
    let names = OnDisk::look(path).list()?;
    Ok(!names.iter().any(|name| name.ends_with(ENDING) || name.ends_with(SET_ASIDE)))
}

/// How many segments have been set aside.
pub fn set_aside(path: &Path) -> io::Result<usize> {
    Ok(OnDisk::look(path).list()?.iter().filter(|name| name.ends_with(SET_ASIDE)).count())
}

/// A server has it open.
pub fn is_in_use(path: &Path) -> io::Result<bool> {
    folder::is_locked(path)
}

/// Deletes the queue with everything in it, unless a server uses it.
pub fn delete(path: &Path) -> io::Result<()> {
    let _owned = OnDisk::own(path)?;
    std::fs::remove_dir_all(path)
}

/// The chunks have these numbers on disk: whoever waits for them to be safe is told.
fn note_stored(chunks: &mut [Chunk], first: u64) {
    let mut number = first;
    for chunk in chunks {
        chunk.stored = Some(number);
        chunk.receipts.clear();
        number += chunk.open() as u64;
    }
}

fn encode(chunk: &Chunk, first: u64, seed: u64, out: &mut Vec<u8>) {
    for (number, (_, record)) in (first..).zip(chunk.unsettled()) {
        let (address, body) = (record.address.of(&chunk.bytes), record.body.of(&chunk.bytes));
        Stored { number, address, body, accepted: chunk.accepted, severity: record.severity, form: chunk.form }.encode(seed, out);
    }
}

fn write_all(handle: &dyn Handle, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match handle.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => (bytes, offset) = (&bytes[count..], offset + count as u64),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
