//! Filters: one value after another, in the order in which they stand.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use memchr::{memchr, memmem};
use regex::bytes::Regex;

use super::{field, json, text};
use crate::message::{Facility, Severity};

#[derive(Clone, Debug)]
pub(super) enum Filter {
    /// A blank before it, where it does not begin with one.
    BlankBefore,
    /// From one octet to another, both counted from 1; to the end where there is no other.
    Bytes(usize, Option<usize>),
    /// The part of this number, counted from 1, between delimiters; nothing where there are fewer.
    Column(usize, u8),
    /// Quotes are doubled, as inside a field of RFC 4180, section 2.
    Csv,
    /// This, where the value is absent or empty.
    Default(Box<[u8]>),
    /// Control bytes as `#ooo`.
    Escape,
    /// The first so many bytes, ending at a character.
    First(usize),
    /// A JSON string with its quotes.
    Json,
    /// What stands between the quotes of a JSON string.
    JsonText,
    /// What a table of the configuration has for the value.
    Lookup(Arc<Lookup>),
    Lower,
    /// The first group of the pattern, or the whole of what it matches; where it does not, everything (true) or nothing.
    Match(Box<Regex>, bool),
    /// `facility` (true) and `severity` by number.
    Number(bool),
    /// Every occurrence of one text becomes another.
    Replace(Box<[u8]>, Box<[u8]>),
    /// A single, harmless name of a file.
    SecurePath,
    /// Runs of blanks become one.
    Squeeze,
    Upper,
}

/// `[lookup.NAME]`: texts and what stands for them.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    pub table: HashMap<Box<[u8]>, Box<[u8]>, foldhash::fast::RandomState>,
    /// For what is not in the table.
    pub default: Box<[u8]>,
}

/// The tables of the configuration, by name.
pub type Lookups = HashMap<String, Arc<Lookup>>;

pub(super) const NAMES: [&str; 21] = [
    "blank-before",
    "bytes",
    "column",
    "csv",
    "default",
    "escape",
    "first",
    "json",
    "json-text",
    "local",
    "lookup",
    "lower",
    "match",
    "match-or-all",
    "number",
    "own",
    "replace",
    "secure-path",
    "squeeze",
    "upper",
    "utc",
];

/// What rsyslog takes where it is told no delimiter, and cut(1) too.
const TAB: u8 = b'\t';

impl Filter {
    /// `None`: no such filter; an `Err` says what its arguments must be.
    pub(super) fn parse(name: &str, arguments: &[String], lookups: &Lookups) -> Option<Result<Self, String>> {
        let one = match arguments {
            [one] => Some(one.as_str()),
            _ => None,
        };
        let plain = |filter| if arguments.is_empty() { Ok(filter) } else { Err("takes no argument".to_owned()) };
        let needs = |filter: Option<Self>, what: &str| filter.ok_or_else(|| format!("takes {what}"));
        Some(match name {
            "blank-before" => plain(Self::BlankBefore),
            "bytes" => needs(one.and_then(range), "the first octet and the last: `bytes:1-32`, `bytes:2-`"),
            "column" => needs(column(arguments), "a number and a delimiter: `column:2:\",\"` (a tab where it is not given)"),
            "csv" => plain(Self::Csv),
            // Its text may have colons.
            "default" if !arguments.is_empty() => Ok(Self::Default(arguments.join(":").into_bytes().into())),
            "default" => Err("takes a text: `default:unknown`".to_owned()),
            "escape" => plain(Self::Escape),
            "first" => needs(one.and_then(|n| n.parse().ok()).map(Self::First), "a number of bytes: `first:32`"),
            "json" => plain(Self::Json),
            "json-text" => plain(Self::JsonText),
            "lookup" => lookup(one, lookups),
            "lower" => plain(Self::Lower),
            "match" | "match-or-all" => match one {
                Some(pattern) => super::pattern(pattern).map(|regex| Self::Match(Box::new(regex), name == "match-or-all")),
                None => Err("takes a pattern: `match:\"id=([0-9]+)\"`".to_owned()),
            },
            "number" => plain(Self::Number(false)),
            "replace" => needs(replace(arguments), "two texts: `replace:\"a\":\"b\"`"),
            "secure-path" => plain(Self::SecurePath),
            "squeeze" => plain(Self::Squeeze),
            "upper" => plain(Self::Upper),
            _ => return None,
        })
    }

    pub(super) fn apply(&self, value: &mut Vec<u8>, spare: &mut Vec<u8>) {
        match self {
            Self::BlankBefore if value.first() != Some(&b' ') => value.insert(0, b' '),
            Self::BlankBefore => {}
            Self::Bytes(first, last) => {
                value.truncate(last.unwrap_or(usize::MAX));
                value.drain(..(first - 1).min(value.len()));
            }
            Self::Column(number, delimiter) => {
                let part = part(value, *number, *delimiter);
                keep(value, part);
            }
            Self::Csv => replace_all(value, spare, b"\"", b"\"\""),
            Self::Default(text) if value.is_empty() => value.extend_from_slice(text),
            Self::Default(_) => {}
            Self::Escape => text::Escaping::Line.in_place(0, value),
            Self::First(count) => value.truncate(boundary(value, *count)),
            Self::Json => written_anew(value, spare, json::string),
            Self::JsonText => written_anew(value, spare, json::content),
            Self::Lookup(lookup) => {
                let found = lookup.table.get(&**value).unwrap_or(&lookup.default);
                value.clear();
                value.extend_from_slice(found);
            }
            Self::Lower => value.make_ascii_lowercase(),
            Self::Match(regex, or_all) => {
                let found = match regex.captures_len() {
                    1 => regex.find(value).map(|whole| whole.range()),
                    _ => regex.captures(value).and_then(|groups| groups.get(1)).map(|group| group.range()),
                };
                if found.is_some() || !or_all {
                    keep(value, found);
                }
            }
            Self::Number(is_facility) => number(value, *is_facility),
            Self::Replace(what, by) => replace_all(value, spare, what, by),
            Self::SecurePath => text::Escaping::Path.in_place(0, value),
            Self::Squeeze => value.dedup_by(|byte, before| *byte == b' ' && *before == b' '),
            Self::Upper => value.make_ascii_uppercase(),
        }
    }
}

/// `A-B` or `A-`, from 1.
fn range(text: &str) -> Option<Filter> {
    let (first, last) = text.split_once('-')?;
    let last = if last.is_empty() { None } else { Some(last.parse::<usize>().ok()?) };
    let first = first.parse::<usize>().ok().filter(|first| *first > 0)?;
    Some(Filter::Bytes(first, last))
}

fn column(arguments: &[String]) -> Option<Filter> {
    let number = arguments.first()?.parse::<usize>().ok().filter(|number| *number > 0)?;
    match &arguments[1..] {
        [] => Some(Filter::Column(number, TAB)),
        [delimiter] => match delimiter.as_bytes() {
            [byte] => Some(Filter::Column(number, *byte)),
            _ => None,
        },
        _ => None,
    }
}

/// Where part `number` is, from 1.
fn part(value: &[u8], number: usize, delimiter: u8) -> Option<Range<usize>> {
    let mut start = 0;
    for _ in 1..number {
        start += memchr(delimiter, &value[start..])? + 1;
    }
    let length = memchr(delimiter, &value[start..]).unwrap_or(value.len() - start);
    Some(start..start + length)
}

fn replace(arguments: &[String]) -> Option<Filter> {
    match arguments {
        [what, by] if !what.is_empty() => Some(Filter::Replace(what.as_bytes().into(), by.as_bytes().into())),
        _ => None,
    }
}

fn lookup(name: Option<&str>, lookups: &Lookups) -> Result<Filter, String> {
    let name = name.ok_or("takes the name of a table: `lookup:sites`")?;
    let found = lookups.get(name).cloned().map(Filter::Lookup);
    found.ok_or_else(|| format!("finds no `[lookup.{name}]`{}", super::did_you_mean(name, lookups.keys().map(String::as_str))))
}

fn keep(value: &mut Vec<u8>, range: Option<Range<usize>>) {
    let range = range.unwrap_or(0..0);
    value.truncate(range.end);
    value.drain(..range.start);
}

fn written_anew(value: &mut Vec<u8>, spare: &mut Vec<u8>, write: fn(&[u8], &mut Vec<u8>)) {
    std::mem::swap(value, spare);
    value.clear();
    write(spare, value);
}

fn replace_all(value: &mut Vec<u8>, spare: &mut Vec<u8>, what: &[u8], by: &[u8]) {
    if memchr(what[0], value).is_none() {
        return;
    }
    std::mem::swap(value, spare);
    value.clear();
    let mut from = 0;
    for at in memmem::find_iter(spare, what) {
        value.extend_from_slice(&spare[from..at]);
        value.extend_from_slice(by);
        from = at + what.len();
    }
    value.extend_from_slice(&spare[from..]);
}

/// At most `count`, and not inside a UTF-8 character.
fn boundary(value: &[u8], count: usize) -> usize {
    if count >= value.len() {
        return value.len();
    }
    (count.saturating_sub(3)..=count).rev().find(|at| value[*at] & 0xC0 != 0x80).unwrap_or(count)
}

fn number(value: &mut Vec<u8>, is_facility: bool) {
    let text = std::str::from_utf8(value).unwrap_or_default();
    let severity = || Severity::parse(text).map(|severity| severity.0);
    let facility = || Facility::parse(text).map(|facility| facility.0);
    // `alert` is the name of both.
    let number = if is_facility { facility() } else { severity().or_else(facility) };
    if let Some(number) = number {
        value.clear();
        field::number(number.into(), value);
    }
}
