//! PRIVAL = facility × 8 + severity (RFC 5424, section 6.2.1), and the names of both.

/// By number; the names of syslog.conf(5).
pub const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// By number; 12 to 15 have the names that util-linux and rsyslog give them.
pub const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp", "audit",
    "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priority(u8);

impl Priority {
    /// `user.notice`, for what carries none (RFC 3164, section 4.3.3).
    pub const DEFAULT: Self = Self(13);
    /// 23 × 8 + 7.
    pub const MAX: u8 = 191;

    pub fn new(value: u16) -> Option<Self> {
        u8::try_from(value).ok().filter(|v| *v <= Self::MAX).map(Self)
    }

    pub fn value(self) -> u8 {
        self.0
    }

    pub fn facility(self) -> Facility {
        Facility(self.0 >> 3)
    }

    pub fn severity(self) -> Severity {
        Severity(self.0 & 7)
    }
}

/// 0 to 23.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facility(pub u8);

impl Facility {
    pub fn name(self) -> &'static str {
        FACILITIES[usize::from(self.0)]
    }

    /// A name of syslog.conf, or its number.
    pub fn parse(text: &str) -> Option<Self> {
        position(&FACILITIES, text, &[("security", "auth")]).map(Self)
    }
}

/// 0 (`emerg`) to 7 (`debug`): the smaller, the more severe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Severity(pub u8);

impl Severity {
    pub const DEBUG: Self = Self(7);

    pub fn name(self) -> &'static str {
        SEVERITIES[usize::from(self.0)]
    }

    /// A name of syslog.conf, one of its old or long synonyms, or its number.
    pub fn parse(text: &str) -> Option<Self> {
        const SYNONYMS: [(&str, &str); 6] = [
            ("critical", "crit"),
            ("emergency", "emerg"),
            ("error", "err"),
            ("informational", "info"),
            ("panic", "emerg"),
            ("warn", "warning"),
        ];
        position(&SEVERITIES, text, &SYNONYMS).map(Self)
    }
}

/// The number of a name in any case, or of another name for it.
fn position(names: &[&str], wanted: &str, synonyms: &[(&str, &str)]) -> Option<u8> {
    if let Ok(number) = wanted.parse::<u8>() {
        return Some(number).filter(|n| usize::from(*n) < names.len());
    }
    let synonym = synonyms.iter().find(|(other, _)| other.eq_ignore_ascii_case(wanted));
    let wanted = synonym.map_or(wanted, |(_, name)| name);
    names.iter().position(|name| name.eq_ignore_ascii_case(wanted)).map(|i| i as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_is_facility_times_eight_plus_severity() {
        let priority = Priority::new(165).expect("in range");
        assert_eq!(priority.facility().name(), "local4");
        assert_eq!(priority.severity().name(), "notice");
        assert_eq!(Priority::new(192), None);
    }

    #[test]
    fn names_have_the_synonyms_of_syslog_conf() {
        assert_eq!(Severity::parse("panic"), Severity::parse("emerg"));
        assert_eq!(Severity::parse("warn"), Some(Severity(4)));
        assert_eq!(Severity::parse("8"), None);
        assert_eq!(Facility::parse("security"), Some(Facility(4)));
        assert_eq!(Facility::parse("LOCAL7"), Some(Facility(23)));
        assert_eq!(Facility::parse("local8"), None);
    }
}
