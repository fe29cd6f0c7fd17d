//! Text → condition, with nom; nesting is bounded, and every error says where it is.

use memchr::memmem;
use nom::branch::alt;
use nom::bytes::complete::{tag, take_while1};
use nom::character::complete::multispace0;
use nom::combinator;
use nom::sequence::delimited;
use nom::{IResult, Parser};

use super::Node;
use super::test::{Compare, Matcher, Test};
use crate::message::{FACILITIES, Facility, SEVERITIES, Severity};
use crate::template::{CompileError, Field, Lookups, Value, did_you_mean, pattern, quoted, value};

/// Deeper than anyone writes, and far from the end of the stack.
const DEEPEST: usize = 64;

type Parsed<'t, T> = IResult<&'t str, T, ()>;
/// What remains, and what was found; or the rest at which something is wrong.
type Compiled<'t, T> = Result<(&'t str, T), Wrong<'t>>;

struct Wrong<'t> {
    at: &'t str,
    what: String,
}

/// What is known wherever one is in the text.
#[derive(Clone, Copy)]
struct Scope<'l> {
    lookups: &'l Lookups,
    /// So many more levels may be nested.
    depth: usize,
}

pub(super) fn compile(text: &str, lookups: &Lookups) -> Result<Node, CompileError> {
    let wrong = |wrong: Wrong<'_>| CompileError { offset: text.len() - wrong.at.len(), what: wrong.what };
    let (rest, node) = any(text, Scope { lookups, depth: DEEPEST }).map_err(wrong)?;
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
fn any<'t>(input: &'t str, scope: Scope<'_>) -> Compiled<'t, Node> {
    chain(input, "or", Node::Any, |input| all(input, scope))
}

/// `one *("and" one)`
fn all<'t>(input: &'t str, scope: Scope<'_>) -> Compiled<'t, Node> {
    chain(input, "and", Node::All, |input| one(input, scope))
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
fn one<'t>(input: &'t str, scope: Scope<'_>) -> Compiled<'t, Node> {
    let Some(depth) = scope.depth.checked_sub(1) else {
        return Err(Wrong { at: input, what: format!("nested deeper than {DEEPEST}") });
    };
    let scope = Scope { depth, ..scope };
    if let Ok((rest, _)) = keyword("not")(input) {
        return one(rest, scope).map(|(rest, node)| (rest, Node::Not(Box::new(node))));
    }
    if let Ok((rest, _)) = symbol("(")(input) {
        let (rest, node) = any(rest, scope)?;
        let (rest, _) = symbol(")")(rest).map_err(|_| expected(rest, "`)`"))?;
        return Ok((rest, node));
    }
    test(input, scope.lookups)
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
fn test<'t>(input: &'t str, lookups: &Lookups) -> Compiled<'t, Node> {
    let start = input.trim_start();
    let (rest, left) = value(start, lookups).map_err(|(at, what)| match at.trim_start() {
        "" => expected(at, "a field"),
        _ => Wrong { at, what },
    })?;
    let (rest, operator) =
        operator(rest).map_err(|_| expected(rest, "one of `== != < <= > >= contains startswith endswith matches in`"))?;
    let place = rest.trim_start();
    let (rest, values) = values(place, operator)?;
    let matcher = matcher(&left, operator, &values).map_err(|what| Wrong { at: place, what })?;
    let source = start[..start.len() - rest.len()].trim_end().into();
    let node = Node::Test(Box::new(Test { left, matcher, source }));
    let negated = matches!(operator, Operator::NotIn) || (operator == Operator::Compare(Compare::NotEqual) && !is_number(&node));
    Ok((rest, if negated { Node::Not(Box::new(node)) } else { node }))
}

fn is_number(node: &Node) -> bool {
    matches!(node, Node::Test(test) if matches!(test.matcher, Matcher::Number(..)))
}

fn operator(input: &str) -> Parsed<'_, Operator> {
    let input = input.trim_start();
    let symbols = alt((
        combinator::value(Compare::Equal, tag("==")),
        combinator::value(Compare::NotEqual, tag("!=")),
        combinator::value(Compare::LessOrEqual, tag("<=")),
        combinator::value(Compare::GreaterOrEqual, tag(">=")),
        combinator::value(Compare::Less, tag("<")),
        combinator::value(Compare::Greater, tag(">")),
    ));
    let words = alt((
        combinator::value(Operator::Contains, keyword("contains")),
        combinator::value(Operator::EndsWith, keyword("endswith")),
        combinator::value(Operator::In, keyword("in")),
        combinator::value(Operator::Matches, keyword("matches")),
        combinator::value(Operator::NotIn, (keyword("not"), keyword("in"))),
        combinator::value(Operator::StartsWith, keyword("startswith")),
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
        let (rest, text) = quoted(rest).ok_or_else(|| Wrong { at: input, what: "a text without its closing `\"`".to_owned() })?;
        return Ok((rest, text));
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

fn matcher(left: &Value, operator: Operator, values: &[String]) -> Result<Matcher, String> {
    if let Some(numbers) = numbers(left, values, operator) {
        let numbers = numbers?;
        return Ok(match operator {
            Operator::Compare(compare) => Matcher::Number(compare, numbers[0]),
            _ => Matcher::NumberIn(numbers),
        });
    }
    if left.field == Field::Peer && matches!(operator, Operator::In | Operator::NotIn) {
        return values.iter().map(|text| network(text)).collect::<Result<_, _>>().map(Matcher::Networks);
    }
    let text = values.first().map(|value| value.as_bytes()).unwrap_or_default();
    Ok(match operator {
        Operator::Compare(Compare::Equal | Compare::NotEqual) => Matcher::Equals(text.into()),
        // What a key of JSON or logfmt has may be a number.
        Operator::Compare(compare) if matches!(left.field, Field::Json(_)) => {
            let number = values[0].parse().map_err(|_| format!("`{}` is no number", values[0]))?;
            Matcher::Decimal(compare, number)
        }
        Operator::Compare(_) => return Err("only numbers, severities and facilities are less or greater".to_owned()),
        Operator::Contains => Matcher::Contains(Box::new(memmem::Finder::new(text).into_owned())),
        Operator::EndsWith => Matcher::EndsWith(text.into()),
        Operator::In | Operator::NotIn => Matcher::In(values.iter().map(|value| value.as_bytes().into()).collect()),
        Operator::Matches => Matcher::Matches(pattern(&values[0]).map_err(|what| format!("`matches` {what}"))?),
        Operator::StartsWith => Matcher::StartsWith(text.into()),
    })
}

/// None: the field is text here.
fn numbers(left: &Value, values: &[String], operator: Operator) -> Option<Result<Vec<u32>, String>> {
    if !matches!(operator, Operator::Compare(_) | Operator::In | Operator::NotIn) {
        return None;
    }
    if !left.is_plain() {
        return None;
    }
    let number: fn(&String) -> Result<u32, String> = match left.field {
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
            let mut workspace = crate::template::Workspace::default();
            assert!(
                condition.holds(message, &mut workspace) == condition.holds(message, &mut workspace) && !explained.is_empty()
            );
        }
    }
}
