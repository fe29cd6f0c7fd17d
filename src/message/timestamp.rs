//! When a message says it was made, and when it came.
//!
//! A timestamp stays text as long as nobody asks for the moment. A BSD stamp has neither year nor zone: the year is the
//! one that brings it nearest to the time of receipt, the zone is the input's.

use chrono::{DateTime, Datelike, FixedOffset, Local, LocalResult, NaiveDate, NaiveDateTime, Offset, TimeZone, Utc};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Timestamp<'b> {
    Absent,
    /// A stamp of some other form than RFC 3339's.
    Civil(Civil),
    /// The text of an RFC 3339 stamp with `T` and a zone, checked by the parser.
    Rfc3339(&'b [u8]),
}

/// A date and time as a clock on a wall shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Civil {
    pub year: Option<u16>,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31; a day that the month does not have is found out only with the year.
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
    pub micros: u32,
    /// Seconds east of UTC where the stamp says so itself.
    pub offset: Option<i32>,
}

/// The zone of an input's BSD timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Zone {
    Fixed(FixedOffset),
    #[default]
    Local,
    Named(chrono_tz::Tz),
}

/// One reading of the clock, kept as the moment and as this host's wall shows it.
#[derive(Clone, Debug)]
pub struct Received {
    pub local: DateTime<FixedOffset>,
}

impl Received {
    pub fn now() -> Self {
        Self { local: Local::now().fixed_offset() }
    }
}

impl Zone {
    /// `local`, `utc`, an offset (`+02:00`) or a name of the IANA database.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "local" => Some(Self::Local),
            "utc" | "UTC" | "Z" => Some(Self::Fixed(Utc.fix())),
            _ if text.starts_with(['+', '-']) => text.parse().ok().map(Self::Fixed),
            _ => text.parse().ok().map(Self::Named),
        }
    }

    /// A moment as a clock on a wall of this zone shows it.
    pub fn show(self, moment: DateTime<Utc>) -> DateTime<FixedOffset> {
        match self {
            Self::Fixed(offset) => moment.with_timezone(&offset),
            Self::Local => moment.with_timezone(&Local).fixed_offset(),
            Self::Named(zone) => moment.with_timezone(&zone).fixed_offset(),
        }
    }

    /// The moment at which a clock on a wall of this zone shows so.
    pub fn read(self, naive: NaiveDateTime) -> DateTime<FixedOffset> {
        match self {
            Self::Fixed(offset) => pick(offset.from_local_datetime(&naive), naive),
            Self::Local => pick(Local.from_local_datetime(&naive), naive).fixed_offset(),
            Self::Named(zone) => pick(zone.from_local_datetime(&naive), naive).fixed_offset(),
        }
    }
}

/// An hour that exists twice is taken as its first; one that does not exist (spring) is read as UTC.
fn pick<Z: TimeZone>(result: LocalResult<DateTime<Z>>, naive: NaiveDateTime) -> DateTime<FixedOffset> {
    match result {
        LocalResult::Single(time) | LocalResult::Ambiguous(time, _) => {
            let offset = time.offset().fix();
            time.with_timezone(&offset)
        }
        LocalResult::None => naive.and_utc().fixed_offset(),
    }
}

impl Civil {
    /// The moment meant, or None for a day that does not exist (30 February).
    pub fn resolve(&self, zone: Zone, received: &DateTime<FixedOffset>) -> Option<DateTime<FixedOffset>> {
        let zone = match self.offset {
            Some(seconds) => Zone::Fixed(FixedOffset::east_opt(seconds)?),
            None => zone,
        };
        if let Some(year) = self.year {
            return self.in_year(i32::from(year)).map(|naive| zone.read(naive));
        }
        let this_year = received.year();
        [this_year, this_year - 1, this_year + 1]
            .into_iter()
            .filter_map(|year| self.in_year(year))
            .map(|naive| zone.read(naive))
            .min_by_key(|time| (*time - *received).abs())
    }

    fn in_year(&self, year: i32) -> Option<NaiveDateTime> {
        NaiveDate::from_ymd_opt(year, u32::from(self.month), u32::from(self.day))?.and_hms_micro_opt(
            u32::from(self.hour),
            u32::from(self.minute),
            u32::from(self.second),
            self.micros,
        )
    }
}

impl Timestamp<'_> {
    /// The moment the message names, or that of its receipt where it names none that exists.
    pub fn resolve(&self, zone: Zone, received: &Received) -> DateTime<FixedOffset> {
        let own = match self {
            Self::Absent => None,
            Self::Civil(civil) => civil.resolve(zone, &received.local),
            Self::Rfc3339(text) => rfc3339(text),
        };
        own.unwrap_or(received.local)
    }
}

/// The moment of an RFC 3339 stamp that the parser has accepted.
pub fn rfc3339(text: &[u8]) -> Option<DateTime<FixedOffset>> {
    DateTime::parse_from_rfc3339(std::str::from_utf8(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<FixedOffset> {
        DateTime::parse_from_rfc3339(text).expect("a test's own time")
    }

    fn bsd(month: u8, day: u8, hour: u8) -> Civil {
        Civil { year: None, month, day, hour, minute: 0, second: 0, micros: 0, offset: None }
    }

    /// rsyslog puts a message of 31 December that arrives after midnight a year into the future.
    #[test]
    fn the_year_is_the_one_nearest_to_receipt() {
        let utc = Zone::parse("utc").expect("a zone");
        for (stamp, received, meant) in [
            (bsd(12, 31, 23), "2026-01-01T00:00:05Z", "2025-12-31T23:00:00Z"),
            (bsd(1, 1, 0), "2025-12-31T23:59:58Z", "2026-01-01T00:00:00Z"),
            (bsd(7, 1, 0), "2026-06-01T00:00:00Z", "2026-07-01T00:00:00Z"),
            (bsd(2, 29, 0), "2025-01-10T00:00:00Z", "2024-02-29T00:00:00Z"),
        ] {
            assert_eq!(stamp.resolve(utc, &at(received)), Some(at(meant)), "{received}");
        }
        assert_eq!(bsd(2, 30, 0).resolve(utc, &at("2026-01-01T00:00:00Z")), None);
    }

    #[test]
    fn the_zone_is_the_inputs_unless_the_stamp_has_one() {
        let berlin = Zone::parse("Europe/Berlin").expect("a zone");
        let received = at("2026-07-01T12:00:00Z");
        assert_eq!(bsd(7, 1, 12).resolve(berlin, &received), Some(at("2026-07-01T12:00:00+02:00")));
        let own = Civil { offset: Some(0), ..bsd(7, 1, 12) };
        assert_eq!(own.resolve(berlin, &received), Some(at("2026-07-01T12:00:00Z")));
        assert_eq!(Zone::parse("+05:30"), FixedOffset::east_opt(19800).map(Zone::Fixed));
        assert_eq!(Zone::parse("Mars/Olympus"), None);
    }
}
