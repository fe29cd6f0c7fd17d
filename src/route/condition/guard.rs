//! What a message must have for a condition to hold at all: the key under which [`crate::route::index`] files it.

use regex_syntax::hir::literal::Extractor;
use regex_syntax::hir::{Hir, HirKind};

use super::test::{Matcher, Test};
use super::{Condition, Node};
use crate::template::Field;

/// Literals shorter than this are in every other message.
const SHORTEST: usize = 2;
/// More alternatives than this are no key.
const MOST: usize = 64;

/// Necessary, not sufficient: one of the texts is the field, or occurs in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::route) struct Guard {
    pub field: Field,
    pub kind: Kind,
    pub texts: Vec<Box<[u8]>>,
}

/// From the better key to the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::route) enum Kind {
    Equals,
    Contains,
}

impl Condition {
    /// None: nothing can be said without evaluating it.
    pub(in crate::route) fn guard(&self) -> Option<Guard> {
        self.0.guard()
    }
}

impl Node {
    fn guard(&self) -> Option<Guard> {
        match self {
            Self::All(nodes) => nodes.iter().filter_map(Self::guard).min_by_key(|guard| (guard.kind, guard.texts.len())),
            Self::Any(nodes) => nodes.iter().map(Self::guard).reduce(either).flatten(),
            Self::Not(_) => None,
            Self::Test(test) => test.guard(),
        }
    }
}

/// Both must be there, of one kind and field.
fn either(one: Option<Guard>, other: Option<Guard>) -> Option<Guard> {
    let (mut one, other) = (one?, other?);
    one.texts.extend(other.texts);
    ((&one.field, one.kind) == (&other.field, other.kind) && one.texts.len() <= MOST).then_some(one)
}

impl Test {
    fn guard(&self) -> Option<Guard> {
        let (kind, texts) = match &self.matcher {
            Matcher::Contains(finder) => (Kind::Contains, vec![finder.needle().into()]),
            Matcher::EndsWith(text) | Matcher::StartsWith(text) => (Kind::Contains, vec![text.clone()]),
            Matcher::Equals(text) => (Kind::Equals, vec![text.clone()]),
            Matcher::In(texts) => (Kind::Equals, texts.iter().cloned().collect()),
            Matcher::Matches(regex) => (Kind::Contains, literals(regex.as_str())?),
            Matcher::Decimal(..) | Matcher::Networks(_) | Matcher::Number(..) | Matcher::NumberIn(_) => return None,
        };
        let useful = kind == Kind::Equals || texts.iter().all(|text| text.len() >= SHORTEST);
        (useful && self.left.is_borrowed()).then(|| Guard { field: self.left.field.clone(), kind, texts })
    }
}

/// Texts of which one occurs wherever the pattern matches.
fn literals(pattern: &str) -> Option<Vec<Box<[u8]>>> {
    let hir = regex_syntax::ParserBuilder::new().utf8(false).build().parse(pattern).ok()?;
    required(&hir)
}

fn required(hir: &Hir) -> Option<Vec<Box<[u8]>>> {
    let inside = match hir.kind() {
        HirKind::Capture(capture) => required(&capture.sub),
        HirKind::Concat(parts) => parts.iter().filter_map(required).max_by_key(|texts| shortest(texts)),
        HirKind::Repetition(repetition) if repetition.min > 0 => required(&repetition.sub),
        _ => None,
    };
    let mut extractor = Extractor::new();
    extractor.limit_total(MOST);
    let first = extractor.extract(hir);
    let first: Option<Vec<Box<[u8]>>> = first.literals().map(|texts| texts.iter().map(|text| text.as_bytes().into()).collect());
    let useful = |texts: &Vec<_>| shortest(texts) >= SHORTEST && texts.len() <= MOST;
    [inside, first].into_iter().flatten().filter(useful).max_by_key(|texts| shortest(texts))
}

/// 0 for none at all: a pattern that matches nothing has no key.
fn shortest(texts: &[Box<[u8]>]) -> usize {
    texts.iter().map(|text| text.len()).min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(condition: &str) -> Option<(String, Kind, Vec<String>)> {
        let guard = Condition::compile(condition).unwrap_or_else(|error| panic!("{condition}: {}", error.what)).guard()?;
        let mut texts: Vec<_> = guard.texts.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
        texts.sort();
        Some((format!("{:?}", guard.field), guard.kind, texts))
    }

    #[test]
    fn a_condition_needs_one_of_its_texts() {
        for (condition, kind, texts) in [
            (r#"message == "x""#, Kind::Equals, &["x"][..]),
            (r#"message in ["x", "y"]"#, Kind::Equals, &["x", "y"]),
            (r#"message contains "abc" and severity < err"#, Kind::Contains, &["abc"]),
            (r#"message contains "abc" and message == "x""#, Kind::Equals, &["x"]),
            (r#"message contains "abc" or message endswith "de""#, Kind::Contains, &["abc", "de"]),
            (r#"message matches "error [0-9]+ in module""#, Kind::Contains, &[" in module"]),
            (r#"message matches "^(foo|barn)+$""#, Kind::Contains, &["barn", "foo"]),
            (r#"message matches "(?:a.*)?needle""#, Kind::Contains, &["needle"]),
        ] {
            let expected = Some(("Message".to_owned(), kind, texts.iter().map(|text| (*text).to_owned()).collect()));
            assert_eq!(guard(condition), expected, "{condition}");
        }
    }

    /// Of seven letters in either case there are more than are looked for; the first six will do.
    #[test]
    fn a_word_in_any_case_has_a_guard() {
        let (_, kind, texts) = guard(r#"message matches "(?i)connection (reset|refused)""#).expect("a guard");
        assert_eq!((kind, texts.len()), (Kind::Contains, 64));
        assert!(texts.contains(&"cOnNeC".to_owned()), "{texts:?}");
    }

    #[test]
    fn of_others_nothing_can_be_said() {
        for condition in [
            "severity == err",
            r#"message != "x""#,
            r#"message contains "a""#,
            r#"message contains "" "#,
            r#"message contains "abc" or severity == err"#,
            r#"message contains "abc" or app-name contains "abc""#,
            r#"message matches "[0-9]+""#,
            r#"message matches "(abc)?""#,
            r#"sd[a][b] == "x""#,
            r#"message|lower contains "abc""#,
            r#"peer in ["10.0.0.0/8"]"#,
        ] {
            assert_eq!(guard(condition), None, "{condition}");
        }
    }
}
