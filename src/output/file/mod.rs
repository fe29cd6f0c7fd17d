//! `[[output.file]]`: records appended to files whose paths come from a template.
//!
//! A delivery sorts its records by file and gives each file all of its own, 64 KiB with one write(2): 400 files cost 400
//! writes for a megabyte of messages, not one for each message. Nothing is held here: what is not written stays in the queue.
//! One file that cannot be written keeps no other from it. Files may be closed for good by size and time ([`rotation`]),
//! and sealed ([`chain`]).

mod chain;
mod keeper;
mod names;
mod pack;
mod period;
mod place;
mod rotation;
mod slot;
mod store;
mod verify;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use toml::Spanned;

use super::{Delivery, Hold, Output, OutputScope, Plan, QueueConfig, Undelivered};
use crate::config::Mode;
use crate::metrics::OutputCounters;
use crate::queue::{Bounds, Chunk, WhenFull};
use crate::sys::reason;
use crate::template::{Escaping, Template};

use chain::{Seal, SealConfig};
use keeper::{Keeper, locked};
use names::Names;
use rotation::{RotateConfig, Rotation};
use store::Store;

pub use verify::{SealKey, Verdict, verify};

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    pub name: String,
    /// Fields become single harmless names; what stands before the first of them is the folder nothing leaves.
    pub path: Spanned<String>,
    pub format: Option<Spanned<String>>,
    /// Control bytes of a message become `#ooo`, or are kept.
    #[serde(default)]
    pub control_characters: ControlCharacters,
    pub mode: Option<Mode>,
    pub owner: Option<Spanned<String>>,
    pub group: Option<Spanned<String>>,
    pub dir_mode: Option<Mode>,
    pub dir_owner: Option<Spanned<String>>,
    pub dir_group: Option<Spanned<String>>,
    /// Files open at a time; the least used is closed for another.
    pub max_open: Option<Spanned<usize>>,
    /// Files made anew in a minute; what would need more goes to the fall-back file.
    pub new_files: Option<u32>,
    #[serde(default)]
    pub sync: Sync,
    pub rotate: Option<Spanned<RotateConfig>>,
    pub seal: Option<SealConfig>,
    #[serde(default)]
    pub queue: QueueConfig,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlCharacters {
    #[default]
    Escape,
    Keep,
}

/// When fdatasync(2) is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sync {
    /// After each delivery, before it counts as one.
    Batch,
    /// The kernel writes when it likes: a crash of the process loses nothing, a power cut may.
    #[default]
    None,
}

/// How files and folders are made.
#[derive(Debug)]
struct Settings {
    base: PathBuf,
    mode: u32,
    owner: Option<u32>,
    group: Option<u32>,
    dir_mode: u32,
    dir_owner: Option<u32>,
    dir_group: Option<u32>,
    max_open: usize,
    new_files: u32,
    sync: Sync,
    rotation: Option<Rotation>,
    /// Where files are closed for good.
    names: Option<Names>,
    seal: Option<Arc<Seal>>,
}

/// Half of what a process may open by default on most systems; the daemon raises its own limit.
const MAX_OPEN: usize = 2048;
/// More new files in a minute than any restart of a site makes, and few enough to keep the file system alive.
const NEW_FILES: u32 = 20_000;
const QUEUE: usize = 16 << 20;
/// So many files are written to at any time.
const FEW: usize = 8;
/// With more of them, so many records for each are waited for …
const WORTH_A_WRITE: usize = 16;
/// … or so many bytes in all …
const ENOUGH: usize = 1 << 20;
/// … or so long.
const LONGEST_HOLD: Duration = Duration::from_millis(100);

pub(super) fn plan(config: &Config, scope: &mut OutputScope<'_, '_>) -> Option<Plan> {
    let compiled = Template::with_lookups(config.path.as_ref(), Escaping::Path, scope.lookups);
    let path = scope.scope.compiled(&config.path, compiled);
    let escaping = match config.control_characters {
        ControlCharacters::Escape => Escaping::Line,
        ControlCharacters::Keep => Escaping::Nothing,
    };
    let format = scope.format(config.format.as_ref(), "file", escaping);
    let settings = Arc::new(settings(config, path.as_ref()?, scope));
    let is_alone = settings.rotation.is_some() || settings.seal.is_some();
    let mut plan = Plan {
        name: config.name.as_str().into(),
        kind: "file",
        place: config.path.as_ref().clone(),
        // What a closed, packed and sealed file is called.
        address: path.map(|path| if is_alone { path.with_room(names::ROOM) } else { path }),
        form: settings.base.display().to_string(),
        print: format!("{settings:?}"),
        group: config.group.as_ref().map(|group| group.as_ref().clone()),
        is_alone,
        ..Plan::of(
            format?,
            Bounds::new(QUEUE, WhenFull::Block),
            Box::new(move |counters| Box::new(Files::start(settings.clone(), counters.clone()))),
        )
    };
    config.queue.apply(&mut plan, scope.scope);
    Some(plan)
}

/// The folder that no record leaves: everything before the last slash of the literal beginning.
fn base(path: &Template) -> PathBuf {
    let prefix = String::from_utf8_lossy(path.literal_prefix()).into_owned();
    match prefix.rfind('/') {
        Some(0) => PathBuf::from("/"),
        Some(slash) => PathBuf::from(&prefix[..slash]),
        None => PathBuf::from("."),
    }
}

fn settings(config: &Config, path: &Template, scope: &mut OutputScope<'_, '_>) -> Settings {
    let base = base(path);
    let names = Names::of(path, &base);
    let rotation = config.rotate.as_ref().map(|rotate| Rotation::of(rotate, names.as_ref(), scope));
    let seal = config.seal.as_ref().and_then(|seal| Seal::of(seal, scope));
    let text = config.path.as_ref();
    if text.is_empty() || text.ends_with('/') {
        scope.scope.error(config.path.span(), "`path` names a folder, not a file");
    }
    if text.split('/').any(|name| name == "..") {
        scope.scope.error(config.path.span(), "`..` in a path: say where it leads");
    }
    let max_open = config.max_open.as_ref().map_or(MAX_OPEN, |count| *count.as_ref());
    if let Some(count) = config.max_open.as_ref().filter(|count| *count.as_ref() == 0) {
        scope.scope.error(count.span(), "at least one file must be open to be written");
    }
    let (owner, group) = (scope.scope.user(config.owner.as_ref()), scope.scope.group(config.group.as_ref()));
    let (dir_owner, dir_group) = (scope.scope.user(config.dir_owner.as_ref()), scope.scope.group(config.dir_group.as_ref()));
    Settings {
        base,
        mode: config.mode.map_or(0o640, |mode| mode.0),
        owner: owner.map(|user| user.uid),
        group,
        dir_mode: config.dir_mode.map_or(0o750, |mode| mode.0),
        dir_owner: dir_owner.map(|user| user.uid),
        dir_group,
        max_open,
        new_files: config.new_files.unwrap_or(NEW_FILES),
        sync: config.sync,
        names: names.filter(|_| rotation.is_some()),
        rotation,
        seal,
    }
}

impl Settings {
    /// Live files are append-only, and closed ones immutable.
    fn protects(&self) -> bool {
        self.rotation.as_ref().is_some_and(|rotation| rotation.immutable)
    }
}

struct Files {
    store: Arc<Mutex<Store>>,
    /// Where files are closed for good, or sealed.
    keeper: Option<Keeper>,
    /// Of the last delivery: how many files it wrote to, and what a record weighed.
    last: (usize, usize),
    counters: Arc<OutputCounters>,
}

impl Files {
    fn start(settings: Arc<Settings>, counters: Arc<OutputCounters>) -> Self {
        let store = Arc::new(Mutex::new(Store::new(settings.clone())));
        let keeper = (settings.rotation.is_some() || settings.seal.is_some()).then(|| Keeper::start(settings, &store));
        let keeper = keeper.and_then(|keeper| match keeper {
            Ok(keeper) => Some(keeper),
            Err(error) => {
                tracing::error!("files are written, and nobody packs, removes or seals them: {}", reason(&error));
                None
            }
        });
        Self { store, keeper, last: (0, 0), counters }
    }
}

impl Drop for Files {
    /// Whoever comes next finds files that are sealed.
    fn drop(&mut self) {
        self.keeper = None;
        locked(&self.store).close_all();
    }
}

impl Output for Files {
    /// Everything is tried; the first thing that went wrong is said.
    fn deliver<'a>(&'a mut self, batch: &'a mut [Chunk]) -> Delivery<'a> {
        let mut store = locked(&self.store);
        let result = store.write(batch).map_err(Undelivered::Retry);
        let (cost, records) = batch.iter().fold((0, 0), |(c, r), chunk| (c + chunk.cost(), r + chunk.records.len()));
        self.last = (store.written(), cost / records.max(1));
        self.counters.redirected.add(store.take_redirected());
        if store.take_rotated() > 0
            && let Some(keeper) = &self.keeper
        {
            keeper.wake();
        }
        Box::pin(std::future::ready(result))
    }

    fn given_up(&mut self) {
        locked(&self.store).close_all();
    }

    fn reopen(&mut self) {
        locked(&self.store).close_all();
    }

    fn has_many_places(&self) -> bool {
        true
    }

    /// Few files take their records as they come. Where there are many, a write(2) for each record would cost more than
    /// all the rest.
    fn hold(&self) -> Option<Hold> {
        let (files, record) = self.last;
        (files > FEW).then(|| Hold { enough: (files * WORTH_A_WRITE * record).min(ENOUGH), longest: LONGEST_HOLD })
    }
}
