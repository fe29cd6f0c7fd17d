//! Open files, the least used of them closed when there are too many; and when each is closed for good.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Utc};

use super::chain::{self, Chain};
use super::names::{self, Closing};
use super::period::Period;
use super::place::{FALL_BACK, Found, NoFile, Place, is_fall_back};
use super::slot::Open;
use super::{Settings, Sync};
use crate::message::Span;
use crate::metrics::Limited;
use crate::queue::{Chunk, State};
use crate::sys::file::{Protection, end_line, is_being_written, protect};
use crate::sys::reason;
use crate::warn_limited;

/// A file that could not be closed for good is written on, and tried again after this.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Store {
    settings: Arc<Settings>,
    place: Place,
    by_path: HashMap<Box<[u8]>, usize, foldhash::fast::RandomState>,
    slots: Vec<Open>,
    /// Where the search for a file to close goes on.
    hand: usize,
    /// Files with records of the batch in hand.
    touched: Vec<usize>,
    /// Files that the last batch was written to.
    written: usize,
    redirected: u64,
    /// What goes to a file with one write.
    gathered: Vec<u8>,
    /// The hour, day, week or month that open files are of.
    period: Option<Period>,
    /// Files closed for good since somebody asked.
    rotated: u64,
    log: Limited,
    /// For files that cannot be closed for good.
    stuck: Limited,
    /// For files whose chains cannot be opened.
    unsealed: Limited,
}

impl Store {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self {
            place: Place::new(settings.clone()),
            settings,
            by_path: HashMap::default(),
            slots: Vec::new(),
            hand: 0,
            touched: Vec::new(),
            written: 0,
            redirected: 0,
            gathered: Vec::new(),
            period: None,
            rotated: 0,
            log: Limited::default(),
            stuck: Limited::default(),
            unsealed: Limited::default(),
        }
    }

    /// Appends all pending records to their files and settles those that are in. What went wrong first is the error;
    /// everything else has been tried all the same.
    pub(super) fn write(&mut self, batch: &mut [Chunk]) -> Result<(), String> {
        let mut failed = None;
        self.written = 0;
        self.slots.iter_mut().for_each(|open| open.failed = false);
        self.turn(Utc::now());
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

    /// How many files were closed for good since it was asked last.
    pub(super) fn take_rotated(&mut self) -> u64 {
        std::mem::take(&mut self.rotated)
    }

    /// The next record opens its file anew. One that was cut by a full disk is then written whole, on a line of its own.
    pub(super) fn close_all(&mut self) {
        self.by_path.clear();
        for open in &mut self.slots {
            // What went wrong has been said.
            let _ = open.seal();
        }
        self.slots.clear();
        self.place.forget();
    }

    /// Seals the first file from this slot on with lines that are not; where to go on. None: there is none.
    pub(super) fn seal_from(&mut self, first: usize) -> Option<usize> {
        // A chain that could not be opened may be there by now.
        let slot = (first..self.slots.len()).find(|slot| self.slots[*slot].chain.as_ref().is_none_or(Chain::is_to_be_sealed))?;
        let Open { name, file, chain, .. } = &self.slots[slot];
        match (chain, name.clone(), file.try_clone()) {
            (None, name, Ok(file)) => self.slots[slot].chain = self.chain(&name, &file, None),
            _ => drop(self.slots[slot].seal()),
        }
        Some(slot + 1)
    }

    /// The same, closing for good what is of a period that is over.
    pub(super) fn close_stale_from(&mut self, first: usize) -> Option<usize> {
        self.turn(Utc::now());
        let slot = (first..self.slots.len()).find(|slot| self.slots[*slot].is_stale)?;
        self.rotate(slot);
        Some(slot + 1)
    }

    /// A file of a period that is over and that nobody writes to is closed for good.
    pub(super) fn close_for_good(&mut self, path: &[u8]) {
        if self.by_path.contains_key(path) {
            return;
        }
        let Ok(name) = self.place.below(path) else { return };
        let result = self.place.folder().and_then(|folder| folder.read(&name)).and_then(|file| {
            let data = file.metadata()?;
            let is_over = self.is_of_the_past(data.modified()?);
            if !is_over || data.len() == 0 || is_being_written(&file) {
                return Ok(());
            }
            drop(file);
            let file = self.place.folder()?.append(&name)?;
            end_line(&file)?;
            if let Some(mut chain) = self.chain(&name, &file, None) {
                chain.seal(&file)?;
            }
            self.give_away(&name, &file, None)?;
            self.rotated += 1;
            Ok(())
        });
        match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => self.say_stuck(&name, &error),
            _ => {}
        }
    }

    fn is_of_the_past(&self, modified: SystemTime) -> bool {
        self.period.is_some_and(|period| DateTime::<Utc>::from(modified) < period.start)
    }

    /// Open files of the last period are closed for good before anything more is written to them.
    fn turn(&mut self, now: DateTime<Utc>) {
        let Some(every) = self.settings.rotation.as_ref().and_then(|rotation| rotation.every) else { return };
        if self.period.is_some_and(|period| period.holds(now)) {
            return;
        }
        if self.period.replace(Period::around(now, every)).is_some() {
            self.slots.iter_mut().for_each(|open| open.is_stale = open.size > 0);
        }
    }

    /// The file gets its last name, and its path a new one. Where that cannot be done it is written on.
    fn rotate(&mut self, slot: usize) {
        let open = &mut self.slots[slot];
        if open.size == 0 || open.partial > 0 || open.is_stuck() || is_fall_back(&open.name) {
            return;
        }
        let sealed = open.seal();
        let after = open.chain.as_ref().map(|chain| chain.last().to_owned());
        let (name, before) = (open.name.clone(), open.closed);
        let file = sealed.and_then(|()| self.slots[slot].file.try_clone());
        let result = file.and_then(|file| {
            let (last, closing) = self.give_away(&name, &file, before)?;
            let made = self.place.make(&name).inspect_err(|_| self.take_back(&last, &name, &file));
            made.map(|found| (found, closing))
        });
        match result {
            Ok((Found { file, size, .. }, closing)) => {
                self.rotated += 1;
                let chain = self.chain(&name, &file, after.as_deref());
                let open = &mut self.slots[slot];
                (open.file, open.size, open.chain, open.closed) = (file, size, chain, Some(closing));
                (open.stuck, open.is_stale) = (None, false);
            }
            Err(error) => {
                self.slots[slot].stuck = Some(Instant::now() + PATIENCE);
                self.say_stuck(&name, &error);
            }
        }
    }

    fn say_stuck(&mut self, name: &CStr, error: &io::Error) {
        let name = name.to_string_lossy();
        warn_limited!(self.stuck, "{name} cannot be rotated and is written on: {}", reason(error));
    }

    /// Renames a file, and its chain, to what it is called from now on.
    fn give_away(&mut self, name: &CStr, file: &File, before: Option<Closing>) -> io::Result<(CString, Closing)> {
        let is_protected = self.settings.protects();
        let folder = self.place.folder()?;
        let (last, closing) = names::last(name, Utc::now(), before, |name| folder.has(name))?;
        if is_protected {
            protect(file, Protection::Nothing)?;
        }
        folder.rename(name, &last)?;
        if self.settings.seal.is_some()
            && let Err(error) = Chain::rename(folder, name, &last)
        {
            let name = last.to_string_lossy();
            tracing::error!("the chain of {name} cannot follow it: {}", reason(&error));
        }
        Ok((last, closing))
    }

    /// As before, then: there is no new file.
    fn take_back(&mut self, last: &CStr, name: &CStr, file: &File) {
        let back = self.place.folder().and_then(|folder| {
            folder.rename(last, name)?;
            Chain::rename(folder, last, name)
        });
        let protected = if self.settings.protects() { protect(file, Protection::AppendOnly) } else { Ok(()) };
        if let Err(error) = back.and(protected) {
            tracing::error!("{} is not what it was before: {}", name.to_string_lossy(), reason(&error));
        }
    }

    /// None: it is not sealed, or not now.
    fn chain(&mut self, name: &CStr, file: &File, after: Option<&str>) -> Option<Chain> {
        let seal = self.settings.seal.clone().filter(|_| !is_fall_back(name))?;
        let settings = self.settings.clone();
        let chain = self.place.folder().and_then(|folder| {
            Chain::open(&chain::Place { folder, base: &settings.base, name }, file, settings.mode, seal, after)
        });
        match chain {
            Ok(chain) => Some(chain),
            Err(error) => {
                let name = name.to_string_lossy();
                warn_limited!(self.unsealed, "{name} is not sealed: its chain cannot be opened: {}", reason(&error));
                None
            }
        }
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
        let path = [self.settings.base.as_os_str().as_encoded_bytes(), b"/", FALL_BACK.as_bytes()].concat();
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
        self.settings.base.join(FALL_BACK).display().to_string()
    }

    /// Opens the file and gives it a slot, for which another may have to be closed.
    fn open(&mut self, path: &[u8], batch: &mut [Chunk], failed: &mut Option<String>) -> Result<usize, NoFile> {
        if self.slots.len() >= self.settings.max_open {
            self.close_one(batch, failed);
        }
        let name = self.place.below(path)?;
        let found = match self.place.open(&name) {
            // The process's limit is lower than ours.
            Err(NoFile::Retry(error)) if error.raw_os_error() == Some(libc::EMFILE) && !self.slots.is_empty() => {
                self.close_one(batch, failed);
                self.place.open(&name)?
            }
            result => result?,
        };
        let slot = self.slots.len();
        let chain = self.chain(&name, &found.file, None);
        self.slots.push(Open {
            path: path.into(),
            chain,
            name,
            file: found.file,
            size: found.size,
            pending: Vec::new(),
            partial: 0,
            used: true,
            failed: false,
            stuck: None,
            is_stale: false,
            closed: None,
        });
        self.by_path.insert(path.into(), slot);
        if self.is_of_the_past(found.modified) {
            self.slots[slot].is_stale = true;
            self.rotate(slot);
        }
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
        let mut closed = self.slots.swap_remove(slot);
        // What went wrong has been said.
        let _ = closed.seal();
        self.by_path.remove(&closed.path);
        let last = self.slots.len();
        if let Some(moved) = self.slots.get(slot) {
            self.by_path.insert(moved.path.clone(), slot);
            self.touched.iter_mut().filter(|touched| **touched == last).for_each(|touched| *touched = slot);
        }
    }

    fn write_out(&mut self, batch: &mut [Chunk], failed: &mut Option<String>) {
        self.written += self.touched.len();
        let limit = self.settings.rotation.as_ref().and_then(|rotation| rotation.size).unwrap_or(u64::MAX);
        for slot in std::mem::take(&mut self.touched) {
            if self.slots[slot].is_stale {
                self.rotate(slot);
            }
            loop {
                let open = &mut self.slots[slot];
                let room = if open.is_stuck() || is_fall_back(&open.name) { u64::MAX } else { limit.saturating_sub(open.size) };
                let (mut written, mut result) = open.write(batch, &mut self.gathered, room);
                if self.settings.sync == Sync::Batch
                    && let Err(error) = open.file.sync_data()
                {
                    // What the kernel did not keep is written again.
                    (written, open.partial, result) = (0, 0, Err(error));
                }
                for (chunk, record) in open.pending.drain(..written) {
                    batch[chunk as usize].settle(record as usize, State::Delivered);
                }
                if let Err(error) = result {
                    open.failed = true;
                    open.pending.clear();
                    let path = String::from_utf8_lossy(&open.path).into_owned();
                    failed.get_or_insert_with(|| format!("{path}: {}", reason(&error)));
                }
                if open.pending.is_empty() {
                    break;
                }
                self.rotate(slot);
            }
            if let Some(chain) = &mut self.slots[slot].chain {
                chain.flush();
            }
        }
    }
}

#[cfg(test)]
mod tests;
