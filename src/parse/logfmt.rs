//! Texts that are `key=value` pairs throughout (logfmt): `level=info msg="started \"x\"" port=514`.

/// One pair; the value as it stood, without its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair<'b> {
    pub key: &'b [u8],
    value: &'b [u8],
    is_quoted: bool,
}

/// A line of prose with one `=` in it is none.
const FEWEST: usize = 2;

/// The whole text is at least two pairs, and nothing else.
pub fn is_logfmt(text: &[u8]) -> bool {
    // Most texts end the search at their first word.
    let (mut count, mut rest) = (0, text.trim_ascii());
    while !rest.is_empty() {
        let Some((_, after)) = pair(rest) else { return false };
        count += 1;
        rest = after;
    }
    count >= FEWEST
}

/// The pairs in their order, up to what is none.
pub fn pairs(text: &[u8]) -> impl Iterator<Item = Pair<'_>> {
    let mut rest = text.trim_ascii();
    std::iter::from_fn(move || {
        let (pair, after) = pair(rest)?;
        rest = after;
        Some(pair)
    })
}

/// Of a key that occurs twice the last counts.
pub fn find<'b>(text: &'b [u8], key: &[u8]) -> Option<Pair<'b>> {
    pairs(text).filter(|pair| pair.key == key).last()
}

fn pair(text: &[u8]) -> Option<(Pair<'_>, &[u8])> {
    let equals = text.iter().position(|byte| !is_key(*byte))?;
    let (key, value) = text.split_at(equals);
    let value = value.strip_prefix(b"=")?;
    if key.is_empty() {
        return None;
    }
    let is_quoted = value.first() == Some(&b'"');
    let (value, rest) = if is_quoted { quoted(&value[1..])? } else { bare(value) };
    match rest {
        [] => Some((Pair { key, value, is_quoted }, rest)),
        [b' ', rest @ ..] => Some((Pair { key, value, is_quoted }, rest.trim_ascii_start())),
        _ => None,
    }
}

fn is_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'@' | b'/')
}

fn bare(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(memchr::memchr2(b' ', b'"', text).unwrap_or(text.len()))
}

fn quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut from = 0;
    loop {
        let at = from + memchr::memchr2(b'"', b'\\', &text[from..])?;
        if text[at] == b'"' {
            return Some((&text[..at], &text[at + 1..]));
        }
        from = (at + 2).min(text.len());
    }
}

impl Pair<'_> {
    /// Appends the value without its escapes.
    pub fn plain(&self, out: &mut Vec<u8>) {
        let mut bytes = self.value.iter();
        while let Some(byte) = bytes.next() {
            match byte {
                b'\\' if self.is_quoted => match bytes.next() {
                    Some(b'n') => out.push(b'\n'),
                    Some(b'r') => out.push(b'\r'),
                    Some(b't') => out.push(b'\t'),
                    Some(other @ (b'"' | b'\\')) => out.push(*other),
                    Some(other) => out.extend_from_slice(&[b'\\', *other]),
                    None => out.push(b'\\'),
                },
                byte => out.push(*byte),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, key: &str) -> Option<String> {
        let mut out = Vec::new();
        find(text.as_bytes(), key.as_bytes())?.plain(&mut out);
        Some(String::from_utf8(out).expect("UTF-8"))
    }

    #[test]
    fn values_are_found_by_their_key() {
        let text = r#"time="2026-11-21T10:00:00Z" level=info msg="a \"b\" c=d\n\x" empty= n=8 a.b=c level=warn"#;
        assert!(is_logfmt(text.as_bytes()));
        for (key, expected) in [
            ("level", Some("warn")),
            ("msg", Some("a \"b\" c=d\n\\x")),
            ("empty", Some("")),
            ("n", Some("8")),
            ("a.b", Some("c")),
            ("c", None),
        ] {
            assert_eq!(value(text, key).as_deref(), expected, "{key}");
        }
    }

    #[test]
    fn prose_is_none() {
        for text in
            ["", "a=1", "user=7 logged in", "x = 1 y = 2", "a=\"1 b=2", "a=\"1\"b c=2", "see a=1 b=2", "=1 a=2", "a=1, b=2 c"]
        {
            assert!(!is_logfmt(text.as_bytes()), "{text}");
        }
        assert!(is_logfmt(b"a=1 b=2") && is_logfmt(b" a=1  b=\"\\\\\" "));
    }
}
