//! The configuration as run: made from the configuration as written, or all that is wrong with it is said.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use regex::bytes::Regex;
use toml::Spanned;

use super::{Config, Errors, HostTable, Loaded, Problem, Server, Source};
use crate::route::{Condition, Route, Selector};
use crate::sys::name;
use crate::template::{CompileError, Escaping, Format, Lookup, Lookups, Template, did_you_mean, pattern};
use crate::{input, output};

#[derive(Debug)]
pub struct Plan {
    pub server: ServerPlan,
    pub metrics: Option<SocketAddr>,
    pub inputs: Vec<input::Plan>,
    pub outputs: Vec<output::Plan>,
    pub routes: Vec<Route>,
    pub hostnames: HostTable,
    /// What is allowed, and probably not meant.
    pub warnings: Vec<Problem>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerPlan {
    pub state_dir: PathBuf,
    pub threads: usize,
    pub grace: Duration,
    /// uid and gid to become when started as root.
    pub identity: Option<(u32, u32)>,
}

/// Default for `server.memory`.
const MEMORY: usize = 256 << 20;
/// Default for `server.grace`.
const GRACE: Duration = Duration::from_secs(10);

/// One file while it is looked through, and where to say what is wrong in it.
pub struct Scope<'p> {
    pub source: &'p Source,
    errors: &'p mut Errors,
}

/// What an output needs besides: the templates of the configuration.
pub struct OutputScope<'s, 'p> {
    pub scope: &'s mut Scope<'p>,
    templates: &'s Templates<'s>,
    pub lookups: &'s Lookups,
    /// Of all outputs, those too with which something is wrong.
    pub names: &'s mut BTreeSet<String>,
}

type Templates<'c> = BTreeMap<&'c str, &'c str>;

impl Scope<'_> {
    pub fn error(&mut self, span: Range<usize>, what: impl Into<String>) {
        self.errors.0.push(Problem::at(self.source, span, what));
    }

    /// Says where inside a string value something is wrong.
    pub fn compiled<T>(&mut self, text: &Spanned<String>, result: Result<T, CompileError>) -> Option<T> {
        result.map_err(|error| self.error(self.source.inside(&text.span(), error.offset), error.what)).ok()
    }

    /// A regular expression over octets.
    pub fn pattern(&mut self, text: &Spanned<String>) -> Option<Regex> {
        pattern(text.as_ref()).map_err(|what| self.error(text.span(), format!("`{}` {what}", text.as_ref()))).ok()
    }

    /// The user's number, by name or number.
    pub fn user(&mut self, text: Option<&Spanned<String>>) -> Option<name::User> {
        let text = text?;
        let user = name::user(text.as_ref());
        if user.is_none() {
            self.error(text.span(), format!("no user is called `{}`", text.as_ref()));
        }
        user
    }

    /// The group's number, by name or number.
    pub fn group(&mut self, text: Option<&Spanned<String>>) -> Option<u32> {
        let text = text?;
        let group = name::group(text.as_ref());
        if group.is_none() {
            self.error(text.span(), format!("no group is called `{}`", text.as_ref()));
        }
        group
    }
}

impl OutputScope<'_, '_> {
    /// A built-in format or a template, by name.
    pub fn format(&mut self, named: Option<&Spanned<String>>, default: &str, escaping: Escaping) -> Option<Format> {
        let Some(named) = named else {
            return Format::builtin(default, escaping);
        };
        let name = named.as_ref().as_str();
        if let Some(format) = Format::builtin(name, escaping) {
            return Some(format);
        }
        let Some(text) = self.templates.get(name) else {
            let names = Format::NAMES.into_iter().chain(self.templates.keys().copied());
            self.scope.error(named.span(), format!("no format or template is called `{name}`{}", did_you_mean(name, names)));
            return None;
        };
        // What is wrong with the template is said where it stands.
        Template::with_lookups(text, escaping, self.lookups).ok().map(Format::template)
    }
}

/// Everything that is wrong is said at once.
pub fn plan(loaded: &Loaded) -> Result<Plan, Errors> {
    let mut errors = Errors::default();
    let lookups = lookups(loaded, &mut errors);
    let templates = templates(loaded, &lookups, &mut errors);
    let server = server(loaded, &mut errors);
    let inputs = inputs(loaded, &mut errors);
    let mut names = BTreeSet::new();
    let outputs = outputs(loaded, (&templates, &lookups), &mut names, &mut errors);
    let (routes, mut warnings) = routes(loaded, &outputs, &names, &lookups, &mut errors);
    let hostnames = hostnames(loaded, &mut errors);
    let metrics = only_one(loaded, "metrics", |config| config.metrics.as_ref(), &mut errors).map(|metrics| metrics.listen);
    if inputs.is_empty() && errors.0.is_empty() {
        errors.0.push(Problem::of_file(
            loaded.files[0].0.path.clone(),
            "no input: nothing would be received (`[[input.udp]]`)".to_owned(),
        ));
    }
    if errors.0.is_empty() && routes.is_empty() {
        errors
            .0
            .push(Problem::of_file(loaded.files[0].0.path.clone(), "no route: nothing would be kept (`[[route]]`)".to_owned()));
    }
    warnings.extend(unused(loaded, &outputs, &routes));
    if errors.0.is_empty() { Ok(Plan { server, metrics, inputs, outputs, routes, hostnames, warnings }) } else { Err(errors) }
}

/// A table that may stand in one file only.
fn only_one<'l, T>(
    loaded: &'l Loaded,
    name: &str,
    table: impl Fn(&'l Config) -> Option<&'l Spanned<T>>,
    errors: &mut Errors,
) -> Option<&'l T> {
    let mut found: Option<(&Source, &Spanned<T>)> = None;
    for (source, config) in &loaded.files {
        if let Some(value) = table(config) {
            match found {
                Some((first, _)) => errors.0.push(Problem::at(
                    source,
                    value.span(),
                    format!("`[{name}]` stands in {} already", first.path.display()),
                )),
                None => found = Some((source, value)),
            }
        }
    }
    found.map(|(_, value)| value.as_ref())
}

fn server(loaded: &Loaded, errors: &mut Errors) -> ServerPlan {
    let default = Server::default();
    let config = only_one(loaded, "server", |config| config.server.as_ref(), errors).unwrap_or(&default);
    let source = loaded.files.iter().find(|(_, config)| config.server.is_some()).map_or(&loaded.files[0].0, |(source, _)| source);
    let mut scope = Scope { source, errors };
    let threads = match &config.threads {
        Some(threads) if !(1..=1024).contains(threads.as_ref()) => {
            scope.error(threads.span(), "1 to 1024 threads are possible");
            1
        }
        Some(threads) => *threads.as_ref(),
        None => std::thread::available_parallelism().map_or(1, |cores| cores.get()),
    };
    let user = scope.user(config.user.as_ref());
    let group = scope.group(config.group.as_ref());
    if let (Some(group), None) = (&config.group, &config.user) {
        scope.error(group.span(), "`group` without `user`");
    }
    ServerPlan {
        state_dir: config.state_dir.clone().unwrap_or_else(|| "/var/lib/penstock".into()),
        threads,
        grace: config.grace.map_or(GRACE, |grace| grace.0),
        identity: user.map(|user| (user.uid, group.unwrap_or(user.gid))),
    }
}

fn lookups(loaded: &Loaded, errors: &mut Errors) -> Lookups {
    let mut lookups = Lookups::default();
    for (source, config) in &loaded.files {
        for (name, written) in &config.lookup {
            let pairs = written.table.iter().map(|(key, value)| (key.as_bytes().into(), value.as_bytes().into()));
            let lookup = Lookup { table: pairs.collect(), default: written.default.as_bytes().into() };
            if lookups.insert(name.as_ref().clone(), Arc::new(lookup)).is_some() {
                errors.0.push(Problem::at(source, name.span(), format!("a table is called `{}` already", name.as_ref())));
            }
        }
    }
    lookups
}

/// All templates, each compiled once so that one that is wrong is found even where nobody uses it.
fn templates<'l>(loaded: &'l Loaded, lookups: &Lookups, errors: &mut Errors) -> Templates<'l> {
    let mut templates = Templates::new();
    for (source, config) in &loaded.files {
        let mut scope = Scope { source, errors };
        for (name, text) in &config.template {
            scope.compiled(text, Template::with_lookups(text.as_ref(), Escaping::Line, lookups));
            if Format::NAMES.contains(&name.as_ref().as_str()) {
                scope.error(name.span(), format!("`{}` is the name of a built-in format", name.as_ref()));
            } else if templates.insert(name.as_ref(), text.as_ref()).is_some() {
                scope.error(name.span(), format!("a template is called `{}` already", name.as_ref()));
            }
        }
    }
    templates
}

fn inputs(loaded: &Loaded, errors: &mut Errors) -> Vec<input::Plan> {
    let mut plans: Vec<input::Plan> = Vec::new();
    for (source, config) in &loaded.files {
        let mut scope = Scope { source, errors };
        for (span, plan) in config.input.plan(&mut scope) {
            let Some(mut plan) = plan else { continue };
            if plan.name.is_empty() {
                plan.name = free_name(plan.kind, &plans);
            } else if plans.iter().any(|other| other.name == plan.name) {
                scope.error(span.clone(), format!("an input is called `{}` already", plan.name));
            }
            if plans.iter().any(|other| other.collides_with(&plan)) {
                scope.error(span, format!("another input listens on {} already", plan.address));
            }
            plans.push(plan);
        }
    }
    plans
}

/// `udp`, `udp-2`, …
fn free_name(kind: &str, plans: &[input::Plan]) -> Arc<str> {
    let taken = |name: &str| plans.iter().any(|plan| *plan.name == *name);
    let mut name = kind.to_owned();
    let mut number = 1;
    while taken(&name) {
        number += 1;
        name = format!("{kind}-{number}");
    }
    name.into()
}

fn outputs(
    loaded: &Loaded,
    known: (&Templates<'_>, &Lookups),
    names: &mut BTreeSet<String>,
    errors: &mut Errors,
) -> Vec<output::Plan> {
    let mut plans: Vec<output::Plan> = Vec::new();
    for (source, config) in &loaded.files {
        let mut scope = Scope { source, errors };
        let mut scope = OutputScope { scope: &mut scope, templates: known.0, lookups: known.1, names };
        for (span, plan) in config.output.plan(&mut scope) {
            let Some(plan) = plan else { continue };
            if plans.iter().any(|other| other.name == plan.name) {
                scope.scope.error(span, format!("an output is called `{}` already", plan.name));
                continue;
            }
            let meets = |other: &&output::Plan| match (&other.address, &plan.address) {
                (Some(theirs), Some(own)) => (other.is_alone || plan.is_alone) && theirs.may_meet(own),
                _ => false,
            };
            if let Some(other) = plans.iter().find(meets) {
                let what = format!("`{}` may write to the same file; with `rotate` or `seal` only one output may", other.name);
                scope.scope.error(span, what);
            }
            plans.push(plan);
        }
    }
    bound_memory(loaded, &mut plans, errors);
    plans
}

/// The queues together stay within `server.memory`: those with a size get it, the others share what is left.
fn bound_memory(loaded: &Loaded, plans: &mut [output::Plan], errors: &mut Errors) {
    let given = loaded.files.iter().find_map(|(source, config)| Some((source, config.server.as_ref()?)));
    let memory = given.and_then(|(_, server)| server.as_ref().memory).map_or(MEMORY, |memory| memory.0);
    let fixed: usize = plans.iter().filter_map(|plan| plan.queue_size).sum();
    let others = plans.iter().filter(|plan| plan.queue_size.is_none()).count();
    let share = memory.saturating_sub(fixed).checked_div(others).unwrap_or(0);
    if fixed > memory || (others > 0 && share < output::SMALLEST_QUEUE) {
        let (source, span) = given.map_or((&loaded.files[0].0, 0..0), |(source, server)| (source, server.span()));
        let what = format!(
            "the outputs' queues do not fit into `memory` ({} MiB): raise it, or make `queue.size` smaller",
            memory >> 20
        );
        errors.0.push(Problem::at(source, span, what));
    }
    for plan in plans {
        let size = plan.queue_size.unwrap_or(share.min(plan.bounds.size));
        plan.bounds.size = size;
        if let Some(shed) = &mut plan.bounds.shed {
            shed.above = (size as f64 * plan.shed_above) as usize;
        }
    }
}

fn routes(
    loaded: &Loaded,
    outputs: &[output::Plan],
    names: &BTreeSet<String>,
    lookups: &Lookups,
    errors: &mut Errors,
) -> (Vec<Route>, Vec<Problem>) {
    let by_name: HashMap<&str, usize> = outputs.iter().enumerate().map(|(i, plan)| (&*plan.name, i)).collect();
    let (mut routes, mut warnings) = (Vec::new(), Vec::new());
    let mut ended = false;
    for (source, config) in &loaded.files {
        let mut scope = Scope { source, errors };
        for written in &config.route {
            let span = written.span();
            let written = written.as_ref();
            if ended {
                warnings.push(Problem::at(source, span, "no message comes here: an earlier final route takes all"));
            }
            let selector = written.select.as_ref().and_then(|text| scope.compiled(text, Selector::compile(text.as_ref())));
            let condition =
                written.condition.as_ref().and_then(|text| scope.compiled(text, Condition::with_lookups(text.as_ref(), lookups)));
            let to = targets(written, &by_name, names, &mut scope);
            ended |= written.is_final && written.select.is_none() && written.condition.is_none();
            routes.push(Route { selector, condition, to, is_final: written.is_final });
        }
    }
    (routes, warnings)
}

fn targets(
    route: &super::Route,
    by_name: &HashMap<&str, usize>,
    names: &BTreeSet<String>,
    scope: &mut Scope<'_>,
) -> Box<[usize]> {
    if route.to.as_ref().is_empty() {
        scope.error(route.to.span(), "`to` names no output; what is not wanted goes to an `[[output.discard]]`");
    }
    let mut targets = Vec::new();
    for name in route.to.as_ref() {
        match by_name.get(name.as_ref().as_str()) {
            Some(i) => targets.push(*i),
            // What is wrong with it has been said where it stands.
            None if names.contains(name.as_ref()) => {}
            None => {
                let suggestion = did_you_mean(name.as_ref(), names.iter().map(String::as_str));
                scope.error(name.span(), format!("no output is called `{}`{suggestion}", name.as_ref()));
            }
        }
    }
    targets.into()
}

fn unused(loaded: &Loaded, outputs: &[output::Plan], routes: &[Route]) -> Vec<Problem> {
    let used = |i: &usize| routes.iter().any(|route| route.to.contains(i));
    let file = &loaded.files[0].0.path;
    (0..outputs.len())
        .filter(|i| !used(i))
        .map(|i| Problem::of_file(file.clone(), format!("no route names output `{}`", outputs[i].name)))
        .collect()
}

fn hostnames(loaded: &Loaded, errors: &mut Errors) -> HostTable {
    let mut table = HostTable::new();
    for (source, config) in &loaded.files {
        for (address, name) in &config.hostnames {
            match address.as_ref().parse::<IpAddr>() {
                Ok(parsed) => drop(table.insert(parsed.to_canonical(), name.as_str().into())),
                Err(_) => errors.0.push(Problem::at(source, address.span(), format!("`{}` is no address", address.as_ref()))),
            }
        }
    }
    table
}
