//! Times as text, with what was written last: within a second most messages have the same stamp.

use std::fmt::Write as _;

use chrono::format::{DelayedFormat, Fixed, Item, Numeric};
use chrono::{DateTime, Datelike, FixedOffset, Local, Timelike, Utc};

use super::field::Wall;
use crate::message::{Message, Received, Timestamp, Zone};

#[derive(Debug, Default)]
pub(super) struct Clock {
    /// The last stamp of a BSD form and what it meant; years and zones take long to find.
    resolved: Option<(Timestamp<'static>, Zone, i64, DateTime<FixedOffset>)>,
    /// One for each time in a template, by its slot.
    written: Vec<Written>,
    /// The BSD form, to the second.
    bsd: Written,
}

/// How long a text stays true. Minutes are those of UTC: no zone has had an offset with seconds in it since 1972.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Grain {
    Minute,
    Second,
    Finest,
}

impl Grain {
    /// That of the finest item.
    pub(super) fn of(items: &[Item<'_>]) -> Self {
        items.iter().map(Self::of_item).max().unwrap_or(Self::Minute)
    }

    fn of_item(item: &Item<'_>) -> Self {
        match item {
            Item::Literal(_) | Item::OwnedLiteral(_) | Item::Space(_) | Item::OwnedSpace(_) => Self::Minute,
            Item::Numeric(Numeric::Second | Numeric::Timestamp, _) => Self::Second,
            Item::Numeric(
                Numeric::Year
                | Numeric::Month
                | Numeric::Day
                | Numeric::Ordinal
                | Numeric::IsoYear
                | Numeric::IsoWeek
                | Numeric::Hour
                | Numeric::Hour12
                | Numeric::Minute,
                _,
            ) => Self::Minute,
            Item::Fixed(
                Fixed::LongMonthName
                | Fixed::LongWeekdayName
                | Fixed::LowerAmPm
                | Fixed::ShortMonthName
                | Fixed::ShortWeekdayName
                | Fixed::UpperAmPm,
            ) => Self::Minute,
            _ => Self::Finest,
        }
    }
}

/// The rendering of one moment, as fine as its grain.
#[derive(Clone, Debug, Default)]
struct Written {
    moment: (i64, u32, i32),
    text: String,
}

/// A moment not yet worked out.
#[derive(Clone, Copy)]
pub(super) struct Stamp<'b> {
    timestamp: Timestamp<'b>,
    zone: Zone,
    received: &'b Received,
}

impl<'b> Stamp<'b> {
    pub(super) fn of(message: &Message<'b>) -> Self {
        Self { timestamp: message.fields.timestamp, zone: message.origin.zone, received: message.received }
    }

    pub(super) fn received(message: &Message<'b>) -> Self {
        Self { timestamp: Timestamp::Absent, ..Self::of(message) }
    }
}

impl Clock {
    pub(super) fn append(
        &mut self,
        stamp: Stamp<'_>,
        (slot, grain): (usize, Grain),
        format: Option<&[Item<'_>]>,
        wall: Wall,
        out: &mut Vec<u8>,
    ) {
        if let (Timestamp::Rfc3339(text), None, Wall::Own) = (stamp.timestamp, format, wall) {
            return out.extend_from_slice(text);
        }
        let moment = self.resolve(stamp);
        let (second, offset) = (moment.timestamp(), moment.offset().local_minus_utc());
        // Our own clock has microseconds, were they zero; a whole second of somebody else's has none.
        let micros = moment.nanosecond() >= 1000 || stamp.timestamp == Timestamp::Absent;
        let key = match grain {
            Grain::Finest => (second, moment.nanosecond() / 1000 * 2 + u32::from(micros), offset),
            Grain::Minute => (second - second.rem_euclid(60), 0, offset),
            Grain::Second => (second, 0, offset),
        };
        if self.written.len() <= slot {
            self.written.resize(slot + 1, Written::default());
        }
        let written = &mut self.written[slot];
        if written.text.is_empty() || written.moment != key {
            written.moment = key;
            written.text.clear();
            write_moment(moment, format, (wall, micros), &mut written.text);
        }
        out.extend_from_slice(written.text.as_bytes());
    }

    /// `Mmm dd hh:mm:ss` (RFC 3164, section 4.1.2) on this host's wall.
    pub(super) fn bsd(&mut self, stamp: Stamp<'_>, out: &mut Vec<u8>) {
        let moment = self.resolve(stamp);
        if self.bsd.text.is_empty() || self.bsd.moment.0 != moment.timestamp() {
            self.bsd.moment.0 = moment.timestamp();
            self.bsd.text.clear();
            write_bsd(moment.with_timezone(&Local), &mut self.bsd.text);
        }
        out.extend_from_slice(self.bsd.text.as_bytes());
    }

    fn resolve(&mut self, stamp: Stamp<'_>) -> DateTime<FixedOffset> {
        let Timestamp::Civil(civil) = stamp.timestamp else {
            return stamp.timestamp.resolve(stamp.zone, stamp.received);
        };
        let timestamp = Timestamp::Civil(civil);
        let hour = stamp.received.local.timestamp() / 3600;
        match &self.resolved {
            Some((last, zone, at, moment)) if *last == timestamp && *zone == stamp.zone && *at == hour => *moment,
            _ => {
                let moment = timestamp.resolve(stamp.zone, stamp.received);
                self.resolved = Some((timestamp, stamp.zone, hour, moment));
                moment
            }
        }
    }
}

fn write_bsd(moment: DateTime<Local>, text: &mut String) {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (month, day) = (MONTHS[moment.month0() as usize], moment.day());
    let (hour, minute, second) = (moment.hour(), moment.minute(), moment.second());
    let _ = write!(text, "{month} {day:2} {hour:02}:{minute:02}:{second:02}");
}

fn write_moment(moment: DateTime<FixedOffset>, format: Option<&[Item<'_>]>, (wall, micros): (Wall, bool), text: &mut String) {
    let moment = match wall {
        Wall::Local => moment.with_timezone(&Local).fixed_offset(),
        Wall::Own => moment,
        Wall::Utc => moment.with_timezone(&Utc).fixed_offset(),
    };
    match format {
        Some(items) => items.iter().for_each(|item| write_item(moment, item, text)),
        None => write_rfc3339(moment, wall == Wall::Utc, micros, text),
    }
}

/// The offset is written here: the library would make a string of its own of it each time.
fn write_item(moment: DateTime<FixedOffset>, item: &Item<'_>, text: &mut String) {
    let _ = match item {
        Item::Fixed(Fixed::TimezoneOffset) => return write_offset(moment, "", text),
        Item::Fixed(Fixed::TimezoneName | Fixed::TimezoneOffsetColon) => return write_offset(moment, ":", text),
        Item::Numeric(Numeric::Timestamp, _) => write!(text, "{}", moment.timestamp()),
        Item::Fixed(
            Fixed::Internal(_)
            | Fixed::RFC2822
            | Fixed::RFC3339
            | Fixed::TimezoneOffsetColonZ
            | Fixed::TimezoneOffsetDoubleColon
            | Fixed::TimezoneOffsetTripleColon
            | Fixed::TimezoneOffsetZ,
        ) => moment.format_with_items(std::iter::once(item)).write_to(text),
        // The items were checked when the template was compiled; a year no calendar has writes nothing.
        item => DelayedFormat::new(Some(moment.date_naive()), Some(moment.time()), std::iter::once(item)).write_to(text),
    };
}

/// With six fraction digits (RFC 5424 allows no more), or with none.
fn write_rfc3339(moment: DateTime<FixedOffset>, utc: bool, micros: bool, text: &mut String) {
    let (year, month, day) = (moment.year(), moment.month(), moment.day());
    let (hour, minute, second) = (moment.hour(), moment.minute(), moment.second());
    let _ = write!(text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if micros {
        let _ = write!(text, ".{:06}", moment.nanosecond() / 1000);
    }
    if utc {
        text.push('Z');
    } else {
        write_offset(moment, ":", text);
    }
}

fn write_offset(moment: DateTime<FixedOffset>, colon: &str, text: &mut String) {
    let seconds = moment.offset().local_minus_utc();
    let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, (seconds.abs() + 30) / 60);
    let _ = write!(text, "{sign}{:02}{colon}{:02}", minutes / 60, minutes % 60);
}
