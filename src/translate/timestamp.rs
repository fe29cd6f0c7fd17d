//! Moments as loggers write them: seconds or a fraction of them since 1970, and texts.

use chrono::{DateTime, FixedOffset, NaiveDateTime, TimeZone, Utc};

use crate::message::Zone;

/// Seconds since 1970, or milli-, micro- or nanoseconds, by how many they are: each reaches from 1973 to beyond 5000.
pub fn of_number(number: f64, zone: Zone) -> Option<DateTime<FixedOffset>> {
    const THOUSAND_YEARS: f64 = 1e11;
    // 1973: a smaller number is a length of time, or something else.
    const FIRST: f64 = 1e8;
    if number < FIRST {
        return None;
    }
    let mut seconds = number;
    for _ in 0..3 {
        if seconds.abs() < THOUSAND_YEARS {
            break;
        }
        seconds /= 1000.0;
    }
    of_seconds(seconds, zone)
}

/// To the microsecond, in the input's zone.
pub fn of_seconds(seconds: f64, zone: Zone) -> Option<DateTime<FixedOffset>> {
    if !seconds.is_finite() || seconds.abs() > 1e11 {
        return None;
    }
    let moment = DateTime::<Utc>::from_timestamp_micros((seconds * 1e6).round() as i64)?;
    Some(zone.show(moment))
}

/// RFC 3339 and its relatives: a blank for the `T`, a comma before the fraction, no zone (that of the input).
pub fn of_text(text: &str, zone: Zone) -> Option<DateTime<FixedOffset>> {
    let text = text.trim();
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return Some(moment);
    }
    if let Ok(number) = text.parse::<f64>() {
        return of_number(number, zone);
    }
    let text = text.replacen(',', ".", 1);
    for format in ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f %#z"] {
        if let Ok(moment) = DateTime::parse_from_str(&text, format) {
            return Some(moment);
        }
    }
    let utc = text.strip_suffix('Z').or_else(|| text.strip_suffix(" UTC"));
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"] {
        if let Ok(naive) = NaiveDateTime::parse_from_str(utc.unwrap_or(&text), format) {
            let moment = if utc.is_some() { Utc.from_utc_datetime(&naive).fixed_offset() } else { zone.read(naive) };
            return Some(moment);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_loggers_write_is_a_moment() {
        let zone = Zone::parse("+02:00").expect("a zone");
        for (text, expected) in [
            ("2026-11-21T10:00:00.123456Z", "2026-11-21T10:00:00.123456+00:00"),
            ("2026-11-21 10:00:00,123", "2026-11-21T10:00:00.123+02:00"),
            ("2026-11-21T10:00:00", "2026-11-21T10:00:00+02:00"),
            ("2026-11-21T10:00:00.5+0100", "2026-11-21T10:00:00.500+01:00"),
            ("2026-11-21 10:00:00 +0100", "2026-11-21T10:00:00+01:00"),
            ("2026-11-21 10:00:00 UTC", "2026-11-21T10:00:00+00:00"),
            ("1795255200.25", "2026-11-21T12:00:00.250+02:00"),
            ("1795255200250", "2026-11-21T12:00:00.250+02:00"),
            ("1795255200250000", "2026-11-21T12:00:00.250+02:00"),
            ("1795255200250000000", "2026-11-21T12:00:00.250+02:00"),
        ] {
            assert_eq!(of_text(text, zone).map(|moment| moment.to_rfc3339()).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "21.5", "0.003", "-5", "yesterday", "nan", "1e400", "2026-13-01T00:00:00Z"] {
            assert_eq!(of_text(text, zone), None, "{text}");
        }
    }
}
