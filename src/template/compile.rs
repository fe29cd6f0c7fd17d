//! Text → parts, with nom; every error says where it is and what could have been meant.

use nom::branch::alt;
use nom::bytes::complete::{is_not, tag, take_while, take_while1};
use nom::character::complete::char;
use nom::combinator::{self, opt, recognize};
use nom::multi::many0;
use nom::sequence::preceded;
use nom::{IResult, Parser};
use regex::bytes::{Regex, RegexBuilder};

use super::field::{Field, Moment, Of, Wall};
use super::filter::{self, Filter, Lookups};
use super::{Escaping, Part, Template, Value};

/// What is wrong in a template or condition, and where in its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    /// Bytes from the beginning of the text.
    pub offset: usize,
    pub what: String,
}

type Parsed<'t, T> = IResult<&'t str, T, ()>;

/// A compiled pattern may take this much memory.
const REGEX_BYTES: usize = 1 << 20;

pub(super) fn compile(text: &str, lookups: &Lookups) -> Result<Vec<Part>, CompileError> {
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
        parts.push(placeholder.part(lookups).map_err(|what| CompileError { offset, what })?);
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
    alt((combinator::value("{", tag("{{")), combinator::value("}", tag("}}")), is_not("{}"))).parse(input)
}

/// `{name[:format]{|filter{:argument}}}`
struct Placeholder<'t> {
    name: &'t str,
    format: Option<&'t str>,
    filters: Vec<Call<'t>>,
}

/// A filter's name and its arguments.
type Call<'t> = (&'t str, Vec<String>);

fn placeholder(input: &str) -> Parsed<'_, Placeholder<'_>> {
    let (input, _) = char('{')(input)?;
    let (input, name) = take_while1(|c| !matches!(c, ':' | '|' | '{' | '}')).parse(input)?;
    let (input, format) = opt(preceded(char(':'), is_not("|{}"))).parse(input)?;
    let in_braces = |c| matches!(c, ':' | '|' | '{' | '}');
    let (input, filters) = many0(preceded(char('|'), |input| filter(input, in_braces))).parse(input)?;
    let (input, _) = char('}')(input)?;
    Ok((input, Placeholder { name, format, filters }))
}

/// `name{:argument}`
fn filter(input: &str, ends: fn(char) -> bool) -> Parsed<'_, Call<'_>> {
    let name = take_while1(|c: char| c.is_ascii_alphanumeric() || c == '-');
    (name, many0(preceded(char(':'), |input| argument(input, ends)))).parse(input)
}

/// A text in quotes, with `\"` and `\\`, or one that ends where its place says.
fn argument(input: &str, ends: fn(char) -> bool) -> Parsed<'_, String> {
    match input.strip_prefix('"') {
        Some(rest) => quoted(rest).ok_or(nom::Err::Error(())),
        None => take_while(|c| !ends(c)).map(str::to_owned).parse(input),
    }
}

/// What stands before the closing quote, and what behind it. Only `\"` and `\\` mean something else than they show:
/// a pattern's own backslashes stay.
pub(crate) fn quoted(input: &str) -> Option<(&str, String)> {
    let mut text = String::new();
    let mut chars = input.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((&input[at + 1..], text)),
            '\\' if input[at + 1..].starts_with(['"', '\\']) => text.extend(chars.next().map(|(_, c)| c)),
            c => text.push(c),
        }
    }
    None
}

/// `field{|filter}` of a condition, and what stands behind it; or the rest at which something is wrong.
pub(crate) fn value<'t>(input: &'t str, lookups: &Lookups) -> Result<(&'t str, Value), (&'t str, String)> {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let path = (tag("sd["), take_while1(|c| !matches!(c, ']' | '[')), tag("]["), take_while1(|c| c != ']'), char(']'));
    let json = preceded(tag("json."), take_while1(|c| word(c) || matches!(c, '.' | '@' | '/')));
    let name: Parsed<'_, &str> = alt((recognize(path), recognize(json), take_while1(word))).parse(input);
    let Ok((mut rest, name)) = name else {
        return Err((input, "a field is expected".to_owned()));
    };
    let field = Field::parse(name).ok_or_else(|| {
        let names = Field::NAMES.iter().map(|(name, _)| *name);
        (input, format!("no field is called `{name}`{}", did_you_mean(name, names)))
    })?;
    let mut calls = Vec::new();
    while let Some(after) = rest.strip_prefix('|') {
        let in_condition = |c: char| matches!(c, ':' | '|' | ')') || c.is_whitespace();
        let (behind, call) = filter(after, in_condition).map_err(|_| (after, "a filter is expected".to_owned()))?;
        calls.push(call);
        rest = behind;
    }
    let filters = filters(&calls, lookups).map_err(|what| (input, what))?;
    Ok((rest, Value::new(field, filters)))
}

fn filters(calls: &[Call<'_>], lookups: &Lookups) -> Result<Vec<Filter>, String> {
    let one = |(name, arguments): &Call<'_>| match Filter::parse(name, arguments, lookups) {
        Some(Ok(filter)) => Ok(filter),
        Some(Err(what)) => Err(format!("filter `{name}` {what}")),
        None if matches!(*name, "local" | "own" | "utc") => Err(format!("filter `{name}` is for `timestamp` and `received`")),
        None => Err(format!("no filter is called `{name}`{}", did_you_mean(name, filter::NAMES))),
    };
    calls.iter().map(one).collect()
}

impl Placeholder<'_> {
    fn part(&self, lookups: &Lookups) -> Result<Part, String> {
        match self.name {
            "received" => self.moment(Of::Receipt, lookups),
            "timestamp" => self.moment(Of::Message, lookups),
            name => {
                let field = Field::parse(name).ok_or_else(|| unknown_field(name))?;
                if self.format.is_some() {
                    return Err(format!("`{name}` takes no format: only `timestamp` and `received` do"));
                }
                Ok(Part::Field(Value::new(field, filters(&self.filters, lookups)?)))
            }
        }
    }

    fn moment(&self, of: Of, lookups: &Lookups) -> Result<Part, String> {
        let format = match self.format {
            Some(text) => Some(Moment::items(text).ok_or_else(|| format!("`{text}` is no strftime format"))?),
            None => None,
        };
        let is_wall = |(name, arguments): &Call<'_>| arguments.is_empty() && matches!(*name, "local" | "own" | "utc");
        let (walls, others): (Vec<_>, Vec<_>) = self.filters.iter().cloned().partition(is_wall);
        let zone = match walls.last() {
            Some(("own", _)) => Wall::Own,
            Some(("utc", _)) => Wall::Utc,
            Some(_) => Wall::Local,
            None if format.is_some() => Wall::Local,
            None => Wall::Own,
        };
        Ok(Part::Moment { moment: Moment::new(of, format, zone), filters: filters(&others, lookups)? })
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

/// A regular expression over octets, in linear time and bounded memory.
pub(crate) fn pattern(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text).size_limit(REGEX_BYTES).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => format!("has a pattern that takes more than {limit} bytes"),
        error => format!("has a wrong pattern: {}", error.to_string().lines().last().unwrap_or_default()),
    })
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
