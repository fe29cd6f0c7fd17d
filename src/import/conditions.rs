//! RainerScript's conditions as ours.

use super::patterns;
use super::properties::{Options, Piece, cut, each, quoted};
use super::selectors::{Bits, selected, selector};
use super::syntax::{Compare, Expression};
use super::templates::{self, Variables};
use crate::message::{FACILITIES, Facility, Priority, Severity};
use crate::route::Selector;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    /// Always, or never.
    Constant(bool),
    Not(Box<Condition>),
    Select(Bits),
    Test(String),
}

/// What is known where a condition stands.
pub(super) struct Scope<'s> {
    pub variables: &'s Variables,
    /// Our inputs: the name that rsyslog would show, and ours.
    pub inputs: &'s [(String, String)],
    /// Our inputs for what is of this host.
    pub local: &'s [String],
    /// The tables there are.
    pub lookups: &'s [String],
    pub warnings: Vec<String>,
}

impl Condition {
    pub(super) fn all(conditions: Vec<Self>) -> Self {
        let (mut parts, mut bits): (Vec<Self>, Option<Bits>) = (Vec::new(), None);
        for condition in conditions {
            match condition {
                Self::All(inside) => match Self::all(inside) {
                    Self::All(inside) => parts.extend(inside),
                    other => parts.push(other),
                },
                other => parts.push(other),
            }
        }
        if parts.contains(&Self::Constant(false)) {
            return Self::Constant(false);
        }
        parts.retain(|part| match part {
            Self::Select(other) => {
                bits = Some(bits.map_or(*other, |bits| std::array::from_fn(|i| bits[i] & other[i])));
                false
            }
            part => *part != Self::Constant(true),
        });
        parts.extend(bits.map(Self::Select));
        let mut seen = Vec::new();
        parts.retain(|part| {
            !seen.contains(part) && {
                seen.push(part.clone());
                true
            }
        });
        match parts.len() {
            0 => Self::Constant(true),
            1 => parts.remove(0),
            _ => Self::All(parts),
        }
    }

    /// What comes by one of our inputs.
    pub(super) fn of_inputs<'n>(names: impl IntoIterator<Item = &'n String>) -> Self {
        let names: Vec<_> = names.into_iter().map(|name| quoted(name)).collect();
        match names.as_slice() {
            [] => Self::Constant(false),
            [one] => Self::Test(format!("input == {one}")),
            several => Self::Test(format!("input in [{}]", several.join(", "))),
        }
    }

    /// By de Morgan the parts are joined as those of `all` are.
    pub(super) fn any(conditions: Vec<Self>) -> Self {
        match Self::all(conditions.into_iter().map(Self::negated).collect()) {
            Self::All(parts) => Self::Any(parts.into_iter().map(Self::negated).collect()),
            other => other.negated(),
        }
    }

    pub(super) fn negated(self) -> Self {
        match self {
            Self::Any(parts) => Self::All(parts.into_iter().map(Self::negated).collect()),
            Self::Constant(holds) => Self::Constant(!holds),
            Self::Not(inside) => *inside,
            Self::Select(bits) => Self::Select(bits.map(|bits| !bits)),
            other => Self::Not(Box::new(other)),
        }
    }

    /// `select` and `where` of a route.
    pub(super) fn route(&self) -> (Option<String>, Option<String>) {
        match self {
            Self::Constant(true) => (None, None),
            Self::Select(bits) => (Some(selector(bits)), None),
            Self::All(parts) => {
                let select =
                    parts.iter().find_map(|part| if let Self::Select(bits) = part { Some(selector(bits)) } else { None });
                let others: Vec<_> = parts.iter().filter(|part| !matches!(part, Self::Select(_))).collect();
                let texts: Vec<_> = others.iter().map(|part| part.text(others.len() > 1)).collect();
                (select, Some(texts.join(" and ")))
            }
            other => (None, Some(other.text(false))),
        }
    }

    /// In parentheses where it stands inside of another, if it needs them.
    fn text(&self, inside: bool) -> String {
        let join = |parts: &[Self], joint: &str| {
            let text = parts.iter().map(|part| part.text(true)).collect::<Vec<_>>().join(joint);
            if inside { format!("({text})") } else { text }
        };
        match self {
            Self::All(parts) => join(parts, " and "),
            Self::Any(parts) => join(parts, " or "),
            Self::Constant(holds) => format!("severity {} emerg", if *holds { ">=" } else { "<" }),
            Self::Not(part) => match &**part {
                Self::All(parts) if parts.iter().all(|part| matches!(part, Self::Not(_))) => {
                    Self::Any(parts.iter().cloned().map(Self::negated).collect()).text(inside)
                }
                part => format!("not {}", part.text(true)),
            },
            Self::Select(bits) => selected(bits, inside),
            Self::Test(text) => text.clone(),
        }
    }
}

/// rsyslog's expression as a condition; or why there is none.
pub(super) fn translate(expression: &Expression, scope: &mut Scope<'_>) -> Result<Condition, String> {
    Ok(match expression {
        Expression::And(left, right) => Condition::all(vec![translate(left, scope)?, translate(right, scope)?]),
        Expression::Or(left, right) => Condition::any(vec![translate(left, scope)?, translate(right, scope)?]),
        Expression::Not(inside) => translate(inside, scope)?.negated(),
        Expression::Selector(text) => select(text)?,
        Expression::Number(number) => Condition::Constant(*number != 0),
        Expression::Call { name, arguments } => call(name, arguments, scope)?,
        Expression::Compare { compare, left, right } => compared(*compare, left, right, scope)?,
        Expression::Property(name) if templates::is_variable(name) => match scope.variables.get(name.as_str()) {
            Some(Some(pieces)) => match &pieces[..] {
                [Piece::Literal(text)] => Condition::Constant(text.parse::<i64>().is_ok_and(|number| number != 0)),
                _ => return Err(format!("whether `${name}` is a number other than 0 has no counterpart")),
            },
            _ => return Err(format!("`${name}` alone is no condition here")),
        },
        other => return Err(format!("{other:?} alone is no condition").replace("Expression::", "")),
    })
}

fn select(text: &str) -> Result<Condition, String> {
    let text = without_marks(&text.to_ascii_lowercase());
    if text.is_empty() {
        return Ok(Condition::Constant(false));
    }
    let selector = Selector::compile(&text).map_err(|error| error.what)?;
    let mut bits = [0; FACILITIES.len()];
    for (value, priority) in (0..=191).filter_map(|value| Some((value, Priority::new(value)?))) {
        bits[usize::from(value >> 3)] |= u8::from(selector.takes(priority)) << priority.severity().0;
    }
    Ok(if bits == [0xFF; FACILITIES.len()] { Condition::Constant(true) } else { Condition::Select(bits) })
}

/// `mark` is a facility of rsyslog's own, of which no message is.
fn without_marks(text: &str) -> String {
    let part = |part: &str| {
        let (facilities, severity) = part.split_once('.')?;
        let others: Vec<_> = facilities.split(',').filter(|name| name.trim() != "mark").collect();
        (!others.is_empty()).then(|| format!("{}.{severity}", others.join(",")))
    };
    let parts = text.split(';').map(|text| if text.contains("mark") { part(text).unwrap_or_default() } else { text.to_owned() });
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(";")
}

fn call(name: &str, arguments: &[Expression], scope: &mut Scope<'_>) -> Result<Condition, String> {
    match (name, arguments) {
        ("prifilt", [Expression::Text(text)]) => select(text),
        ("re_match" | "re_match_i", [left, Expression::Text(pattern)]) => {
            let pieces = value(left, scope)?;
            let pattern = if name == "re_match_i" { (pattern.as_str(), "(?i)") } else { (pattern.as_str(), "") };
            matches(pieces, pattern, true, scope)
        }
        ("exists", [Expression::Property(name)]) => Ok(Condition::Constant(matches!(scope.variables.get(name), Some(Some(_))))),
        _ => Err(format!("the function `{name}` has no counterpart in a condition")),
    }
}

/// The value of an expression, put together from texts and fields.
pub(super) fn value(expression: &Expression, scope: &mut Scope<'_>) -> Result<Vec<Piece>, String> {
    let literal = |text: String| Ok(vec![Piece::Literal(text)]);
    match expression {
        Expression::Text(text) => literal(text.clone()),
        Expression::Number(number) => literal(number.to_string()),
        Expression::Property(name) => templates::value(name, &Options::default(), scope.variables),
        Expression::Concat(left, right) => Ok([value(left, scope)?, value(right, scope)?].concat()),
        Expression::Call { name, arguments } => function(name, arguments, scope),
        Expression::Arithmetic(text) => Err(format!("calculations have no counterpart: `{text}`")),
        _ => Err("a condition as a value has no counterpart".to_owned()),
    }
}

fn function(name: &str, arguments: &[Expression], scope: &mut Scope<'_>) -> Result<Vec<Piece>, String> {
    let none = || Err(format!("the function `{name}` with these arguments has no counterpart"));
    match (name, arguments) {
        ("tolower", [of]) => Ok(each(value(of, scope)?, "lower")),
        ("toupper", [of]) => Ok(each(value(of, scope)?, "upper")),
        ("cstr" | "cnum", [of]) => value(of, scope),
        ("field", [of, delimiter, Expression::Number(number)]) => {
            let delimiter = match delimiter {
                Expression::Number(code) => u8::try_from(*code).ok().map(char::from).map(String::from),
                Expression::Text(text) if text.len() == 1 => Some(text.clone()),
                _ => None,
            };
            let (Some(delimiter), true) = (delimiter, *number > 0) else { return none() };
            let pieces = cut(value(of, scope)?, &format!("column:{number}:{}", quoted(&delimiter)))?;
            cut(pieces, &format!("default:{}", quoted("***FIELD NOT FOUND***")))
        }
        ("substring", [of, Expression::Number(start), Expression::Number(length)]) if *start >= 0 && *length > 0 => {
            cut(value(of, scope)?, &format!("bytes:{}-{}", start + 1, start + length))
        }
        ("replace", [of, Expression::Text(what), Expression::Text(by)]) if !what.is_empty() => {
            cut(value(of, scope)?, &format!("replace:{}:{}", quoted(what), quoted(by)))
        }
        (
            "re_extract" | "re_extract_i",
            [of, Expression::Text(pattern), Expression::Number(0), Expression::Number(group), Expression::Text(default)],
        ) => {
            let pattern = patterns::group(pattern, true, usize::try_from(*group).unwrap_or(0))?;
            scope.warnings.extend(pattern.warning.map(str::to_owned));
            let any_case = if name.ends_with("_i") { "(?i)" } else { "" };
            let pieces = cut(value(of, scope)?, &format!("match:{}", quoted(&format!("{any_case}{}", pattern.text))))?;
            cut(pieces, &format!("default:{}", quoted(default)))
        }
        ("lookup", [Expression::Text(table), of]) => match scope.lookups.contains(table) {
            true => cut(value(of, scope)?, &format!("lookup:{table}")),
            false => Err(format!("the table `{table}` could not be carried over")),
        },
        _ => none(),
    }
}

fn compared(compare: Compare, left: &Expression, right: &Expression, scope: &mut Scope<'_>) -> Result<Condition, String> {
    if let Expression::List(texts) = right {
        let each = texts.iter().map(|text| compared_with(compare, left, &Expression::Text(text.clone()), scope));
        let each = each.collect::<Result<Vec<_>, _>>()?;
        return Ok(if compare == Compare::NotEqual { Condition::all(each) } else { Condition::any(each) });
    }
    compared_with(compare, left, right, scope)
}

fn compared_with(compare: Compare, left: &Expression, right: &Expression, scope: &mut Scope<'_>) -> Result<Condition, String> {
    if compare == Compare::NotEqual {
        return compared_with(Compare::Equal, left, right, scope).map(Condition::negated);
    }
    let text = match &value(right, scope)?[..] {
        [] => String::new(),
        [Piece::Literal(text)] => text.clone(),
        _ => return Err("two fields cannot be compared with each other".to_owned()),
    };
    if let Expression::Property(name) = left
        && let Some(condition) = special(name.trim_start_matches('$'), compare, &text, scope)
    {
        return condition;
    }
    let pieces = value(left, scope)?;
    match compare {
        Compare::Matches(extended) => matches(pieces, (&text, ""), extended, scope),
        compare => test(pieces, compare, &text),
    }
}

/// Properties whose values are written otherwise here.
fn special(name: &str, compare: Compare, text: &str, scope: &Scope<'_>) -> Option<Result<Condition, String>> {
    let ordering = |field: &str, value: &str| {
        let sign = match compare {
            Compare::Equal => "==",
            Compare::Greater => ">",
            Compare::GreaterOrEqual => ">=",
            Compare::Less => "<",
            Compare::LessOrEqual => "<=",
            _ => return Err(format!("`{field}` can be compared by `==` and its like")),
        };
        Ok(Condition::Test(format!("{field} {sign} {value}")))
    };
    let unknown = || Ok(Condition::Constant(false));
    match name {
        "pri" => Some(ordering("pri", text)),
        "syslogfacility" | "syslogfacility-text" if compare == Compare::Equal || name == "syslogfacility" => {
            Some(Facility::parse(text).map_or_else(unknown, |facility| ordering("facility", facility.name())))
        }
        "syslogpriority" | "syslogseverity" => {
            Some(Severity::parse(text).map_or_else(unknown, |severity| ordering("severity", severity.name())))
        }
        "syslogpriority-text" | "syslogseverity-text" if compare == Compare::Equal => {
            Some(Severity::parse(text).map_or_else(unknown, |severity| ordering("severity", severity.name())))
        }
        // What comes from this host has that address in rsyslog.
        "fromhost-ip" if compare == Compare::Equal && text == "127.0.0.1" && !scope.local.is_empty() => {
            let from_here = Condition::Test("peer == \"127.0.0.1\"".to_owned());
            Some(Ok(Condition::any(vec![from_here, Condition::of_inputs(scope.local)])))
        }
        "inputname" if compare == Compare::Equal => {
            let ours = scope.inputs.iter().filter(|(theirs, _)| theirs == text).map(|(_, ours)| ours);
            Some(Ok(Condition::of_inputs(ours)))
        }
        _ => None,
    }
}

/// What stands left: a field through filters, or a text that is known now.
fn left(pieces: Vec<Piece>) -> Result<Result<String, String>, String> {
    match &pieces[..] {
        [] => Ok(Err(String::new())),
        [Piece::Literal(text)] => Ok(Err(text.clone())),
        [Piece::Field(field)] => {
            let mut field = field.clone();
            // An absent field is the empty text here too, but for those that rsyslog shows as `-`.
            field.filters.retain(|filter| filter != "default:\"\"");
            field.left().map(Ok).ok_or_else(|| format!("`{}` cannot be compared: times are text in templates only", field.name))
        }
        _ => Err("a text that is put together from several fields cannot be compared".to_owned()),
    }
}

fn test(pieces: Vec<Piece>, compare: Compare, text: &str) -> Result<Condition, String> {
    let (word, any_case) = match compare {
        Compare::Contains(any_case) => ("contains", any_case),
        Compare::EndsWith => ("endswith", false),
        Compare::Equal => ("==", false),
        Compare::StartsWith(any_case) => ("startswith", any_case),
        _ => return Err("only numbers, severities and facilities are less or greater".to_owned()),
    };
    let pieces = if any_case { each(pieces, "lower") } else { pieces };
    let text = if any_case { text.to_ascii_lowercase() } else { text.to_owned() };
    Ok(match left(without_blank(pieces, word == "contains" && !text.starts_with(' ')))? {
        Ok(field) => Condition::Test(format!("{field} {word} {}", quoted(&text))),
        Err(known) => Condition::Constant(match word {
            "contains" => known.contains(&text),
            "endswith" => known.ends_with(&text),
            "startswith" => known.starts_with(&text),
            _ => known == text,
        }),
    })
}

/// The blank before the message does not matter for what is looked for anywhere in it.
fn without_blank(mut pieces: Vec<Piece>, matters_not: bool) -> Vec<Piece> {
    if let [Piece::Field(field)] = &mut *pieces
        && matters_not
        && field.name == "msg"
        && field.filters.iter().all(|filter| filter == "lower")
    {
        field.name = "message".to_owned();
    }
    pieces
}

fn matches(pieces: Vec<Piece>, (text, flags): (&str, &str), extended: bool, scope: &mut Scope<'_>) -> Result<Condition, String> {
    let pattern = patterns::posix(text, extended)?;
    scope.warnings.extend(pattern.warning.map(str::to_owned));
    let anchored = pattern.text.contains('^') || pattern.text.starts_with(' ');
    let pattern = format!("{flags}{}", pattern.text);
    Ok(match left(without_blank(pieces, !anchored))? {
        Ok(field) => Condition::Test(format!("{field} matches {}", quoted(&pattern))),
        Err(known) => Condition::Constant(crate::template::pattern(&pattern)?.is_match(known.as_bytes())),
    })
}
