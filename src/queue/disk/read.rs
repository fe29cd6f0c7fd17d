//! Reading, past whatever was done to the segments.

use std::io;

use super::folder::Handle;
use super::segment::{SET_ASIDE, Window, passes};
use super::{CHUNK_BYTES, Chunk, Disk, ONE_AGE};

/// Of messages that came one by one: more of them are read later.
const MOST_CHUNKS: usize = 256;

/// Where the next record is read.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) number: u64,
    /// The first number of the segment that is open.
    segment: Option<u64>,
    handle: Option<Box<dyn Handle>>,
    window: Window,
}

impl Reader {
    pub(super) fn at(number: u64) -> Self {
        Self { number, ..Self::default() }
    }
}

impl Disk {
    /// Reads records into chunks, about so many octets. How many, and how many are missing before and between them. An
    /// error is one that may pass.
    pub fn read(&mut self, batch: &mut Vec<Chunk>, most: usize) -> io::Result<(u64, u64)> {
        let (mut read, mut missing, mut bytes) = (0, 0, 0);
        let (mut chunk, before) = (Chunk::default(), batch.len());
        while bytes < most && batch.len() - before < MOST_CHUNKS && self.unread() > 0 {
            let Some(index) = self.segment_to_read()? else {
                // What was appended last has gone.
                missing += self.unread();
                self.reader.number = self.contents.next;
                break;
            };
            let end = self.contents.end(index);
            let segment = &mut self.contents.segments[index];
            let Reader { number: expected, handle, window, .. } = &mut self.reader;
            let Some(handle) = handle else { break };
            let record = match window.next(handle.as_ref(), segment) {
                // A number that the next segment has too: its appending had failed, and was done again.
                Ok(Some(record)) if record.number >= end || record.number < *expected => continue,
                Ok(Some(record)) => record,
                Ok(None) => {
                    let behind = end.saturating_sub(*expected);
                    segment.damaged |= window.damaged;
                    missing += behind;
                    self.reader.number = end;
                    self.reader.handle = None;
                    continue;
                }
                Err(error) if passes(&error) => return Err(error),
                Err(_) => {
                    segment.damaged = true;
                    missing += end.saturating_sub(*expected);
                    self.reader.number = end;
                    self.reader.handle = None;
                    continue;
                }
            };
            let gap = record.number - *expected;
            missing += gap;
            let is_of_one_age = record.accepted.abs_diff(chunk.accepted) <= ONE_AGE;
            if gap > 0 || chunk.form != record.form || !is_of_one_age || chunk.bytes.len() >= CHUNK_BYTES {
                batch.extend((!chunk.is_empty()).then(|| std::mem::take(&mut chunk)));
            }
            if chunk.is_empty() {
                (chunk.stored, chunk.form, chunk.accepted) = (Some(record.number), record.form, record.accepted);
            }
            *expected = record.number + 1;
            bytes += record.address.len() + record.body.len();
            chunk.add(record.address, record.body, record.severity);
            segment.damaged |= window.damaged;
            read += 1;
        }
        batch.extend((!chunk.is_empty()).then_some(chunk));
        self.counters.missing.add(missing);
        Ok((read, missing))
    }

    /// The index of the segment that holds the next record or begins behind it, opened.
    fn segment_to_read(&mut self) -> io::Result<Option<usize>> {
        loop {
            let number = self.reader.number;
            let Some(index) = (0..self.contents.segments.len()).find(|index| self.contents.end(*index) > number) else {
                return Ok(None);
            };
            let segment = self.contents.segments[index];
            if self.reader.handle.is_some() && self.reader.segment == Some(segment.first) {
                return Ok(Some(index));
            }
            match self.folder.open(&segment.name()) {
                Ok(handle) => {
                    self.reader =
                        Reader { number, segment: Some(segment.first), handle: Some(handle), window: Window::default() };
                    return Ok(Some(index));
                }
                Err(error) if passes(&error) => return Err(error),
                Err(_) => {
                    // Its records are counted as missing by their numbers.
                    let _ = self.folder.rename(&segment.name(), &(segment.name() + SET_ASIDE));
                    if index + 1 == self.contents.segments.len() {
                        self.writer = None;
                    }
                    self.contents.segments.remove(index);
                }
            }
        }
    }
}
