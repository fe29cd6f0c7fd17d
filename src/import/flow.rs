//! The way of a message through the rulesets: wherever an action takes it, a route is written down.
//!
//! Statements are followed in order, on each *path* that differs in what variables hold: behind an `if` there is one path again where the
//! variables that are still looked at are alike, and its actions have got its condition. `stop` is a route that is final.

use std::collections::BTreeMap;

use super::actions::Outputs;
use super::conditions::{self, Condition, Scope};
use super::inputs::Inputs;
use super::liveness::{self, Live};
use super::report::{Origin, Report};
use super::syntax::{DEFAULT_RULESET, Ruleset, Source, Statement};
use super::templates::Variables;
use super::write::{Route, Table, Translated, string};
use super::{globals, inputs};

/// More paths than this nobody means, and no configuration would be readable with.
const MOST_PATHS: usize = 64;
/// rsyslog lets rulesets call one another; a circle is found out.
const DEEPEST: usize = 16;

/// Where a message may be, with what is known of it there.
#[derive(Clone, Debug)]
struct Path {
    conditions: Vec<Condition>,
    variables: Variables,
}

struct Flow<'s> {
    source: &'s Source,
    report: &'s mut Report,
    inputs: &'s Inputs,
    /// The names of the tables.
    lookups: &'s [String],
    outputs: Outputs<'s>,
    routes: Vec<(Condition, Route)>,
    depth: usize,
}

pub(super) fn translate(source: &Source, report: &mut Report) -> Translated {
    let inputs = inputs::translate(source, report);
    globals::report(source, report);
    let (names, lookups): (Vec<_>, Vec<_>) = lookups(source, report).into_iter().unzip();
    let mut flow =
        Flow { source, report, inputs: &inputs, lookups: &names, outputs: Outputs::new(source), routes: Vec::new(), depth: 0 };
    flow.all();
    let Flow { outputs, routes, .. } = flow;
    let routes = routes.into_iter().map(|(_, route)| route).collect();
    let (outputs, templates) = outputs.finish();
    Translated { inputs: inputs.tables, lookups, templates, outputs, routes, metrics: inputs.metrics }
}

impl Flow<'_> {
    /// The rulesets of certain inputs come first and are final for them; the default one takes what is left.
    fn all(&mut self) {
        let (mut bound, mut is_default_used) = (BTreeMap::<&str, Vec<&String>>::new(), false);
        for (input, ruleset, origin) in &self.inputs.bound {
            match self.source.find_ruleset(ruleset) {
                Some(ruleset) if ruleset.name != DEFAULT_RULESET => bound.entry(&ruleset.name).or_default().push(input),
                Some(_) => is_default_used = true,
                None => {
                    self.report.differs(origin, format!("no ruleset is called `{ruleset}`: the default one takes its messages"));
                    is_default_used = true;
                }
            }
        }
        is_default_used |= self.inputs.tables.len() > self.inputs.bound.len();
        for (ruleset, inputs) in &bound {
            let Some(ruleset) = self.source.find_ruleset(ruleset) else { continue };
            let path = Path { conditions: vec![Condition::of_inputs(inputs.iter().copied())], variables: Variables::new() };
            let left = self.ruleset(ruleset, vec![path]);
            left.iter().for_each(|path| self.stop(path));
        }
        if let Some(ruleset) = self.source.rulesets.first().filter(|_| is_default_used) {
            self.ruleset(ruleset, vec![Path { conditions: Vec::new(), variables: Variables::new() }]);
        }
    }

    fn ruleset(&mut self, ruleset: &Ruleset, paths: Vec<Path>) -> Vec<Path> {
        self.statements(&ruleset.statements, paths, &Live::new())
    }

    /// The paths on which a message is still there behind the statements; `after` is looked at there.
    fn statements(&mut self, statements: &[Statement], mut paths: Vec<Path>, after: &Live) -> Vec<Path> {
        for (i, statement) in statements.iter().enumerate() {
            let after = liveness::before(&statements[i + 1..], after, self.source, 0);
            paths = self.statement(statement, paths, &after);
        }
        paths
    }

    fn statement(&mut self, statement: &Statement, mut paths: Vec<Path>, after: &Live) -> Vec<Path> {
        match statement {
            Statement::Action(object) => {
                for path in &paths {
                    if let Some(name) = self.outputs.action(object, &path.variables, self.report) {
                        self.route(path, name, &object.origin);
                    }
                }
            }
            Statement::Call { origin, ruleset } => return self.call(origin, ruleset, paths, after),
            Statement::If { origin, condition, then, otherwise } => {
                return self.conditional(origin, condition, (then, otherwise), paths, after);
            }
            Statement::Set { origin, variable, value } => {
                for path in &mut paths {
                    let (mut scope, name) = (scope(self.inputs, self.lookups, &path.variables), variable.clone());
                    let value = conditions::value(value, &mut scope);
                    match &value {
                        Ok(_) => self.report.carried(origin, "the value stands where the variable stood"),
                        Err(why) => self.report.lost(origin, why.clone()),
                    }
                    path.variables.insert(name, value.ok());
                }
            }
            Statement::Stop => {
                paths.iter().for_each(|path| self.stop(path));
                return Vec::new();
            }
            Statement::Unset { variable } => {
                let below = format!("{variable}!");
                paths.iter_mut().for_each(|path| path.variables.retain(|name, _| name != variable && !name.starts_with(&below)));
            }
        }
        paths
    }

    fn call(&mut self, origin: &Origin, name: &str, paths: Vec<Path>, after: &Live) -> Vec<Path> {
        let Some(ruleset) = self.source.find_ruleset(name) else {
            self.report.lost(origin, format!("no ruleset is called `{name}`"));
            return paths;
        };
        if self.depth >= DEEPEST {
            self.report.lost(origin, "rulesets call one another in a circle");
            return paths;
        }
        self.depth += 1;
        let copies = ruleset.has_queue.then(|| paths.clone());
        let paths = self.statements(&ruleset.statements, paths, after);
        self.depth -= 1;
        match copies {
            Some(copies) if paths.len() < copies.len() => {
                self.report.differs(origin, "a `stop` in there ends the message, not only the copy that the queue has");
                paths
            }
            Some(copies) => copies,
            None => paths,
        }
    }

    fn conditional(
        &mut self,
        origin: &Origin,
        condition: &super::syntax::Expression,
        (then, otherwise): (&[Statement], &[Statement]),
        paths: Vec<Path>,
        after: &Live,
    ) -> Vec<Path> {
        let mut left = Vec::new();
        for path in paths {
            let mut scope = scope(self.inputs, self.lookups, &path.variables);
            let condition = match conditions::translate(condition, &mut scope) {
                Ok(condition) => condition,
                Err(why) => {
                    self.report.lost(origin, format!("{why}; what depends on it is not there either"));
                    left.push(path);
                    continue;
                }
            };
            scope.warnings.iter().for_each(|warning| self.report.differs(origin, warning.clone()));
            let mut go = |statements: &[Statement], condition: Condition| {
                let mut branch = path.clone();
                branch.conditions.push(condition.clone());
                let is_possible = condition != Condition::Constant(false);
                if is_possible { self.statements(statements, vec![branch], after) } else { Vec::new() }
            };
            let mut behind = go(then, condition.clone());
            behind.extend(go(otherwise, condition.negated()));
            left.extend(merged(behind, path, after));
        }
        if left.len() > MOST_PATHS {
            self.report.lost(origin, format!("more than {MOST_PATHS} combinations of variables: what follows is not there"));
            left.truncate(MOST_PATHS);
        }
        left
    }

    fn stop(&mut self, path: &Path) {
        let condition = Condition::all(path.conditions.clone());
        if condition == Condition::Constant(false) {
            return;
        }
        match self.routes.last_mut() {
            Some((last, route)) if *last == condition && !route.is_final => route.is_final = true,
            _ => {
                let discard = self.outputs.discard();
                self.add(condition, Route { is_final: true, ..Route::to(discard) });
            }
        }
    }

    fn route(&mut self, path: &Path, to: String, origin: &Origin) {
        let condition = Condition::all(path.conditions.clone());
        if condition == Condition::Constant(false) {
            return;
        }
        match self.routes.last_mut() {
            Some((last, route)) if *last == condition && !route.is_final => {
                if !route.to.contains(&to) {
                    route.to.push(to);
                }
                route.origins.push(origin.clone());
            }
            _ => {
                let twice = self.routes.iter().any(|(other, route)| route.to.contains(&to) && may_both_hold(other, &condition));
                if twice {
                    self.report
                        .differs(origin, format!("a message that an earlier rule has sent to `{to}` is not written there again"));
                }
                self.add(condition, Route { origins: vec![origin.clone()], ..Route::to(to) });
            }
        }
    }

    fn add(&mut self, condition: Condition, mut route: Route) {
        (route.select, route.condition) = condition.route();
        self.routes.push((condition, route));
    }
}

/// What comes out of the branches of an `if` is one path again where the variables that are still looked at are alike: what has been
/// stopped in one of them has a final route.
fn merged(mut behind: Vec<Path>, before: Path, after: &Live) -> Vec<Path> {
    for path in &mut behind {
        path.variables.retain(|name, _| liveness::is_live(after, name));
    }
    let is_one = behind.windows(2).all(|two| two[0].variables == two[1].variables);
    match behind.pop() {
        Some(last) if is_one => vec![Path { variables: last.variables, ..before }],
        last => behind.into_iter().chain(last).collect(),
    }
}

/// False only where that is certain.
fn may_both_hold(one: &Condition, other: &Condition) -> bool {
    let both = Condition::all(vec![one.clone(), other.clone()]);
    let none = |part: &Condition| matches!(part, Condition::Select(bits) if bits.iter().all(|bits| *bits == 0));
    match &both {
        Condition::All(parts) => {
            let excluded = |part: &Condition| parts.contains(&part.clone().negated());
            !parts.iter().any(|part| none(part) || excluded(part))
        }
        Condition::Constant(holds) => *holds,
        part => !none(part),
    }
}

fn scope<'s>(inputs: &'s Inputs, lookups: &'s [String], variables: &'s Variables) -> Scope<'s> {
    Scope { variables, inputs: &inputs.names, local: &inputs.local, lookups, warnings: Vec::new() }
}

/// `lookup_table(name="…" file="….json")`: the file's content becomes a table.
fn lookups(source: &Source, report: &mut Report) -> Vec<(String, Table)> {
    let mut tables = Vec::new();
    for object in &source.lookups {
        let (Some(name), Some(file)) = (object.get("name"), object.get("file")) else {
            report.lost(&object.origin, "a lookup table has a `name` and a `file`");
            continue;
        };
        match lookup(name, file) {
            Ok(mut table) => {
                report.differs(
                    &object.origin,
                    format!("what {file} has now stands in the configuration, where it is to be changed"),
                );
                table.origins.push(object.origin.clone());
                tables.push((name.to_owned(), table));
            }
            Err(why) => report.lost(&object.origin, format!("{file}: {why}")),
        }
    }
    tables
}

fn lookup(name: &str, file: &str) -> Result<Table, String> {
    let text = std::fs::read(file).map_err(|error| crate::sys::reason(&error))?;
    let json: serde_json::Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let kind = json["type"].as_str().unwrap_or("string");
    // The numbers of an array are texts as good as any.
    if !matches!(kind, "array" | "string") {
        return Err(format!("a table of type `{kind}` has no counterpart"));
    }
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pairs = json["table"].as_array().ok_or("has no `table`")?;
    let pairs = pairs.iter().map(|pair| format!("{} = {}", string(&text(&pair["index"])), string(&text(&pair["value"]))));
    let mut table = Table::new(&format!("[lookup.{}]", string(name)));
    if let Some(default) = json["nomatch"].as_str() {
        table.set("default", string(default));
    }
    table.set("table", format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", ")));
    Ok(table)
}
