//! rsyslog's three dialects, read into one form: `$` directives, selectors with their actions, and RainerScript.

mod cursor;
mod expression;
mod files;
mod legacy;
mod legacy_action;
mod object;
mod statement;

use std::collections::BTreeMap;

use super::report::Origin;

pub(super) use expression::{Compare, Expression};
pub(super) use files::{read, read_text};

/// Parameters by their names in small letters; an array has several values.
pub(super) type Params = BTreeMap<String, Vec<String>>;

/// `module(…)`, `input(…)`, `action(…)` and what stands for them in the older dialects.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub origin: Origin,
    pub params: Params,
}

impl Object {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.params.get(name)?.first().map(String::as_str)
    }

    pub(super) fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(is_on)
    }

    /// `type` of an action or input, `load` of a module, in small letters.
    pub(super) fn kind(&self) -> String {
        self.get("type").or(self.get("load")).unwrap_or_default().to_ascii_lowercase()
    }
}

pub(super) fn is_on(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "on" | "yes" | "true" | "1")
}

#[derive(Clone, Debug)]
pub(super) enum Statement {
    Action(Object),
    Call { origin: Origin, ruleset: String },
    If { origin: Origin, condition: Expression, then: Vec<Statement>, otherwise: Vec<Statement> },
    Set { origin: Origin, variable: String, value: Expression },
    Stop,
    Unset { variable: String },
}

/// A template as written.
#[derive(Clone, Debug)]
pub(super) enum Template {
    List(Vec<Part>),
    Plugin(String),
    /// `%property%` in a text.
    Text(String),
    Subtree(String),
}

/// A part of a list template.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Constant(Params),
    Property(Params),
}

#[derive(Clone, Debug)]
pub(super) struct NamedTemplate {
    pub origin: Origin,
    pub template: Template,
    /// `option.json` and the like, in small letters, without `option.`.
    pub options: Vec<String>,
}

/// Everything that was read.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub modules: Vec<Object>,
    pub inputs: Vec<Object>,
    /// `global(…)` and the directives that say the same.
    pub globals: Vec<Object>,
    pub templates: BTreeMap<String, NamedTemplate>,
    pub lookups: Vec<Object>,
    /// In the order in which they begin; the first is the default one.
    pub rulesets: Vec<Ruleset>,
}

#[derive(Clone, Debug)]
pub(super) struct Ruleset {
    pub name: String,
    /// It takes a copy of a message and goes its own way with it.
    pub has_queue: bool,
    pub statements: Vec<Statement>,
}

/// The ruleset in which everything is that names no other.
pub(super) const DEFAULT_RULESET: &str = "RSYSLOG_DefaultRuleset";

impl Source {
    /// The ruleset of this name, made where there is none yet.
    fn ruleset(&mut self, name: &str) -> &mut Ruleset {
        let at = self.rulesets.iter().position(|ruleset| ruleset.name.eq_ignore_ascii_case(name));
        let at = at.unwrap_or_else(|| {
            self.rulesets.push(Ruleset { name: name.to_owned(), has_queue: false, statements: Vec::new() });
            self.rulesets.len() - 1
        });
        &mut self.rulesets[at]
    }

    pub(super) fn find_ruleset(&self, name: &str) -> Option<&Ruleset> {
        self.rulesets.iter().find(|ruleset| ruleset.name.eq_ignore_ascii_case(name))
    }

    /// What a module was loaded with; legacy names such as `imudp.so` or `lmnsd_gtls` as they are.
    pub(super) fn module(&self, name: &str) -> Option<&Object> {
        self.modules.iter().find(|module| module_name(&module.kind()) == name)
    }

    /// The last that says so stands.
    pub(super) fn global(&self, name: &str) -> Option<&str> {
        self.globals.iter().rev().find_map(|object| object.get(name))
    }
}

/// Without path and `.so`.
pub(super) fn module_name(load: &str) -> &str {
    let name = load.rsplit('/').next().unwrap_or(load);
    name.strip_suffix(".so").unwrap_or(name)
}
