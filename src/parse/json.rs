//! Texts that are a JSON object (RFC 8259), taken apart only when a template or a condition asks.
//!
//! serde_json reads them, in one pass and without a tree.

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

/// Appends what a value says: a text without its quotes and escapes, nothing for null, others on one line as JSON.
pub fn plain(value: &RawValue, out: &mut Vec<u8>) {
    match value.get().as_bytes() {
        b"null" => {}
        [b'"', text @ .., b'"'] if !text.contains(&b'\\') => out.extend_from_slice(text),
        // A lone surrogate is no text: it stays as it is written.
        [b'"', text @ .., b'"'] => match serde_json::from_str::<String>(value.get()) {
            Ok(text) => out.extend_from_slice(text.as_bytes()),
            Err(_) => out.extend_from_slice(text),
        },
        text => compact(text, out),
    }
}

/// Appends JSON without the blanks and line feeds between its tokens.
pub fn compact(json: &[u8], out: &mut Vec<u8>) {
    for (byte, in_text) in bytes(json) {
        match byte {
            // It is nothing that a terminal should act on.
            0x7F => out.extend_from_slice(b"\\u007f"),
            byte if in_text || !byte.is_ascii_whitespace() => out.push(byte),
            _ => {}
        }
    }
}

/// Whether nothing is nested deeper than [`DEEPEST`].
pub fn is_shallow(json: &str) -> bool {
    let mut depth = 0_usize;
    bytes(json.as_bytes()).filter(|(_, in_text)| !in_text).all(|(byte, _)| {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth <= DEEPEST
    })
}

/// The bytes, and whether each stands inside a text (its closing quote does not, its opening quote does).
fn bytes(json: &[u8]) -> impl Iterator<Item = (u8, bool)> {
    let (mut in_text, mut escaped) = (false, false);
    json.iter().map(move |byte| {
        if escaped {
            escaped = false;
        } else if *byte == b'"' {
            in_text = !in_text;
        } else {
            escaped = in_text && *byte == b'\\';
        }
        (*byte, in_text)
    })
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

/// The entries of an object in their order.
pub fn entries(object: &str) -> serde_json::Result<Vec<(String, &RawValue)>> {
    struct Entries;

    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = map.next_entry()? {
                entries.push(entry);
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
        let mut out = Vec::new();
        plain(find(object, path)?, &mut out);
        Some(String::from_utf8(out).expect("UTF-8"))
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
