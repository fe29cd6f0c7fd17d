//! What pickles say of values that hold no others.

use super::{Step, Wrong};
use crate::translate::value::Value;

/// Digits of a number in text.
const MOST_DIGITS: usize = 4300;

/// `_codecs.encode(text, "latin1")`: how bytes come before protocol 3.
pub(super) fn latin1(text: &str) -> Option<Value> {
    let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    bytes.map(|bytes| Value::Bytes(bytes.into()))
}

pub(super) fn integer(digits: &str) -> Step<Value> {
    if let Ok(number) = digits.parse() {
        return Ok(Value::Int(number));
    }
    let unsigned = digits.strip_prefix('-').unwrap_or(digits);
    let is_number = !unsigned.is_empty() && unsigned.len() <= MOST_DIGITS && unsigned.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { Ok(Value::long(digits)) } else { Err(Wrong) }
}

/// Little-endian, two's complement. One that no machine word holds is shown in octets.
pub(super) fn long(bytes: &[u8]) -> Value {
    const WIDEST: usize = size_of::<i128>();
    if bytes.len() > WIDEST {
        return Value::Shown(bytes.iter().rev().fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}")).into());
    }
    let is_negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut word = [if is_negative { 0xFF } else { 0 }; WIDEST];
    word[..bytes.len()].copy_from_slice(bytes);
    let number = i128::from_le_bytes(word);
    i64::try_from(number).map_or_else(|_| Value::Long(number.to_string().into()), Value::Int)
}

/// A string of Python 2: text, if it can be read as such.
pub(super) fn octets(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map_or_else(|_| Value::Bytes(bytes.into()), |text| Value::Text(text.into()))
}

/// What stands in the quotes of STRING.
pub(super) fn unquoted(line: &str) -> Step<Vec<u8>> {
    let line = line.trim().as_bytes();
    let inner = match line {
        [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
        _ => return Err(Wrong),
    };
    let mut out = Vec::new();
    let mut rest = inner;
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'\\', [b'x', high, low, ..]) => {
                let digits = [*high, *low];
                let text = std::str::from_utf8(&digits).map_err(|_| Wrong)?;
                out.push(u8::from_str_radix(text, 16).map_err(|_| Wrong)?);
                rest = &after[3..];
            }
            (b'\\', [escape, ..]) => {
                out.push(match escape {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    other => *other,
                });
                rest = &after[1..];
            }
            (byte, _) => out.push(*byte),
        }
    }
    Ok(out)
}

/// Python's `raw-unicode-escape`: Latin-1 but for `\uXXXX` and `\UXXXXXXXX`.
pub(super) fn unescaped(line: &[u8]) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let [first, after @ ..] = rest {
        let digits = match (first, after.first()) {
            (b'\\', Some(b'u')) => after.get(1..5),
            (b'\\', Some(b'U')) => after.get(1..9),
            _ => None,
        };
        let code = digits.and_then(|digits| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match (code, digits) {
            (Some(code), Some(digits)) => {
                out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                rest = &after[1 + digits.len()..];
            }
            _ => {
                out.push(char::from(*first));
                rest = after;
            }
        }
    }
    out
}

/// `datetime.datetime.__reduce__`: year in two octets, month, day, hour, minute, second, microseconds in three.
pub(super) fn datetime(bytes: &[u8]) -> Option<Value> {
    let [y1, y2, month, day, hour, minute, second, u1, u2, u3] = *bytes else { return None };
    let year = u16::from_be_bytes([y1, y2]);
    // The highest bit says which of two equal hours of autumn it was.
    let (month, micros) = (month & 0x7F, u32::from_be_bytes([0, u1, u2, u3]));
    let fraction = if micros > 0 { format!(".{micros:06}") } else { String::new() };
    Some(Value::Text(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}").into()))
}

pub(super) fn date(bytes: &[u8]) -> Option<Value> {
    let [y1, y2, month, day] = *bytes else { return None };
    Some(Value::Text(format!("{:04}-{month:02}-{day:02}", u16::from_be_bytes([y1, y2])).into()))
}
