//! A record as a frame of RFC 5424, with the object that it was made of behind it.

use std::borrow::Cow;

use chrono::{DateTime, Datelike, FixedOffset, Timelike};

use crate::message::{Facility, Frame, Priority, Severity, Span, Zone};
use crate::template::{header_field, number};

/// What the input says of its records.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where a record names none.
    pub facility: Facility,
    /// Of times that name none, and in which those in seconds are shown.
    pub zone: Zone,
    /// A longer text is cut.
    pub max_message: usize,
}

/// What a record became.
#[derive(Clone, Copy, Debug)]
pub struct Translated {
    pub frame: Frame,
    /// Something of it could only be shown as text.
    pub is_foreign: bool,
}

/// By the names of RFC 5424; empty where absent.
#[derive(Debug, Default)]
pub(super) struct Record<'r> {
    /// 0 to 23.
    pub facility: Option<Facility>,
    pub severity: Option<Severity>,
    pub timestamp: Option<DateTime<FixedOffset>>,
    pub hostname: Cow<'r, str>,
    pub app_name: Cow<'r, str>,
    pub proc_id: Cow<'r, str>,
    pub msg_id: Cow<'r, str>,
    /// Of the one element that the parameters stand in.
    pub sd_id: &'static str,
    pub params: Vec<(Cow<'r, str>, Cow<'r, str>)>,
    pub message: Cow<'r, [u8]>,
    /// A JSON object on one line.
    pub json: Cow<'r, [u8]>,
}

/// RFC 5424, section 6.3.3.
const LONGEST_NAME: usize = 32;

impl Record<'_> {
    /// Appends frame and object to the arena.
    pub(super) fn append(&self, options: &Options, arena: &mut Vec<u8>) -> Frame {
        let start = arena.len();
        self.header(options, arena);
        self.structured_data(options.max_message, arena);
        let text = &self.message[..self.message.len().min(options.max_message)];
        if !text.is_empty() {
            arena.push(b' ');
            arena.extend_from_slice(text);
        }
        let span = Span::new(start, arena.len());
        arena.extend_from_slice(&self.json);
        let json = Span::new(span.end as usize, arena.len());
        Frame { truncated: text.len() < self.message.len(), json, ..Frame::of(span) }
    }

    /// `PRI VERSION SP TIMESTAMP SP HOSTNAME SP APP-NAME SP PROCID SP MSGID SP`
    fn header(&self, options: &Options, arena: &mut Vec<u8>) {
        let facility = self.facility.unwrap_or(options.facility);
        let severity = self.severity.unwrap_or(Priority::DEFAULT.severity());
        let timestamp = self.timestamp.filter(|moment| (0..=9999).contains(&moment.year()));
        arena.push(b'<');
        number(u32::from(facility.0 * 8 + severity.0), arena);
        arena.extend_from_slice(b">1 ");
        match timestamp {
            Some(moment) => stamp(moment, arena),
            None => arena.push(b'-'),
        }
        for (value, longest) in [(&self.hostname, 255), (&self.app_name, 48), (&self.proc_id, 128), (&self.msg_id, 32)] {
            arena.push(b' ');
            header_field(value.as_bytes(), longest, arena);
        }
        arena.push(b' ');
    }

    /// What does not fit is in the object all the same.
    fn structured_data(&self, most: usize, arena: &mut Vec<u8>) {
        let start = arena.len();
        for (name, value) in &self.params {
            let length = name.len() + value.len();
            if name.is_empty() || arena.len() - start + length > most {
                continue;
            }
            if arena.len() == start {
                arena.push(b'[');
                arena.extend_from_slice(self.sd_id.as_bytes());
            }
            arena.push(b' ');
            let printable = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'=' | b']' | b'"');
            arena.extend(name.bytes().take(LONGEST_NAME).map(|byte| if printable(byte) { byte } else { b'_' }));
            arena.extend_from_slice(b"=\"");
            for byte in value.bytes() {
                if matches!(byte, b'"' | b'\\' | b']') {
                    arena.push(b'\\');
                }
                arena.push(byte);
            }
            arena.push(b'"');
        }
        arena.push(if arena.len() == start { b'-' } else { b']' });
    }
}

/// RFC 3339 to the microsecond.
fn stamp(moment: DateTime<FixedOffset>, arena: &mut Vec<u8>) {
    let local = moment.naive_local();
    digits(local.year() as u32, 4, arena);
    for (separator, value, width) in [
        (b'-', local.month(), 2),
        (b'-', local.day(), 2),
        (b'T', local.hour(), 2),
        (b':', local.minute(), 2),
        (b':', local.second(), 2),
        (b'.', local.nanosecond() / 1000 % 1_000_000, 6),
    ] {
        arena.push(separator);
        digits(value, width, arena);
    }
    let minutes = moment.offset().local_minus_utc() / 60;
    arena.push(if minutes < 0 { b'-' } else { b'+' });
    digits(minutes.unsigned_abs() / 60, 2, arena);
    arena.push(b':');
    digits(minutes.unsigned_abs() % 60, 2, arena);
}

fn digits(value: u32, width: u32, arena: &mut Vec<u8>) {
    (0..width).rev().for_each(|place| arena.push(b'0' + (value / 10_u32.pow(place) % 10) as u8));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Grammar;
    use crate::parse::{Options as ParseOptions, parse, structured_data};

    #[test]
    fn any_record_is_a_well_formed_message() {
        let record = Record {
            severity: Some(Severity(3)),
            timestamp: DateTime::parse_from_rfc3339("2026-11-21T10:00:00.5+01:00").ok(),
            hostname: "a host".into(),
            app_name: "größe".into(),
            proc_id: "1".repeat(200).into(),
            sd_id: "x@32473",
            params: vec![("a b=".into(), "\"\\]\n".into()), ("n".repeat(40).into(), "".into()), ("".into(), "x".into())],
            message: Cow::Borrowed(b"two\nlines and more"),
            json: Cow::Borrowed(b"{}"),
            ..Record::default()
        };
        let options = Options { facility: Facility(1), zone: Zone::Local, max_message: 60 };
        let mut arena = b"before".to_vec();
        let frame = record.append(&options, &mut arena);
        assert_eq!((frame.json.of(&arena), frame.truncated), (&b"{}"[..], false));
        let fields = parse(frame.span.of(&arena), &ParseOptions::default());
        assert_eq!((fields.grammar, fields.priority.value()), (Grammar::Rfc5424, 11));
        assert_eq!((fields.hostname, fields.app_name, fields.proc_id.len()), (&b"a_host"[..], &b"gr____e"[..], 128));
        let param = structured_data::find(fields.structured_data, b"x@32473", b"a_b_").expect("a parameter");
        assert_eq!(param.pieces().collect::<Vec<_>>().concat(), b"\"\\]\n");
        assert_eq!(fields.message, b"two\nlines and more");
        let cut = record.append(&Options { max_message: 3, ..options }, &mut arena);
        assert!(cut.truncated && cut.span.of(&arena).ends_with(b" - - two"), "{}", String::from_utf8_lossy(cut.span.of(&arena)));
    }
}
