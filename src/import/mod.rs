//! `penstock import rsyslog`: another server's configuration becomes ours, and what could not be carried over is said.
//!
//! [`syntax`] reads rsyslog's three dialects into one form: objects with parameters, and statements. [`flow`] follows a
//! message through the rulesets, with the variables that are set on the way, and writes down a route wherever an action
//! takes it. [`inputs`], [`actions`], [`templates`] and [`conditions`] translate the parts, [`write`] makes TOML of them.

mod actions;
mod conditions;
mod flow;
mod globals;
mod inputs;
mod liveness;
mod patterns;
mod properties;
mod report;
mod syntax;
mod templates;
mod write;

use std::io;
use std::path::Path;

pub use report::Report;

/// What became of a configuration.
#[derive(Debug)]
pub struct Imported {
    /// Our configuration.
    pub toml: String,
    pub report: Report,
}

/// Reads rsyslog's configuration from `path`, with what it includes.
pub fn rsyslog(path: &Path) -> io::Result<Imported> {
    let mut report = Report::default();
    let source = syntax::read(path, &mut report)?;
    let translated = flow::translate(&source, &mut report);
    Ok(Imported { toml: write::toml(path, &translated), report })
}
