//! The main file and what it includes, in the order in which rsyslog reads them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::super::report::{Origin, Report};
use super::cursor::Cursor;
use super::{DEFAULT_RULESET, Object, Params, Source, Statement, is_on};

/// What is being read, with what the directives before have set.
pub(super) struct Reader<'r> {
    pub(super) source: Source,
    pub(super) report: &'r mut Report,
    /// The ruleset that takes statements of the top level.
    pub(super) current: String,
    /// How deep blocks are nested here.
    pub(super) depth: usize,
    /// What `$` directives have set for the actions and inputs that follow.
    pub(super) legacy: Params,
    /// Files by the names of their `$outchannel`.
    pub(super) channels: BTreeMap<String, String>,
    including: Vec<PathBuf>,
}

/// rsyslog includes no deeper.
const DEEPEST: usize = 10;

pub(in crate::import) fn read(path: &Path, report: &mut Report) -> io::Result<Source> {
    let mut reader = Reader::new(report);
    reader.read(path)?;
    Ok(reader.source)
}

/// A text that includes nothing.
pub(in crate::import) fn read_text(text: &str, report: &mut Report) -> Source {
    let mut reader = Reader::new(report);
    reader.including = vec![PathBuf::new(); DEEPEST];
    reader.file(&mut Cursor::new(text, "rsyslog.conf"));
    reader.source
}

impl<'r> Reader<'r> {
    fn new(report: &'r mut Report) -> Self {
        let mut reader = Self {
            source: Source::default(),
            report,
            current: DEFAULT_RULESET.to_owned(),
            depth: 0,
            legacy: Params::new(),
            channels: BTreeMap::new(),
            including: Vec::new(),
        };
        reader.begin_ruleset(DEFAULT_RULESET);
        reader
    }
}

impl Reader<'_> {
    fn read(&mut self, path: &Path) -> io::Result<()> {
        // Some files are older than UTF-8: what is none is shown as such.
        let text = String::from_utf8_lossy(&std::fs::read(path)?).into_owned();
        self.including.push(path.to_owned());
        self.file(&mut Cursor::new(&text, &path.display().to_string()));
        self.including.pop();
        Ok(())
    }

    /// `$IncludeConfig`: the files that a pattern names.
    pub(super) fn include_legacy(&mut self, origin: &Origin, pattern: &str) {
        self.include_all(origin, pattern, true);
    }

    /// `include(file="…" mode="optional")`, or its `text`. What it has goes where it stands.
    pub(super) fn include(&mut self, object: &Object) -> Vec<Statement> {
        let before = self.take_current();
        match (object.get("file"), object.get("text")) {
            (Some(pattern), _) => {
                let optional = object.get("mode").is_some_and(|mode| mode.eq_ignore_ascii_case("optional"));
                self.include_all(&object.origin, pattern, optional);
            }
            (None, Some(text)) => self.file(&mut Cursor::new(text, &object.origin.file)),
            (None, None) => self.report.lost(&object.origin, "includes neither a `file` nor a `text`"),
        }
        let found = self.take_current();
        let current = self.current.clone();
        self.source.ruleset(&current).statements = before;
        found
    }

    fn take_current(&mut self) -> Vec<Statement> {
        let current = self.current.clone();
        std::mem::take(&mut self.source.ruleset(&current).statements)
    }

    fn include_all(&mut self, origin: &Origin, pattern: &str, optional: bool) {
        let mut paths = expand(pattern);
        paths.sort();
        if self.including.len() >= DEEPEST || paths.iter().any(|path| self.including.contains(path)) {
            return self.report.lost(origin, "files include one another");
        }
        if paths.is_empty() && !optional {
            self.report.lost(origin, "no file is called so");
        }
        for path in paths {
            if let Err(error) = self.read(&path) {
                self.report.lost(origin, format!("{} cannot be read: {}", path.display(), crate::sys::reason(&error)));
            }
        }
    }

    /// What `module(load="builtin:…")` and the default templates say for an action.
    pub(super) fn with_module_defaults(&mut self, mut object: Object) -> Statement {
        let kind = object.kind();
        let module = self.source.modules.iter().find(|module| module.kind() == format!("builtin:{kind}"));
        let defaults = module.map(|module| module.params.clone()).unwrap_or_default();
        for (name, value) in defaults.into_iter().filter(|(name, _)| name != "load") {
            object.params.entry(name).or_insert(value);
        }
        self.with_default_template(&mut object);
        Statement::Action(object)
    }

    pub(super) fn with_default_template(&self, object: &mut Object) {
        let directive = match object.kind().as_str() {
            "omfile" | "ompipe" => "actionfiledefaulttemplate",
            "omfwd" => "actionforwarddefaulttemplate",
            _ => return,
        };
        if let Some(name) = self.legacy.get(directive) {
            object.params.entry("template".to_owned()).or_insert(name.clone());
        }
    }

    pub(super) fn legacy_is_on(&self, name: &str) -> bool {
        self.legacy.get(name).and_then(|values| values.first()).is_some_and(|value| is_on(value))
    }
}

/// The files that a pattern names, never what is hidden; a folder is all of its files.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
    let found = |pattern: &str| glob::glob_with(pattern, options).into_iter().flatten().flatten().collect::<Vec<_>>();
    let inside = |path: PathBuf| if path.is_dir() { found(&format!("{}/*", path.display())) } else { vec![path] };
    found(pattern).into_iter().flat_map(inside).filter(|path| path.is_file()).collect()
}
