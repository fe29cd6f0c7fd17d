//! The number of the first record that has still to go, on disk. Two slots are written in turn, each with a checksum: a torn
//! write leaves the other one. Without any, everything that is still there goes once more.

use std::io;

use xxhash_rust::xxh3::xxh3_64;

use super::folder::{Folder, Handle};

pub(super) const FILE: &str = "cursor";
const SLOT: usize = 16;

#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) number: u64,
    handle: Option<Box<dyn Handle>>,
    /// Which slot is written next.
    slot: u64,
}

impl Cursor {
    /// None: there is none that can be believed.
    pub(super) fn read(folder: &dyn Folder) -> Option<u64> {
        let handle = folder.open(FILE).ok()?;
        slots(handle.as_ref()).into_iter().flatten().max()
    }

    pub(super) fn at(number: u64) -> Self {
        Self { number, handle: None, slot: 0 }
    }

    /// A failure costs nothing but messages that arrive twice after the next start.
    pub(super) fn write(&mut self, number: u64, folder: &dyn Folder) -> io::Result<()> {
        self.number = number;
        if self.handle.is_none() {
            let handle = folder.open(FILE).or_else(|_| {
                // What cannot be opened is in the way.
                let _ = folder.remove(FILE);
                folder.create(FILE)
            })?;
            let read = slots(handle.as_ref());
            // The higher one is the one that counts.
            self.slot = u64::from(read[0] > read[1]);
            self.handle = Some(handle);
        }
        let Some(handle) = &self.handle else { return Ok(()) };
        let mut bytes = [0; SLOT];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        bytes[8..].copy_from_slice(&checksum(number).to_le_bytes());
        let written = handle.write_at(&bytes, self.slot * SLOT as u64);
        if !matches!(written, Ok(SLOT)) {
            self.handle = None;
            return written.and(Err(io::ErrorKind::WriteZero.into()));
        }
        self.slot ^= 1;
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.handle.as_ref().map_or(Ok(()), |handle| handle.sync())
    }
}

fn slots(handle: &dyn Handle) -> [Option<u64>; 2] {
    [0, 1].map(|slot| {
        let mut bytes = [0; SLOT];
        let count = handle.read_at(&mut bytes, slot * SLOT as u64).ok()?;
        let half = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        (count == SLOT && half(8) == checksum(half(0))).then(|| half(0))
    })
}

fn checksum(number: u64) -> u64 {
    xxh3_64(&number.to_le_bytes())
}
