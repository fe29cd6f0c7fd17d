//! What becomes of files beside the writing: those of the last period are closed, closed ones packed and, when they are
//! too many, too old or too large, removed; chains are sealed.
//!
//! A thread of its own for each output that rotates or seals. What it does to files that are written it does through the
//! store, between two deliveries. Packing has one more thread, at the lowest priority.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Utc};

use super::Settings;
use super::names::{self, Closing, Names, with};
use super::pack::pack;
use super::period::Period;
use super::rotation::{Packing, Rotation};
use super::store::Store;
use crate::message::Severity;
use crate::metrics::Limited;
use crate::sys::file::{Folder, Protection, protect};
use crate::sys::{process, reason};
use crate::warn_limited;

/// However little happens, files are looked through so often.
const LOOK: Duration = Duration::from_secs(3600);
/// Looking through them takes a twentieth of a core's time at most …
const REST: u32 = 20;
/// … and happens so often at most.
const SHORTEST_REST: Duration = Duration::from_secs(1);
/// Between two files that are sealed: deliveries go first.
const BREATH: Duration = Duration::from_millis(1);

/// The thread, from outside; it ends when this is dropped.
pub(super) struct Keeper {
    wake: Sender<()>,
    stop: Arc<AtomicBool>,
}

impl Keeper {
    pub(super) fn start(settings: Arc<Settings>, store: &Arc<Mutex<Store>>) -> io::Result<Self> {
        let (wake, woken) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let work = Work {
            settings,
            store: Arc::downgrade(store),
            stop: stop.clone(),
            woken,
            wake: wake.clone(),
            packing: Arc::default(),
            said: Limited::default(),
        };
        std::thread::Builder::new().name("keeper".to_owned()).spawn(move || work.run())?;
        Ok(Self { wake, stop })
    }

    /// A file was closed for good.
    pub(super) fn wake(&self) {
        // One that has ended needs none.
        let _ = self.wake.send(());
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake();
    }
}

/// The store, whatever became of who had it last.
pub(super) fn locked(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Work {
    settings: Arc<Settings>,
    store: Weak<Mutex<Store>>,
    stop: Arc<AtomicBool>,
    woken: Receiver<()>,
    wake: Sender<()>,
    /// A packer is at work.
    packing: Arc<AtomicBool>,
    said: Limited,
}

/// Files of one path.
#[derive(Default)]
struct Family {
    /// Of the one that is written.
    modified: Option<SystemTime>,
    size: u64,
    severity: Option<Severity>,
    closed: Vec<Closed>,
}

struct Closed {
    /// Below the base folder, as it is called now.
    name: Vec<u8>,
    /// As it was called before it was packed: its chain's name begins so.
    plain: Vec<u8>,
    when: Closing,
    size: u64,
    is_packed: bool,
}

impl Work {
    fn run(self) {
        let (mut looked, mut rest) = (None, SHORTEST_REST);
        let mut sealed = Instant::now();
        let mut asked = true;
        while !self.stop.load(Ordering::Relaxed) {
            let now = Utc::now();
            let look = looked.map_or(now, |looked: DateTime<Utc>| {
                let due = if asked { looked + rest } else { looked + LOOK };
                self.period(looked).map_or(due, |period| due.min(period.end.max(looked + rest)))
            });
            let until_look = match self.settings.rotation {
                Some(_) => (look - now).to_std().unwrap_or_default(),
                None => LOOK,
            };
            let until_seal = self.settings.seal.as_ref().map(|seal| seal.every.saturating_sub(sealed.elapsed()));
            if until_seal.is_some_and(|left| left.is_zero()) {
                self.seal();
                sealed = Instant::now();
            } else if until_look.is_zero() {
                let started = Instant::now();
                self.look();
                (looked, asked, rest) = (Some(Utc::now()), false, (started.elapsed() * REST).max(SHORTEST_REST));
            } else {
                let wait = until_seal.map_or(until_look, |left| left.min(until_look)).clamp(BREATH, LOOK);
                match self.woken.recv_timeout(wait) {
                    Ok(()) => asked = true,
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        }
    }

    fn period(&self, now: DateTime<Utc>) -> Option<Period> {
        self.settings.rotation.as_ref()?.every.map(|every| Period::around(now, every))
    }

    fn seal(&self) {
        self.one_by_one(Store::seal_from);
    }

    /// Does something to each of the open files for which it is due, and lets deliveries go in between.
    fn one_by_one(&self, from: fn(&mut Store, usize) -> Option<usize>) {
        let mut next = 0;
        while let Some(store) = self.store.upgrade()
            && !self.stop.load(Ordering::Relaxed)
        {
            let Some(following) = from(&mut locked(&store), next) else { return };
            next = following;
            drop(store);
            std::thread::sleep(BREATH);
        }
    }

    /// Looks through all files once.
    fn look(&self) {
        let (Some(rotation), Some(names)) = (&self.settings.rotation, &self.settings.names) else { return };
        let Ok(folder) = Folder::open(&self.settings.base) else { return };
        // Even where nothing comes to be written.
        self.one_by_one(Store::close_stale_from);
        let mut work = Look { folder: &folder, to_pack: Vec::new(), total: 0, kept: Vec::new() };
        let mut folders = vec![(Vec::new(), 0)];
        while let Some((below, depth)) = folders.pop() {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let deeper = self.look_into(&below, names, rotation, &mut work);
            if depth < names.folders {
                folders.extend(deeper.into_iter().map(|below| (below, depth + 1)));
            }
        }
        if let Some(most) = rotation.keep_total {
            self.remove_oldest(&mut work, most);
        }
        self.pack(work.to_pack, rotation.packing);
    }

    /// Looks through one folder; the folders in it.
    fn look_into(&self, below: &[u8], names: &Names, rotation: &Rotation, work: &mut Look<'_>) -> Vec<Vec<u8>> {
        let mut folders = Vec::new();
        let mut families: BTreeMap<Vec<u8>, Family> = BTreeMap::new();
        let path = self.settings.base.join(Path::new(std::ffi::OsStr::from_bytes(below)));
        // One that went away meanwhile, or must not be read, has nothing for us.
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            let (Ok(kind), Ok(data)) = (entry.file_type(), entry.metadata()) else { continue };
            let mut inner = below.to_vec();
            if !inner.is_empty() {
                inner.push(b'/');
            }
            inner.extend_from_slice(entry.file_name().as_bytes());
            if kind.is_dir() {
                folders.push(inner);
            } else if kind.is_file()
                && let Some(name) = names.read(&inner)
            {
                if name.is_chain {
                    continue;
                }
                let family = families.entry(name.live.to_vec()).or_default();
                family.severity = name.severity;
                match name.closed {
                    None => (family.modified, family.size) = (data.modified().ok().filter(|_| data.len() > 0), data.len()),
                    // Nobody is at work on it, or it is removed when somebody is next.
                    Some(_) if name.is_partial => self.remove_partial(work.folder, &inner),
                    Some(when) => {
                        let ending = if name.is_packed { inner.rsplitn(2, |byte| *byte == b'.').nth(1) } else { None };
                        let plain = ending.unwrap_or(&inner).to_vec();
                        let (is_packed, size) = (name.is_packed, data.len());
                        family.closed.push(Closed { plain, name: inner, when, size, is_packed });
                    }
                }
            }
        }
        for (live, family) in families {
            self.look_at(&live, family, rotation, work);
        }
        folders
    }

    fn look_at(&self, live: &[u8], mut family: Family, rotation: &Rotation, work: &mut Look<'_>) {
        let now = Utc::now();
        if let (Some(modified), Some(period)) = (family.modified, self.period(now))
            && DateTime::<Utc>::from(modified) < period.start
            && let Some(store) = self.store.upgrade()
        {
            let path = [self.settings.base.as_os_str().as_bytes(), b"/", live].concat();
            let mut store = locked(&store);
            store.close_for_good(&path);
            if store.take_rotated() > 0 {
                // What was closed is packed the next time.
                let _ = self.wake.send(());
            }
        }
        family.closed.sort_by_key(|closed| (std::cmp::Reverse(closed.when), !closed.is_packed));
        // The server ended between the packed file's taking its place and the removal of the other one.
        family.closed.dedup_by(|second, first| {
            let is_left_over = second.plain == first.plain;
            if is_left_over {
                self.remove_file(work.folder, &second.name);
            }
            is_left_over
        });
        let keep = rotation.keep(family.severity);
        work.total += family.size;
        for (i, closed) in family.closed.into_iter().enumerate() {
            let is_old = keep.time.is_some_and(|time| (now - closed.when.0).to_std().is_ok_and(|age| age > time));
            if is_old || keep.files.is_some_and(|most| i >= most as usize) {
                self.remove(work.folder, &closed);
                continue;
            }
            work.total += closed.size;
            if !closed.is_packed {
                work.to_pack.push(closed.name.clone());
            }
            if rotation.keep_total.is_some() {
                work.kept.push(closed);
            }
        }
    }

    fn remove_oldest(&self, work: &mut Look<'_>, most: u64) {
        let mut kept = std::mem::take(&mut work.kept);
        kept.sort_by_key(|closed| closed.when);
        for closed in kept {
            if work.total <= most {
                break;
            }
            self.remove(work.folder, &closed);
            work.total -= closed.size;
            work.to_pack.retain(|name| *name != closed.name);
        }
    }

    /// A file goes, and its chain with it.
    fn remove(&self, folder: &Folder, closed: &Closed) {
        self.remove_file(folder, &closed.name);
        self.remove_file(folder, &[&closed.plain, names::CHAIN.as_bytes()].concat());
    }

    fn remove_file(&self, folder: &Folder, name: &[u8]) {
        let Ok(name) = with(name, "") else { return };
        if self.settings.protects()
            && let Ok(file) = folder.read(&name)
        {
            // Where it does not help, the removal says why.
            let _ = protect(&file, Protection::Nothing);
        }
        match folder.remove(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let name = name.to_string_lossy();
                warn_limited!(self.said, "{name} is not kept any more, and cannot be removed: {}", reason(&error));
            }
            _ => {}
        }
    }

    fn remove_partial(&self, folder: &Folder, name: &[u8]) {
        if !self.packing.load(Ordering::Acquire) {
            // It is tried again at the next look.
            let _ = with(name, "").and_then(|name| folder.remove(&name));
        }
    }

    /// Packs the files, and makes them immutable where that is asked for, beside everything else.
    fn pack(&self, files: Vec<Vec<u8>>, packing: Packing) {
        let immutable = self.settings.protects();
        if files.is_empty() || (packing == Packing::None && !immutable) || self.packing.swap(true, Ordering::AcqRel) {
            return;
        }
        let packer = Packer { base: self.settings.base.clone(), packing, immutable, stop: self.stop.clone() };
        let (is_at_work, wake) = (self.packing.clone(), self.wake.clone());
        let spawned = std::thread::Builder::new().name("packer".to_owned()).spawn(move || {
            let done = packer.run(&files);
            is_at_work.store(false, Ordering::Release);
            if done {
                // There may be more by now.
                let _ = wake.send(());
            }
        });
        if let Err(error) = spawned {
            self.packing.store(false, Ordering::Release);
            warn_limited!(self.said, "closed files cannot be packed now: {}", reason(&error));
        }
    }
}

/// What is found in one look through all files.
struct Look<'f> {
    folder: &'f Folder,
    to_pack: Vec<Vec<u8>>,
    /// Octets of all files.
    total: u64,
    /// Closed ones, where the oldest may have to go.
    kept: Vec<Closed>,
}

struct Packer {
    base: std::path::PathBuf,
    packing: Packing,
    immutable: bool,
    stop: Arc<AtomicBool>,
}

impl Packer {
    /// True: some were packed.
    fn run(&self, files: &[Vec<u8>]) -> bool {
        /// One at a time, whatever the number of outputs.
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = process::give_way() {
            tracing::debug!("files are packed at the usual priority: {}", reason(&error));
        }
        let Ok(folder) = Folder::open(&self.base) else { return false };
        let mut done = false;
        for name in files.iter().filter_map(|name| CString::new(name.as_slice()).ok()) {
            if self.stop.load(Ordering::Relaxed) {
                return false;
            }
            let result = match self.packing {
                Packing::None => self.protect(&folder, &name).map(|()| false),
                packing => pack(&folder, &name, packing, &self.stop),
            };
            match result {
                Ok(packed) => {
                    done |= packed;
                    if packed
                        && let Ok(name) = with(name.to_bytes(), self.packing.ending().unwrap_or_default())
                        && let Err(error) = self.protect(&folder, &name)
                    {
                        tracing::warn!("{} cannot be made immutable: {}", name.to_string_lossy(), reason(&error));
                    }
                }
                Err(error) => tracing::warn!("{} cannot be packed: {}", name.to_string_lossy(), reason(&error)),
            }
        }
        done
    }

    fn protect(&self, folder: &Folder, name: &CString) -> io::Result<()> {
        if self.immutable { protect(&folder.read(name)?, Protection::Immutable) } else { Ok(()) }
    }
}
