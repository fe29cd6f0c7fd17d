//! What files are called when they are closed for good: `NAME-20261121T000000Z`, packed `….gz` or `….zst`; and which files
//! of a folder are an output's own.
//!
//! The moment is that of closing, in UTC: names sort by it, and no change of the clocks in autumn makes two of one name.

use std::ffi::{CStr, CString};
use std::io;
use std::path::Path;

use chrono::{DateTime, NaiveDateTime, SubsecRound, Utc};
use regex::bytes::Regex;

use crate::message::Severity;
use crate::template::Template;

const STAMP: &str = "%Y%m%dT%H%M%SZ";
/// Behind the name of a file that is being packed.
pub(super) const PARTIAL: &str = ".partial";
/// Behind the name of a file's chain.
pub(super) const CHAIN: &str = ".chain";
/// So many files of one name are closed in a second at most.
const MOST: u32 = 10_000;
/// All that may stand behind a name: `-20261121T000000Z-9999.zst.partial`.
pub(super) const ROOM: usize = 40;

/// When a file was closed for good, and which of those of the same second it is.
pub(super) type Closing = (DateTime<Utc>, u32);

/// A file's last name: the first behind the one before that nothing has, packed or not.
pub(super) fn last(
    name: &CStr,
    now: DateTime<Utc>,
    before: Option<Closing>,
    has: impl Fn(&CStr) -> io::Result<bool>,
) -> io::Result<(CString, Closing)> {
    let now = now.trunc_subsecs(0);
    let stamp = now.format(STAMP).to_string();
    // A number that has become free again is not the next one.
    let first = before.filter(|(moment, _)| *moment == now).map_or(1, |(_, number)| number + 1);
    for number in first..MOST {
        let mut last = [name.to_bytes(), b"-", stamp.as_bytes()].concat();
        if number > 1 {
            last.extend_from_slice(format!("-{number}").as_bytes());
        }
        let mut is_free = true;
        for ending in ["", ".gz", ".zst"] {
            is_free &= !has(&with(&last, ending)?)?;
        }
        if is_free {
            return Ok((with(&last, "")?, (now, number)));
        }
    }
    Err(io::Error::other("too many files of one second"))
}

/// `20261121T000000Z-2`: when, and which of that second.
pub(super) fn closed(text: &[u8]) -> Option<Closing> {
    let text = std::str::from_utf8(text).ok()?;
    let (stamp, number) = text.split_at_checked("20261121T000000Z".len())?;
    let moment = NaiveDateTime::parse_from_str(stamp, STAMP).ok()?.and_utc();
    match number.strip_prefix('-') {
        None => number.is_empty().then_some((moment, 1)),
        Some(number) => Some((moment, number.parse().ok()?)),
    }
}

/// A name and an ending.
pub(super) fn with(name: &[u8], ending: &str) -> io::Result<CString> {
    CString::new([name, ending.as_bytes()].concat()).map_err(io::Error::other)
}

/// The names of an output's files.
#[derive(Debug)]
pub(super) struct Names {
    pattern: Regex,
    /// How deep below the base folder they are.
    pub folders: usize,
}

/// What a name says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name<'n> {
    /// What the file is, or was, called while it is written.
    pub live: &'n [u8],
    pub closed: Option<Closing>,
    pub is_packed: bool,
    /// A file that was being packed when the server ended.
    pub is_partial: bool,
    pub is_chain: bool,
    pub severity: Option<Severity>,
}

impl Names {
    /// None where a path does not end in an extension of its own: a peer could make names that look like closed files. A name
    /// that is too long is cut before its extension, and not before anything else.
    pub(super) fn of(path: &Template, base: &Path) -> Option<Self> {
        const LONGEST: usize = 16;
        let suffix = path.literal_suffix();
        let extension = suffix.iter().rposition(|byte| matches!(byte, b'.' | b'/')).map_or(&b""[..], |at| &suffix[at..]);
        let has_extension = extension.starts_with(b".") && (2..=LONGEST).contains(&extension.len());
        if !has_extension && (!path.is_constant() || suffix.ends_with(b"/")) {
            return None;
        }
        let base = base.to_string_lossy();
        let folder = if base.ends_with('/') { base.into_owned() } else { format!("{base}/") };
        let pattern = path.pattern();
        let escaped = regex::escape(&folder);
        let (below, slashes) = match pattern.strip_prefix(&escaped) {
            Some(below) => (below, folder.matches('/').count()),
            None => (&*pattern, 0),
        };
        let pattern = format!(
            r"^(?s-u)(?P<live>{below})(?:-(?P<closed>\d{{8}}T\d{{6}}Z(?:-\d{{1,4}})?)(?:(?P<packed>\.gz|\.zst)(?P<partial>\.partial)?)?)?(?P<chain>\.chain)?$"
        );
        Some(Self { pattern: Regex::new(&pattern).ok()?, folders: path.slashes() - slashes })
    }

    pub(super) fn tell_severities(&self) -> bool {
        self.pattern.capture_names().flatten().any(|name| name == "severity")
    }

    /// None: somebody else's.
    pub(super) fn read<'n>(&self, below: &'n [u8]) -> Option<Name<'n>> {
        let found = self.pattern.captures(below)?;
        let closed = match found.name("closed") {
            Some(text) => Some(closed(text.as_bytes())?),
            None => None,
        };
        let severity = found.name("severity").and_then(|found| std::str::from_utf8(found.as_bytes()).ok());
        Some(Name {
            live: found.name("live")?.as_bytes(),
            closed,
            is_packed: found.name("packed").is_some(),
            is_partial: found.name("partial").is_some(),
            is_chain: found.name("chain").is_some(),
            severity: severity.and_then(Severity::parse),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Escaping;

    fn names(path: &str, base: &str) -> Option<Names> {
        Names::of(&Template::compile(path, Escaping::Path).expect("a template"), Path::new(base))
    }

    #[test]
    fn a_closed_file_is_known_by_its_name() {
        let names = names("/logs/{hostname}/{severity}-{received:%Y/%m}.log", "/logs").expect("names");
        assert_eq!(names.folders, 2);
        let live: &[u8] = b"web1/err-2026/11.log";
        let closed = |number| Some(("2026-11-21T00:00:00Z".parse().expect("a moment"), number));
        let name = |closed, is_packed, is_partial, is_chain| {
            Some(Name { live, closed, is_packed, is_partial, is_chain, severity: Severity::parse("err") })
        };
        for (ending, expected) in [
            ("", name(None, false, false, false)),
            (".chain", name(None, false, false, true)),
            ("-20261121T000000Z", name(closed(1), false, false, false)),
            ("-20261121T000000Z-12.zst", name(closed(12), true, false, false)),
            ("-20261121T000000Z.gz.partial", name(closed(1), true, true, false)),
            ("-20261121T000000Z.chain", name(closed(1), false, false, true)),
            ("-20261121T000000Z.txt", None),
            ("-20261321T000000Z", None),
            (".1", None),
        ] {
            let text = [live, ending.as_bytes()].concat();
            assert_eq!(names.read(&text), expected, "{ending}");
        }
        assert!(names.read(b"other.log").is_none() && names.read(b"web1/x/err-2026/11.log").is_none());
    }

    /// A peer chooses what stands in a field, and nothing behind it.
    #[test]
    fn no_peer_can_make_a_name_that_looks_closed() {
        assert!(names("/logs/{hostname}", "/logs").is_none());
        assert!(names("/logs/x/{received:%Y}", "/logs/x").is_none());
        assert!(names("/logs/{hostname}-messages", "/logs").is_none());
        assert!(names("/logs/messages", "/logs").is_some());
        let names = names("/logs/{hostname}.log", "/logs").expect("names");
        let forged = names.read(b"a.log-20261121T000000Z.log").expect("a live file");
        assert_eq!((forged.closed, forged.live), (None, &b"a.log-20261121T000000Z.log"[..]));
    }

    #[test]
    fn one_second_has_as_many_names_as_it_needs() {
        let now = "2026-11-21T00:00:00.7Z".parse().expect("a moment");
        let taken = [c"a.log-20261121T000000Z", c"a.log-20261121T000000Z-2.zst"];
        let next = |before| last(c"a.log", now, before, |name| Ok(taken.contains(&name))).expect("a name");
        let (name, closing) = next(None);
        assert_eq!((name.as_c_str(), closing.1), (c"a.log-20261121T000000Z-3", 3));
        // Those before it may be gone by now.
        assert_eq!(next(Some((closing.0, 9))).0.as_c_str(), c"a.log-20261121T000000Z-10");
        assert_eq!(next(Some(("2026-11-20T00:00:00Z".parse().expect("a moment"), 9))).1.1, 3);
    }
}
