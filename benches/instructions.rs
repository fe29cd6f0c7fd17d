//! The steps of a message's way, one at a time, for counting their instructions under callgrind: `benches/instructions`
//! runs this and compares. Called as `instructions STEP ROUNDS`; prints how many messages that was.

use std::hint::black_box;
use std::sync::Arc;

use penstock::frame::{Event, Framer, Framing};
use penstock::message::{Batch, Facility, Frame, Message, Origin, Received, Span, Zone};
use penstock::parse::{Options, parse};
use penstock::queue::{Bounds, Chunk, Queue, WhenFull};
use penstock::route::{Condition, Destination, Envelope, Outbox, Pipeline, Route, Selector, Settings, Tally};
use penstock::template::{Escaping, Format, Scratch, Template};
use penstock::translate::{Mapping, Options as Translation, from_object, from_pickle};

/// Messages in a batch.
const COUNT: usize = 256;

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let [_, step, rounds, ..] = &arguments[..] else {
        // `cargo bench` and `cargo test --benches` come here without a step.
        return println!("steps: {}", STEPS.map(|(name, _)| name).join(" "));
    };
    let Some((_, run)) = STEPS.iter().find(|(name, _)| name == step) else {
        return println!("steps: {}", STEPS.map(|(name, _)| name).join(" "));
    };
    let rounds = rounds.parse().unwrap_or(1);
    run(rounds);
    println!("{}", rounds * COUNT);
}

type Step = (&'static str, fn(usize));

const STEPS: [Step; 15] = [
    ("frame-newline", |rounds| framing(rounds, Kind::Rfc5424, false)),
    ("frame-octet-counted", |rounds| framing(rounds, Kind::Rfc5424, true)),
    ("parse-rfc5424", |rounds| parsing(rounds, Kind::Rfc5424)),
    ("parse-rfc3164", |rounds| parsing(rounds, Kind::Rfc3164)),
    ("parse-python", |rounds| parsing(rounds, Kind::Python)),
    ("route-1", |rounds| routing(rounds, 1)),
    ("route-20", |rounds| routing(rounds, 20)),
    ("route-200", |rounds| routing(rounds, 200)),
    ("render-file", |rounds| rendering(rounds, "file", Kind::Rfc3164)),
    ("render-rfc5424", |rounds| rendering(rounds, "rfc5424", Kind::Rfc5424)),
    ("render-json", |rounds| rendering(rounds, "json", Kind::Rfc5424)),
    ("translate-object", |rounds| {
        translating(rounds, &object, |bytes, options, arena| {
            let object = std::str::from_utf8(bytes).expect("UTF-8");
            from_object(object, &Mapping::default(), options, arena).expect("an object").frame
        })
    }),
    ("translate-pickle", |rounds| translating(rounds, &pickle, |bytes, options, arena| from_pickle(bytes, options, arena).frame)),
    ("batch-rfc5424", |rounds| batches(rounds, Kind::Rfc5424)),
    ("batch-python", |rounds| batches(rounds, Kind::Python)),
];

#[derive(Clone, Copy)]
enum Kind {
    Python,
    Rfc3164,
    Rfc5424,
}

/// About 256 bytes each, from 50 hosts and 8 programs.
fn messages(kind: Kind) -> Vec<Vec<u8>> {
    let text = "a message of ordinary length, as services write them all day long: request handled, user found";
    let one = |i: usize| {
        let (host, program) = (i % 50, i % 8);
        match kind {
            Kind::Python => format!("<14>program{program}[{i}]: INFO {text} {text} seq={i}"),
            Kind::Rfc3164 => format!("<34>Oct 11 22:14:15 host{host} program{program}[{i}]: {text} {text} seq={i}"),
            Kind::Rfc5424 => format!(
                "<165>1 2003-10-11T22:14:15.003Z host{host} program{program} {i} ID47 [exampleSDID@32473 iut=\"3\" eventSource=\"Application\"] {text} seq={i}"
            ),
        }
    };
    (0..COUNT).map(|i| one(i).into_bytes()).collect()
}

/// The messages back to back, and where each is.
fn arena(kind: Kind) -> (Vec<u8>, Vec<Frame>) {
    let (mut arena, mut frames) = (Vec::new(), Vec::new());
    for message in messages(kind) {
        let start = arena.len();
        arena.extend_from_slice(&message);
        frames.push(Frame::of(Span::new(start, arena.len())));
    }
    (arena, frames)
}

fn origin() -> Arc<Origin> {
    Arc::new(Origin::new("tcp".into(), "192.0.2.7".parse().ok(), "here", Zone::Local))
}

/// Only what happens in functions of this name is counted.
#[inline(never)]
fn measured<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

fn framing(rounds: usize, kind: Kind, counted: bool) {
    let framed = |message: Vec<u8>| match counted {
        true => [format!("{} ", message.len()).into_bytes(), message].concat(),
        false => [message, b"\n".to_vec()].concat(),
    };
    let stream = messages(kind).into_iter().map(framed).collect::<Vec<_>>().concat();
    let mut frames = Vec::with_capacity(COUNT);
    let mut framer = Framer::new(Framing::Auto, 64 << 10);
    for _ in 0..rounds {
        measured(|| framer.split(black_box(&stream), Event::Pause, &mut frames));
        assert_eq!(frames.len(), COUNT);
        frames.clear();
    }
}

fn parsing(rounds: usize, kind: Kind) {
    let messages = messages(kind);
    for _ in 0..rounds {
        measured(|| {
            for message in &messages {
                black_box(parse(black_box(message), &Options::default()));
            }
        });
    }
}

fn with_messages(kind: Kind, mut work: impl FnMut(&[Message<'_>])) {
    let (raws, origin, received) = (messages(kind), origin(), Received::now());
    let view = |raw| Message {
        raw,
        fields: parse(raw, &Options::default()),
        origin: &origin,
        received: &received,
        truncated: false,
        json: b"",
    };
    let views: Vec<_> = raws.iter().map(|raw| view(raw.as_slice())).collect();
    work(&views);
}

/// What so many routes add to parsing when none of them takes a message.
fn routing(rounds: usize, count: usize) {
    let condition = |i: usize| match i % 4 {
        0 => None,
        1 => Some(format!("app-name == \"other{i}\"")),
        2 => Some(format!("message contains \"missing{i}\"")),
        _ => Some(format!("message matches \"missing{i} [0-9]+ times\"")),
    };
    let route = |i: usize| Route {
        selector: Selector::compile("mail,news.err").ok().filter(|_| i.is_multiple_of(4)),
        condition: condition(i).map(|text| Condition::compile(&text).expect("a condition")),
        to: Box::new([]),
        is_final: false,
    };
    let pipeline = Arc::new(Pipeline::new((0..count).map(route).collect(), Vec::new()));
    let (arena, frames) = arena(Kind::Rfc5424);
    let (mut outbox, received, origins) = (Outbox::new(pipeline.clone()), Received::now(), [origin()]);
    let batch = Batch { arena: &arena, frames: &frames, origins: &origins, received: &received };
    for _ in 0..rounds {
        measured(|| pipeline.process(black_box(&batch), &Settings::default(), &mut outbox, &mut Tally::default()));
    }
}

/// As a logger of JSON sends it.
fn object(i: usize) -> Vec<u8> {
    let head = r#""timestamp":"2026-11-21T10:00:00.123456Z","level":"info","host":"web1","logger":"shop.orders","pid":42"#;
    format!(r#"{{{head},"message":"the order was taken, paid and sent","user":{i},"path":"/orders/{i}","ms":12.5}}"#).into_bytes()
}

/// As `SocketHandler` sends it: protocol 1, every text with a number of its own.
fn pickle(i: usize) -> Vec<u8> {
    let mut out = b"}q\x00(".to_vec();
    let text = |text: &str, number: u8, out: &mut Vec<u8>| {
        out.push(b'X');
        out.extend_from_slice(&(text.len() as u32).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(&[b'q', number]);
    };
    let path = format!("/orders/{i}");
    let attributes = [
        ("name", "shop.orders"),
        ("msg", "the order was taken, paid and sent"),
        ("levelname", "INFO"),
        ("pathname", "/srv/shop/orders.py"),
        ("filename", "orders.py"),
        ("module", "orders"),
        ("funcName", "take"),
        ("threadName", "MainThread"),
        ("processName", "MainProcess"),
        ("path", &path),
    ];
    for (at, (name, value)) in attributes.iter().enumerate() {
        text(name, 2 * at as u8 + 1, &mut out);
        text(value, 2 * at as u8 + 2, &mut out);
    }
    for (name, value) in
        [("levelno", &b"K\x14"[..]), ("created", b"GA\xda\xc0\x33\x08\x10\x00\x00"), ("process", b"K*"), ("exc_text", b"N")]
    {
        text(name, 100, &mut out);
        out.extend_from_slice(value);
    }
    out.extend_from_slice(b"u.");
    out
}

fn translating(rounds: usize, make: &dyn Fn(usize) -> Vec<u8>, one: fn(&[u8], &Translation, &mut Vec<u8>) -> Frame) {
    let records: Vec<_> = (0..COUNT).map(make).collect();
    let options = Translation { facility: Facility(1), zone: Zone::Local, max_message: 64 << 10 };
    let mut arena = Vec::with_capacity(1 << 20);
    for _ in 0..rounds {
        arena.clear();
        measured(|| {
            for record in &records {
                black_box(one(record, &options, &mut arena));
            }
        });
    }
}

fn rendering(rounds: usize, format: &str, kind: Kind) {
    let format = Format::builtin(format, Escaping::Line).expect("a built-in format");
    with_messages(kind, |messages| {
        let (mut out, mut scratch) = (Vec::with_capacity(1 << 20), Scratch::default());
        for _ in 0..rounds {
            out.clear();
            measured(|| messages.iter().for_each(|message| format.render(message, &mut scratch, &mut out)));
        }
    });
}

/// Parse, route, render to a path and hand over: all that a reader thread does with what it has read.
fn batches(rounds: usize, kind: Kind) {
    let (arena, frames) = arena(kind);
    let queue = Arc::new(Queue::new(Bounds::new(usize::MAX, WhenFull::Block)));
    let path = Template::compile("/var/log/{hostname}/{app-name}.log", Escaping::Path).expect("a template");
    let destination = Destination {
        name: "files".into(),
        place: String::new(),
        queue: queue.clone(),
        format: Format::builtin("rfc5424", Escaping::Line).expect("a built-in format"),
        address: Some(path),
        envelope: Envelope::Line,
    };
    let routes = vec![Route { selector: None, condition: None, to: Box::new([0]), is_final: false }];
    let pipeline = Arc::new(Pipeline::new(routes, vec![destination]));
    let (mut outbox, received, origins) = (Outbox::new(pipeline.clone()), Received::now(), [origin()]);
    let batch = Batch { arena: &arena, frames: &frames, origins: &origins, received: &received };
    for _ in 0..rounds {
        measured(|| {
            pipeline.process(black_box(&batch), &Settings::default(), &mut outbox, &mut Tally::default());
            outbox.flush();
        });
        settle(&queue);
    }
}

fn settle(queue: &Queue) {
    let mut lent: Vec<Chunk> = Vec::new();
    queue.lend_now(&mut lent, usize::MAX);
    queue.acknowledge(&mut lent);
}
