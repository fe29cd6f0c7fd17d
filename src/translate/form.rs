//! `application/x-www-form-urlencoded` (URL Standard, section 5.1): the body or query that `HTTPHandler` sends.

use std::borrow::Cow;

/// Names and values, in their order.
pub fn pairs(text: &[u8]) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
    let parts = text.split(|byte| *byte == b'&').filter(|part| !part.is_empty());
    let pair = |part| {
        let (name, value) = match memchr::memchr(b'=', part) {
            Some(equals) => (&part[..equals], &part[equals + 1..]),
            None => (part, &b""[..]),
        };
        (decoded(name), decoded(value))
    };
    parts.map(pair).collect()
}

fn decoded(text: &[u8]) -> Cow<'_, str> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return String::from_utf8_lossy(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'+', _) => out.push(b' '),
            (b'%', [high, low, ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
                out.push(digit(*high) << 4 | digit(*low));
                rest = &after[2..];
            }
            (byte, _) => out.push(*byte),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_decoded() {
        let pairs = pairs(b"name=a.b&msg=100%25+%C3%A9+%zz%&&args=%28%27x%27%2C%29&empty=&flag");
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(pairs, [("name", "a.b"), ("msg", "100% é %zz%"), ("args", "('x',)"), ("empty", ""), ("flag", "")]);
    }
}
