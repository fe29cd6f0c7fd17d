//! From frames to records: parse, route, render.

use std::sync::Arc;

use super::index::Index;
use super::join::Joined;
use super::repeats::Told;
use super::{Condition, Join, Outbox, Repetitions, Selector};
use crate::message::{Batch, Frame, Grammar, Message, Origin, Span, Timestamp};
use crate::parse::{self, parse};
use crate::queue::{Chunk, Queue};
use crate::template::{Format, Scratch, Template, Workspace};

/// One `[[route]]`; without selector and condition it takes everything.
#[derive(Clone, Debug)]
pub struct Route {
    pub selector: Option<Selector>,
    pub condition: Option<Condition>,
    /// Indices into [`Pipeline::destinations`].
    pub to: Box<[usize]>,
    /// No later route sees what this one took.
    pub is_final: bool,
}

/// What stands around a record's body on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// The datagram is the frame.
    Datagram,
    /// A line feed behind it (RFC 6587, section 3.4.2).
    Line,
    /// Its length before it (RFC 6587, section 3.4.1; RFC 5425, section 4.3).
    OctetCounted,
}

impl Envelope {
    const ALL: [Self; 3] = [Self::Datagram, Self::Line, Self::OctetCounted];

    /// The envelope that a chunk of this form has.
    pub fn of_form(form: u8) -> Option<Self> {
        Self::ALL.get(usize::from(form)).copied()
    }

    /// What stands in it.
    pub fn opened(self, body: &[u8]) -> &[u8] {
        match self {
            Self::Datagram => body,
            Self::Line => body.strip_suffix(b"\n").unwrap_or(body),
            Self::OctetCounted => &body[memchr::memchr(b' ', body).map_or(0, |space| space + 1)..],
        }
    }

    /// Puts a body into it, behind what is in `out`.
    pub fn close(self, body: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        match self {
            Self::Datagram => out.extend_from_slice(body),
            Self::Line => {
                for (i, line) in body.split(|byte| *byte == b'\n').enumerate() {
                    // As every control byte of a line is written.
                    out.extend_from_slice(if i > 0 { b"#012" } else { b"" });
                    out.extend_from_slice(line);
                }
                out.push(b'\n');
            }
            Self::OctetCounted => {
                out.extend_from_slice(body);
                prepend_length(start, 0, out);
            }
        }
    }
}

/// An output as the router knows it.
#[derive(Debug)]
pub struct Destination {
    pub name: Arc<str>,
    /// Where everything goes that has no address of its own.
    pub place: String,
    pub queue: Arc<Queue>,
    pub format: Format,
    /// The record's address, where the output has more than one place: the path of a file.
    pub address: Option<Template>,
    pub envelope: Envelope,
}

#[derive(Debug, Default)]
pub struct Pipeline {
    routes: Vec<Route>,
    index: Index,
    pub(super) destinations: Vec<Destination>,
}

/// What an input says about its messages.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub parse: parse::Options,
    /// The peer's name stands for the host, whatever the message claims.
    pub hostname_from_peer: bool,
    /// The time of receipt stands for the timestamp, whatever a message claims.
    pub timestamp_of_receipt: bool,
    pub repetitions: Repetitions,
    /// Lines that belong together become one message.
    pub join: Option<Arc<Join>>,
}

/// What a batch adds to its input's counters.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub messages: u64,
    pub bytes: u64,
    pub grammars: [u64; Grammar::ALL.len()],
    pub truncated: u64,
    pub unrouted: u64,
    /// Counted instead of kept.
    pub repeated: u64,
}

impl Pipeline {
    pub fn new(routes: Vec<Route>, destinations: Vec<Destination>) -> Self {
        Self { index: Index::new(&routes), routes, destinations }
    }

    /// Every route that matches takes the message, in their order; an output gets it once however many routes name it.
    pub fn process(&self, batch: &Batch<'_>, settings: &Settings, outbox: &mut Outbox, tally: &mut Tally) {
        for frame in batch.frames {
            let message = message(batch, frame, settings);
            tally.count(&message);
            let origin = &batch.origins[frame.origin as usize];
            // What came as an object is whole.
            if settings.join.is_some() && message.json.is_empty() {
                for joined in outbox.join(&message, origin, settings) {
                    self.tell_joined(joined, outbox, tally);
                }
            } else {
                self.keep(&message, origin, settings, outbox, tally);
            }
        }
    }

    /// Routes a message, unless it is counted as the repetition of another.
    fn keep(&self, message: &Message<'_>, origin: &Arc<Origin>, settings: &Settings, outbox: &mut Outbox, tally: &mut Tally) {
        if settings.repetitions != Repetitions::Keep {
            if outbox.repeats.takes(message, origin) {
                tally.repeated += 1;
                return;
            }
            for told in outbox.repeats.replace(message, origin, settings) {
                self.tell(&told, outbox);
            }
        }
        tally.unrouted += u64::from(!self.route(message, outbox));
    }

    /// A line of our own about messages that were counted when they came.
    pub(super) fn tell(&self, told: &Told, outbox: &mut Outbox) {
        let batch = told.batch();
        for frame in batch.frames {
            self.route(&message(&batch, frame, &told.settings), outbox);
        }
    }

    /// Messages that were counted when they came, as one.
    pub(super) fn tell_joined(&self, joined: Joined, outbox: &mut Outbox, tally: &mut Tally) {
        let Joined { message: told, receipts } = joined;
        let receipts = outbox.replace_receipts(receipts);
        let batch = told.batch();
        for frame in batch.frames {
            self.keep(&message(&batch, frame, &told.settings), &batch.origins[0], &told.settings, outbox, tally);
        }
        outbox.replace_receipts(receipts);
    }

    /// False: no route takes it.
    fn route(&self, message: &Message<'_>, outbox: &mut Outbox) -> bool {
        outbox.next_message();
        self.index.look_up(message, &mut outbox.candidates);
        let (mut taken, mut from) = (false, 0);
        while let Some(at) = outbox.candidates.next(from) {
            let route = &self.routes[at];
            from = at + 1;
            if !route.takes(message, &mut outbox.workspace) {
                continue;
            }
            taken = true;
            for to in route.to.iter().copied() {
                outbox.deliver(to, &self.destinations[to], message);
            }
            if route.is_final {
                break;
            }
        }
        taken
    }
}

/// The view of one frame of a batch.
pub(super) fn message<'b>(batch: &Batch<'b>, frame: &Frame, settings: &Settings) -> Message<'b> {
    let raw = frame.span.of(batch.arena);
    let mut fields = parse(raw, &settings.parse);
    if settings.hostname_from_peer {
        fields.hostname = b"";
    }
    if settings.timestamp_of_receipt {
        fields.timestamp = Timestamp::Absent;
    }
    let origin = &batch.origins[frame.origin as usize];
    let json = frame.json.of(batch.arena);
    Message { raw, fields, origin, received: batch.received, truncated: frame.truncated, json }
}

impl Route {
    pub fn takes(&self, message: &Message<'_>, workspace: &mut Workspace) -> bool {
        self.selector.as_ref().is_none_or(|selector| selector.takes(message.fields.priority))
            && self.condition.as_ref().is_none_or(|condition| condition.holds(message, workspace))
    }
}

impl Destination {
    /// Appends the message's record to the chunk.
    pub fn render(&self, message: &Message<'_>, scratch: &mut Scratch, chunk: &mut Chunk) {
        let address = self.address(message, scratch, chunk);
        let body = self.body(message, scratch, &mut chunk.bytes);
        chunk.form = self.envelope as u8;
        chunk.commit(address, body, message.fields.priority.severity().0);
    }

    /// The address that the record before has is not said again.
    fn address(&self, message: &Message<'_>, scratch: &mut Scratch, chunk: &mut Chunk) -> Span {
        let start = chunk.bytes.len();
        let Some(template) = &self.address else {
            return Span::new(start, start);
        };
        template.render(message, scratch, &mut chunk.bytes);
        let address = Span::new(start, chunk.bytes.len());
        match chunk.records.last() {
            Some(last) if last.address.of(&chunk.bytes) == address.of(&chunk.bytes) => {
                let last = last.address;
                chunk.bytes.truncate(start);
                last
            }
            _ => address,
        }
    }

    fn body(&self, message: &Message<'_>, scratch: &mut Scratch, out: &mut Vec<u8>) -> Span {
        /// `999 `: most messages have three digits of length, and those need no move.
        const GUESS: usize = 4;
        let start = out.len();
        match self.envelope {
            Envelope::Datagram => self.format.render(message, scratch, out),
            Envelope::Line => {
                self.format.render(message, scratch, out);
                out.push(b'\n');
            }
            Envelope::OctetCounted => {
                out.extend_from_slice(&[b' '; GUESS]);
                self.format.render(message, scratch, out);
                prepend_length(start, GUESS, out);
            }
        }
        Span::new(start, out.len())
    }
}

/// Writes `MSG-LEN SP` before the body that begins `gap` bytes after `start`.
fn prepend_length(start: usize, gap: usize, out: &mut Vec<u8>) {
    let length = out.len() - start - gap;
    let digits = length.checked_ilog10().unwrap_or(0) as usize + 1;
    let end = out.len();
    if digits + 1 > gap {
        out.resize(end + digits + 1 - gap, 0);
    }
    if digits + 1 != gap {
        out.copy_within(start + gap..end, start + digits + 1);
        out.truncate(start + digits + 1 + length);
    }
    let mut left = length;
    for at in (start..start + digits).rev() {
        out[at] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    out[start + digits] = b' ';
}

impl Tally {
    fn count(&mut self, message: &Message<'_>) {
        self.messages += 1;
        self.bytes += message.raw.len() as u64;
        self.grammars[message.fields.grammar as usize] += 1;
        self.truncated += u64::from(message.truncated);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Received, Zone};

    use crate::queue::{Bounds, Linger, WhenFull};
    use crate::template::Escaping;

    fn destination(name: &str, envelope: Envelope) -> Destination {
        let queue = Arc::new(Queue::new(Bounds::new(1 << 20, WhenFull::Block)));
        let format = Format::template(Template::compile("{message}", Escaping::Nothing).expect("a template"));
        Destination { name: name.into(), place: String::new(), queue, format, address: None, envelope }
    }

    fn route(selector: Option<&str>, condition: Option<&str>, to: &[usize], is_final: bool) -> Route {
        let selector = selector.map(|text| Selector::compile(text).expect(text));
        let condition = condition.map(|text| Condition::compile(text).expect(text));
        Route { selector, condition, to: to.into(), is_final }
    }

    async fn processed(pipeline: Pipeline, raws: &[&str]) -> (Vec<String>, Tally) {
        let arena = raws.concat().into_bytes();
        let mut at = 0;
        let frames: Vec<_> = raws
            .iter()
            .map(|raw| {
                at += raw.len();
                Frame::of(Span::new(at - raw.len(), at))
            })
            .collect();
        let origins = [Arc::new(Origin::new("in".into(), None, "here", Zone::Local))];
        let batch = Batch { arena: &arena, frames: &frames, origins: &origins, received: &Received::now() };
        let pipeline = Arc::new(pipeline);
        let (mut outbox, mut tally) = (Outbox::new(pipeline.clone()), Tally::default());
        pipeline.process(&batch, &Settings::default(), &mut outbox, &mut tally);
        outbox.flush();
        let mut texts = Vec::new();
        for destination in &pipeline.destinations {
            destination.queue.close();
            let mut chunks = Vec::new();
            while destination.queue.look(&mut chunks, Linger::not_at_all(), usize::MAX).await {}
            texts.push(chunks.iter().map(|chunk| String::from_utf8_lossy(&chunk.bytes).into_owned()).collect());
        }
        (texts, tally)
    }

    #[tokio::test]
    async fn every_route_that_matches_takes_the_message_until_a_final_one() {
        let pipeline = Pipeline::new(
            vec![
                route(Some("mail.*"), None, &[0], false),
                route(None, Some("app-name == \"app\""), &[1], true),
                route(None, None, &[0, 2], false),
            ],
            ["mail", "app", "rest"].map(|name| destination(name, Envelope::Line)).into(),
        );
        let (texts, tally) = processed(pipeline, &["<22>m", "<14>app: a", "<14>r", "<22>app: both"]).await;
        assert_eq!(texts, ["m\nr\napp: both\n", "app: a\napp: both\n", "m\nr\n"]);
        assert_eq!((tally.messages, tally.unrouted), (4, 0));
    }

    #[tokio::test]
    async fn what_no_route_takes_is_counted() {
        let pipeline = Pipeline::new(vec![route(Some("mail.*"), None, &[], false)], Vec::new());
        let (_, tally) = processed(pipeline, &["<14>x", "<22>x", "y"]).await;
        assert_eq!((tally.unrouted, tally.grammars), (2, [0, 0, 2, 1]));
    }

    #[tokio::test]
    async fn lengths_stand_before_octet_counted_bodies() {
        for length in [0, 1, 9, 10, 99, 100, 999, 1000, 70_000] {
            let pipeline = Pipeline::new(vec![route(None, None, &[0], false)], vec![destination("out", Envelope::OctetCounted)]);
            let text = "x".repeat(length);
            let (texts, _) = processed(pipeline, &[&format!("<14>{text}"), "<14>y"]).await;
            assert_eq!(texts[0], format!("{length} {text}1 y"));
        }
    }
}
