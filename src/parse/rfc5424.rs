//! RFC 5424, section 6: the grammar as it stands, every limit of it held.
//!
//! What breaks a rule falls back to the looser grammars with its whole text; nothing is repaired here.

use memchr::{memchr, memchr3};

use super::{Parsed, byte, digits_of, fail, number};
use crate::message::{Fields, Grammar, Priority, Timestamp};

/// `SYSLOG-MSG = HEADER SP STRUCTURED-DATA [SP MSG]`, after the PRI.
#[inline]
pub(super) fn syslog_msg(input: &[u8], priority: Priority) -> Parsed<'_, Fields<'_>> {
    let (input, version) = version(input)?;
    let (input, timestamp) = timestamp(sp(input)?)?;
    let (input, hostname) = field::<255>(sp(input)?)?;
    let (input, app_name) = field::<48>(sp(input)?)?;
    let (input, proc_id) = field::<128>(sp(input)?)?;
    let (input, msg_id) = field::<32>(sp(input)?)?;
    let (input, structured_data) = structured_data(sp(input)?)?;
    let message = msg(input)?;
    let grammar = Grammar::Rfc5424;
    let tag: &[u8] = b"";
    Ok((
        b"",
        Fields { grammar, priority, version, timestamp, hostname, app_name, proc_id, msg_id, structured_data, tag, message },
    ))
}

fn sp(input: &[u8]) -> Result<&[u8], nom::Err<()>> {
    byte::<b' '>(input).ok_or(nom::Err::Error(()))
}

/// `VERSION = NONZERO-DIGIT 0*2DIGIT`
fn version(input: &[u8]) -> Parsed<'_, u16> {
    let length = input.iter().take(3).take_while(|b| b.is_ascii_digit()).count();
    match input.first() {
        Some(b'1'..=b'9') => Ok((&input[length..], number(&input[..length]))),
        _ => fail(),
    }
}

/// `HOSTNAME`, `APP-NAME`, `PROCID` and `MSGID` are `NILVALUE / 1*MAX PRINTUSASCII`, each followed by a blank.
fn field<const MAX: usize>(input: &[u8]) -> Parsed<'_, &[u8]> {
    let length = printusascii(input);
    match input.split_at(length) {
        (b"-", rest) => Ok((rest, b"")),
        (name, rest) if (1..=MAX).contains(&length) => Ok((rest, name)),
        _ => fail(),
    }
}

/// How many bytes of `PRINTUSASCII = %d33-126` stand at the beginning; eight are looked at a time.
fn printusascii(input: &[u8]) -> usize {
    let (words, _) = input.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The high bit of a byte below 33, above 126, or after one such in the same word.
        let others = ((word.wrapping_sub(ONES * 33) & !word) | word | word.wrapping_add(ONES)) & (ONES * 0x80);
        if others != 0 {
            return 8 * i + others.trailing_zeros() as usize / 8;
        }
    }
    let rest = &input[8 * words.len()..];
    8 * words.len() + rest.iter().position(|b| !b.is_ascii_graphic()).unwrap_or(rest.len())
}

/// 1 in each byte.
const ONES: u64 = u64::MAX / 255;

/// `TIMESTAMP = NILVALUE / FULL-DATE "T" FULL-TIME`
fn timestamp(input: &[u8]) -> Parsed<'_, Timestamp<'_>> {
    if let [b'-', rest @ ..] = input {
        return Ok((rest, Timestamp::Absent));
    }
    match full_date(input).and_then(byte::<b'T'>).and_then(full_time) {
        Some(rest) => Ok((rest, Timestamp::Rfc3339(&input[..input.len() - rest.len()]))),
        None => fail(),
    }
}

/// `FULL-DATE = DATE-FULLYEAR "-" DATE-MONTH "-" DATE-MDAY`
fn full_date(input: &[u8]) -> Option<&[u8]> {
    let (text, [d1, d2, rest @ ..]) = input.split_first_chunk()? else {
        return None;
    };
    let [century, _, year, _, _, month, ..] = pairs(*text, *b"0000-00-")?;
    let (year, month, day) = (u16::from(century) * 100 + u16::from(year), u16::from(month), digits_of([*d1, *d2])?);
    let exists = (1..=12).contains(&month) && (1..=days(year, month)).contains(&day);
    exists.then_some(rest)
}

/// The numbers of two digits in a text laid out like this, where 0 stands for any digit: each at the place of its tens.
fn pairs(text: [u8; 8], layout: [u8; 8]) -> Option<[u8; 8]> {
    // Digits become their values, everything else 0 where it is as laid out.
    let values = u64::from_le_bytes(text) ^ u64::from_le_bytes(layout);
    let digits = u64::from_le_bytes(layout.map(|b| if b == b'0' { 0xFF } else { 0 }));
    let wrong = (values | values.wrapping_add(ONES * (0x7F - 9))) & (ONES * 0x80) | values & !digits;
    (wrong == 0).then(|| (values * 10 + (values >> 8)).to_le_bytes())
}

fn days(year: u16, month: u16) -> u16 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// `FULL-TIME = PARTIAL-TIME TIME-OFFSET`
fn full_time(input: &[u8]) -> Option<&[u8]> {
    time_offset(partial_time(input)?)
}

/// `PARTIAL-TIME = TIME-HOUR ":" TIME-MINUTE ":" TIME-SECOND [TIME-SECFRAC]`; seconds end at 59: leap seconds are not
/// allowed.
fn partial_time(input: &[u8]) -> Option<&[u8]> {
    let (text, rest) = input.split_first_chunk()?;
    let [hour, _, _, minute, _, _, second, _] = pairs(*text, *b"00:00:00")?;
    let exists = hour < 24 && minute < 60 && second < 60;
    exists.then(|| time_secfrac(rest))
}

/// `TIME-SECFRAC = "." 1*6DIGIT`, where there is one.
fn time_secfrac(input: &[u8]) -> &[u8] {
    let [b'.', fraction @ ..] = input else {
        return input;
    };
    let length = fraction.iter().take(6).take_while(|b| b.is_ascii_digit()).count();
    if length == 0 { input } else { &fraction[length..] }
}

/// `TIME-OFFSET = "Z" / ("+" / "-") TIME-HOUR ":" TIME-MINUTE`
fn time_offset(input: &[u8]) -> Option<&[u8]> {
    match input {
        [b'Z', rest @ ..] => Some(rest),
        [b'+' | b'-', h1, h2, b':', m1, m2, rest @ ..] if digits_of([*h1, *h2])? < 24 && digits_of([*m1, *m2])? < 60 => {
            Some(rest)
        }
        _ => None,
    }
}

/// `STRUCTURED-DATA = NILVALUE / 1*SD-ELEMENT`; an SD-ID must not occur twice (section 6.3.2).
fn structured_data(input: &[u8]) -> Parsed<'_, &[u8]> {
    if let [b'-', rest @ ..] = input {
        return Ok((rest, b""));
    }
    let (mut rest, mut count) = (input, 0);
    while rest.first() == Some(&b'[') {
        let Some(after) = sd_element(rest) else {
            return fail();
        };
        (rest, count) = (after, count + 1);
    }
    let text = &input[..input.len() - rest.len()];
    if count == 0 || ((2..=COMPARED).contains(&count) && repeats_an_id(text)) { fail() } else { Ok((rest, text)) }
}

/// Nobody sends more elements, and comparing each with each must not cost a sender's victim a second.
const COMPARED: usize = 32;

fn repeats_an_id(text: &[u8]) -> bool {
    super::structured_data::elements(text)
        .enumerate()
        .any(|(i, element)| super::structured_data::elements(text).take(i).any(|earlier| earlier.id == element.id))
}

/// `SD-ELEMENT = "[" SD-ID *(SP SD-PARAM) "]"`
fn sd_element(input: &[u8]) -> Option<&[u8]> {
    let (mut input, _) = sd_name(byte::<b'['>(input)?)?;
    while let [b' ', param @ ..] = input {
        (input, _, _) = sd_param(param)?;
    }
    byte::<b']'>(input)
}

/// `SD-PARAM = PARAM-NAME "=" %d34 PARAM-VALUE %d34`: what follows it, its name and its value as it stands.
pub(super) fn sd_param(input: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (input, name) = sd_name(input)?;
    let (input, value) = param_value(input.strip_prefix(b"=\"")?)?;
    Some((input, name, value))
}

/// `SD-NAME = 1*32PRINTUSASCII` except `=`, SP, `]` and `"`
pub(super) fn sd_name(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = input.iter().position(|b| !IN_SD_NAME[usize::from(*b)]).unwrap_or(input.len());
    let (name, rest) = input.split_at(length);
    (1..=32).contains(&length).then_some((rest, name))
}

static IN_SD_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = (b as u8).is_ascii_graphic() && !matches!(b as u8, b'=' | b']' | b'"');
        b += 1;
    }
    table
};

/// `PARAM-VALUE` and the quote after it: `"`, `\` and `]` are escaped, any other backslash is itself (section 6.3.3).
fn param_value(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    while let Some(found) = memchr3(b'"', b'\\', b']', &input[at..]) {
        at += found;
        match input[at] {
            b'"' => return Some((&input[at + 1..], &input[..at])),
            b'\\' if matches!(input.get(at + 1), Some(b'"' | b'\\' | b']')) => at += 2,
            b'\\' => at += 1,
            _ => return None,
        }
    }
    None
}

/// `[SP MSG]`, without the byte order mark of MSG-UTF8; a second blank belongs to MSG.
fn msg(input: &[u8]) -> Result<&[u8], nom::Err<()>> {
    if input.is_empty() {
        return Ok(input);
    }
    let text = sp(input)?;
    Ok(text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text))
}

/// Where a header field ends, for those who only look for the next blank.
pub(super) fn word(input: &[u8]) -> (&[u8], &[u8]) {
    input.split_at(memchr(b' ', input).unwrap_or(input.len()))
}

#[cfg(test)]
mod tests {
    use super::super::{Options, parse};
    use super::*;

    fn shown(text: &str) -> String {
        let fields = parse(text.as_bytes(), &Options::default());
        let stamp = match fields.timestamp {
            Timestamp::Rfc3339(text) => text,
            _ => b"-",
        };
        [stamp, fields.hostname, fields.app_name, fields.proc_id, fields.msg_id, fields.structured_data, fields.message]
            .map(String::from_utf8_lossy)
            .join("|")
            + &format!("|{}", fields.grammar.name())
    }

    /// Section 6.5, verbatim.
    #[test]
    fn the_examples_of_the_rfc() {
        for (raw, expected) in [
            (
                "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \u{feff}'su root' failed for lonvick on /dev/pts/8",
                "2003-10-11T22:14:15.003Z|mymachine.example.com|su||ID47||'su root' failed for lonvick on /dev/pts/8|rfc5424",
            ),
            (
                "<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the do-nuts.",
                "2003-08-24T05:14:15.000003-07:00|192.0.2.1|myproc|8710|||%% It's time to make the do-nuts.|rfc5424",
            ),
            (
                "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut=\"3\" eventSource=\"Application\" eventID=\"1011\"] \u{feff}An application event log entry...",
                "2003-10-11T22:14:15.003Z|mymachine.example.com|evntslog||ID47|[exampleSDID@32473 iut=\"3\" eventSource=\"Application\" eventID=\"1011\"]|An application event log entry...|rfc5424",
            ),
            (
                "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut=\"3\" eventSource=\"Application\" eventID=\"1011\"][examplePriority@32473 class=\"high\"]",
                "2003-10-11T22:14:15.003Z|mymachine.example.com|evntslog||ID47|[exampleSDID@32473 iut=\"3\" eventSource=\"Application\" eventID=\"1011\"][examplePriority@32473 class=\"high\"]||rfc5424",
            ),
        ] {
            assert_eq!(shown(raw), expected);
        }
    }

    #[test]
    fn what_is_well_formed() {
        for (raw, message) in [
            ("<0>1 - - - - - -", ""),
            ("<191>999 - - - - - -  two blanks", " two blanks"),
            ("<1>1 - - - - - [a b=\"\\]\\\"\\\\\\n\"] x", "x"),
            ("<1>1 - - - - - [a] [b] x", "[b] x"),
            ("<1>1 2024-02-29T23:59:59.123456+23:59 - - - - - x\ny", "x\ny"),
        ] {
            let fields = parse(raw.as_bytes(), &Options::default());
            assert_eq!((fields.grammar, fields.message), (Grammar::Rfc5424, message.as_bytes()), "{raw}");
        }
    }

    #[test]
    fn a_field_ends_at_the_first_byte_that_is_not_printable_wherever_it_stands() {
        for length in 0..21 {
            for at in 0..length {
                for byte in 0..=255 {
                    let mut text = vec![b'~'; length];
                    text[at] = byte;
                    let expected = if byte.is_ascii_graphic() { length } else { at };
                    assert_eq!(printusascii(&text), expected, "{byte} at {at} of {length}");
                }
            }
        }
    }

    /// Every byte at every place of a date and a time.
    #[test]
    fn a_timestamp_has_digits_and_separators_where_they_belong() {
        let stamp = *b"2003-10-11T22:14:15Z";
        for at in 0..stamp.len() {
            for byte in 0..=255 {
                let mut text = stamp;
                text[at] = byte;
                let taken = matches!(timestamp(&text), Ok((b"", Timestamp::Rfc3339(_))));
                assert_eq!(taken, rfc3339_is_valid(&text), "{byte} at {at}");
            }
        }
    }

    fn rfc3339_is_valid(text: &[u8; 20]) -> bool {
        let shape = text.iter().zip(b"0000-00-00T00:00:00Z").all(|(b, s)| if *s == b'0' { b.is_ascii_digit() } else { b == s });
        let leap_second = &text[17..19] == b"60";
        shape && !leap_second && crate::message::rfc3339(text).is_some()
    }

    #[test]
    fn what_is_malformed_falls_back_with_its_whole_text() {
        let long = "a".repeat(49);
        for raw in [
            "1 2003-10-11T22:14:15.1234567Z h a - - - seven digits",
            "1 2003-10-11t22:14:15Z h a - - - lower case",
            "1 2003-10-11T22:14:60Z h a - - - leap second",
            "1 2023-02-29T22:14:15Z h a - - - no such day",
            "1 2003-10-11T22:14:15+24:00 h a - - - offset",
            "0 - - - - - - version",
            "1 - h  - - - two blanks",
            "1 - - - - - [ a=\"b\"] blank",
            "1 - - - - - [a b=\"]\"] bracket",
            "1 - - - - - [a b=\"\"c\"] quote",
            "1 - - - - - [a][a] twice",
            "1 - - - - - -x",
            &format!("1 - - {long} - - - long"),
        ] {
            let framed = format!("<13>{raw}");
            let fields = parse(framed.as_bytes(), &Options::default());
            assert_eq!((fields.grammar, fields.message), (Grammar::Headerless, raw.as_bytes()));
        }
    }
}
