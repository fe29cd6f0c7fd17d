//! Segments: files of records, named by the first record's number and the seed of the checksums.

use std::collections::VecDeque;
use std::io;

use memchr::memmem;

use super::cursor::Cursor;
use super::folder::{Folder, Handle};
use super::record::{self, Decoded, Stored};

/// A file begins with this, for those who look into it; nothing depends on it.
pub(super) const HEADER: &[u8; 16] = b"penstock queue\n\n";
pub(super) const ENDING: &str = ".segment";
/// Set aside: something in it cannot be read.
pub(super) const SET_ASIDE: &str = ".damaged";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) seed: u64,
    /// Up to here it has been written.
    pub(super) bytes: u64,
    /// Something in it could not be read: it is kept when everything else in it has been delivered.
    pub(super) damaged: bool,
}

impl Segment {
    pub(super) fn new(first: u64) -> Self {
        Self { first, seed: fastrand::u64(..), bytes: HEADER.len() as u64, damaged: false }
    }

    pub(super) fn name(&self) -> String {
        format!("{:020}-{:016x}{ENDING}", self.first, self.seed)
    }

    fn parse(name: &str) -> Option<Self> {
        let (first, seed) = name.strip_suffix(ENDING)?.split_once('-')?;
        let seed = u64::from_str_radix(seed, 16).ok()?;
        Some(Self { first: first.parse().ok()?, seed, bytes: 0, damaged: false })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes <= HEADER.len() as u64
    }
}

/// What a folder holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// In the order of their numbers.
    pub(super) segments: VecDeque<Segment>,
    /// The number that the next record gets.
    pub(super) next: u64,
    /// The first record that has still to go.
    pub(super) cursor: u64,
    /// Octets behind the last whole record.
    pub(super) torn: u64,
}

impl Contents {
    /// Changes nothing.
    pub(super) fn look(folder: &dyn Folder) -> io::Result<Self> {
        let mut segments: Vec<_> = folder.list()?.iter().filter_map(|name| Segment::parse(name)).collect();
        segments.sort_by_key(|segment| (segment.first, segment.seed));
        for segment in &mut segments {
            segment.bytes = folder.open(&segment.name()).and_then(|handle| handle.len()).unwrap_or(0);
        }
        let mut contents = Self { segments: segments.into(), ..Self::default() };
        let cursor = Cursor::read(folder);
        if let Some(last) = contents.segments.back() {
            (contents.next, contents.torn) = last_record(folder, last)?;
        }
        let first = contents.segments.front().map_or(contents.next, |segment| segment.first);
        contents.cursor = cursor.unwrap_or(first);
        contents.next = contents.next.max(contents.cursor);
        Ok(contents)
    }

    /// One behind the last number that may be in the segment.
    pub(super) fn end(&self, index: usize) -> u64 {
        self.segments.get(index + 1).map_or(self.next, |segment| segment.first)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }
}

/// The number behind a segment's last whole record, and the octets of a record behind it that was not written to its end.
fn last_record(folder: &dyn Folder, segment: &Segment) -> io::Result<(u64, u64)> {
    let mut next = segment.first;
    let handle = match folder.open(&segment.name()) {
        Ok(handle) => handle,
        Err(error) if passes(&error) => return Err(error),
        Err(_) => return Ok((next, 0)),
    };
    let (mut window, mut end) = (Window::default(), HEADER.len() as u64);
    loop {
        match window.next(handle.as_ref(), segment) {
            Ok(Some(record)) => next = record.number + 1,
            Ok(None) => break,
            Err(error) if passes(&error) => return Err(error),
            Err(_) => return Ok((next, 0)),
        }
        end = window.at;
    }
    let torn = Window { at: end, ..Window::default() }.is_torn(handle.as_ref(), segment).unwrap_or(false);
    Ok((next, if torn { segment.bytes.saturating_sub(end) } else { 0 }))
}

/// The file is as it was, and can be read later.
pub(super) fn passes(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN | libc::EINTR))
}

/// A part of a segment in memory, moving forward.
#[derive(Debug, Default)]
pub(super) struct Window {
    buffer: Vec<u8>,
    /// Offset of the buffer's first octet.
    start: u64,
    /// Offset of the octet that is looked at next.
    pub(super) at: u64,
    /// Something was passed over.
    pub(super) damaged: bool,
}

/// Read at a time.
const WINDOW: usize = 512 << 10;

impl Window {
    /// The next whole record; None at the segment's end.
    pub(super) fn next(&mut self, handle: &dyn Handle, segment: &Segment) -> io::Result<Option<Stored<'_>>> {
        self.at = self.at.max(HEADER.len() as u64);
        let mut wanted = record::HEAD;
        let outline = loop {
            self.fill(handle, segment.bytes, wanted)?;
            let rest = &self.buffer[(self.at - self.start) as usize..];
            if rest.is_empty() {
                return Ok(None);
            }
            match record::decode(rest, segment.seed) {
                Decoded::Whole(outline) => break outline,
                Decoded::Needs(bytes) if bytes > wanted && self.at + bytes as u64 <= segment.bytes => wanted = bytes,
                Decoded::Needs(_) | Decoded::Damaged => {
                    self.damaged = true;
                    wanted = record::HEAD;
                    // The beginning of the mark may stand at the end of what is here.
                    let nothing = (rest.len() - 1).saturating_sub(record::MAGIC.len() - 1);
                    self.at += 1 + memmem::find(&rest[1..], &record::MAGIC).unwrap_or(nothing) as u64;
                }
            }
        };
        let offset = (self.at - self.start) as usize;
        self.at += outline.end as u64;
        Ok(Some(outline.of(&self.buffer[offset..])))
    }

    /// What follows is the beginning of a record, or nothing but zeros: not damage, but a write that was broken off.
    fn is_torn(&mut self, handle: &dyn Handle, segment: &Segment) -> io::Result<bool> {
        self.fill(handle, segment.bytes, record::HEAD)?;
        if let Decoded::Needs(bytes) = record::decode(&self.buffer, segment.seed)
            && self.at + bytes as u64 > segment.bytes
        {
            return Ok(true);
        }
        while !self.buffer.is_empty() {
            if self.buffer.iter().any(|octet| *octet != 0) {
                return Ok(false);
            }
            self.at += self.buffer.len() as u64;
            self.fill(handle, segment.bytes, record::HEAD)?;
        }
        Ok(true)
    }

    /// At least so many octets from `at` on, or all that there are.
    fn fill(&mut self, handle: &dyn Handle, end: u64, wanted: usize) -> io::Result<()> {
        let gone = (self.at - self.start) as usize;
        if self.buffer.len() >= gone + wanted {
            return Ok(());
        }
        self.buffer.drain(..gone.min(self.buffer.len()));
        self.start = self.at;
        let target = end.saturating_sub(self.at).min(wanted.max(WINDOW) as u64) as usize;
        let mut filled = self.buffer.len();
        self.buffer.resize(target.max(filled), 0);
        let result = loop {
            if filled >= target {
                break Ok(());
            }
            match handle.read_at(&mut self.buffer[filled..], self.start + filled as u64) {
                Ok(0) => break Ok(()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.buffer.truncate(filled);
        result
    }
}
