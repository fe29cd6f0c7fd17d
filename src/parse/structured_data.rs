//! Structured data taken apart (RFC 5424, section 6.3): only when a template or a condition asks for it.

use std::borrow::Cow;

use super::rfc5424::{sd_name, sd_param};

/// One `SD-ELEMENT` of text that the parser has accepted.
#[derive(Clone, Copy, Debug)]
pub struct Element<'b> {
    pub id: &'b [u8],
    rest: &'b [u8],
}

#[derive(Clone, Copy, Debug)]
pub struct Param<'b> {
    pub name: &'b [u8],
    /// As it stood, escapes included; see [`Param::value`].
    pub escaped: &'b [u8],
}

/// The elements in their order; ends at the first byte that is none.
pub fn elements(mut text: &[u8]) -> impl Iterator<Item = Element<'_>> {
    std::iter::from_fn(move || {
        let (rest, id) = sd_name(text.strip_prefix(b"[")?)?;
        let element = Element { id, rest };
        text = element.end()?.strip_prefix(b"]")?;
        Some(element)
    })
}

/// The value of `sd[id][name]`, unescaped.
pub fn value<'b>(text: &'b [u8], id: &[u8], name: &[u8]) -> Option<Cow<'b, [u8]>> {
    let element = elements(text).find(|element| element.id == id)?;
    let param = element.params().find(|param| param.name == name)?;
    Some(param.value())
}

impl<'b> Element<'b> {
    /// In their order; a name may occur more than once.
    pub fn params(&self) -> impl Iterator<Item = Param<'b>> + use<'b> {
        let mut rest = self.rest;
        std::iter::from_fn(move || {
            let (after, param) = param(rest)?;
            rest = after;
            Some(param)
        })
    }

    fn end(&self) -> Option<&'b [u8]> {
        let mut rest = self.rest;
        while rest.first() == Some(&b' ') {
            rest = param(rest)?.0;
        }
        Some(rest)
    }
}

fn param(text: &[u8]) -> Option<(&[u8], Param<'_>)> {
    let (rest, name, escaped) = sd_param(text.strip_prefix(b" ")?)?;
    Some((rest, Param { name, escaped }))
}

impl<'b> Param<'b> {
    pub fn value(&self) -> Cow<'b, [u8]> {
        if memchr::memchr(b'\\', self.escaped).is_none() {
            return Cow::Borrowed(self.escaped);
        }
        let mut value = Vec::with_capacity(self.escaped.len());
        let mut bytes = self.escaped.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            match (byte, bytes.peek()) {
                (b'\\', Some(&next @ (b'"' | b'\\' | b']'))) => {
                    value.push(next);
                    bytes.next();
                }
                _ => value.push(byte),
            }
        }
        Cow::Owned(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_and_unescaped() {
        let text = br#"[a x="1" y="\]\"\\\n"][b@32473 x="2"][c]"#;
        assert_eq!(value(text, b"a", b"x").as_deref(), Some(&b"1"[..]));
        assert_eq!(value(text, b"a", b"y").as_deref(), Some(&br#"]"\\n"#[..]));
        assert_eq!(value(text, b"b@32473", b"x").as_deref(), Some(&b"2"[..]));
        assert_eq!(value(text, b"b@32473", b"y"), None);
        assert_eq!(elements(text).map(|e| e.id.len()).collect::<Vec<_>>(), [1, 7, 1]);
    }
}
