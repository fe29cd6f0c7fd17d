//! Lines that belong together, from senders that know lines only: a traceback becomes one message again.
//!
//! A message is held until another begins or some time has passed. Held are the last messages of each program on each
//! connection, with what acknowledges them.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use regex::bytes::Regex;

use super::Settings;
use super::repeats::Told;
use crate::message::{Frame, Grammar, Message, Origin, Received, Span};
use crate::queue::Receipt;
use crate::template::Field;

/// Programs whose last message is held by one thread; when there are more all go on as they are …
const MOST: usize = 4096;
/// … and so they do when they hold so many octets.
const MOST_BYTES: usize = 4 << 20;
/// Lines that come ever again keep a message for so many times [`Join::within`].
const LONGEST: u32 = 20;

/// What an input says of its lines.
#[derive(Clone, Debug)]
pub struct Join {
    pub by: By,
    /// So long a message waits for its next line.
    pub within: Duration,
    /// Longer they do not become.
    pub most: usize,
}

#[derive(Clone, Debug)]
pub enum By {
    /// Tracebacks of Python.
    Python,
    /// A line that this does not match goes on with the one before.
    Start(Regex),
}

/// Where in a traceback of Python a message ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Plain,
    /// The exception has been named; another one may follow.
    Raised,
    /// Between `Traceback` and the exception.
    Traceback,
}

#[derive(Default)]
pub(super) struct Joins {
    held: HashMap<u64, Held>,
    seed: RandomState,
    /// Octets of all of them, at least.
    bytes: usize,
    /// When the first of them may go on.
    due: Option<Instant>,
}

struct Held {
    origin: Arc<Origin>,
    settings: Settings,
    received: Received,
    raw: Vec<u8>,
    is_truncated: bool,
    receipts: Vec<Arc<Receipt>>,
    state: State,
    due: Instant,
    /// It goes on then, whatever comes.
    last: Instant,
}

/// A message that has waited long enough.
pub(super) struct Joined {
    pub message: Told,
    pub receipts: Vec<Arc<Receipt>>,
}

impl Joins {
    /// Holds the message, or adds it to the one before; that is given back where this one begins another.
    pub(super) fn take(
        &mut self,
        message: &Message<'_>,
        origin: &Arc<Origin>,
        settings: &Settings,
        receipt: Option<&Arc<Receipt>>,
    ) -> Vec<Joined> {
        let Some(join) = &settings.join else { return Vec::new() };
        let fields = &message.fields;
        // A process on this host is known by its number; who sends by a socket, by that.
        let who = match &origin.sender {
            Some(sender) => (u64::from(sender.pid), &*sender.file),
            None => (Arc::as_ptr(origin) as u64, ""),
        };
        let key_of = |app, process| self.seed.hash_one((&origin.input, who, fields.hostname, app, process));
        let key = key_of(fields.app_name, fields.proc_id);
        let text = text(message);
        // `ZeroDivisionError: …` without a header looks like a program's name.
        let nameless = (fields.grammar == Grammar::Headerless).then(|| (key_of(b"", b""), fields.message));
        for (key, text) in [Some((key, text)), nameless].into_iter().flatten() {
            if let Some(held) = self.held.get_mut(&key)
                && held.raw.len() + 1 + text.len() <= join.most
                && let Some(state) = join.continues(held.state, text)
            {
                held.add(text, state, receipt);
                held.due = (Instant::now() + join.within).min(held.last);
                self.bytes += 1 + text.len();
                return if self.bytes > MOST_BYTES { self.due(true) } else { Vec::new() };
            }
        }
        self.bytes += message.raw.len();
        let is_full = self.held.len() >= MOST || self.bytes > MOST_BYTES;
        let mut done = if is_full { self.due(true) } else { Vec::new() };
        done.extend(self.held.remove(&key).map(Held::joined));
        let (due, last) = (Instant::now() + join.within, Instant::now() + LONGEST * join.within);
        self.due = Some(self.due.map_or(due, |first| first.min(due)));
        let held = Held {
            origin: origin.clone(),
            settings: settings.clone(),
            received: message.received.clone(),
            raw: message.raw.to_vec(),
            is_truncated: message.truncated,
            receipts: receipt.cloned().into_iter().collect(),
            state: join.continues(State::Plain, text).unwrap_or_default(),
            due,
            last,
        };
        self.held.insert(key, held);
        done
    }

    /// What has waited long enough, or all.
    pub(super) fn due(&mut self, all: bool) -> Vec<Joined> {
        let now = Instant::now();
        if !all && self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        let mut done: Vec<_> = self.held.extract_if(|_, held| all || held.due <= now).map(|(_, held)| held).collect();
        // In the order in which they came.
        done.sort_by_key(|held| held.last);
        self.due = self.held.values().map(|held| held.due).min();
        self.bytes = self.held.values().map(|held| held.raw.len()).sum();
        done.into_iter().map(Held::joined).collect()
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due
    }
}

impl Held {
    fn add(&mut self, text: &[u8], state: State, receipt: Option<&Arc<Receipt>>) {
        self.raw.push(b'\n');
        self.raw.extend_from_slice(text);
        self.state = state;
        if let Some(receipt) = receipt.filter(|receipt| self.receipts.last().is_none_or(|last| !Arc::ptr_eq(last, receipt))) {
            self.receipts.push(receipt.clone());
        }
    }

    fn joined(self) -> Joined {
        let frame = Frame { truncated: self.is_truncated, ..Frame::of(Span::new(0, self.raw.len())) };
        let message = Told { raw: self.raw, frame, origins: [self.origin], settings: self.settings, received: self.received };
        Joined { message, receipts: self.receipts }
    }
}

impl Join {
    /// The state behind a line that goes on with what is held.
    fn continues(&self, state: State, text: &[u8]) -> Option<State> {
        match &self.by {
            By::Start(start) => (!start.is_match(text)).then_some(state),
            By::Python => goes_on(state, text),
        }
    }
}

/// As `traceback.format_exception` writes it, chained exceptions and groups too.
fn goes_on(state: State, text: &[u8]) -> Option<State> {
    const CHAINED: [&[u8]; 2] = [
        b"During handling of the above exception, another exception occurred:",
        b"The above exception was the direct cause of the following exception:",
    ];
    let is_blank = text.trim_ascii().is_empty();
    match text.first() {
        _ if text.starts_with(b"Traceback (most recent call last):") => Some(State::Traceback),
        _ if text.starts_with(b"Stack (most recent call last):") => Some(State::Plain),
        _ if text.trim_ascii_start().starts_with(b"+ Exception Group Traceback") => Some(State::Plain),
        _ if is_blank => (state != State::Plain).then_some(state),
        Some(b' ' | b'\t') => Some(state),
        _ if state == State::Traceback && is_exception(text) => Some(State::Raised),
        _ if state == State::Raised && CHAINED.iter().any(|chained| text.starts_with(chained)) => Some(State::Raised),
        _ => None,
    }
}

/// `package.Error: text`, or the name alone.
fn is_exception(text: &[u8]) -> bool {
    let end = text.iter().position(|byte| *byte == b':').unwrap_or(text.len());
    let name = text[..end].trim_ascii_end();
    !name.is_empty() && name.iter().all(|byte| !byte.is_ascii() || byte.is_ascii_alphanumeric() || b"_.<>".contains(byte))
}

/// What stands behind the tag.
fn text<'b>(message: &Message<'b>) -> &'b [u8] {
    if message.fields.grammar != Grammar::Headerless {
        return message.fields.message;
    }
    let text = Field::Msg.borrowed(message).unwrap_or_default();
    if text.len() < message.fields.message.len() { text.strip_prefix(b" ").unwrap_or(text) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Batch, Zone};
    use crate::queue::{Bounds, Linger, Queue, WhenFull};
    use crate::route::{Destination, Envelope, Outbox, Pipeline, Route, Tally};
    use crate::template::{Escaping, Format, Template};

    /// The messages that a connection's lines become.
    fn joined(by: By, most: usize, lines: &[&str]) -> Vec<String> {
        let queue = Arc::new(Queue::new(Bounds::new(1 << 20, WhenFull::Block)));
        let format = Format::template(Template::compile("{app-name} {message}\x1e", Escaping::Nothing).expect("a template"));
        let destination =
            Destination { name: "out".into(), place: String::new(), queue, format, address: None, envelope: Envelope::Datagram };
        let route = Route { selector: None, condition: None, to: [0].into(), is_final: false };
        let pipeline = Arc::new(Pipeline::new(vec![route], vec![destination]));
        let mut outbox = Outbox::new(pipeline.clone());
        let join = Arc::new(Join { by, within: Duration::from_secs(3600), most });
        let (settings, received) = (Settings { join: Some(join), ..Settings::default() }, Received::now());
        let origins = [Arc::new(Origin::new("in".into(), None, "here", Zone::Local))];
        for line in lines {
            let frames = [Frame::of(Span::new(0, line.len()))];
            let batch = Batch { arena: line.as_bytes(), frames: &frames, origins: &origins, received: &received };
            pipeline.process(&batch, &settings, &mut outbox, &mut Tally::default());
        }
        assert!(outbox.next_held().is_some());
        outbox.tell_held(true);
        outbox.flush();
        let queue = &pipeline.destinations[0].queue;
        let mut chunks = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        assert!(runtime.block_on(queue.look(&mut chunks, Linger::not_at_all(), usize::MAX)));
        let text: String = chunks.iter().map(|chunk| String::from_utf8_lossy(&chunk.bytes).into_owned()).collect();
        text.split_terminator('\x1e').map(str::to_owned).collect()
    }

    const TRACEBACK: [&str; 11] = [
        "ERROR:root:boom",
        "Traceback (most recent call last):",
        "  File \"a.py\", line 1, in <module>",
        "    1/0",
        "ZeroDivisionError: division by zero",
        "",
        "During handling of the above exception, another exception occurred:",
        "",
        "Traceback (most recent call last):",
        "  File \"a.py\", line 2, in <module>",
        "shop.Stale",
    ];

    #[test]
    fn a_traceback_is_one_message() {
        for prefix in ["<11>", "<11>Nov 21 10:00:00 web1 app[7]: ", "<11>1 - web1 app 7 - - ", "<11>app[7]: ", ""] {
            let mut lines: Vec<_> = TRACEBACK.iter().map(|line| format!("{prefix}{line}")).collect();
            lines.push(format!("{prefix}INFO:root:next"));
            lines.push(format!("{prefix}INFO:root:last"));
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            let messages = joined(By::Python, 4096, &lines);
            assert_eq!(messages.len(), 3, "{prefix}: {messages:#?}");
            assert!(messages[0].ends_with(&TRACEBACK.join("\n")), "{prefix}: {}", messages[0]);
            assert!(messages[1].ends_with("INFO:root:next"), "{prefix}: {}", messages[1]);
        }
    }

    #[test]
    fn programs_do_not_get_into_each_other() {
        let line = |app: &str, text: &str| format!("<11>1 - h {app} 7 - - {text}");
        let lines: Vec<_> = TRACEBACK.iter().flat_map(|text| [line("a", text), line("b", text)]).collect();
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let mut messages = joined(By::Python, 4096, &lines);
        messages.sort();
        assert_eq!(messages, ["a", "b"].map(|app| format!("{app} {}", TRACEBACK.join("\n"))));
    }

    #[test]
    fn a_pattern_says_where_a_message_begins() {
        let start = Regex::new(r"^\d{4}-").expect("a pattern");
        let lines = ["2026-11-21 one", "and more", "", "2026-11-21 two", "2026-11-21 three", "end"];
        let messages = joined(By::Start(start.clone()), 4096, &lines);
        assert_eq!(messages, ["- 2026-11-21 one\nand more\n", "- 2026-11-21 two", "- 2026-11-21 three\nend"]);
        let messages = joined(By::Start(start), 22, &["2026-11-21 one", "more", "and more"]);
        assert_eq!(messages, ["- 2026-11-21 one\nmore", "- and more"], "longer it does not become");
    }
}
