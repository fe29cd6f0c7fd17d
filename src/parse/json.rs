//! Texts that are a JSON object (RFC 8259), taken apart only when a template or a condition asks.
//!
//! serde_json reads them, in one pass and without a tree.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// What begins a line of the Common Event Expression.
const COOKIE: &[u8] = b"@cee:";
/// Readers of what we write give up beyond it (serde_json at 128, others far later).
const DEEPEST: usize = 100;

/// The whole text as an object, without the cookie of CEE.
pub fn object(text: &[u8]) -> Option<&str> {
    let text = text.trim_ascii();
    let text = text.strip_prefix(COOKIE).unwrap_or(text).trim_ascii_start();
    if text.first() != Some(&b'{') || text.last() != Some(&b'}') {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    (is_shallow(text) && serde_json::from_str::<&RawValue>(text).is_ok()).then_some(text)
}

/// The value at a path of keys and indices (`user.id`, `items.0`), as it is written. A key may have dots of its own
/// (`log.level`). Of a key that occurs twice the last counts.
pub fn find<'b>(object: &'b str, path: &str) -> Option<&'b RawValue> {
    let mut reader = serde_json::Deserializer::from_str(object);
    Find(path).deserialize(&mut reader).ok().flatten()
}

/// What a value says: a text without its quotes and escapes, nothing for null, others on one line as JSON.
pub fn plain(value: &RawValue) -> Cow<'_, str> {
    let json = value.get();
    match json.as_bytes() {
        b"null" => Cow::Borrowed(""),
        [b'"', text @ .., b'"'] if memchr::memchr(b'\\', text).is_none() => Cow::Borrowed(&json[1..json.len() - 1]),
        // A lone surrogate is no text: it stays as it is written.
        [b'"', ..] => serde_json::from_str(json).map_or(Cow::Borrowed(&json[1..json.len() - 1]), Cow::Owned),
        [b'{' | b'[', ..] => {
            let mut out = Vec::new();
            compact(json.as_bytes(), &mut out);
            Cow::Owned(String::from_utf8_lossy(&out).into_owned())
        }
        _ => Cow::Borrowed(json),
    }
}

/// Appends JSON without the blanks and line feeds between its tokens.
pub fn compact(json: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    scan(json, |between, text| {
        out.extend(between.iter().filter(|byte| !byte.is_ascii_whitespace()));
        out.extend_from_slice(text);
        true
    });
    // It is nothing that a terminal should act on, and nowhere but in a text.
    if memchr::memchr(0x7F, &out[start..]).is_some() {
        let text = out.split_off(start);
        text.split_inclusive(|byte| *byte == 0x7F).for_each(|part| match part.strip_suffix(&[0x7F]) {
            Some(part) => out.extend_from_slice(&[part, b"\\u007f"].concat()),
            None => out.extend_from_slice(part),
        });
    }
}

/// Whether nothing is nested deeper than [`DEEPEST`].
pub fn is_shallow(json: &str) -> bool {
    let mut depth = 0_usize;
    scan(json.as_bytes(), |between, _| {
        between.iter().all(|byte| {
            match byte {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth <= DEEPEST
        })
    })
}

/// Gives what stands between the texts, each time with the text behind it in its quotes. False: it was told to end.
fn scan(json: &[u8], mut each: impl FnMut(&[u8], &[u8]) -> bool) -> bool {
    let mut rest = json;
    while let Some(open) = memchr::memchr(b'"', rest) {
        let mut end = open + 1;
        while let Some(at) = memchr::memchr2(b'"', b'\\', &rest[end.min(rest.len())..]) {
            end += at + 1;
            if rest[end - 1] == b'"' {
                break;
            }
            end += 1;
        }
        let end = end.min(rest.len());
        if !each(&rest[..open], &rest[open..end]) {
            return false;
        }
        rest = &rest[end..];
    }
    each(rest, b"")
}

/// Looks for what is left of a path.
struct Find<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

/// Anything but an object or an array ends a path too early.
impl<'de> Visitor<'de> for Find<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(step) = map.next_key_seed(Step(self.0))? {
            match step {
                Below::Here => found = Some(map.next_value()?),
                Below::Inside(rest) => found = map.next_value_seed(Find(rest))?.or(found),
                Below::Elsewhere => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let (index, rest) = self.0.split_once('.').map_or((self.0, None), |(index, rest)| (index, Some(rest)));
        let wanted = index.parse().unwrap_or(usize::MAX);
        let (mut found, mut at) = (None, 0);
        loop {
            let more = match rest {
                _ if at != wanted => seq.next_element::<IgnoredAny>()?.is_some(),
                None => {
                    found = seq.next_element()?;
                    found.is_some()
                }
                Some(rest) => {
                    let inner = seq.next_element_seed(Find(rest))?;
                    found = inner.flatten();
                    inner.is_some()
                }
            };
            if !more {
                return Ok(found);
            }
            at += 1;
        }
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// A key, seen from a path.
struct Step<'p>(&'p str);

enum Below<'p> {
    Elsewhere,
    Here,
    /// What the value has to be looked through for.
    Inside(&'p str),
}

impl<'p> Step<'p> {
    fn to(&self, key: &str) -> Below<'p> {
        match self.0.strip_prefix(key) {
            Some("") => Below::Here,
            Some(rest) => rest.strip_prefix('.').map_or(Below::Elsewhere, Below::Inside),
            None => Below::Elsewhere,
        }
    }
}

impl<'de, 'p> DeserializeSeed<'de> for Step<'p> {
    type Value = Below<'p>;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'p> Visitor<'_> for Step<'p> {
    type Value = Below<'p>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.to(key))
    }
}

/// A key, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Key<'b>(#[serde(borrow)] Cow<'b, str>);

/// A key and its value, as it is written.
pub type Entry<'b> = (Cow<'b, str>, &'b RawValue);

/// The entries of an object in their order.
pub fn entries(object: &str) -> serde_json::Result<Vec<Entry<'_>>> {
    struct Entries;

    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<Entry<'de>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::with_capacity(16);
            while let Some((Key(key), value)) = map.next_entry()? {
                entries.push((key, value));
            }
            Ok(entries)
        }
    }

    let mut reader = serde_json::Deserializer::from_str(object);
    let entries = reader.deserialize_map(Entries)?;
    reader.end()?;
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(object: &str, path: &str) -> Option<String> {
        find(object, path).map(|value| plain(value).into_owned())
    }

    #[test]
    fn values_are_found_by_their_path() {
        let text = r#"{"a":1,"user":{"id":7,"name":"J\u00f6rg \"x\"","tags":["p", {"q":"r"}]},"log.level":"warn","none":null,
            "trace":{"id":"t"}, "trace.id":"flat", "e":{}, "twice":1, "twice":2}"#;
        for (path, expected) in [
            ("a", Some("1")),
            ("user.id", Some("7")),
            ("user.name", Some("Jörg \"x\"")),
            ("user.tags", Some(r#"["p",{"q":"r"}]"#)),
            ("user.tags.0", Some("p")),
            ("user.tags.1.q", Some("r")),
            ("user.tags.2", None),
            ("user.tags.x", None),
            ("log.level", Some("warn")),
            ("none", Some("")),
            ("trace.id", Some("flat")),
            ("twice", Some("2")),
            ("a.b", None),
            ("use", None),
            ("user.", None),
            ("e.x", None),
        ] {
            assert_eq!(at(text, path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn only_a_whole_object_is_one() {
        for text in [r#"{"a":1}"#, r#" @cee: {"a":1} "#, r#"@cee:{"a":1}"#, "{}"] {
            assert!(object(text.as_bytes()).is_some(), "{text}");
        }
        let deep = format!("{}1{}", r#"{"a":"#.repeat(5000), "}".repeat(5000));
        for text in ["", "{", r#"{"a":1} x"#, r#"x {"a":1}"#, "[1]", "{a:1}", r#"{"a":1,}"#, "{\"a\":\"\x01\"}", &deep] {
            assert!(object(text.as_bytes()).is_none(), "{text}");
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_none(), "no UTF-8");
    }

    #[test]
    fn an_object_on_several_lines_becomes_one_line() {
        let mut out = Vec::new();
        compact(b"{ \"a b\" :\n\t[ 1,\r\n \"\\\" x\" ] }", &mut out);
        assert_eq!(out, br#"{"a b":[1,"\" x"]}"#);
    }
}
