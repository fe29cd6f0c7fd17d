//! Filters: one value after another, in the order in which they stand.

use super::{field, json, text};
use crate::message::{Facility, Severity};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// This, where the value is absent or empty.
    Default(Box<[u8]>),
    /// Control bytes as `#ooo`.
    Escape,
    /// The first so many bytes, ending at a character.
    First(usize),
    /// A JSON string with its quotes.
    Json,
    Lower,
    /// `facility` and `severity` by number.
    Number,
    /// A single, harmless name of a file.
    SecurePath,
    Upper,
}

pub(super) const NAMES: [&str; 10] =
    ["default", "escape", "first", "json", "local", "lower", "number", "secure-path", "upper", "utc"];

impl Filter {
    /// `None`: no such filter; an `Err` says what its argument must be.
    pub(super) fn parse(name: &str, argument: Option<&str>) -> Option<Result<Self, &'static str>> {
        let plain = |filter| if argument.is_none() { Ok(filter) } else { Err("takes no argument") };
        Some(match name {
            "default" => argument.map(|text| Self::Default(text.as_bytes().into())).ok_or("takes a text: `default:unknown`"),
            "escape" => plain(Self::Escape),
            "first" => argument.and_then(|n| n.parse().ok()).map(Self::First).ok_or("takes a number of bytes: `first:32`"),
            "json" => plain(Self::Json),
            "lower" => plain(Self::Lower),
            "number" => plain(Self::Number),
            "secure-path" => plain(Self::SecurePath),
            "upper" => plain(Self::Upper),
            _ => return None,
        })
    }

    pub(super) fn apply(&self, value: &mut Vec<u8>, spare: &mut Vec<u8>) {
        match self {
            Self::Default(text) if value.is_empty() => value.extend_from_slice(text),
            Self::Default(_) => {}
            Self::Escape => text::Escaping::Line.in_place(0, value),
            Self::First(count) => value.truncate(boundary(value, *count)),
            Self::Json => {
                std::mem::swap(value, spare);
                value.clear();
                json::string(spare, value);
            }
            Self::Lower => value.make_ascii_lowercase(),
            Self::Number => number(value),
            Self::SecurePath => text::Escaping::Path.in_place(0, value),
            Self::Upper => value.make_ascii_uppercase(),
        }
    }
}

/// At most `count`, and not inside a UTF-8 character.
fn boundary(value: &[u8], count: usize) -> usize {
    if count >= value.len() {
        return value.len();
    }
    (count.saturating_sub(3)..=count).rev().find(|at| value[*at] & 0xC0 != 0x80).unwrap_or(count)
}

fn number(value: &mut Vec<u8>) {
    let text = std::str::from_utf8(value).unwrap_or_default();
    // `alert` is the name of both; as a facility nobody uses it.
    let number = Severity::parse(text).map(|s| s.0).or(Facility::parse(text).map(|f| f.0));
    if let Some(number) = number {
        value.clear();
        field::number(number.into(), value);
    }
}
