//! Frame → fields: nom, one function for each rule of the grammars, named as the RFC names it.
//!
//! Total: every byte string is a message. What is not RFC 5424 is tried as RFC 3164, what has no header is text after a
//! priority, and what has no priority is text. The whole text is kept in each case. No I/O, no clock, no allocation.

mod bsd_timestamp;
pub mod json;
pub mod logfmt;
mod rfc3164;
mod rfc5424;
pub mod structured_data;
mod tag;

use nom::IResult;

use crate::message::{Fields, Grammar, Priority};

/// Nobody reads what a failed rule expected, so it costs nothing.
type Parsed<'b, T> = IResult<&'b [u8], T, ()>;

/// What an input can say about the texts it gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// A leading `2026-11-20 21:14:26,171` (Python's `asctime`) is the timestamp of a message without header.
    pub asctime: bool,
    /// `postfix/smtpd` is the whole app name; otherwise it is `postfix`, as in rsyslog.
    pub slashes: bool,
}

/// Every input is a message; see [`Grammar`] for how much of it was understood.
pub fn parse<'b>(frame: &'b [u8], options: &Options) -> Fields<'b> {
    let Ok((rest, priority)) = pri(frame) else {
        return rfc3164::without_pri(frame, options);
    };
    if let Ok((_, fields)) = rfc5424::syslog_msg(rest, priority) {
        return fields;
    }
    rfc3164::after_pri(rest, priority, options)
}

/// `PRI = "<" PRIVAL ">"` (RFC 5424, section 6): 0 to 191 without leading zeros.
fn pri(input: &[u8]) -> Parsed<'_, Priority> {
    let (value, rest) = match input {
        [b'<', a, b'>', rest @ ..] => (digits_of([*a]), rest),
        [b'<', a @ b'1'..=b'9', b, b'>', rest @ ..] => (digits_of([*a, *b]), rest),
        [b'<', a @ b'1'..=b'9', b, c, b'>', rest @ ..] => (digits_of([*a, *b, *c]), rest),
        _ => return fail(),
    };
    value.and_then(Priority::new).map_or_else(fail, |priority| Ok((rest, priority)))
}

/// The value of at most four ASCII digits.
fn number(digits: &[u8]) -> u16 {
    digits.iter().fold(0, |value, digit| value * 10 + u16::from(digit - b'0'))
}

fn fail<'b, T>() -> Parsed<'b, T> {
    Err(nom::Err::Error(()))
}

/// This byte, and nothing else of it.
fn byte<const B: u8>(input: &[u8]) -> Option<&[u8]> {
    match input {
        [first, rest @ ..] if *first == B => Some(rest),
        _ => None,
    }
}

/// The value of bytes that must all be digits; at most four.
fn digits_of<const N: usize>(bytes: [u8; N]) -> Option<u16> {
    let digits = bytes.map(|b| b.wrapping_sub(b'0'));
    let all = digits.iter().fold(true, |all, digit| all & (*digit < 10));
    all.then(|| digits.iter().fold(0, |value, digit| value * 10 + u16::from(*digit)))
}

/// Exactly `N` digits and their value.
fn digits<const N: usize>(input: &[u8]) -> Parsed<'_, u16> {
    let parsed = input.split_first_chunk::<N>().and_then(|(bytes, rest)| Some((rest, digits_of(*bytes)?)));
    parsed.ok_or(nom::Err::Error(()))
}

/// Exactly `N` digits with a value in `low..=high`.
fn digits_in<const N: usize>(input: &[u8], low: u16, high: u16) -> Parsed<'_, u8> {
    let (rest, value) = digits::<N>(input)?;
    if (low..=high).contains(&value) { Ok((rest, value as u8)) } else { fail() }
}

/// Checks the parser's promises on any bytes; the property of a fuzz target.
///
/// # Panics
/// When the parser is not total, or when text is lost.
pub fn is_total(frame: &[u8]) {
    for options in [Options::default(), Options { asctime: true, slashes: true }] {
        let fields = parse(frame, &options);
        let inside = |part: &[u8]| part.is_empty() || frame.as_ptr_range().contains(&part.as_ptr());
        assert!(inside(fields.message) && inside(fields.hostname) && inside(fields.app_name) && inside(fields.proc_id));
        assert!(frame.ends_with(fields.message), "the text runs to the end of the frame");
        match fields.grammar {
            Grammar::Rfc5424 => {
                // Nothing of these is looked at again before it stands in a line.
                let header = [fields.hostname, fields.app_name, fields.proc_id, fields.msg_id];
                assert!(header.iter().all(|field| field.iter().all(u8::is_ascii_graphic)));
                assert!(fields.hostname.len() <= 255 && fields.app_name.len() <= 48);
                assert!(fields.proc_id.len() <= 128 && fields.msg_id.len() <= 32);
                for element in structured_data::elements(fields.structured_data) {
                    assert!(!element.id.is_empty() && element.params().all(|param| !param.name.is_empty()));
                }
            }
            Grammar::Headerless => {
                let end = frame.iter().position(|b| *b == b'>').expect("a priority") + 1;
                assert_eq!(fields.message, &frame[end..], "a message without header keeps its whole text");
            }
            Grammar::Text => assert_eq!(fields.message, frame),
            Grammar::Rfc3164 => assert!(!fields.hostname.contains(&b'/')),
        }
    }
}
