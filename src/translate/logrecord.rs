//! Records of Python's logging: pickled by `SocketHandler` and `DatagramHandler`, or urlencoded by `HTTPHandler`. The attributes are
//! those of "LogRecord attributes" in Python's library reference.

use std::borrow::Cow;

use super::frame::{Options, Record, Translated};
use super::value::{Heap, Node, Value};
use super::{literal, percent, pickle, timestamp};
use crate::message::Severity;

/// The enterprise number is that of examples (RFC 5612): the names are the application's own.
const SD_ID: &str = "python@32473";

/// Shown elsewhere: in the message, as its time, or said better by others.
const TOLD: [&str; 11] =
    ["args", "asctime", "created", "exc_info", "exc_text", "message", "msecs", "msg", "relativeCreated", "stack_info", "levelno"];

/// What every record has; the others are the application's, by `extra=`.
const OWN: [&str; 12] = [
    "filename",
    "funcName",
    "levelname",
    "lineno",
    "module",
    "name",
    "pathname",
    "process",
    "processName",
    "taskName",
    "thread",
    "threadName",
];

/// A pickle, without its length. One that is no record is shown as text.
pub fn from_pickle(bytes: &[u8], options: &Options, arena: &mut Vec<u8>) -> Translated {
    let Some(pickle) = pickle::read(bytes) else {
        let record = Record { message: Cow::Borrowed(bytes), ..Record::default() };
        return Translated { frame: record.append(options, arena), is_foreign: true };
    };
    let is_foreign = !pickle.is_whole || pickle.foreign > 0;
    match pickle.heap.node(&pickle.value) {
        Some(Node::Dict(entries)) => {
            let attributes = Attributes { heap: &pickle.heap, entries, most: options.max_message };
            Translated { frame: attributes.record(options).append(options, arena), is_foreign }
        }
        _ => {
            let mut shown = Vec::new();
            pickle.heap.text(&pickle.value, options.max_message, &mut shown);
            let record = Record { message: Cow::Owned(shown), ..Record::default() };
            Translated { frame: record.append(options, arena), is_foreign: true }
        }
    }
}

/// The fields of a form or query.
pub fn from_form(pairs: &[(Cow<'_, str>, Cow<'_, str>)], options: &Options, arena: &mut Vec<u8>) -> Translated {
    let mut heap = Heap::default();
    let value = |name: &str, text: &str, heap: &mut Heap| match (name, text) {
        ("args", text) => literal::read(text, heap),
        (name @ ("msg" | "message"), text) if !name.is_empty() => Value::Text(text.into()),
        (name, "None") if TOLD.contains(&name) || OWN.contains(&name) => Value::None,
        ("levelno" | "lineno" | "process" | "thread", text) => text.parse().map_or_else(|_| Value::Text(text.into()), Value::Int),
        (_, text) => Value::Text(text.into()),
    };
    let entries: Vec<_> =
        pairs.iter().map(|(name, text)| (Value::Text((&**name).into()), value(name, text, &mut heap))).collect();
    let attributes = Attributes { heap: &heap, entries: &entries, most: options.max_message };
    Translated { frame: attributes.record(options).append(options, arena), is_foreign: false }
}

struct Attributes<'h> {
    heap: &'h Heap,
    entries: &'h [(Value, Value)],
    /// Octets of one value.
    most: usize,
}

impl<'h> Attributes<'h> {
    /// None where it is absent or Python's None.
    fn get(&self, name: &str) -> Option<&'h Value> {
        let is_named = |key: &Value| matches!(key, Value::Text(text) if &**text == name);
        let found = self.entries.iter().rev().find(|(key, _)| is_named(key)).map(|(_, value)| value);
        found.filter(|value| **value != Value::None)
    }

    fn text(&self, name: &str) -> Option<Cow<'h, str>> {
        self.get(name).map(|value| self.shown(value))
    }

    fn shown(&self, value: &'h Value) -> Cow<'h, str> {
        self.shown_within(value, self.most)
    }

    /// Of so many octets and a little more, where it is not a text already.
    fn shown_within(&self, value: &'h Value, most: usize) -> Cow<'h, str> {
        if let Value::Text(text) = value {
            return Cow::Borrowed(text);
        }
        let mut bytes = Vec::new();
        match self.heap.node(value) {
            Some(Node::Dict(_) | Node::List(_) | Node::Tuple(_)) => self.heap.json(value, most, &mut bytes),
            _ => self.heap.text(value, most, &mut bytes),
        }
        Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn record(&self, options: &Options) -> Record<'h> {
        let created = self.text("created").and_then(|text| text.parse().ok());
        Record {
            severity: Some(self.severity()),
            timestamp: created.and_then(|seconds| timestamp::of_seconds(seconds, options.zone)),
            app_name: self.text("name").unwrap_or_default(),
            proc_id: self.text("process").unwrap_or_default(),
            sd_id: SD_ID,
            params: self.params(),
            message: self.message().into_bytes().into(),
            json: self.json().into(),
            ..Record::default()
        }
    }

    /// Levels between those of Python belong to the one below, as for Python itself; 25 is what people call a notice.
    fn severity(&self) -> Severity {
        let level = self.text("levelno").and_then(|text| text.parse::<f64>().ok());
        match level {
            Some(level) => Severity(match level {
                50.0.. => 2,
                40.0.. => 3,
                30.0.. => 4,
                25.0.. => 5,
                20.0.. => 6,
                _ => 7,
            }),
            None => self.text("levelname").and_then(|name| Severity::parse(&name)).unwrap_or(Severity(6)),
        }
    }

    /// As `logging.Formatter` puts it together: the text, what was raised, and the stack.
    fn message(&self) -> String {
        let mut text = self.body();
        let exception = self.text("exc_text").or_else(|| self.text("exc_info"));
        for more in [exception, self.text("stack_info")].into_iter().flatten().filter(|more| !more.is_empty()) {
            if !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&more);
        }
        text
    }

    /// `msg % args`; both where they do not go together.
    fn body(&self) -> String {
        if let Some(message) = self.text("message") {
            return message.into_owned();
        }
        let pattern = self.text("msg").unwrap_or_default().into_owned();
        let Some(args) = self.get("args").filter(|args| !self.heap.items(args).is_some_and(<[Value]>::is_empty)) else {
            return pattern;
        };
        percent::format(&pattern, args, self.heap, self.most).unwrap_or_else(|| {
            let mut shown = format!("{pattern} ").into_bytes();
            self.heap.repr(args, self.most, &mut shown);
            String::from_utf8_lossy(&shown).into_owned()
        })
    }

    /// What the application has added. A pickle may name one value as often as it likes: all of them together are bounded.
    fn params(&self) -> Vec<(Cow<'h, str>, Cow<'h, str>)> {
        let mut left = self.most;
        let mut params = Vec::new();
        for (name, value) in self.named().filter(|(name, _)| !OWN.contains(name)) {
            let shown = self.shown_within(value, left);
            let Some(rest) = left.checked_sub(shown.len() + 1) else { break };
            left = rest;
            params.push((Cow::Borrowed(name), shown));
        }
        params
    }

    fn named(&self) -> impl Iterator<Item = (&'h str, &'h Value)> {
        self.entries.iter().filter_map(|(key, value)| match key {
            Value::Text(name) if !TOLD.contains(&&**name) && *value != Value::None => Some((&**name, value)),
            _ => None,
        })
    }

    fn json(&self) -> Vec<u8> {
        let mut out = vec![b'{'];
        for (i, (name, value)) in self.named().enumerate() {
            // A text is written whole.
            let length = name.len() + if let Value::Text(text) = value { text.len() } else { 0 };
            let Some(left) = self.most.checked_sub(out.len() + length) else { break };
            if i > 0 {
                out.push(b',');
            }
            crate::template::json_string(name.as_bytes(), &mut out);
            out.push(b':');
            self.heap.json(value, left, &mut out);
        }
        out.push(b'}');
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Facility, Zone};
    use crate::translate::pairs;

    fn options() -> Options {
        Options { facility: Facility(1), zone: Zone::parse("utc").expect("a zone"), max_message: 1000 }
    }

    fn parts(translated: Translated, arena: &[u8]) -> (String, String) {
        let text = |span: crate::message::Span| String::from_utf8_lossy(span.of(arena)).into_owned();
        (text(translated.frame.span), text(translated.frame.json))
    }

    /// What CPython 3.11's `SocketHandler` sends for `logging.getLogger("app.db").error("failed: %s", "x", extra={"user": {"id": 7}})`,
    /// without most of its attributes.
    const PICKLED: &[u8] = b"}q\x00(X\x04\x00\x00\x00nameq\x01X\x06\x00\x00\x00app.dbq\x02X\x03\x00\x00\x00msgq\x03X\x09\x00\x00\x00failed: xq\x04X\x04\x00\x00\x00argsq\x05NX\x07\x00\x00\x00levelnoq\x06K(X\x08\x00\x00\x00exc_textq\x07X\x05\x00\x00\x00T\n  xq\x08X\x07\x00\x00\x00createdq\tGA\xda\xc0\x33\x08\x00\x00\x00X\x07\x00\x00\x00processq\nK*X\x04\x00\x00\x00userq\x0b}q\x0cX\x02\x00\x00\x00idq\rK\x07su.";

    #[test]
    fn a_pickled_record_is_a_message() {
        let mut arena = Vec::new();
        let translated = from_pickle(PICKLED, &options(), &mut arena);
        let (frame, json) = parts(translated, &arena);
        let expected =
            "<11>1 2026-11-20T22:39:28.000000+00:00 - app.db 42 - [python@32473 user=\"{\\\"id\\\":7}\"] failed: x\nT\n  x";
        assert_eq!((&*frame, &*json), (expected, r#"{"name":"app.db","process":42,"user":{"id":7}}"#));
        assert!(!translated.is_foreign);
    }

    /// Cut anywhere it gives what had come, and says that there is something wrong with it.
    #[test]
    fn a_record_that_breaks_off_is_no_less_than_what_came() {
        for end in 0..PICKLED.len() {
            let mut arena = Vec::new();
            let translated = from_pickle(&PICKLED[..end], &options(), &mut arena);
            let (frame, _) = parts(translated, &arena);
            assert!(translated.is_foreign, "{end}");
            assert!(frame.starts_with('<'), "{frame}");
            if end > 55 {
                assert!(frame.contains(" app.db ") && frame.contains("failed"), "{end}: {frame}");
            }
        }
    }

    #[test]
    fn nothing_is_executed() {
        for (pickle, shown) in [
            (&b"cos\nsystem\n(S'rm -rf /'\ntR."[..], "os.system('rm -rf /')"),
            (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R.", "os.system('ls',)"),
            (b"(S'ls'\nios\nsystem\n.", "os.system('ls',)"),
            (b"(cos\nsystem\nS'ls'\no.", "os.system('ls',)"),
            (b"Pid\n.", "id"),
        ] {
            let mut arena = Vec::new();
            let translated = from_pickle(pickle, &options(), &mut arena);
            let (frame, _) = parts(translated, &arena);
            let shown = shown.replace("('rm -rf /')", "('rm -rf /',)");
            assert!(translated.is_foreign && frame.ends_with(&shown), "{frame}");
        }
    }

    #[test]
    fn attacks_end() {
        let nested = b"(".repeat(500_000);
        let itself = [&b"]q\x00"[..], &b"h\x00h\x00h\x00h\x00h\x00".repeat(20_000), b"."].concat();
        let mut bomb = b"]q\x00K\x01a".to_vec();
        for level in 1..200_u8 {
            bomb.extend_from_slice(&[b']', b'q', level, b'(']);
            (0..8).for_each(|_| bomb.extend_from_slice(&[b'h', level - 1]));
            bomb.push(b'e');
        }
        bomb.push(b'.');
        // One list and one text, named again by very many keys, and copied again and again.
        let named = |opening: &[u8], key: &[u8]| {
            let keys: Vec<u8> = (0..30_000).flat_map(|i| [&b"U\x05"[..], format!("{i:05}").as_bytes(), key].concat()).collect();
            [b"\x80\x02}q\x00", opening, b"0(", &keys, b"u."].concat()
        };
        let text = [&b"X\x00\x00\x01\x00"[..], &[b'y'; 1 << 16], b"q\x01"].concat();
        let list = [&b"]q\x01("[..], &b"N".repeat(10_000), b"e"].concat();
        let copies = [&list[..], b"c__builtin__\nset\nq\x02", &b"h\x02h\x01\x85R".repeat(20_000), b"."].concat();
        let (texts, lists) = (named(&text, b"h\x01"), named(&list, b"h\x01"));
        let huge = b"X\xff\xff\xff\x7fabc";
        let long = [&b"\x8b\xff\xff\xff\x7f"[..], &[1; 100]].concat();
        let deep = [&b"]".repeat(40_000)[..], &b"a".repeat(39_999), b"."].concat();
        let memo = [&b"Nr\xff\xff\xff\xffp99999999999999999999\n"[..], b"."].concat();
        for attack in
            [&texts[..], &lists, &copies, &nested, &itself, &bomb, huge, &long, &deep, &memo, b"", b".", b"t.", b"}(NNu."]
        {
            let mut arena = Vec::new();
            from_pickle(attack, &options(), &mut arena);
            assert!(arena.len() < 20_000, "{} of {}", arena.len(), attack.len());
        }
    }

    #[test]
    fn a_form_is_a_message() {
        let form = "name=app&msg=%25s+has+%25d&args=%28%27x%27%2C+3%29&levelname=WARNING&levelno=30&created=1795255200.25&process=7\
                    &exc_info=None&exc_text=None&stack_info=None&taskName=None&lineno=12&user=None";
        let mut arena = Vec::new();
        let translated = from_form(&pairs(form.as_bytes()), &options(), &mut arena);
        let (frame, json) = parts(translated, &arena);
        assert_eq!(frame, "<12>1 2026-11-21T10:00:00.250000+00:00 - app 7 - [python@32473 user=\"None\"] x has 3");
        assert_eq!(json, r#"{"name":"app","levelname":"WARNING","process":7,"lineno":12,"user":"None"}"#);
        let wrong = from_form(&pairs(b"msg=%25s+%25s&args=%281%2C%29"), &options(), &mut arena);
        assert!(parts(wrong, &arena).0.ends_with(" %s %s (1,)"), "both are kept");
    }
}
