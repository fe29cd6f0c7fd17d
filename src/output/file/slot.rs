//! An open file, and what is to be written to it.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write as _};
use std::time::Instant;

use super::chain::Chain;
use super::names::Closing;
use crate::metrics::Limited;
use crate::queue::Chunk;
use crate::sys::reason;
use crate::warn_limited;

/// Records are copied together up to this before they are written: a copy of a message costs a third of what the kernel
/// takes for one more slice of a writev(2).
const GATHERED: usize = 64 << 10;
pub(super) struct Open {
    pub path: Box<[u8]>,
    /// The path below the base folder.
    pub name: CString,
    pub file: File,
    pub size: u64,
    /// Chunk and record numbers that are to be written, in their order.
    pub pending: Vec<(u32, u32)>,
    /// Bytes of the first of them that are in the file already: the disk was full in its middle.
    pub partial: usize,
    /// Since the hand came by last.
    pub used: bool,
    /// A write of this batch went wrong: what follows must not overtake what failed.
    pub failed: bool,
    /// It cannot be closed for good, and is not tried before this.
    pub stuck: Option<Instant>,
    /// It is of a period that is over.
    pub is_stale: bool,
    /// Of the one before it.
    pub closed: Option<Closing>,
    pub chain: Option<Chain>,
}

impl Open {
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck.is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn seal(&mut self) -> io::Result<()> {
        let Some(chain) = &mut self.chain else { return Ok(()) };
        chain.seal(&self.file).inspect_err(|error| {
            static SAID: Limited = Limited::new();
            warn_limited!(SAID, "{} is not sealed: {}", self.name.to_string_lossy(), reason(error));
        })
    }

    /// Writes the pending records from the first on, as many as there is room for; a file has room for one at least. How
    /// many are whole in the file, and what stopped the others.
    pub(super) fn write(&mut self, batch: &[Chunk], gathered: &mut Vec<u8>, mut room: u64) -> (usize, io::Result<()>) {
        let body = |(chunk, record): (u32, u32)| {
            let chunk = &batch[chunk as usize];
            chunk.records[record as usize].body.of(&chunk.bytes)
        };
        let mut done = 0;
        while done < self.pending.len() {
            if self.size > 0 && self.partial == 0 && body(self.pending[done]).len() as u64 > room {
                return (done, Ok(()));
            }
            let most = usize::try_from(room).unwrap_or(usize::MAX).min(GATHERED);
            let bytes = gather(self.pending[done..].iter().map(|place| body(*place)), most, gathered);
            let mut count = match (&self.file).write(&bytes[self.partial..]) {
                Ok(0) => return (done, Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return (done, Err(error)),
            };
            if let Some(chain) = &mut self.chain {
                chain.add(&bytes[self.partial..self.partial + count]);
            }
            self.size += count as u64;
            room = room.saturating_sub(count as u64);
            count += self.partial;
            self.partial = 0;
            while count > 0 {
                let length = body(self.pending[done]).len();
                if count < length {
                    self.partial = count;
                    break;
                }
                count -= length;
                done += 1;
            }
        }
        (done, Ok(()))
    }
}

/// The first bodies together, as many as make a write(2) of at most so many bytes; a body that is one alone stays where
/// it is.
fn gather<'b>(mut bodies: impl Iterator<Item = &'b [u8]>, most: usize, gathered: &'b mut Vec<u8>) -> &'b [u8] {
    let first = bodies.next().unwrap_or_default();
    if first.len() >= most {
        return first;
    }
    gathered.clear();
    gathered.extend_from_slice(first);
    for next in bodies {
        if gathered.len() + next.len() > most {
            break;
        }
        gathered.extend_from_slice(next);
    }
    gathered
}
