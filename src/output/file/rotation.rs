//! `rotate = { … }`: when a file is closed for good, and what becomes of it.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::Spanned;

use super::names::Names;
use super::period::Every;
use crate::config::{OutputScope, Period, Size};
use crate::message::{SEVERITIES, Severity};
use crate::template::did_you_mean;

/// As written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RotateConfig {
    /// A file that a record would make larger than this is closed before it.
    size: Option<Spanned<Size>>,
    /// At the end of each hour, day, week or month as this host's clock shows it.
    every: Option<Every>,
    #[serde(default)]
    compress: Packing,
    /// So many closed files of each path.
    keep: Option<u32>,
    /// So long after they were closed.
    keep_for: Option<Period>,
    /// All files of the output together; the oldest closed ones go first.
    keep_total: Option<Spanned<Size>>,
    /// Other numbers for one severity.
    #[serde(default)]
    severity: BTreeMap<Spanned<String>, KeepConfig>,
    /// Live files are append-only, and closed ones immutable (chattr(1)).
    #[serde(default)]
    immutable: bool,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct KeepConfig {
    keep: Option<u32>,
    keep_for: Option<Period>,
}

/// How closed files are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Packing {
    Gzip,
    #[default]
    None,
    Zstd,
}

/// As run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rotation {
    pub size: Option<u64>,
    pub every: Option<Every>,
    pub packing: Packing,
    pub keep: Keep,
    pub keep_of: [Option<Keep>; 8],
    pub keep_total: Option<u64>,
    pub immutable: bool,
}

/// What is kept of one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Keep {
    pub files: Option<u32>,
    pub time: Option<Duration>,
}

/// A file smaller than this costs more than it holds.
const SMALLEST: usize = 4 << 10;

impl Rotation {
    pub(super) fn of(config: &Spanned<RotateConfig>, names: Option<&Names>, scope: &mut OutputScope<'_, '_>) -> Self {
        let (span, config) = (config.span(), config.as_ref());
        if config.size.is_none() && config.every.is_none() {
            scope.scope.error(span.clone(), "`rotate` closes no file: say `size` or `every`");
        }
        if names.is_none() {
            scope.scope.error(
                span,
                "with `rotate` a path that has fields ends in an extension (`.log`): otherwise a peer could name a file like a closed one",
            );
        }
        if let Some(size) = config.size.as_ref().filter(|size| size.as_ref().0 < SMALLEST) {
            scope.scope.error(size.span(), format!("a file has at least {} KiB", SMALLEST >> 10));
        }
        let keep = Keep { files: config.keep, time: config.keep_for.map(|period| period.0) };
        let mut keep_of = [None; 8];
        for (name, own) in &config.severity {
            let own = Keep { files: own.keep.or(keep.files), time: own.keep_for.map(|period| period.0).or(keep.time) };
            match Severity::parse(name.as_ref()) {
                Some(severity) if names.is_none_or(Names::tell_severities) => keep_of[usize::from(severity.0)] = Some(own),
                Some(_) => scope.scope.error(name.span(), "files differ by severity only where `path` has `{severity}`"),
                None => {
                    let suggestion = did_you_mean(name.as_ref(), SEVERITIES);
                    scope.scope.error(name.span(), format!("no severity is called `{}`{suggestion}", name.as_ref()));
                }
            }
        }
        Self {
            size: config.size.as_ref().map(|size| size.as_ref().0 as u64),
            every: config.every,
            packing: config.compress,
            keep,
            keep_of,
            keep_total: config.keep_total.as_ref().map(|size| size.as_ref().0 as u64),
            immutable: config.immutable,
        }
    }

    pub(super) fn keep(&self, severity: Option<Severity>) -> Keep {
        severity.and_then(|severity| self.keep_of.get(usize::from(severity.0)).copied().flatten()).unwrap_or(self.keep)
    }
}

impl Packing {
    /// What a packed file's name ends in.
    pub(super) fn ending(self) -> Option<&'static str> {
        match self {
            Self::Gzip => Some(".gz"),
            Self::None => None,
            Self::Zstd => Some(".zst"),
        }
    }
}
