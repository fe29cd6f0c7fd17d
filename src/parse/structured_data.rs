//! Structured data taken apart (RFC 5424, section 6.3): only when a template or a condition asks for it.

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
    /// As it stood, escapes included; see [`Param::pieces`].
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

/// The parameter `sd[id][name]`.
pub fn find<'b>(text: &'b [u8], id: &[u8], name: &[u8]) -> Option<Param<'b>> {
    let element = elements(text).find(|element| element.id == id)?;
    element.params().find(|param| param.name == name)
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
    /// The value without its escapes, in the pieces between them.
    pub fn pieces(&self) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        // What stands behind the backslash of an escape begins the next piece, whatever it is.
        let (mut rest, mut literal) = (Some(self.escaped), 0);
        std::iter::from_fn(move || {
            let text = rest?;
            let escape = escape(text, std::mem::replace(&mut literal, 1));
            rest = escape.map(|at| &text[at + 1..]);
            Some(&text[..escape.unwrap_or(text.len())])
        })
    }
}

/// Where the first escape is, not before `from`.
fn escape(text: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr::memchr(b'\\', &text[at..])?;
        if matches!(text.get(at + 1), Some(b'"' | b'\\' | b']')) {
            return Some(at);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_and_unescaped() {
        let text = br#"[a x="1" y="\]\"\\\n" z="\\\\\" \\"][b@32473 x="2"][c]"#;
        let value =
            |id: &str, name: &str| Some(find(text, id.as_bytes(), name.as_bytes())?.pieces().collect::<Vec<_>>().concat());
        assert_eq!(value("a", "x").as_deref(), Some(&b"1"[..]));
        assert_eq!(value("a", "y").as_deref(), Some(&br#"]"\\n"#[..]));
        assert_eq!(value("a", "z").as_deref(), Some(&br#"\\" \"#[..]));
        assert_eq!(value("b@32473", "x").as_deref(), Some(&b"2"[..]));
        assert_eq!(value("b@32473", "y"), None);
        assert_eq!(elements(text).map(|e| e.id.len()).collect::<Vec<_>>(), [1, 7, 1]);
    }
}
