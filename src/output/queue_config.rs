//! `queue = { … }` of an output.

use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::{Mode, Plan};
use crate::config::{Period, Scope, Size};
use crate::message::Severity;
use crate::queue::disk::{self, Sync};
use crate::queue::{Shed, WhenFull};

/// A queue that holds less than two chunks would wait for each of them.
pub const SMALLEST_QUEUE: usize = 256 << 10;
/// Fill level above which shedding begins where it is not given.
const SHED_ABOVE: f64 = 0.8;
/// A queue with a disk is relieved as fast as that writes. One that hangs must not keep readers for longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// In front of a disk: more is on disk sooner than it pays.
const IN_FRONT: usize = 16 << 20;
const DISK_SIZE: usize = 1 << 30;
const SEGMENT: usize = 16 << 20;
const SMALLEST_SEGMENT: usize = 64 << 10;
/// A segment is deleted as a whole: with fewer of them a queue would be full while little is in it.
const FEWEST_SEGMENTS: usize = 4;

/// As written.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct QueueConfig {
    /// On disk where there is a disk, in memory where there is none.
    pub size: Option<Spanned<Size>>,
    /// What cannot be delivered yet goes to `state-dir`.
    pub disk: Option<bool>,
    pub mode: Option<Spanned<ModeName>>,
    pub segment: Option<Spanned<Size>>,
    pub sync: Option<Spanned<SyncName>>,
    pub when_full: Option<WhenFullName>,
    /// What has waited for so long is given up.
    pub deadline: Option<Period>,
    /// A file for what is given up, one JSON object a line.
    pub dead_letters: Option<Spanned<PathBuf>>,
    /// Above `shed-above` messages of this severity and less are dropped.
    pub shed: Option<Spanned<String>>,
    /// A part of `size`: `"80%"`.
    pub shed_above: Option<Spanned<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFullName {
    Block,
    DropNewest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModeName {
    Overflow,
    Always,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncName {
    Batch,
    Segment,
}

/// The part of a queue on disk, as run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskPlan {
    pub settings: disk::Settings,
    pub mode: Mode,
    /// In octets on disk.
    pub shed: Option<Shed>,
}

impl QueueConfig {
    /// Puts into the plan what is written over what it has by default.
    pub fn apply(&self, plan: &mut Plan, scope: &mut Scope<'_>) {
        if self.disk.unwrap_or(plan.disk.is_some()) {
            plan.disk = Some(self.disk_plan(scope));
            plan.bounds.size = plan.bounds.size.min(IN_FRONT);
            plan.bounds.patience = PATIENCE;
        } else {
            plan.disk = None;
            for span in [self.mode.as_ref().map(Spanned::span), self.segment.as_ref().map(Spanned::span)].into_iter().flatten() {
                scope.error(span, "this is for a queue on disk: `disk = true`");
            }
            if let Some(sync) = &self.sync {
                scope.error(sync.span(), "this is for a queue on disk: `disk = true`");
            }
        }
        if let Some(size) = self.size.as_ref().filter(|_| plan.disk.is_none()) {
            if size.as_ref().0 < SMALLEST_QUEUE {
                scope.error(size.span(), format!("a queue has at least {} KiB", SMALLEST_QUEUE >> 10));
            }
            plan.queue_size = Some(size.as_ref().0);
        }
        match self.when_full {
            Some(WhenFullName::Block) => plan.bounds.when_full = WhenFull::Block,
            Some(WhenFullName::DropNewest) => plan.bounds.when_full = WhenFull::DropNewest,
            None => {}
        }
        plan.bounds.deadline = self.deadline.map(|time| time.0);
        plan.dead_letters = self.dead_letters.as_ref().map(|path| path.as_ref().clone());
        if let Some(path) = self.dead_letters.as_ref().filter(|path| !path.as_ref().is_absolute()) {
            scope.error(path.span(), "`dead-letters` is a file: an absolute path is expected");
        }
        plan.shed_above = self.shed_above.as_ref().and_then(|text| percent(text, scope)).unwrap_or(SHED_ABOVE);
        plan.bounds.shed = self.shed.as_ref().and_then(|text| severity(text, scope)).map(|severity| Shed { above: 0, severity });
        if let Some(disk) = &mut plan.disk {
            let above = (disk.settings.size as f64 * plan.shed_above) as usize;
            disk.shed = plan.bounds.shed.take().map(|shed| Shed { above, ..shed });
        }
        if let (Some(above), None) = (&self.shed_above, &self.shed) {
            scope.error(above.span(), "`shed-above` without `shed`: which severities go?");
        }
    }
}

impl QueueConfig {
    fn disk_plan(&self, scope: &mut Scope<'_>) -> DiskPlan {
        let size = self.size.as_ref().map_or(DISK_SIZE, |size| size.as_ref().0);
        let segment = self.segment.as_ref().map_or(SEGMENT.min(size / FEWEST_SEGMENTS), |segment| segment.as_ref().0);
        if let Some(written) = &self.segment
            && (segment < SMALLEST_SEGMENT || segment > size / FEWEST_SEGMENTS)
        {
            let (least, most) = (SMALLEST_SEGMENT >> 10, (size / FEWEST_SEGMENTS) >> 10);
            scope.error(
                written.span(),
                format!("a segment has {least} KiB at least, and at most a quarter of `size` ({most} KiB)"),
            );
        } else if let Some(written) = &self.size
            && segment < SMALLEST_SEGMENT
        {
            scope.error(
                written.span(),
                format!("a queue on disk has at least {} KiB", (SMALLEST_SEGMENT * FEWEST_SEGMENTS) >> 10),
            );
        }
        let sync = match self.sync.as_ref().map(Spanned::as_ref) {
            Some(SyncName::Batch) => Sync::Batch,
            Some(SyncName::Segment) | None => Sync::Segment,
        };
        let mode = match self.mode.as_ref().map(Spanned::as_ref) {
            Some(ModeName::Always) => Mode::Always,
            Some(ModeName::Overflow) | None => Mode::Overflow,
        };
        DiskPlan { settings: disk::Settings { size: size as u64, segment: segment as u64, sync }, mode, shed: None }
    }
}

impl DiskPlan {
    /// What a network output has where nothing is written.
    pub(super) fn standard() -> Self {
        let settings = disk::Settings { size: DISK_SIZE as u64, segment: SEGMENT as u64, sync: Sync::Segment };
        Self { settings, mode: Mode::Overflow, shed: None }
    }
}

fn percent(text: &Spanned<String>, scope: &mut Scope<'_>) -> Option<f64> {
    let value = text.as_ref().strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    let value = value.filter(|value| (0.0..=100.0).contains(value));
    if value.is_none() {
        scope.error(text.span(), format!("`{}` where a part of the queue is expected: `\"80%\"`", text.as_ref()));
    }
    value.map(|value| value / 100.0)
}

fn severity(text: &Spanned<String>, scope: &mut Scope<'_>) -> Option<u8> {
    let severity = Severity::parse(text.as_ref());
    if severity.is_none() {
        let suggestion = crate::template::did_you_mean(text.as_ref(), crate::message::SEVERITIES);
        scope.error(text.span(), format!("no severity is called `{}`{suggestion}", text.as_ref()));
    }
    severity.map(|severity| severity.0)
}
