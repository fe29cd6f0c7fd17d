//! Open files, the least used of them closed when there are too many; opening below the base folder and nowhere else.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt;
use std::time::Instant;

use super::{Settings, Sync};
use crate::message::Span;
use crate::metrics::Limited;
use crate::queue::{Chunk, State};
use crate::sys::file::{Folder, adjust_file, end_line};
use crate::sys::reason;
use crate::warn_limited;

/// Takes what has no file of its own: a path that a folder or link stands in the way of, or one new file too many.
const FALL_BACK: &[u8] = b"penstock-redirected.log";
const MINUTE: u64 = 60;
/// Records are copied together up to this before they are written: a copy of a message costs a third of what the kernel
/// takes for one more slice of a writev(2).
const GATHERED: usize = 64 << 10;

pub(super) struct Store {
    settings: Settings,
    /// Opened with the first file.
    base: Option<Folder>,
    by_path: HashMap<Box<[u8]>, usize, foldhash::fast::RandomState>,
    slots: Vec<Open>,
    /// Where the search for a file to close goes on.
    hand: usize,
    /// Files with records of the batch in hand.
    touched: Vec<usize>,
    /// Files that the last batch was written to.
    written: usize,
    /// New files since when.
    made: (Option<Instant>, u32),
    redirected: u64,
    /// What goes to a file with one write.
    gathered: Vec<u8>,
    log: Limited,
    /// For what belongs to somebody else.
    owners: Limited,
}

struct Open {
    path: Box<[u8]>,
    file: File,
    /// Chunk and record numbers that are to be written, in their order.
    pending: Vec<(u32, u32)>,
    /// Bytes of the first of them that are in the file already: the disk was full in its middle.
    partial: usize,
    /// Since the hand came by last.
    used: bool,
    /// A write of this batch went wrong: what follows must not overtake what failed.
    failed: bool,
}

/// Why a file cannot be had.
enum NoFile {
    /// It is this path: the fall-back file takes the record.
    Path(io::Error),
    /// Later it may be had.
    Retry(io::Error),
    TooMany,
}

impl Store {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            base: None,
            by_path: HashMap::default(),
            slots: Vec::new(),
            hand: 0,
            touched: Vec::new(),
            written: 0,
            made: (None, 0),
            redirected: 0,
            gathered: Vec::new(),
            log: Limited::default(),
            owners: Limited::default(),
        }
    }

    /// Appends all pending records to their files and settles those that are in. What went wrong first is the error;
    /// everything else has been tried all the same.
    pub(super) fn write(&mut self, batch: &mut [Chunk]) -> Result<(), String> {
        let mut failed = None;
        self.written = 0;
        self.slots.iter_mut().for_each(|open| open.failed = false);
        for c in 0..batch.len() {
            let mut last = None;
            for r in 0..batch[c].records.len() {
                let record = batch[c].records[r];
                if record.state != State::Pending {
                    continue;
                }
                let slot = match last {
                    Some((address, slot)) if address == record.address => slot,
                    _ => match self.slot(record.address, c, batch, &mut failed) {
                        Some(slot) => slot,
                        None => continue,
                    },
                };
                last = Some((record.address, slot));
                self.enqueue(slot, c, r);
            }
        }
        self.write_out(batch, &mut failed);
        failed.map_or(Ok(()), Err)
    }

    /// To how many files the last batch went.
    pub(super) fn written(&self) -> usize {
        self.written
    }

    pub(super) fn take_redirected(&mut self) -> u64 {
        std::mem::take(&mut self.redirected)
    }

    /// The next record opens its file anew. One that was cut by a full disk is then written whole, on a line of its own.
    pub(super) fn close_all(&mut self) {
        self.by_path.clear();
        self.slots.clear();
        self.base = None;
    }

    fn enqueue(&mut self, slot: usize, chunk: usize, record: usize) {
        let open = &mut self.slots[slot];
        if open.failed {
            return;
        }
        if open.pending.is_empty() {
            self.touched.push(slot);
        }
        open.used = true;
        open.pending.push((chunk as u32, record as u32));
    }

    fn slot(&mut self, address: Span, chunk: usize, batch: &mut [Chunk], failed: &mut Option<String>) -> Option<usize> {
        let path = address.of(&batch[chunk].bytes);
        if let Some(slot) = self.by_path.get(path) {
            return Some(*slot);
        }
        let path = path.to_vec();
        self.open_or_fall_back(&path, batch, failed)
    }

    fn open_or_fall_back(&mut self, path: &[u8], batch: &mut [Chunk], failed: &mut Option<String>) -> Option<usize> {
        let shown = String::from_utf8_lossy(path).into_owned();
        match self.open(path, batch, failed) {
            Ok(slot) => return Some(slot),
            Err(NoFile::Retry(error)) => {
                failed.get_or_insert_with(|| format!("{shown}: {}", reason(&error)));
                return None;
            }
            Err(NoFile::Path(error)) => {
                warn_limited!(self.log, "{shown} cannot be written: {}; its messages go to {}", reason(&error), self.fall_back());
            }
            Err(NoFile::TooMany) => {
                let most = self.settings.new_files;
                warn_limited!(
                    self.log,
                    "more than {most} new files in a minute (new-files): {shown} and others go to {}",
                    self.fall_back()
                );
            }
        }
        self.redirected += 1;
        let path = [self.settings.base.as_os_str().as_encoded_bytes(), b"/", FALL_BACK].concat();
        match self.by_path.get(&*path) {
            Some(slot) => Some(*slot),
            None => match self.open(&path, batch, failed) {
                Ok(slot) => Some(slot),
                Err(NoFile::Path(error) | NoFile::Retry(error)) => {
                    failed.get_or_insert_with(|| format!("{shown}: {}", reason(&error)));
                    None
                }
                Err(NoFile::TooMany) => None,
            },
        }
    }

    fn fall_back(&self) -> String {
        self.settings.base.join(String::from_utf8_lossy(FALL_BACK).as_ref()).display().to_string()
    }

    /// Opens the file and gives it a slot, for which another may have to be closed.
    fn open(&mut self, path: &[u8], batch: &mut [Chunk], failed: &mut Option<String>) -> Result<usize, NoFile> {
        if self.slots.len() >= self.settings.max_open {
            self.close_one(batch, failed);
        }
        let file = match self.open_file(path) {
            // The process's limit is lower than ours.
            Err(NoFile::Retry(error)) if error.raw_os_error() == Some(libc::EMFILE) && !self.slots.is_empty() => {
                self.close_one(batch, failed);
                self.open_file(path)?
            }
            result => result?,
        };
        let slot = self.slots.len();
        self.slots.push(Open { path: path.into(), file, pending: Vec::new(), partial: 0, used: true, failed: false });
        self.by_path.insert(path.into(), slot);
        Ok(slot)
    }

    /// Second chance: the hand goes round and closes the first file that nobody has used since it came by.
    fn close_one(&mut self, batch: &mut [Chunk], failed: &mut Option<String>) {
        if self.slots.iter().all(|open| !open.pending.is_empty()) {
            self.write_out(batch, failed);
        }
        for _ in 0..2 * self.slots.len() + 1 {
            self.hand = (self.hand + 1) % self.slots.len();
            let open = &mut self.slots[self.hand];
            if !std::mem::take(&mut open.used) && open.pending.is_empty() && open.partial == 0 {
                return self.close(self.hand);
            }
        }
        // All are in the middle of something: one is closed that has nothing of this batch.
        if let Some(slot) = self.slots.iter().position(|open| open.pending.is_empty()) {
            self.close(slot);
        }
    }

    fn close(&mut self, slot: usize) {
        let closed = self.slots.swap_remove(slot);
        self.by_path.remove(&closed.path);
        let last = self.slots.len();
        if let Some(moved) = self.slots.get(slot) {
            self.by_path.insert(moved.path.clone(), slot);
            self.touched.iter_mut().filter(|touched| **touched == last).for_each(|touched| *touched = slot);
        }
    }

    fn write_out(&mut self, batch: &mut [Chunk], failed: &mut Option<String>) {
        self.written += self.touched.len();
        for slot in std::mem::take(&mut self.touched) {
            let open = &mut self.slots[slot];
            let (mut written, mut result) = open.write(batch, &mut self.gathered);
            if self.settings.sync == Sync::Batch
                && let Err(error) = open.file.sync_data()
            {
                // What the kernel did not keep is written again.
                (written, open.partial, result) = (0, 0, Err(error));
            }
            for (chunk, record) in open.pending.drain(..).take(written) {
                batch[chunk as usize].settle(record as usize, State::Delivered);
            }
            open.pending.clear();
            if let Err(error) = result {
                open.failed = true;
                let path = String::from_utf8_lossy(&open.path).into_owned();
                failed.get_or_insert_with(|| format!("{path}: {}", reason(&error)));
            }
        }
    }

    /// Opens a file that exists, or makes it and the folders it is in.
    fn open_file(&mut self, path: &[u8]) -> Result<File, NoFile> {
        let base = self.settings.base.as_os_str().as_encoded_bytes();
        let below = path.strip_prefix(base).map_or(path, |rest| rest.strip_prefix(b"/").unwrap_or(rest));
        let Ok(name) = CString::new(below) else {
            return Err(NoFile::Path(io::Error::from(io::ErrorKind::InvalidInput)));
        };
        match self.base()?.append(&name) {
            Ok(file) => {
                end_line(&file).map_err(NoFile::Retry)?;
                return Ok(file);
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(classified(error)),
            Err(_) => {}
        }
        if below != FALL_BACK && !self.may_make_one() {
            return Err(NoFile::TooMany);
        }
        match self.make(&name) {
            // The base folder itself has been taken away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.base = None;
                self.make(&name).map_err(classified)
            }
            result => result.map_err(classified),
        }
    }

    fn make(&mut self, name: &CStr) -> io::Result<File> {
        let Settings { mode, owner, group, dir_mode, dir_owner, dir_group, .. } = self.settings;
        let mut adjusted = Ok(());
        let base = self.base().map_err(|error| match error {
            NoFile::Path(error) | NoFile::Retry(error) => error,
            NoFile::TooMany => io::ErrorKind::Other.into(),
        })?;
        let file = match base.create(name, mode) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                for folder in folders(name) {
                    if base.make(&folder, dir_mode)? {
                        adjusted = adjusted.and(base.adjust(&folder, dir_mode, dir_owner, dir_group));
                    }
                }
                base.create(name, mode)?
            }
            result => result?,
        };
        // Whom a file belongs to is no reason to write its messages elsewhere.
        if let Err(error) = adjusted.and(adjust_file(&file, mode, owner, group)) {
            let name = name.to_string_lossy();
            warn_limited!(self.owners, "{name}: its owner, group or mode cannot be set: {}", reason(&error));
        }
        Ok(file)
    }

    /// The base folder, made where there is none.
    fn base(&mut self) -> Result<&Folder, NoFile> {
        if self.base.is_none() {
            let path = &self.settings.base;
            DirBuilder::new().recursive(true).mode(self.settings.dir_mode).create(path).map_err(NoFile::Retry)?;
            self.base = Some(Folder::open(path).map_err(NoFile::Retry)?);
        }
        Ok(self.base.as_ref().expect("it was opened just now"))
    }

    fn may_make_one(&mut self) -> bool {
        let (since, count) = &mut self.made;
        if since.is_none_or(|since| since.elapsed().as_secs() >= MINUTE) {
            (*since, *count) = (Some(Instant::now()), 0);
        }
        *count += 1;
        *count <= self.settings.new_files
    }
}

impl Open {
    /// Writes the pending records from the first on; how many are whole in the file, and what stopped the others.
    fn write(&mut self, batch: &[Chunk], gathered: &mut Vec<u8>) -> (usize, io::Result<()>) {
        let body = |(chunk, record): (u32, u32)| {
            let chunk = &batch[chunk as usize];
            chunk.records[record as usize].body.of(&chunk.bytes)
        };
        let mut done = 0;
        while done < self.pending.len() {
            let bytes = gather(self.pending[done..].iter().map(|place| body(*place)), gathered);
            let mut count = match (&self.file).write(&bytes[self.partial..]) {
                Ok(0) => return (done, Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => count + self.partial,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return (done, Err(error)),
            };
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

/// The first bodies together, as many as make a write(2); a body that is one alone stays where it is.
fn gather<'b>(mut bodies: impl Iterator<Item = &'b [u8]>, gathered: &'b mut Vec<u8>) -> &'b [u8] {
    let first = bodies.next().unwrap_or_default();
    if first.len() > GATHERED {
        return first;
    }
    gathered.clear();
    gathered.extend_from_slice(first);
    for next in bodies {
        if gathered.len() + next.len() > GATHERED {
            break;
        }
        gathered.extend_from_slice(next);
    }
    gathered
}

/// Errors of one path, which no waiting mends while the others go on; and all the others.
fn classified(error: io::Error) -> NoFile {
    match error.raw_os_error() {
        Some(
            libc::EACCES
            | libc::EILSEQ
            | libc::EINVAL
            | libc::EISDIR
            | libc::ELOOP
            | libc::ENAMETOOLONG
            | libc::ENOTDIR
            | libc::ENXIO
            | libc::EPERM
            | libc::EXDEV,
        )
        | None => NoFile::Path(error),
        Some(_) => NoFile::Retry(error),
    }
}

/// The folders that a path is in, the outermost first.
fn folders(path: &CStr) -> impl Iterator<Item = CString> {
    let bytes = path.to_bytes();
    let slashes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(i, _)| i);
    slashes.filter(|i| *i > 0).filter_map(|i| CString::new(&bytes[..i]).ok())
}

#[cfg(test)]
mod tests;
