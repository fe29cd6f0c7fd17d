//! `facility.severity`, the language of syslog.conf(5): `auth,authpriv.*;mail.none;kern.!=debug`.

use crate::message::{FACILITIES, Facility, Priority, SEVERITIES, Severity};
use crate::template::CompileError;

/// One bit for each severity of each facility.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    taken: [u8; FACILITIES.len()],
}

impl Selector {
    /// Parts between `;` apply from left to right: one adds to or takes from what those before it selected.
    pub fn compile(text: &str) -> Result<Self, CompileError> {
        let mut selector = Self { taken: [0; FACILITIES.len()] };
        let mut offset = 0;
        for part in text.split(';') {
            let blanks = part.len() - part.trim_start().len();
            let at = offset + blanks;
            let trimmed = part.trim();
            if !(trimmed.is_empty() && offset + part.len() == text.len() && offset > 0) {
                selector.part(trimmed).map_err(|(inside, what)| CompileError { offset: at + inside, what })?;
            }
            offset += part.len() + 1;
        }
        Ok(selector)
    }

    pub fn takes(&self, priority: Priority) -> bool {
        self.taken[usize::from(priority.facility().0)] & (1 << priority.severity().0) != 0
    }

    fn part(&mut self, part: &str) -> Result<(), (usize, String)> {
        let Some((facilities, severity)) = part.split_once('.') else {
            return Err((0, format!("`{part}` is no selector: `facility.severity` is expected, as in `mail.err`")));
        };
        let (bits, adds) = severities(severity).map_err(|what| (facilities.len() + 1, what))?;
        let mut at = 0;
        for name in facilities.split(',') {
            for facility in facility(name.trim()).map_err(|what| (at, what))? {
                let taken = &mut self.taken[facility];
                *taken = if adds { *taken | bits } else { *taken & !bits };
            }
            at += name.len() + 1;
        }
        Ok(())
    }
}

fn facility(name: &str) -> Result<std::ops::Range<usize>, String> {
    if name == "*" {
        return Ok(0..FACILITIES.len());
    }
    let Facility(number) = Facility::parse(name)
        .ok_or_else(|| format!("no facility is called `{name}`{}", crate::template::did_you_mean(name, FACILITIES)))?;
    Ok(usize::from(number)..usize::from(number) + 1)
}

/// The bits meant, and whether they are added or taken away.
fn severities(text: &str) -> Result<(u8, bool), String> {
    let (rest, adds) = match text.trim().strip_prefix('!') {
        Some(rest) => (rest, false),
        None => (text.trim(), true),
    };
    let (name, alone) = match rest.strip_prefix('=') {
        Some(name) => (name, true),
        None => (rest, false),
    };
    match name {
        "*" => return Ok((0xFF, adds)),
        "none" if adds && !alone => return Ok((0xFF, false)),
        _ => {}
    }
    let Severity(number) = Severity::parse(name).ok_or_else(|| {
        let names = SEVERITIES.into_iter().chain(["none", "*"]);
        format!("no severity is called `{name}`{}", crate::template::did_you_mean(name, names))
    })?;
    let bit = 1u8 << number;
    Ok((if alone { bit } else { bit | (bit - 1) }, adds))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every priority that is taken, as `facility.severity`.
    fn taken(text: &str) -> Vec<String> {
        let selector = Selector::compile(text).expect(text);
        (0..=191)
            .filter_map(Priority::new)
            .filter(|priority| selector.takes(*priority))
            .map(|priority| format!("{}.{}", priority.facility().name(), priority.severity().name()))
            .collect()
    }

    /// The examples of syslog.conf(5).
    #[test]
    fn the_language_of_syslog_conf() {
        assert_eq!(taken("mail.=info"), ["mail.info"]);
        assert_eq!(taken("mail,news.=info"), ["mail.info", "news.info"]);
        assert_eq!(taken("kern.crit"), ["kern.emerg", "kern.alert", "kern.crit"]);
        assert_eq!(taken("kern.info;kern.!err"), ["kern.warning", "kern.notice", "kern.info"]);
        assert_eq!(taken("kern.err;kern.!=alert"), ["kern.emerg", "kern.crit", "kern.err"]);
        assert_eq!(taken("*.*").len(), 192);
        assert_eq!(taken("*.*;mail.none").len(), 184);
        assert_eq!(taken("*.=emerg; *.none;").len(), 0);
        assert_eq!(taken("auth,authpriv.*").len(), 16);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_where_it_is() {
        for (text, offset, what) in [
            ("mail", 0, "`mail` is no selector"),
            ("*.*;mial.info", 4, "no facility is called `mial`: did you mean `mail`?"),
            ("auth,athpriv.*", 5, "no facility is called `athpriv`: did you mean `authpriv`?"),
            ("mail.inf", 5, "no severity is called `inf`: did you mean `info`?"),
            ("", 0, "`` is no selector"),
        ] {
            let error = Selector::compile(text).expect_err(text);
            assert_eq!(error.offset, offset, "{text}");
            assert!(error.what.starts_with(what), "{}", error.what);
        }
    }
}
