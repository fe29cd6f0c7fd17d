//! Values with units; what is wrong with one is said where it stands.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use crate::message::{Facility, Zone};

/// Bytes: `64KiB`, `1MB`, `512`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub struct Size(pub usize);

/// A length of time: `100ms`, `10s`, `5m`, `1h`, `2d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period(pub Duration);

/// Permissions in octal, as text: `"0640"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u32);

/// An address or a network: `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(pub IpNet);

/// `local`, `utc`, `+02:00`, `Europe/Berlin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeZone(pub Zone);

/// Where an input listens, or what it reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    Ip(SocketAddr),
    Path(PathBuf),
}

/// A facility by the names of syslog.conf(5), or its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FacilityName(pub Facility);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

const SIZES: [(&str, usize); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

const PERIODS: [(&str, f64); 6] = [("ms", 0.001), ("us", 0.000_001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86400.0)];

impl Address {
    /// A path begins with a slash.
    fn parse(text: &str) -> Option<Self> {
        let path = text.starts_with('/').then(|| Self::Path(text.into()));
        path.or_else(|| text.parse().ok().map(Self::Ip))
    }
}

impl Size {
    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = SIZES.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit))).unwrap_or((text, 1));
        number.trim_end().parse::<usize>().ok()?.checked_mul(unit).map(Self)
    }
}

impl Period {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (number, unit) = PERIODS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))?;
        let seconds = number.trim_end().parse::<f64>().ok()? * unit;
        Duration::try_from_secs_f64(seconds).ok().map(Self)
    }
}

impl Mode {
    fn parse(text: &str) -> Option<Self> {
        u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777 && text.len() >= 3).map(Self)
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok().map(Self)
    }
}

/// A string that is read by a function, or (a size) a whole number.
struct Text<T> {
    expected: &'static str,
    parse: fn(&str) -> Option<T>,
    number: Option<fn(usize) -> T>,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::custom(format!("`{text}` where {} is expected", self.expected)))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        let value = usize::try_from(number).ok().zip(self.number).map(|(number, from)| from(number));
        value.ok_or_else(|| E::custom(format!("`{number}` where {} is expected", self.expected)))
    }
}

macro_rules! read_as_text {
    ($name:ident, $expected:literal, $parse:expr, $number:expr) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Text { expected: $expected, parse: $parse, number: $number })
            }
        }
    };
}

read_as_text!(Address, "an address and port (`127.0.0.1:9020`, `[::]:9020`) or a path", Self::parse, None);
read_as_text!(FacilityName, "a facility (`user`, `local0`)", |text| Facility::parse(text).map(Self), None);
read_as_text!(Size, "a size (`64KiB`, `1MB`, a number of bytes)", Self::parse, Some(Self));
read_as_text!(Period, "a length of time (`100ms`, `10s`, `5m`, `1h`)", Self::parse, None);
read_as_text!(Mode, "an octal mode (`\"0640\"`)", Self::parse, None);
read_as_text!(Network, "a network or address (`10.0.0.0/8`, `fd00::1`)", Self::parse, None);
read_as_text!(TimeZone, "a time zone (`local`, `utc`, `+02:00`, `Europe/Berlin`)", |text| Zone::parse(text).map(Self), None);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!(Size::parse("64KiB"), Some(Size(65536)));
        assert_eq!(Size::parse("1 MB"), Some(Size(1_000_000)));
        assert_eq!(Size::parse("512"), Some(Size(512)));
        assert_eq!((Size::parse("1KB"), Size::parse("-1"), Size::parse("99999999TiB")), (None, None, None));
        assert_eq!(Period::parse("100ms").map(|p| p.0), Some(Duration::from_millis(100)));
        assert_eq!(Period::parse("1.5h").map(|p| p.0), Some(Duration::from_secs(5400)));
        assert_eq!((Period::parse("10"), Period::parse("-1s"), Period::parse("infs")), (None, None, None));
        assert_eq!((Mode::parse("0640"), Mode::parse("9"), Mode::parse("77777")), (Some(Mode(0o640)), None, None));
    }
}
