//! What `repr()` shows of plain values, read back: the arguments that `HTTPHandler` sends as text.

use std::rc::Rc;

use super::value::{Heap, Node, Value};

/// Deeper ones are shown as they stand.
const DEEPEST: usize = 16;

/// A whole text; what is no plain value is kept as it stands.
pub fn read(text: &str, heap: &mut Heap) -> Value {
    let mut reader = Reader { rest: text.trim(), heap };
    let value = reader.value(DEEPEST);
    match value {
        Some(value) if reader.rest.trim().is_empty() => value,
        _ => Value::Shown(text.into()),
    }
}

struct Reader<'t, 'h> {
    rest: &'t str,
    heap: &'h mut Heap,
}

impl Reader<'_, '_> {
    fn value(&mut self, depth: usize) -> Option<Value> {
        self.rest = self.rest.trim_start();
        let depth = depth.checked_sub(1)?;
        let value = match self.rest.as_bytes().first()? {
            b'(' => self.items(')', depth).map(|(items, is_tuple)| match (items.len(), is_tuple) {
                (1, false) => items.into_iter().next().unwrap_or(Value::None),
                _ => self.heap.add(Node::Tuple(items)),
            }),
            b'[' => self.items(']', depth).map(|(items, _)| self.heap.add(Node::List(items))),
            b'{' => self.entries(depth),
            b'\'' | b'"' => self.text().map(|text| Value::Text(text.into())),
            b'b' if matches!(self.rest.as_bytes().get(1), Some(b'\'' | b'"')) => self.shown(),
            _ => self.word(),
        }?;
        Some(value)
    }

    /// Up to the closing bracket, and whether there was a comma.
    fn items(&mut self, close: char, depth: usize) -> Option<(Vec<Value>, bool)> {
        self.rest = &self.rest[1..];
        let (mut items, mut has_comma) = (Vec::new(), false);
        loop {
            if self.skip(close) {
                let is_tuple = has_comma || items.is_empty();
                return Some((items, is_tuple));
            }
            items.push(self.value(depth)?);
            if self.skip(',') {
                has_comma = true;
            } else if !self.rest.trim_start().starts_with(close) {
                return None;
            }
        }
    }

    /// A dict, or a set.
    fn entries(&mut self, depth: usize) -> Option<Value> {
        self.rest = &self.rest[1..];
        let (mut entries, mut items) = (Vec::new(), Vec::new());
        loop {
            if self.skip('}') {
                let node = if items.is_empty() { Node::Dict(entries) } else { Node::Set(items) };
                return Some(self.heap.add(node));
            }
            let key = self.value(depth)?;
            if self.skip(':') {
                let value = self.value(depth)?;
                entries.push((key, value));
            } else {
                items.push(key);
            }
            if !self.skip(',') && !self.rest.trim_start().starts_with('}') {
                return None;
            }
        }
    }

    fn skip(&mut self, c: char) -> bool {
        let rest = self.rest.trim_start().strip_prefix(c);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// In its quotes, with Python's escapes.
    fn text(&mut self) -> Option<String> {
        let quote = self.rest.chars().next()?;
        let mut out = String::new();
        let mut chars = self.rest[1..].char_indices();
        while let Some((at, c)) = chars.next() {
            if c == quote {
                self.rest = &self.rest[1 + at + 1..];
                return Some(out);
            }
            if c != '\\' {
                out.push(c);
                continue;
            }
            let digits = match chars.next()?.1 {
                'n' => {
                    out.push('\n');
                    continue;
                }
                'r' => {
                    out.push('\r');
                    continue;
                }
                't' => {
                    out.push('\t');
                    continue;
                }
                'x' => 2,
                'u' => 4,
                'U' => 8,
                other => {
                    out.push(other);
                    continue;
                }
            };
            let code: String = chars.by_ref().take(digits).map(|(_, c)| c).collect();
            out.push(char::from_u32(u32::from_str_radix(&code, 16).ok()?).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        None
    }

    /// A number or a name; or what stands up to the next comma or bracket of this level, as it is shown.
    fn word(&mut self) -> Option<Value> {
        let end = self.rest.find([',', ')', ']', '}', ':']).unwrap_or(self.rest.len());
        let word = self.rest[..end].trim_end();
        let value = match word {
            "None" => Some(Value::None),
            "True" => Some(Value::Bool(true)),
            "False" => Some(Value::Bool(false)),
            "inf" | "nan" | "-inf" => word.parse().ok().map(Value::Float),
            _ if word.starts_with(|c: char| c.is_ascii_digit() || c == '-') => number(word),
            _ => None,
        };
        match value {
            Some(value) => {
                self.rest = &self.rest[end..];
                Some(value)
            }
            None => self.shown(),
        }
    }

    fn shown(&mut self) -> Option<Value> {
        let mut closing = Vec::new();
        let mut quote = None;
        let mut escaped = false;
        let mut end = self.rest.len();
        for (at, c) in self.rest.char_indices() {
            match (c, quote) {
                _ if escaped => escaped = false,
                ('\\', Some(_)) => escaped = true,
                (c, Some(open)) if c == open => quote = None,
                (_, Some(_)) => {}
                ('\'' | '"', None) => quote = Some(c),
                ('(', _) => closing.push(')'),
                ('[', _) => closing.push(']'),
                ('{', _) => closing.push('}'),
                ('<', _) => closing.push('>'),
                (c, _) if closing.last() == Some(&c) => drop(closing.pop()),
                (',' | ')' | ']' | '}', _) if closing.is_empty() => {
                    end = at;
                    break;
                }
                _ => {}
            }
        }
        let (shown, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!shown.trim().is_empty()).then(|| Value::Shown(Rc::from(shown.trim_end())))
    }
}

fn number(word: &str) -> Option<Value> {
    if let Ok(number) = word.parse() {
        return Some(Value::Int(number));
    }
    let digits = word.strip_prefix('-').unwrap_or(word);
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Value::long(word));
    }
    let is_float = digits.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'-' | b'+'));
    if is_float { word.parse().ok().map(Value::Float) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repr_shows_is_read_back() {
        for text in [
            "('x', 3)",
            "()",
            "(1,)",
            "{'a': 1, 'b': [1.5, None, True]}",
            "('it\\'s', \"it's\", 'a\\nb\\\\', '\\x00')",
            "(<object object at 0x7f>, 1)",
            "(datetime.datetime(2026, 11, 21, 10, 0), b'a,\\'b', Decimal('1.5'))",
            "{1, 2}",
            "(123456789012345678901234567890, -7, 1e-07)",
            "'text'",
            "((1, 2), {})",
        ] {
            let mut heap = Heap::default();
            let value = read(text, &mut heap);
            let mut out = Vec::new();
            heap.repr(&value, 1000, &mut out);
            let expected = text.replace("'it\\'s'", "\"it's\"");
            assert_eq!(String::from_utf8_lossy(&out), expected);
            assert!(!matches!(value, Value::Shown(_)), "{text}");
        }
        for text in ["(1", "", "('a", "1 2", "(1 2)", &"(".repeat(1000), "[1)"] {
            assert!(matches!(read(text, &mut Heap::default()), Value::Shown(_)), "{text}");
        }
    }
}
