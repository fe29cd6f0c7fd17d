//! Text → parts, with nom; every error says where it is and what could have been meant.

use nom::branch::alt;
use nom::bytes::complete::{is_not, tag, take_while1};
use nom::character::complete::char;
use nom::combinator::{opt, value};
use nom::sequence::preceded;
use nom::{IResult, Parser};

use super::field::{Field, Moment, Of, Wall};
use super::filter::{self, Filter};
use super::{Escaping, Part, Template};

/// What is wrong in a template or condition, and where in its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    /// Bytes from the beginning of the text.
    pub offset: usize,
    pub what: String,
}

type Parsed<'t, T> = IResult<&'t str, T, ()>;

pub(super) fn compile(text: &str) -> Result<Vec<Part>, CompileError> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let offset = text.len() - rest.len();
        if let Ok((after, literal)) = literal(rest) {
            push_literal(literal, &mut parts);
            rest = after;
            continue;
        }
        let Ok((after, placeholder)) = placeholder(rest) else {
            let what = if rest.starts_with('}') {
                "a lone `}`: write `}}` for a brace"
            } else {
                "`{` without its `}`: write `{{` for a brace"
            };
            return Err(CompileError { offset, what: what.to_owned() });
        };
        parts.push(placeholder.part().map_err(|what| CompileError { offset, what })?);
        rest = after;
    }
    Ok(parts)
}

fn push_literal(text: &str, parts: &mut Vec<Part>) {
    match parts.last_mut() {
        Some(Part::Literal(before)) => *before = [before, text.as_bytes()].concat().into(),
        _ => parts.push(Part::Literal(text.as_bytes().into())),
    }
}

/// Text, or a doubled brace.
fn literal(input: &str) -> Parsed<'_, &str> {
    alt((value("{", tag("{{")), value("}", tag("}}")), is_not("{}"))).parse(input)
}

/// `{name[:format]{|filter[:argument]}}`
struct Placeholder<'t> {
    name: &'t str,
    format: Option<&'t str>,
    filters: Vec<(&'t str, Option<&'t str>)>,
}

fn placeholder(input: &str) -> Parsed<'_, Placeholder<'_>> {
    let (input, _) = char('{')(input)?;
    let (input, name) = take_while1(|c| !matches!(c, ':' | '|' | '{' | '}')).parse(input)?;
    let (input, format) = opt(preceded(char(':'), is_not("|{}"))).parse(input)?;
    let (mut input, mut filters) = (input, Vec::new());
    while let Ok((rest, filter)) = preceded(char('|'), filter).parse(input) {
        filters.push(filter);
        input = rest;
    }
    let (input, _) = char('}')(input)?;
    Ok((input, Placeholder { name, format, filters }))
}

fn filter(input: &str) -> Parsed<'_, (&str, Option<&str>)> {
    (take_while1(|c| !matches!(c, ':' | '|' | '{' | '}')), opt(preceded(char(':'), is_not("|{}")))).parse(input)
}

impl Placeholder<'_> {
    fn part(&self) -> Result<Part, String> {
        match self.name {
            "received" => self.moment(Of::Receipt),
            "timestamp" => self.moment(Of::Message),
            name => {
                let field = Field::parse(name).ok_or_else(|| unknown_field(name))?;
                if self.format.is_some() {
                    return Err(format!("`{name}` takes no format: only `timestamp` and `received` do"));
                }
                Ok(Part::Field { field, filters: self.filters(&self.filters)? })
            }
        }
    }

    fn moment(&self, of: Of) -> Result<Part, String> {
        let format = match self.format {
            Some(text) => Some(Moment::items(text).ok_or_else(|| format!("`{text}` is no strftime format"))?),
            None => None,
        };
        let (walls, filters): (Vec<_>, Vec<_>) =
            self.filters.iter().copied().partition(|(name, argument)| argument.is_none() && matches!(*name, "local" | "utc"));
        let zone = match walls.last() {
            Some(("utc", _)) => Wall::Utc,
            Some(_) => Wall::Local,
            None if format.is_some() => Wall::Local,
            None => Wall::Own,
        };
        Ok(Part::Moment { moment: Moment::new(of, format, zone), filters: self.filters(&filters)? })
    }

    fn filters(&self, named: &[(&str, Option<&str>)]) -> Result<Vec<Filter>, String> {
        named
            .iter()
            .map(|(name, argument)| match Filter::parse(name, *argument) {
                Some(Ok(filter)) => Ok(filter),
                Some(Err(what)) => Err(format!("filter `{name}` {what}")),
                None if matches!(*name, "local" | "utc") => Err(format!("filter `{name}` is for `timestamp` and `received`")),
                None => Err(format!("no filter is called `{name}`{}", did_you_mean(name, filter::NAMES))),
            })
            .collect()
    }
}

fn unknown_field(name: &str) -> String {
    let names = Field::NAMES.iter().map(|(name, _)| *name).chain(["timestamp", "received"]);
    format!("no field is called `{name}`{}", did_you_mean(name, names))
}

/// `: did you mean …?`, or what there is.
pub(crate) fn did_you_mean<'n>(wrong: &str, names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<_> = names.into_iter().collect();
    let nearest = names.iter().map(|name| (strsim::damerau_levenshtein(wrong, name), name)).min();
    match nearest {
        Some((distance, name)) if distance <= 1 + wrong.len() / 4 => format!(": did you mean `{name}`?"),
        _ => format!("; there is {}", names.join(", ")),
    }
}

/// The property of a fuzz target: any text compiles or is refused at a place inside it, and what compiled renders.
///
/// # Panics
/// When the property does not hold.
pub fn must_not_panic(text: &str, message: &crate::message::Message<'_>) {
    for escaping in [Escaping::Line, Escaping::Nothing, Escaping::Path] {
        match Template::compile(text, escaping) {
            Err(error) => assert!(error.offset <= text.len() && text.is_char_boundary(error.offset)),
            Ok(template) => {
                let mut out = Vec::new();
                template.render(message, &mut super::Scratch::default(), &mut out);
                assert!(!template.is_constant() || escaping == Escaping::Path || out == template.literal_prefix());
            }
        }
    }
}
