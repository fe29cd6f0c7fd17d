//! `last message repeated n times`: on request the repetitions of a message are counted instead of kept.
//!
//! Compared are a sender's messages, each with the one before: everything but the timestamp. The first is kept; then one
//! line tells how many came, when another message comes or [`LONGEST`] has passed, with the header of the last of them. One
//! repetition alone is kept as it is.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Settings;
use crate::message::{Batch, Fields, Frame, Message, Origin, Received, Span};
use crate::template::Field;

/// So long nothing is said of a repetition at most.
const LONGEST: Duration = Duration::from_secs(30);
/// Of so many senders the last message is known; when there are more all are told of, and it begins anew.
const MOST: usize = 4096;
/// A longer message is not remembered.
const LONGEST_RAW: usize = 8 << 10;
/// Of the text so much is said.
const QUOTED: usize = 800;

/// What becomes of repetitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repetitions {
    #[default]
    Keep,
    /// `last message repeated 3 times`
    Count,
    /// `message repeated 3 times: [the text]`
    CountWithText,
}

/// The last messages of a thread's senders, by the hash of what tells them apart.
#[derive(Default)]
pub(super) struct Repeats {
    last: HashMap<u64, Last>,
    seed: RandomState,
    /// When the first of those that are held is to be told of.
    due: Option<Instant>,
}

struct Last {
    origin: Arc<Origin>,
    settings: Settings,
    /// The message as it came last.
    raw: Vec<u8>,
    /// The object that it was made of.
    json: Vec<u8>,
    received: Received,
    is_truncated: bool,
    repeated: u64,
    due: Instant,
}

/// A message that tells of repetitions.
pub(super) struct Told {
    pub raw: Vec<u8>,
    pub frame: Frame,
    pub origins: [Arc<Origin>; 1],
    pub settings: Settings,
    pub received: Received,
}

impl Told {
    pub(super) fn batch(&self) -> Batch<'_> {
        Batch { arena: &self.raw, frames: std::slice::from_ref(&self.frame), origins: &self.origins, received: &self.received }
    }
}

impl Repeats {
    /// True: the message repeats the one before; it is counted, and nothing else is to be done with it.
    pub(super) fn takes(&mut self, message: &Message<'_>, origin: &Arc<Origin>) -> bool {
        let Some(last) = self.last.get_mut(&self.seed.hash_one(Key::of(origin))) else { return false };
        if !last.is_same(message) {
            return false;
        }
        if last.repeated == 0 {
            last.due = Instant::now() + LONGEST;
            self.due = Some(self.due.map_or(last.due, |due| due.min(last.due)));
        }
        last.repeated += 1;
        last.remember(message);
        true
    }

    /// Remembers a message that is another than the one before; what is to be told of that one, or of all.
    pub(super) fn replace(&mut self, message: &Message<'_>, origin: &Arc<Origin>, settings: &Settings) -> Vec<Told> {
        let key = self.seed.hash_one(Key::of(origin));
        if message.raw.len() + message.json.len() > LONGEST_RAW {
            return Vec::from_iter(self.last.remove(&key).and_then(|mut last| last.told()));
        }
        if let Some(last) = self.last.get_mut(&key) {
            let told = last.told();
            last.remember(message);
            return Vec::from_iter(told);
        }
        let told = if self.last.len() < MOST { Vec::new() } else { self.due(true) };
        let mut last = Last {
            origin: origin.clone(),
            settings: settings.clone(),
            raw: Vec::new(),
            json: Vec::new(),
            received: message.received.clone(),
            is_truncated: false,
            repeated: 0,
            due: Instant::now(),
        };
        last.remember(message);
        self.last.insert(key, last);
        told
    }

    /// What is to be told of now, or of all.
    pub(super) fn due(&mut self, all: bool) -> Vec<Told> {
        let now = Instant::now();
        if !all && self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        let told = self.last.values_mut().filter(|last| last.repeated > 0 && (all || last.due <= now)).filter_map(Last::told);
        let told = told.collect();
        if all {
            self.last.clear();
        }
        self.due = self.last.values().filter(|last| last.repeated > 0).map(|last| last.due).min();
        told
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due
    }
}

/// A sender, however often what is known of it is put together anew.
#[derive(Hash)]
struct Key<'o>(&'o str, &'o str, Option<(u32, &'o str)>);

impl<'o> Key<'o> {
    fn of(origin: &'o Origin) -> Self {
        Self(&origin.input, &origin.peer_text, origin.sender.as_ref().map(|sender| (sender.pid, &*sender.file)))
    }
}

impl Last {
    fn remember(&mut self, message: &Message<'_>) {
        self.raw.clear();
        self.raw.extend_from_slice(message.raw);
        self.json.clear();
        self.json.extend_from_slice(message.json);
        (self.received, self.is_truncated) = (message.received.clone(), message.truncated);
    }

    fn is_same(&self, message: &Message<'_>) -> bool {
        // Most differ here already.
        let length = message.fields.message.len();
        if self.raw.len() < length || self.raw[self.raw.len() - length..] != *message.fields.message {
            return false;
        }
        let (before, now) = (self.message().fields, message.fields);
        Fields { timestamp: now.timestamp, ..before } == now
    }

    fn message(&self) -> Message<'_> {
        let frame = Frame { truncated: self.is_truncated, ..Frame::of(Span::new(0, self.raw.len())) };
        let origins = std::slice::from_ref(&self.origin);
        let batch = Batch { arena: &self.raw, frames: &[], origins, received: &self.received };
        super::pipeline::message(&batch, &frame, &self.settings)
    }

    /// What is said of the repetitions since the last time.
    fn told(&mut self) -> Option<Told> {
        let count = std::mem::take(&mut self.repeated);
        let mut raw = self.raw.clone();
        if count == 0 {
            return None;
        }
        if count > 1 {
            // Without the program's name, wherever it stands, and with the blank before it.
            let text = Field::Msg.borrowed(&self.message()).unwrap_or_default();
            raw.truncate(self.raw.len() - text.len());
            if text.first() == Some(&b' ') {
                raw.push(b' ');
            }
            match self.settings.repetitions {
                Repetitions::Keep | Repetitions::Count => {
                    raw.extend_from_slice(format!("last message repeated {count} times").as_bytes());
                }
                Repetitions::CountWithText => {
                    raw.extend_from_slice(format!("message repeated {count} times: [").as_bytes());
                    raw.extend_from_slice(&text[..text.len().min(QUOTED)]);
                    raw.push(b']');
                }
            }
        }
        let frame = Frame::of(Span::new(0, raw.len()));
        if count == 1 {
            raw.extend_from_slice(&self.json);
        }
        let json = Span::new(frame.span.len(), raw.len());
        let frame = Frame { truncated: self.is_truncated, json, ..frame };
        let origins = [self.origin.clone()];
        Some(Told { raw, frame, origins, settings: self.settings.clone(), received: self.received.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Zone;
    use crate::parse::parse;
    use crate::queue::{Bounds, Linger, Queue, WhenFull};
    use crate::route::{Destination, Envelope, Outbox, Pipeline, Route, Tally};
    use crate::template::{Escaping, Format, Template};

    fn pipeline() -> Arc<Pipeline> {
        let queue = Arc::new(Queue::new(Bounds::new(1 << 20, WhenFull::Block)));
        let format = Format::template(Template::compile("{hostname} {syslogtag}{msg}", Escaping::Nothing).expect("a template"));
        let destination =
            Destination { name: "out".into(), place: String::new(), queue, format, address: None, envelope: Envelope::Line };
        let route = Route { selector: None, condition: None, to: [0].into(), is_final: false };
        Arc::new(Pipeline::new(vec![route], vec![destination]))
    }

    /// The lines that messages of senders become: `(sender, message)`.
    fn lines(repetitions: Repetitions, messages: &[(usize, &str)]) -> Vec<String> {
        let pipeline = pipeline();
        let mut outbox = Outbox::new(pipeline.clone());
        let origins =
            ["10.0.0.1", "10.0.0.2"].map(|peer| Arc::new(Origin::new("in".into(), peer.parse().ok(), "here", Zone::Local)));
        let (settings, received) = (Settings { repetitions, ..Settings::default() }, Received::now());
        for (origin, text) in messages {
            let frame = Frame { origin: *origin as u32, ..Frame::of(Span::new(0, text.len())) };
            let batch = Batch { arena: text.as_bytes(), frames: &[frame], origins: &origins, received: &received };
            pipeline.process(&batch, &settings, &mut outbox, &mut Tally::default());
        }
        outbox.tell_held(true);
        outbox.flush();
        let queue = &pipeline.destinations[0].queue;
        let mut chunks = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        assert!(runtime.block_on(queue.look(&mut chunks, Linger::not_at_all(), usize::MAX)));
        let texts = chunks.iter().map(|chunk| String::from_utf8_lossy(&chunk.bytes).into_owned());
        texts.collect::<String>().lines().map(str::to_owned).collect()
    }

    #[test]
    fn repetitions_are_counted_for_each_sender() {
        let messages = [
            (0, "<13>Nov 21 10:14:15 web1 app[1]: same"),
            (0, "<13>Nov 21 10:14:16 web1 app[1]: same"),
            (1, "<13>Nov 21 10:14:16 web2 app[1]: same"),
            (0, "<13>Nov 21 10:14:17 web1 app[1]: same"),
            (0, "<13>Nov 21 10:14:18 web1 app[1]: other"),
            (0, "<13>Nov 21 10:14:19 web1 app[1]: other"),
            (0, "<11>Nov 21 10:14:20 web1 app[1]: other"),
            (1, "<13>1 - web2 app 1 - - same"),
            (1, "<13>1 2026-11-21T10:14:16Z web2 app 1 - - same"),
            (1, "<13>1 - web2 app 1 - - same"),
        ];
        let common = ["web1 app[1]: same", "web2 app[1]: same"];
        let rest = ["web1 app[1]: other", "web1 app[1]: other", "web1 app[1]: other", "web2 app[1]same"];
        let count = lines(Repetitions::Count, &messages);
        let told = ["web1 app[1]: last message repeated 2 times"];
        assert_eq!(count, [&common[..], &told, &rest, &["web2 app[1]last message repeated 2 times"]].concat());
        let with_text = lines(Repetitions::CountWithText, &messages);
        let told = ["web1 app[1]: message repeated 2 times: [ same]"];
        assert_eq!(with_text, [&common[..], &told, &rest, &["web2 app[1]message repeated 2 times: [same]"]].concat());
        assert_eq!(lines(Repetitions::Keep, &messages).len(), messages.len());
    }

    /// Silence is no reason to keep a repetition to oneself; and what comes after it is counted anew.
    #[test]
    fn what_is_due_is_told_of_once() {
        let mut repeats = Repeats::default();
        let origin = Arc::new(Origin::new("in".into(), None, "here", Zone::Local));
        let settings = Settings { repetitions: Repetitions::Count, ..Settings::default() };
        let received = Received::now();
        let raw = b"<13>app: same";
        let fields = parse(raw, &settings.parse);
        let message = Message { raw, fields, origin: &origin, received: &received, truncated: false, json: b"" };
        assert!(!repeats.takes(&message, &origin) && repeats.replace(&message, &origin, &settings).is_empty());
        for round in 0..2 {
            assert!((0..3).all(|_| repeats.takes(&message, &origin)), "{round}");
            assert!(repeats.next_due().is_some() && repeats.due(false).is_empty(), "not yet");
            let now = Instant::now();
            repeats.due = Some(now);
            repeats.last.values_mut().for_each(|last| last.due = now);
            let told: Vec<_> = repeats.due(false).iter().map(|told| String::from_utf8_lossy(&told.raw).into_owned()).collect();
            assert_eq!((told, repeats.next_due()), (vec!["<13>app: last message repeated 3 times".to_owned()], None));
        }
    }
}
