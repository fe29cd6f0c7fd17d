//! `TIMESTAMP` of RFC 3164, section 4.1.2, and everything that stands in its place on the wire.

use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::{tag as literal, take_while_m_n, take_while1};
use nom::character::complete::char;
use nom::combinator::opt;
use nom::sequence::preceded;

use super::{Parsed, digits, digits_in, fail};
use crate::message::{Civil, Timestamp};

const MONTHS: [&[u8; 3]; 12] = [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];

/// A stamp, and the colon or blanks after it.
pub(super) fn timestamp(input: &[u8]) -> Parsed<'_, Timestamp<'_>> {
    let (rest, stamp) = alt((bsd, iso)).parse(input)?;
    let rest = rest.strip_prefix(b":").unwrap_or(rest);
    match rest.first() {
        None | Some(b' ') => Ok((rest.trim_ascii_start_blanks(), stamp)),
        Some(_) => fail(),
    }
}

/// `Mmm dd [yyyy] hh:mm:ss[.frac] [yyyy] [ZONE]`
fn bsd(input: &[u8]) -> Parsed<'_, Timestamp<'_>> {
    let (input, month) = month(input)?;
    let (input, _) = char(' ')(input)?;
    let (input, day) = day(input)?;
    let (input, _) = char(' ')(input)?;
    let (input, before) = opt(year_and_blank).parse(input)?;
    let (input, (hour, minute, second)) = time(input)?;
    let (input, micros) = opt(preceded(char('.'), fraction)).parse(input)?;
    let (input, after) = opt(year_after).parse(input)?;
    let (input, offset) = opt(zone).parse(input)?;
    let micros = micros.unwrap_or(0);
    let civil = Civil { year: before.or(after), month, day, hour, minute, second, micros, offset: offset.flatten() };
    Ok((input, Timestamp::Civil(civil)))
}

/// Any case: `Jan`, `JAN`.
fn month(input: &[u8]) -> Parsed<'_, u8> {
    let Some((name, rest)) = input.split_first_chunk::<3>() else {
        return fail();
    };
    let name = name.map(|b| b.to_ascii_lowercase());
    match MONTHS.iter().position(|month| **month == name) {
        Some(index) => Ok((rest, index as u8 + 1)),
        None => fail(),
    }
}

/// ` 7`, `07`, `7` or `17`.
fn day(input: &[u8]) -> Parsed<'_, u8> {
    let input = input.strip_prefix(b" ").unwrap_or(input);
    alt((|i| digits_in::<2>(i, 1, 31), |i| digits_in::<1>(i, 1, 9))).parse(input)
}

fn time(input: &[u8]) -> Parsed<'_, (u8, u8, u8)> {
    let (input, hour) = digits_in::<2>(input, 0, 23)?;
    let (input, _) = char(':')(input)?;
    let (input, minute) = digits_in::<2>(input, 0, 59)?;
    let (input, _) = char(':')(input)?;
    let (input, second) = digits_in::<2>(input, 0, 59)?;
    Ok((input, (hour, minute, second)))
}

fn year_and_blank(input: &[u8]) -> Parsed<'_, u16> {
    let (rest, year) = digits::<4>(input)?;
    let (rest, _) = char(' ')(rest)?;
    if (1970..2200).contains(&year) { Ok((rest, year)) } else { fail() }
}

/// ` 2007` behind the time, with a blank or a colon after it: a host may be called `2007x`.
fn year_after(input: &[u8]) -> Parsed<'_, u16> {
    let (rest, year) = preceded(char(' '), digits::<4>).parse(input)?;
    let ends = matches!(rest.first(), Some(b' ' | b':'));
    if ends && (1970..2200).contains(&year) { Ok((rest, year)) } else { fail() }
}

/// The digits of a second's fraction, as many as there are; the value in microseconds.
fn fraction(input: &[u8]) -> Parsed<'_, u32> {
    let (rest, digits) = take_while_m_n(0, 64, |b: u8| b.is_ascii_digit()).parse(input)?;
    let padded = digits.iter().copied().chain(std::iter::repeat(b'0')).take(6);
    Ok((rest, padded.fold(0, |value, digit| value * 10 + u32::from(digit - b'0'))))
}

/// Cisco's ` UTC:`; the abbreviation of another zone says too little and leaves the input's setting in force.
fn zone(input: &[u8]) -> Parsed<'_, Option<i32>> {
    let (rest, name) = preceded(char(' '), take_while_m_n(1, 5, |b: u8| b.is_ascii_uppercase())).parse(input)?;
    if rest.first() != Some(&b':') {
        return fail();
    }
    let utc: [&[u8]; 4] = [b"UTC", b"GMT", b"Z", b"UCT"];
    Ok((rest, utc.contains(&name).then_some(0)))
}

/// RFC 3339 in a BSD frame, with any number of fraction digits; without a zone the input's holds. A blank instead of
/// the `T` is taken only where a zone follows: otherwise it is some program's own stamp and belongs to the text.
fn iso(input: &[u8]) -> Parsed<'_, Timestamp<'_>> {
    let (rest, (year, month, day)) = date(input)?;
    let (rest, separator) = alt((char('T'), char(' '))).parse(rest)?;
    let (rest, (hour, minute, second)) = time(rest)?;
    let (rest, micros) = opt(preceded(char('.'), fraction)).parse(rest)?;
    let (rest, offset) = opt(offset).parse(rest)?;
    if separator == ' ' && offset.is_none() {
        return fail();
    }
    let civil = Civil { year: Some(year), month, day, hour, minute, second, micros: micros.unwrap_or(0), offset };
    Ok((rest, Timestamp::Civil(civil)))
}

fn date(input: &[u8]) -> Parsed<'_, (u16, u8, u8)> {
    let (input, year) = digits::<4>(input)?;
    let (input, _) = char('-')(input)?;
    let (input, month) = digits_in::<2>(input, 1, 12)?;
    let (input, _) = char('-')(input)?;
    let (input, day) = digits_in::<2>(input, 1, 31)?;
    Ok((input, (year, month, day)))
}

/// `Z`, `+02:00` or `+0200`, in seconds east.
fn offset(input: &[u8]) -> Parsed<'_, i32> {
    if let Some(rest) = input.strip_prefix(b"Z") {
        return Ok((rest, 0));
    }
    let (rest, sign) = alt((char('+'), char('-'))).parse(input)?;
    let (rest, hours) = digits_in::<2>(rest, 0, 23)?;
    let (rest, _) = opt(char(':')).parse(rest)?;
    let (rest, minutes) = digits_in::<2>(rest, 0, 59)?;
    let seconds = i32::from(hours) * 3600 + i32::from(minutes) * 60;
    Ok((rest, if sign == '-' { -seconds } else { seconds }))
}

/// Python's `asctime`, `2026-11-20 21:14:26,171`, and the blank after it.
pub(super) fn asctime(input: &[u8]) -> Parsed<'_, Timestamp<'_>> {
    let (rest, (year, month, day)) = date(input)?;
    let (rest, _) = char(' ')(rest)?;
    let (rest, (hour, minute, second)) = time(rest)?;
    let (rest, micros) = opt(preceded(alt((char(','), char('.'))), fraction)).parse(rest)?;
    if !matches!(rest.first(), None | Some(b' ' | b':')) {
        return fail();
    }
    let civil = Civil { year: Some(year), month, day, hour, minute, second, micros: micros.unwrap_or(0), offset: None };
    Ok((rest.trim_ascii_start_blanks(), Timestamp::Civil(civil)))
}

/// Cisco's sequence number: digits, a colon, a blank.
pub(super) fn sequence_number(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (rest, digits) = take_while1(|b: u8| b.is_ascii_digit()).parse(input)?;
    let (rest, _) = literal(": ")(rest)?;
    Ok((rest, digits))
}

pub(super) trait Blanks {
    fn trim_ascii_start_blanks(&self) -> &Self;
}

impl Blanks for [u8] {
    /// Without leading blanks, and only those.
    fn trim_ascii_start_blanks(&self) -> &Self {
        let blanks = self.iter().take_while(|b| **b == b' ').count();
        &self[blanks..]
    }
}
