//! The BSD tag: `program[pid]:` before the text (RFC 3164, section 4.1.3), as it is really sent.

use memchr::memchr;

/// `TAG [ "[" PID "]" ] ":"` and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag<'b> {
    /// With its process and colon.
    pub whole: &'b [u8],
    pub app_name: &'b [u8],
    pub proc_id: &'b [u8],
    /// After the colon and one blank.
    pub rest: &'b [u8],
}

/// What a program's logger puts before its text; no program is called this.
const LEVELS: [&[u8]; 19] = [
    b"ALERT",
    b"CRIT",
    b"CRITICAL",
    b"DEBUG",
    b"EMERG",
    b"ERR",
    b"ERROR",
    b"EXCEPTION",
    b"FATAL",
    b"INFO",
    b"INFORMATIONAL",
    b"LOG",
    b"NOTICE",
    b"NOTSET",
    b"PANIC",
    b"SEVERE",
    b"TRACE",
    b"WARN",
    b"WARNING",
];

/// After a timestamp a tag is any word that ends with a colon or with a process in brackets.
pub(super) fn after_header(text: &[u8]) -> Option<Tag<'_>> {
    let name_end = text.iter().position(|b| matches!(b, b':' | b'[' | b' '))?;
    let name = &text[..name_end];
    if name.is_empty() || name.len() > 255 || name.iter().any(u8::is_ascii_control) {
        return None;
    }
    match text[name_end] {
        b':' => Some(built(text, name, b"", name_end + 1)),
        b'[' => bracketed(text, name, 128),
        _ => None,
    }
}

/// In a message without header only what can be nothing else is a tag: `[A-Za-z0-9_./-]{1,48}` with a letter in it,
/// then `:` or `[digits]:`, and no word for a level; never a URL, a path of namespaces or a drive letter.
pub(super) fn without_header(text: &[u8]) -> Option<Tag<'_>> {
    let name_end = text.iter().take(49).position(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'/' | b'-')))?;
    let name = &text[..name_end];
    if !name.iter().any(u8::is_ascii_alphabetic) || LEVELS.iter().any(|level| name.eq_ignore_ascii_case(level)) {
        return None;
    }
    let tag = match text[name_end] {
        b':' => built(text, name, b"", name_end + 1),
        b'[' => {
            bracketed(text, name, 20).filter(|tag| tag.proc_id.iter().all(u8::is_ascii_digit) && tag.whole.ends_with(b":"))?
        }
        _ => return None,
    };
    let after = text.get(tag.whole.len());
    (!matches!(after, Some(b':' | b'/' | b'\\'))).then_some(tag)
}

/// `name[process]` with a colon behind it, or without (then a blank or the end must follow).
fn bracketed<'b>(text: &'b [u8], name: &'b [u8], longest: usize) -> Option<Tag<'b>> {
    let inside = &text[name.len() + 1..];
    let close = memchr(b']', &inside[..inside.len().min(longest + 1)])?;
    let proc_id = &inside[..close];
    if proc_id.is_empty() || proc_id.iter().any(|b| !b.is_ascii_graphic() && *b != b' ') {
        return None;
    }
    let end = name.len() + close + 2;
    match text.get(end) {
        Some(b':') => Some(built(text, name, proc_id, end + 1)),
        Some(b' ') | None => Some(built(text, name, proc_id, end)),
        Some(_) => None,
    }
}

fn built<'b>(text: &'b [u8], app_name: &'b [u8], proc_id: &'b [u8], end: usize) -> Tag<'b> {
    let (whole, rest) = text.split_at(end);
    Tag { whole, app_name, proc_id, rest: rest.strip_prefix(b" ").unwrap_or(rest) }
}

/// rsyslog's program name ends at the first slash; a name that begins with one is kept.
pub(super) fn program(app_name: &[u8], slashes: bool) -> &[u8] {
    match memchr(b'/', app_name) {
        Some(end) if end > 0 && !slashes => &app_name[..end],
        _ => app_name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_name_only_if_it_looks_like_a_tag() {
        for (text, expected) in [
            ("python-app: INFO hello", Some(("python-app", ""))),
            ("myapp:hello", Some(("myapp", ""))),
            ("app.sub[123]: x", Some(("app.sub", "123"))),
            ("INFO: x", None),
            ("Error:root:x", None),
            ("user logged in", None),
            ("http://example.com", None),
            ("std::io: x", None),
            ("C:\\Windows", None),
            ("12:30:15 x", None),
            ("app[abc]: x", None),
            ("app[123] x", None),
            ("{\"a\": 1}", None),
            ("", None),
        ] {
            let found = without_header(text.as_bytes());
            let names = found.map(|tag| {
                (String::from_utf8_lossy(tag.app_name).into_owned(), String::from_utf8_lossy(tag.proc_id).into_owned())
            });
            assert_eq!(names, expected.map(|(name, process)| (name.to_owned(), process.to_owned())), "{text}");
        }
        assert_eq!(without_header(format!("{}: x", "a".repeat(49)).as_bytes()), None);
    }

    #[test]
    fn after_a_header_any_word_with_a_colon_is_one() {
        let tag = after_header(b"b4fbe4aabbcc,UAP-nanoHD-5.43: hostapd: x").expect("a tag");
        assert_eq!((tag.app_name, tag.rest), (&b"b4fbe4aabbcc,UAP-nanoHD-5.43"[..], &b"hostapd: x"[..]));
        let tag = after_header(b"postfix/smtpd[12]: x").expect("a tag");
        assert_eq!((tag.whole, tag.proc_id), (&b"postfix/smtpd[12]:"[..], &b"12"[..]));
        assert_eq!((program(tag.app_name, false), program(tag.app_name, true)), (&b"postfix"[..], &b"postfix/smtpd"[..]));
        assert_eq!(after_header(b"Use the BFG!"), None);
    }
}
