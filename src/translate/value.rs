//! Values of Python as data: what a pickle or a `repr` says, without what it would do.

use std::rc::Rc;

use crate::template::json_string;

/// A value; those that hold others are on a [`Heap`], because a pickle may name one again, and inside itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Bool(bool),
    Bytes(Rc<[u8]>),
    Float(f64),
    Int(i64),
    /// The digits of a larger one.
    Long(Rc<str>),
    Node(u32),
    None,
    /// Of another kind, as Python's `repr` shows it.
    Shown(Rc<str>),
    Text(Rc<str>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// What would be called with what, and what would be its state afterwards. It never is.
    Call {
        callable: Value,
        arguments: Value,
        state: Option<Value>,
    },
    Dict(Vec<(Value, Value)>),
    /// A name that would be imported. It never is.
    Global {
        module: Rc<str>,
        name: Rc<str>,
    },
    List(Vec<Value>),
    Set(Vec<Value>),
    Tuple(Vec<Value>),
}

#[derive(Clone, Debug, Default)]
pub struct Heap {
    nodes: Vec<Node>,
}

/// Deeper values are shown as `…`.
const DEEPEST: usize = 32;
const ELLIPSIS: &str = "…";

impl Value {
    /// A number too large for a machine word, from its sign and digits.
    pub fn long(digits: &str) -> Self {
        let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
        Self::Long(format!("{sign}{}", digits.trim_start_matches('0')).into())
    }
}

impl Heap {
    pub fn add(&mut self, node: Node) -> Value {
        self.nodes.push(node);
        Value::Node(self.nodes.len() as u32 - 1)
    }

    pub fn node(&self, value: &Value) -> Option<&Node> {
        match value {
            Value::Node(at) => self.nodes.get(*at as usize),
            _ => None,
        }
    }

    pub fn node_mut(&mut self, value: &Value) -> Option<&mut Node> {
        match value {
            Value::Node(at) => self.nodes.get_mut(*at as usize),
            _ => None,
        }
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The items of a list or tuple.
    pub fn items(&self, value: &Value) -> Option<&[Value]> {
        match self.node(value)? {
            Node::List(items) | Node::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// Appends a value as JSON, of so many octets at most and a little more: a value that is named again is written again.
    pub fn json(&self, value: &Value, most: usize, out: &mut Vec<u8>) {
        let writer = Writer { heap: self, end: out.len() + most };
        writer.json(value, DEEPEST, out);
    }

    /// Appends a value as `str()` shows it.
    pub fn text(&self, value: &Value, most: usize, out: &mut Vec<u8>) {
        match value {
            Value::Text(text) => out.extend_from_slice(text.as_bytes()),
            value => self.repr(value, most, out),
        }
    }

    /// Appends a value as `repr()` shows it.
    pub fn repr(&self, value: &Value, most: usize, out: &mut Vec<u8>) {
        let writer = Writer { heap: self, end: out.len() + most };
        writer.repr(value, DEEPEST, out);
    }
}

struct Writer<'h> {
    heap: &'h Heap,
    /// Nothing is begun behind it.
    end: usize,
}

impl Writer<'_> {
    fn json(&self, value: &Value, depth: usize, out: &mut Vec<u8>) {
        if depth == 0 || out.len() > self.end {
            return json_string(ELLIPSIS.as_bytes(), out);
        }
        match (value, self.heap.node(value)) {
            (Value::None, _) => out.extend_from_slice(b"null"),
            (Value::Bool(true), _) => out.extend_from_slice(b"true"),
            (Value::Bool(false), _) => out.extend_from_slice(b"false"),
            (Value::Int(number), _) => out.extend_from_slice(number.to_string().as_bytes()),
            (Value::Long(digits), _) => out.extend_from_slice(digits.as_bytes()),
            (Value::Float(number), _) if number.is_finite() => out.extend_from_slice(float(*number).as_bytes()),
            (Value::Text(text), _) => json_string(text.as_bytes(), out),
            (_, Some(Node::List(items) | Node::Set(items) | Node::Tuple(items))) => {
                self.all(items, (b"[", b"]"), out, |item, out| self.json(item, depth - 1, out));
            }
            (_, Some(Node::Dict(entries))) => self.all(entries, (b"{", b"}"), out, |(key, value), out| {
                let mut name = Vec::new();
                self.str(key, depth - 1, &mut name);
                json_string(&name, out);
                out.push(b':');
                self.json(value, depth - 1, out);
            }),
            _ => {
                let mut shown = Vec::new();
                let inner = Writer { heap: self.heap, end: self.end.saturating_sub(out.len()) };
                inner.str(value, depth, &mut shown);
                json_string(&shown, out);
            }
        }
    }

    fn str(&self, value: &Value, depth: usize, out: &mut Vec<u8>) {
        match value {
            Value::Text(text) => out.extend_from_slice(text.as_bytes()),
            value => self.repr(value, depth, out),
        }
    }

    fn repr(&self, value: &Value, depth: usize, out: &mut Vec<u8>) {
        if depth == 0 || out.len() > self.end {
            return out.extend_from_slice(ELLIPSIS.as_bytes());
        }
        let each = |item: &Value, out: &mut Vec<u8>| self.repr(item, depth - 1, out);
        match (value, self.heap.node(value)) {
            (Value::None, _) => out.extend_from_slice(b"None"),
            (Value::Bool(true), _) => out.extend_from_slice(b"True"),
            (Value::Bool(false), _) => out.extend_from_slice(b"False"),
            (Value::Int(number), _) => out.extend_from_slice(number.to_string().as_bytes()),
            (Value::Long(text) | Value::Shown(text), _) => out.extend_from_slice(text.as_bytes()),
            (Value::Float(number), _) => out.extend_from_slice(float(*number).as_bytes()),
            (Value::Text(text), _) => quoted(text, out),
            (Value::Bytes(bytes), _) => {
                out.extend_from_slice(b"b'");
                out.extend(bytes.escape_ascii());
                out.push(b'\'');
            }
            (_, Some(Node::List(items))) => self.all(items, (b"[", b"]"), out, each),
            (_, Some(Node::Tuple(items))) => self.all(items, (b"(", if items.len() == 1 { b",)" } else { b")" }), out, each),
            (_, Some(Node::Set(items))) if items.is_empty() => out.extend_from_slice(b"set()"),
            (_, Some(Node::Set(items))) => self.all(items, (b"{", b"}"), out, each),
            (_, Some(Node::Dict(entries))) => self.all(entries, (b"{", b"}"), out, |(key, value), out| {
                self.repr(key, depth - 1, out);
                out.extend_from_slice(b": ");
                self.repr(value, depth - 1, out);
            }),
            (_, Some(Node::Global { module, name })) => out.extend_from_slice(format!("{module}.{name}").as_bytes()),
            (_, Some(Node::Call { callable, arguments, state })) => {
                self.repr(callable, depth - 1, out);
                self.repr(arguments, depth - 1, out);
                if let Some(state) = state {
                    self.repr(state, depth - 1, out);
                }
            }
            (Value::Node(_), None) => out.extend_from_slice(ELLIPSIS.as_bytes()),
        }
    }

    fn all<T>(&self, items: &[T], around: (&[u8], &[u8]), out: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
        out.extend_from_slice(around.0);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                // Python's own blank behind it, which JSON does not mind.
                out.extend_from_slice(b", ");
            }
            write(item, out);
            if out.len() > self.end {
                break;
            }
        }
        out.extend_from_slice(around.1);
    }
}

/// As Python shows it: the shortest that reads back, with a point or an exponent.
pub fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf".to_owned() } else { "-inf".to_owned() };
    }
    let magnitude = number.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        // Rust writes `1e16`, Python `1e+16`.
        let text = format!("{number:e}");
        return match text.split_once('e') {
            Some((mantissa, exponent)) => match exponent.strip_prefix('-') {
                Some(digits) => format!("{mantissa}e-{digits:0>2}"),
                None => format!("{mantissa}e+{exponent:0>2}"),
            },
            None => text,
        };
    }
    format!("{number:?}")
}

/// In the quotes that Python would take.
fn quoted(text: &str, out: &mut Vec<u8>) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut shown = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            '\\' => shown.push_str("\\\\"),
            c if c == quote => shown.extend(['\\', c]),
            c if c.is_control() => shown.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => shown.push(c),
        }
    }
    shown.push(quote);
    out.extend_from_slice(shown.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_python_shows_them() {
        let mut heap = Heap::default();
        let inner = heap.add(Node::Tuple(vec![Value::Int(1)]));
        let list =
            heap.add(Node::List(vec![inner, Value::Float(1.0), Value::Text("it's".into()), Value::Bytes((*b"\x00a").into())]));
        let value = heap.add(Node::Dict(vec![(Value::Text("k".into()), list), (Value::None, Value::Bool(true))]));
        let (mut repr, mut json) = (Vec::new(), Vec::new());
        heap.repr(&value, 1000, &mut repr);
        heap.json(&value, 1000, &mut json);
        assert_eq!(String::from_utf8_lossy(&repr), r#"{'k': [(1,), 1.0, "it's", b'\x00a'], None: True}"#);
        assert_eq!(String::from_utf8_lossy(&json), r#"{"k":[[1], 1.0, "it's", "b'\\x00a'"], "None":true}"#);
        for (number, text) in [(1e16, "1e+16"), (1.5e-7, "1.5e-07"), (0.1, "0.1"), (0.0, "0.0"), (123456789.0, "123456789.0")] {
            assert_eq!(float(number), text);
        }
    }

    /// Ten lists, each ten times the one before: 10^10 items if they were all written.
    #[test]
    fn what_names_itself_again_and_again_ends() {
        let mut heap = Heap::default();
        let mut value = Value::Int(1);
        for _ in 0..10 {
            value = heap.add(Node::List(vec![value; 10]));
        }
        let itself = heap.add(Node::List(Vec::new()));
        if let Some(Node::List(items)) = heap.node_mut(&itself) {
            items.push(itself.clone());
        }
        for value in [value, itself] {
            let (mut json, mut repr) = (Vec::new(), Vec::new());
            heap.json(&value, 1000, &mut json);
            heap.repr(&value, 1000, &mut repr);
            assert!(json.len() < 1200 && repr.len() < 1200, "{} {}", json.len(), repr.len());
            serde_json::from_slice::<serde_json::Value>(&json).expect("JSON all the same");
        }
    }
}
