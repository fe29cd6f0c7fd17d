//! Which variables are still looked at: paths that differ in others only are one.

use std::collections::BTreeSet;

use super::syntax::{Expression, NamedTemplate, Object, Part, Source, Statement, Template};

/// Rulesets that call one another deeper than this do so in a circle.
const DEEPEST: usize = 16;

/// Names of variables, without `$`; a name with `!` at its end stands for everything below it.
pub(super) type Live = BTreeSet<String>;

pub(super) fn is_live(live: &Live, name: &str) -> bool {
    live.contains(name) || live.iter().any(|read| read.ends_with('!') && name.starts_with(read.as_str()))
}

/// What is looked at in the statements, or behind them before it is set anew.
pub(super) fn before(statements: &[Statement], after: &Live, source: &Source, depth: usize) -> Live {
    statements.iter().rev().fold(after.clone(), |after, statement| before_one(statement, after, source, depth))
}

fn before_one(statement: &Statement, mut after: Live, source: &Source, depth: usize) -> Live {
    match statement {
        Statement::Action(object) => of_action(object, source, &mut after),
        Statement::Call { ruleset, .. } => {
            if let Some(ruleset) = source.find_ruleset(ruleset).filter(|_| depth < DEEPEST) {
                return before(&ruleset.statements, &after, source, depth + 1);
            }
        }
        Statement::If { condition, then, otherwise, .. } => {
            let (mut yes, no) = (before(then, &after, source, depth), before(otherwise, &after, source, depth));
            yes.extend(no);
            of_expression(condition, &mut yes);
            return yes;
        }
        Statement::Set { variable, value, .. } => {
            after.remove(variable);
            of_expression(value, &mut after);
        }
        Statement::Stop => after.clear(),
        Statement::Unset { variable } => drop(after.remove(variable)),
    }
    after
}

fn of_expression(expression: &Expression, live: &mut Live) {
    match expression {
        Expression::And(left, right) | Expression::Or(left, right) | Expression::Concat(left, right) => {
            of_expression(left, live);
            of_expression(right, live);
        }
        Expression::Compare { left, right, .. } => {
            of_expression(left, live);
            of_expression(right, live);
        }
        Expression::Call { arguments, .. } => arguments.iter().for_each(|argument| of_expression(argument, live)),
        Expression::Not(inside) => of_expression(inside, live),
        Expression::Property(name) => of_name(name, live),
        Expression::Arithmetic(_)
        | Expression::List(_)
        | Expression::Number(_)
        | Expression::Selector(_)
        | Expression::Text(_) => {}
    }
}

fn of_action(object: &Object, source: &Source, live: &mut Live) {
    for name in ["dynafile", "template"].into_iter().filter_map(|param| object.get(param)) {
        if let Some(template) = source.templates.get(&name.to_ascii_lowercase()) {
            of_template(template, live);
        }
    }
}

fn of_template(template: &NamedTemplate, live: &mut Live) {
    match &template.template {
        Template::List(parts) => {
            let names = parts
                .iter()
                .filter_map(|part| if let Part::Property(params) = part { params.get("name")?.first() } else { None });
            names.for_each(|name| of_name(name, live));
        }
        Template::Plugin(_) => {}
        Template::Subtree(root) => of_name(root, live),
        // Between two `%` stands a property, and between two properties does no harm.
        Template::Text(text) => text.split('%').filter_map(|part| part.split(':').next()).for_each(|name| of_name(name, live)),
    }
}

fn of_name(name: &str, live: &mut Live) {
    if super::templates::is_variable(name) {
        let name = name.trim_start_matches('$').to_ascii_lowercase();
        live.insert(if name == "!" { name.clone() } else { format!("{name}!") });
        live.insert(name);
    }
}
