//! Hours, days, weeks and months as a clock on the wall has them.

use chrono::{DateTime, Datelike, Days, Local, LocalResult, Months, NaiveDate, NaiveTime, TimeDelta, TimeZone, Timelike, Utc};

/// How often a file is closed, whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Every {
    Hour,
    /// From midnight to midnight.
    Day,
    /// From Monday on.
    Week,
    Month,
}

/// From when, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Period {
    pub start: DateTime<Utc>,
    pub end: DateTime<Utc>,
}

impl Period {
    /// That of this host's zone.
    pub(super) fn around(now: DateTime<Utc>, every: Every) -> Self {
        Self::of(&now.with_timezone(&Local), every)
    }

    pub(super) fn holds(&self, now: DateTime<Utc>) -> bool {
        self.start <= now && now < self.end
    }

    fn of<Z: TimeZone>(now: &DateTime<Z>, every: Every) -> Self {
        let today = now.date_naive();
        let (first, next) = match every {
            Every::Hour => {
                let into = TimeDelta::seconds(i64::from(now.minute() * 60 + now.second()))
                    + TimeDelta::nanoseconds(i64::from(now.nanosecond() % 1_000_000_000));
                let start = now.to_utc() - into;
                return Self { start, end: start + TimeDelta::hours(1) };
            }
            Every::Day => (Some(today), today.checked_add_days(Days::new(1))),
            Every::Week => {
                let monday = today.checked_sub_days(Days::new(u64::from(today.weekday().num_days_from_monday())));
                (monday, monday.and_then(|monday| monday.checked_add_days(Days::new(7))))
            }
            Every::Month => {
                let first = today.with_day(1);
                (first, first.and_then(|first| first.checked_add_months(Months::new(1))))
            }
        };
        let zone = now.timezone();
        let midnight = |date: Option<NaiveDate>| date.and_then(|date| midnight(date, &zone));
        Self {
            start: midnight(first).unwrap_or(DateTime::<Utc>::MIN_UTC),
            end: midnight(next).unwrap_or(DateTime::<Utc>::MAX_UTC),
        }
    }
}

/// The first moment of a day. It need not be 00:00: in some zones clocks are put forward at midnight, and a day may be missing.
fn midnight<Z: TimeZone>(date: NaiveDate, zone: &Z) -> Option<DateTime<Utc>> {
    const STEP: TimeDelta = TimeDelta::minutes(15);
    const STEPS: i32 = 4 * 48;
    let naive = date.and_time(NaiveTime::MIN);
    (0..STEPS).find_map(|step| match zone.from_local_datetime(&(naive + STEP * step)) {
        LocalResult::Single(moment) | LocalResult::Ambiguous(moment, _) => Some(moment.to_utc()),
        LocalResult::None => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::Tz;

    fn of(zone: Tz, now: &str, every: Every) -> (String, String) {
        let now = DateTime::parse_from_rfc3339(now).expect("a moment").with_timezone(&zone);
        let Period { start, end } = Period::of(&now, every);
        (start.with_timezone(&zone).to_rfc3339(), end.with_timezone(&zone).to_rfc3339())
    }

    #[test]
    fn a_day_is_as_long_as_the_wall_says() {
        for (zone, now, start, end) in [
            (Tz::Europe__Berlin, "2026-11-20T23:30:00Z", "2026-11-21T00:00:00+01:00", "2026-11-22T00:00:00+01:00"),
            // 23 and 25 hours.
            (Tz::Europe__Berlin, "2026-03-29T12:00:00Z", "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"),
            (Tz::Europe__Berlin, "2026-10-25T12:00:00Z", "2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00"),
            // No midnight: the clock goes from 23:59 to 01:00.
            (Tz::America__Sao_Paulo, "2018-11-04T12:00:00Z", "2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00"),
            // 23:00 to 24:00 twice: the day ends with the second.
            (Tz::America__Sao_Paulo, "2018-02-18T01:30:00Z", "2018-02-17T00:00:00-02:00", "2018-02-18T00:00:00-03:00"),
            // 00:00 to 01:00 twice: the day begins with the first.
            (Tz::America__Havana, "2026-11-01T05:30:00Z", "2026-11-01T00:00:00-04:00", "2026-11-02T00:00:00-05:00"),
            // A day that never was.
            (Tz::Pacific__Apia, "2011-12-30T08:00:00Z", "2011-12-29T00:00:00-10:00", "2011-12-31T00:00:00+14:00"),
        ] {
            assert_eq!(of(zone, now, Every::Day), (start.to_owned(), end.to_owned()), "{zone} {now}");
        }
    }

    #[test]
    fn hours_weeks_and_months() {
        let berlin = Tz::Europe__Berlin;
        for (now, every, start, end) in [
            ("2026-10-25T00:59:59.9Z", Every::Hour, "2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"),
            ("2026-11-22T22:59:59Z", Every::Week, "2026-11-16T00:00:00+01:00", "2026-11-23T00:00:00+01:00"),
            ("2026-10-31T23:00:00Z", Every::Month, "2026-11-01T00:00:00+01:00", "2026-12-01T00:00:00+01:00"),
            ("2026-10-01T00:00:00Z", Every::Month, "2026-10-01T00:00:00+02:00", "2026-11-01T00:00:00+01:00"),
        ] {
            assert_eq!(of(berlin, now, every), (start.to_owned(), end.to_owned()), "{now}");
        }
        // India is half an hour off.
        assert_eq!(of(Tz::Asia__Kolkata, "2026-01-01T00:45:00Z", Every::Hour).0, "2026-01-01T06:00:00+05:30");
    }

    /// Every moment is in its own period, and where one ends the next begins.
    #[test]
    fn periods_follow_each_other_without_gap() {
        for zone in [Tz::Europe__Berlin, Tz::America__Sao_Paulo, Tz::Pacific__Apia, Tz::Asia__Tehran, Tz::America__Havana] {
            for every in [Every::Day, Every::Week, Every::Month] {
                let mut now = DateTime::parse_from_rfc3339("2011-01-03T12:00:00Z").expect("a moment").to_utc();
                let mut before: Option<Period> = None;
                while now.year() < 2013 {
                    let period = Period::of(&now.with_timezone(&zone), every);
                    assert!(period.holds(now), "{zone} {now} {period:?}");
                    assert!(
                        before.is_none_or(|before| before.end == period.start || before == period),
                        "{zone} {before:?} {period:?}"
                    );
                    (before, now) = (Some(period), now + TimeDelta::hours(5));
                }
            }
        }
    }
}
