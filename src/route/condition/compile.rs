//! Text → condition, with nom; nesting is bounded, and every error says where it is.

use memchr::memmem;
use nom::branch::alt;
use nom::bytes::complete::{tag, take_while1};
use nom::character::complete::{char, multispace0};
use nom::combinator::{recognize, value};
use nom::sequence::delimited;
use nom::{IResult, Parser};
use regex::bytes::RegexBuilder;

use super::Node;
use super::test::{Compare, Matcher, Test};
use crate::message::{FACILITIES, Facility, SEVERITIES, Severity};
use crate::template::{CompileError, Field, did_you_mean};

/// Deeper than anyone writes, and far from the end of the stack.
const DEEPEST: usize = 64;
/// A compiled pattern may take this much memory.
const REGEX_BYTES: usize = 1 << 20;

type Parsed<'t, T> = IResult<&'t str, T, ()>;
/// What remains, and what was found; or the rest at which something is wrong.
type Compiled<'t, T> = Result<(&'t str, T), Wrong<'t>>;

struct Wrong<'t> {
    at: &'t str,
    what: String,
}

pub(super) fn compile(text: &str) -> Result<Node, CompileError> {
    let wrong = |wrong: Wrong<'_>| CompileError { offset: text.len() - wrong.at.len(), what: wrong.what };
    let (rest, node) = any(text, DEEPEST).map_err(wrong)?;
    match rest.trim_start() {
        "" => Ok(node),
        rest => Err(wrong(expected(rest, "`and`, `or` or the end"))),
    }
}

fn expected<'t>(at: &'t str, what: &str) -> Wrong<'t> {
    let at = at.trim_start();
    let found: String = at.chars().take_while(|c| !c.is_whitespace()).take(20).collect();
    let found = if found.is_empty() { "the end".to_owned() } else { format!("`{found}`") };
    Wrong { at, what: format!("{found} where {what} is expected") }
}

/// `all *("or" all)`
fn any(input: &str, depth: usize) -> Compiled<'_, Node> {
    chain(input, "or", Node::Any, |input| all(input, depth))
}

/// `one *("and" one)`
fn all(input: &str, depth: usize) -> Compiled<'_, Node> {
    chain(input, "and", Node::All, |input| one(input, depth))
}

fn chain<'t>(
    input: &'t str,
    joint: &str,
    joined: fn(Vec<Node>) -> Node,
    item: impl Fn(&'t str) -> Compiled<'t, Node>,
) -> Compiled<'t, Node> {
    let (mut rest, first) = item(input)?;
    let mut nodes = vec![first];
    while let Ok((after, _)) = keyword(joint)(rest) {
        let (after, node) = item(after)?;
        nodes.push(node);
        rest = after;
    }
    if nodes.len() == 1 {
        nodes.pop().map_or(Err(expected(rest, "a test")), |node| Ok((rest, node)))
    } else {
        Ok((rest, joined(nodes)))
    }
}

/// `"not" one / "(" any ")" / test`
fn one(input: &str, depth: usize) -> Compiled<'_, Node> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Wrong { at: input, what: format!("nested deeper than {DEEPEST}") });
    };
    if let Ok((rest, _)) = keyword("not")(input) {
        return one(rest, depth).map(|(rest, node)| (rest, Node::Not(Box::new(node))));
    }
    if let Ok((rest, _)) = symbol("(")(input) {
        let (rest, node) = any(rest, depth)?;
        let (rest, _) = symbol(")")(rest).map_err(|_| expected(rest, "`)`"))?;
        return Ok((rest, node));
    }
    test(input)
}

fn keyword<'t>(word: &str) -> impl Fn(&'t str) -> Parsed<'t, ()> {
    move |input| {
        let (rest, found) = take_while1(|c: char| c.is_ascii_alphanumeric() || c == '-').parse(input.trim_start())?;
        if found == word { Ok((rest, ())) } else { Err(nom::Err::Error(())) }
    }
}

fn symbol<'t>(text: &'static str) -> impl Fn(&'t str) -> Parsed<'t, &'t str> {
    move |input| delimited(multispace0, tag(text), multispace0).parse(input)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    Compare(Compare),
    Contains,
    EndsWith,
    In,
    Matches,
    NotIn,
    StartsWith,
}

/// `field operator value`
fn test(input: &str) -> Compiled<'_, Node> {
    let start = input.trim_start();
    let (rest, field) = field(start)?;
    let (rest, operator) =
        operator(rest).map_err(|_| expected(rest, "one of `== != < <= > >= contains startswith endswith matches in`"))?;
    let place = rest.trim_start();
    let (rest, values) = values(place, operator)?;
    let matcher = matcher(&field, operator, &values).map_err(|what| Wrong { at: place, what })?;
    let source = start[..start.len() - rest.len()].trim_end().into();
    let node = Node::Test(Box::new(Test { field, matcher, source }));
    let negated = matches!(operator, Operator::NotIn) || (operator == Operator::Compare(Compare::NotEqual) && !is_number(&node));
    Ok((rest, if negated { Node::Not(Box::new(node)) } else { node }))
}

fn is_number(node: &Node) -> bool {
    matches!(node, Node::Test(test) if matches!(test.matcher, Matcher::Number(..)))
}

fn field(input: &str) -> Compiled<'_, Field> {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let path = (tag("sd["), take_while1(|c| !matches!(c, ']' | '[')), tag("]["), take_while1(|c| c != ']'), char(']'));
    let name: Parsed<'_, &str> = alt((recognize(path), take_while1(word))).parse(input);
    let Ok((rest, name)) = name else {
        return Err(expected(input, "a field"));
    };
    match Field::parse(name) {
        Some(field) => Ok((rest, field)),
        None => {
            let names = Field::NAMES.iter().map(|(name, _)| *name);
            Err(Wrong { at: input, what: format!("no field is called `{name}`{}", did_you_mean(name, names)) })
        }
    }
}

fn operator(input: &str) -> Parsed<'_, Operator> {
    let input = input.trim_start();
    let symbols = alt((
        value(Compare::Equal, tag("==")),
        value(Compare::NotEqual, tag("!=")),
        value(Compare::LessOrEqual, tag("<=")),
        value(Compare::GreaterOrEqual, tag(">=")),
        value(Compare::Less, tag("<")),
        value(Compare::Greater, tag(">")),
    ));
    let words = alt((
        value(Operator::Contains, keyword("contains")),
        value(Operator::EndsWith, keyword("endswith")),
        value(Operator::In, keyword("in")),
        value(Operator::Matches, keyword("matches")),
        value(Operator::NotIn, (keyword("not"), keyword("in"))),
        value(Operator::StartsWith, keyword("startswith")),
    ));
    alt((symbols.map(Operator::Compare), words)).parse(input)
}

/// One value, or a list of them after `in`.
fn values(input: &str, operator: Operator) -> Compiled<'_, Vec<String>> {
    if !matches!(operator, Operator::In | Operator::NotIn) {
        return one_value(input).map(|(rest, value)| (rest, vec![value]));
    }
    let (mut rest, _) = symbol("[")(input).map_err(|_| expected(input, "a list: `[\"a\", \"b\"]`"))?;
    let mut values = Vec::new();
    loop {
        if let Ok((after, _)) = symbol("]")(rest) {
            return Ok((after, values));
        }
        let (after, value) = one_value(rest)?;
        values.push(value);
        rest = match symbol(",")(after) {
            Ok((after, _)) => after,
            Err(_) if symbol("]")(after).is_ok() => after,
            Err(_) => return Err(expected(after, "`,` or `]`")),
        };
    }
}

/// `"text"` with `\"` and `\\`, `'text'` as it stands, or a word: a number, a severity, a facility.
fn one_value(input: &str) -> Compiled<'_, String> {
    let input = input.trim_start();
    if let Some(rest) = input.strip_prefix('"') {
        return quoted(input, rest);
    }
    if let Some(rest) = input.strip_prefix('\'') {
        let (text, rest) =
            rest.split_once('\'').ok_or_else(|| Wrong { at: input, what: "a text without its closing `'`".to_owned() })?;
        return Ok((rest, text.to_owned()));
    }
    let word: Parsed<'_, &str> =
        take_while1(|c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/')).parse(input);
    word.map(|(rest, word)| (rest, word.to_owned())).map_err(|_| expected(input, "a value: `\"text\"`, a number or a name"))
}

fn quoted<'t>(input: &'t str, rest: &'t str) -> Compiled<'t, String> {
    let mut text = String::new();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((&rest[at + 1..], text)),
            // Only these two: a pattern's own backslashes stay.
            '\\' if rest[at + 1..].starts_with(['"', '\\']) => text.extend(chars.next().map(|(_, c)| c)),
            c => text.push(c),
        }
    }
    Err(Wrong { at: input, what: "a text without its closing `\"`".to_owned() })
}

fn matcher(field: &Field, operator: Operator, values: &[String]) -> Result<Matcher, String> {
    if let Some(numbers) = numbers(field, values, operator) {
        let numbers = numbers?;
        return Ok(match operator {
            Operator::Compare(compare) => Matcher::Number(compare, numbers[0]),
            _ => Matcher::NumberIn(numbers),
        });
    }
    if *field == Field::Peer && matches!(operator, Operator::In | Operator::NotIn) {
        return values.iter().map(|text| network(text)).collect::<Result<_, _>>().map(Matcher::Networks);
    }
    let text = values.first().map(|value| value.as_bytes()).unwrap_or_default();
    Ok(match operator {
        Operator::Compare(Compare::Equal | Compare::NotEqual) => Matcher::Equals(text.into()),
        Operator::Compare(_) => return Err("only numbers, severities and facilities are less or greater".to_owned()),
        Operator::Contains => Matcher::Contains(Box::new(memmem::Finder::new(text).into_owned())),
        Operator::EndsWith => Matcher::EndsWith(text.into()),
        Operator::In | Operator::NotIn => Matcher::In(values.iter().map(|value| value.as_bytes().into()).collect()),
        Operator::Matches => Matcher::Matches(pattern(&values[0])?),
        Operator::StartsWith => Matcher::StartsWith(text.into()),
    })
}

/// None: the field is text here.
fn numbers(field: &Field, values: &[String], operator: Operator) -> Option<Result<Vec<u32>, String>> {
    if !matches!(operator, Operator::Compare(_) | Operator::In | Operator::NotIn) {
        return None;
    }
    let number: fn(&String) -> Result<u32, String> = match field {
        Field::Facility => |name| {
            Facility::parse(name)
                .map(|f| f.0.into())
                .ok_or_else(|| format!("no facility is called `{name}`{}", did_you_mean(name, FACILITIES)))
        },
        Field::Severity => |name| {
            Severity::parse(name)
                .map(|s| s.0.into())
                .ok_or_else(|| format!("no severity is called `{name}`{}", did_you_mean(name, SEVERITIES)))
        },
        Field::Pri | Field::Version => |text| text.parse().map_err(|_| format!("`{text}` is no number")),
        _ => return None,
    };
    Some(values.iter().map(number).collect())
}

fn network(text: &str) -> Result<ipnet::IpNet, String> {
    let address = text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from);
    text.parse().or(address).map_err(|_| format!("`{text}` is no network: `10.0.0.0/8` or an address is expected"))
}

fn pattern(text: &str) -> Result<regex::bytes::Regex, String> {
    RegexBuilder::new(text).size_limit(REGEX_BYTES).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => format!("the pattern takes more than {limit} bytes"),
        error => format!("the pattern is wrong: {}", error.to_string().lines().last().unwrap_or_default()),
    })
}

/// The property of a fuzz target: any text compiles or is refused at a place inside it, and what compiled can be
/// evaluated and explained.
///
/// # Panics
/// When the property does not hold.
pub fn must_not_panic(text: &str, message: &crate::message::Message<'_>) {
    match super::Condition::compile(text) {
        Err(error) => assert!(error.offset <= text.len() && text.is_char_boundary(error.offset)),
        Ok(condition) => {
            let explained = condition.explain(message);
            let mut spare = Vec::new();
            assert!(condition.holds(message, &mut spare) == condition.holds(message, &mut spare) && !explained.is_empty());
        }
    }
}
