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
mod selectors;
mod syntax;
mod templates;
mod write;

use std::io;
use std::path::Path;

pub use inputs::JOURNALD;
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
    Ok(translated(path, &source, report))
}

/// The same of a text that includes nothing.
pub fn rsyslog_text(text: &str) -> Imported {
    let mut report = Report::default();
    let source = syntax::read_text(text, &mut report);
    translated(Path::new("rsyslog.conf"), &source, report)
}

fn translated(path: &Path, source: &syntax::Source, mut report: Report) -> Imported {
    let translated = flow::translate(source, &mut report);
    Imported { toml: write::toml(path, &translated), report }
}

/// The property of a fuzz target: any text gives TOML.
///
/// # Panics
/// When the property does not hold.
pub fn must_not_panic(text: &str) {
    let imported = rsyslog_text(text);
    let parsed = toml::from_str::<toml::Table>(&imported.toml);
    assert!(parsed.is_ok(), "{parsed:?}\n{}", imported.toml);
    let _ = imported.report.to_string();
}
