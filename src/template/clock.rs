//! Times as text, with what was written last: within a second most messages have the same stamp.

use std::fmt::Write as _;
use std::io::Write as _;

use chrono::format::Item;
use chrono::{DateTime, FixedOffset, Local, SecondsFormat, Timelike, Utc};

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
    text: String,
}

/// The rendering of one moment, to the second and nanosecond.
#[derive(Clone, Debug, Default)]
struct Written {
    moment: (i64, u32, i32),
    text: Vec<u8>,
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
    pub(super) fn append(&mut self, stamp: Stamp<'_>, slot: usize, format: Option<&[Item<'_>]>, wall: Wall, out: &mut Vec<u8>) {
        if let (Timestamp::Rfc3339(text), None, Wall::Own) = (stamp.timestamp, format, wall) {
            return out.extend_from_slice(text);
        }
        let moment = self.resolve(stamp);
        let key = (moment.timestamp(), moment.nanosecond(), moment.offset().local_minus_utc());
        if self.written.len() <= slot {
            self.written.resize(slot + 1, Written::default());
        }
        let written = &mut self.written[slot];
        if written.text.is_empty() || written.moment != key {
            written.moment = key;
            written.text.clear();
            self.text.clear();
            write_moment(moment, format, wall, &mut self.text);
            written.text.extend_from_slice(self.text.as_bytes());
        }
        out.extend_from_slice(&written.text);
    }

    /// `Mmm dd hh:mm:ss` (RFC 3164, section 4.1.2) on this host's wall.
    pub(super) fn bsd(&mut self, stamp: Stamp<'_>, out: &mut Vec<u8>) {
        let moment = self.resolve(stamp);
        if self.bsd.text.is_empty() || self.bsd.moment.0 != moment.timestamp() {
            self.bsd.moment.0 = moment.timestamp();
            self.bsd.text.clear();
            let _ = write!(self.bsd.text, "{}", moment.with_timezone(&Local).format("%b %e %H:%M:%S"));
        }
        out.extend_from_slice(&self.bsd.text);
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

fn write_moment(moment: DateTime<FixedOffset>, format: Option<&[Item<'_>]>, wall: Wall, text: &mut String) {
    let moment = match wall {
        Wall::Local => moment.with_timezone(&Local).fixed_offset(),
        Wall::Own => moment,
        Wall::Utc => moment.with_timezone(&Utc).fixed_offset(),
    };
    match format {
        Some(items) => {
            // The items were checked when the template was compiled; a year no calendar has writes nothing.
            let _ = write!(text, "{}", moment.format_with_items(items.iter()));
        }
        None => text.push_str(&rfc3339(moment, wall == Wall::Utc)),
    }
}

/// With six fraction digits where there are any (RFC 5424 allows no more), with none otherwise.
fn rfc3339(moment: DateTime<FixedOffset>, utc: bool) -> String {
    let fraction = if moment.nanosecond() / 1000 == 0 { SecondsFormat::Secs } else { SecondsFormat::Micros };
    moment.to_rfc3339_opts(fraction, utc)
}
