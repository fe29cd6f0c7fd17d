//! Nothing is allocated on the way of a message once everything is warm: counted, not believed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use penstock::frame::{Event, Framer, Framing};
use penstock::message::{Batch, Frame, Origin, Received, Zone};
use penstock::queue::{Bounds, Chunk, Queue, WhenFull};
use penstock::route::{Condition, Destination, Envelope, Outbox, Pipeline, Route, Selector, Settings, Tally};
use penstock::template::{Escaping, Format, Template};

struct Counting;

/// Of the server's threads.
static SERVER: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The thread belongs to a test, not to the server that runs in another one.
    static OF_TEST: Cell<bool> = const { Cell::new(false) };
    /// Of this thread.
    static OWN: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    OWN.set(OWN.get() + 1);
    if !OF_TEST.get() {
        SERVER.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Messages in each of the forms that are sent, no two with the same stamp.
fn messages(count: usize) -> Vec<String> {
    let stamp = |i: usize| format!("2026-11-20T{:02}:{:02}:{:02}.{:03}Z", i / 3600 % 24, i / 60 % 60, i % 60, i % 1000);
    let one = |i: usize| match i % 6 {
        0 => format!("<165>1 {} host{} app{} {i} ID47 [ex@32473 iut=\"3\" class=\"a\\\"b\"] text {i}", stamp(i), i % 10, i % 3),
        1 => format!("<34>Oct 11 22:{:02}:{:02} host{} su[{i}]: 'su root' failed", i / 60 % 60, i % 60, i % 10),
        2 => format!("<14>python-app[{i}]: INFO request {i} handled"),
        3 => format!("<190>{i}: *Jan  8 19:{:02}:{:02}.295 UTC: %LINEPROTO-5-UPDOWN: Line {i}", i / 60 % 60, i % 60),
        4 => format!("no syslog at all \u{1b}[31m {i}"),
        _ => format!("<13>1 {} - app - - - \u{feff}größer {i}", stamp(i)),
    };
    (0..count).map(one).collect()
}

fn destination(format: Format, envelope: Envelope, address: Option<&str>) -> Destination {
    let queue = Arc::new(Queue::new(Bounds::new(usize::MAX, WhenFull::Block)));
    let address = address.map(|text| Template::compile(text, Escaping::Path).expect(text));
    Destination { name: "out".into(), place: String::new(), queue, format, address, envelope }
}

fn destinations() -> Vec<Destination> {
    let template = |text| Format::template(Template::compile(text, Escaping::Line).expect(text));
    let builtin = |name| Format::builtin(name, Escaping::Line).expect(name);
    let mut destinations: Vec<_> = Format::NAMES.map(|name| destination(builtin(name), Envelope::Line, None)).into();
    destinations.push(destination(builtin("rfc5424"), Envelope::OctetCounted, None));
    for text in [
        "{timestamp} {hostname} {app-name}[{proc-id}]: {message}",
        "{timestamp:%Y-%m-%d %H:%M:%S|utc} {received} {pri} {severity|upper} {tag} {sd[ex@32473][iut]|default:-} {message|first:9|json}",
    ] {
        destinations.push(destination(
            template(text),
            Envelope::Line,
            Some("/logs/{hostname}/{app-name|lower}-{timestamp:%Y%m%d}.log"),
        ));
    }
    destinations
}

fn routes(to: usize) -> Vec<Route> {
    let condition = |text: &str| Some(Condition::compile(text).expect(text));
    let missing = (0..20).map(|i| {
        let texts = [
            format!("message contains \"missing{i}\""),
            format!("app-name == \"missing{i}\""),
            format!("message matches \"missing{i}|[xyz]{{3}}{i}\""),
        ];
        (None, condition(&texts[i % 3]))
    });
    let all =
        [(Selector::compile("*.*").ok(), None), (None, condition(r#"message matches "[0-9]" or sd[ex@32473][iut] == "4""#))];
    let route = |(selector, condition)| Route { selector, condition, to: (0..to).collect(), is_final: false };
    missing.chain(all).map(route).collect()
}

#[test]
fn framing_parsing_routing_rendering_and_queues_allocate_nothing_once_warm() {
    OF_TEST.set(true);
    let stream = messages(3000).join("\n") + "\n";
    let destinations = destinations();
    let queues: Vec<_> = destinations.iter().map(|destination| destination.queue.clone()).collect();
    let pipeline = Arc::new(Pipeline::new(routes(destinations.len()), destinations));
    let origins = [Arc::new(Origin::new("in".into(), "192.0.2.7".parse().ok(), "here", Zone::Local))];
    let (mut outbox, mut frames, mut lent) = (Outbox::new(pipeline.clone()), Vec::<Frame>::new(), Vec::<Chunk>::new());
    let mut framer = Framer::new(Framing::Newline, 64 << 10);
    let mut round = || {
        frames.clear();
        framer.split(stream.as_bytes(), Event::More, &mut frames);
        let batch = Batch { arena: stream.as_bytes(), frames: &frames, origins: &origins, received: &Received::now() };
        let mut tally = Tally::default();
        pipeline.process(&batch, &Settings::default(), &mut outbox, &mut tally);
        outbox.flush();
        for queue in &queues {
            queue.lend_now(&mut lent, usize::MAX);
            lent.iter_mut().for_each(Chunk::settle_all);
            queue.acknowledge(&mut lent);
        }
        tally.messages
    };
    // Chunks grow once to their full size, and change places.
    for _ in 0..40 {
        round();
    }
    // The local time zone is looked at again once a second.
    let counted = (0..3).map(|_| {
        let before = OWN.get();
        (round(), OWN.get() - before)
    });
    assert_eq!(counted.min(), Some((3000, 0)), "messages, allocations");
}

/// The far end of a relay: what has come, in lines.
fn sink(lines: Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        OF_TEST.set(true);
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut bytes = [0; 1 << 16];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            lines.fetch_add(bytes[..count].iter().filter(|b| **b == b'\n').count(), Ordering::Relaxed);
        }
    });
    port
}

fn lines_in(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let lines = |path: &Path| std::fs::read(path).map_or(0, |bytes| bytes.iter().filter(|b| **b == b'\n').count());
    entries.flatten().map(|entry| if entry.path().is_dir() { lines_in(&entry.path()) } else { lines(&entry.path()) }).sum()
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "this did not happen: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sockets, threads and files too: what is allocated for a wake-up or a delivery is shared by hundreds of messages.
#[test]
fn a_warm_server_allocates_less_than_once_in_a_hundred_messages() {
    const COUNT: usize = 60_000;
    OF_TEST.set(true);
    let folder = tempfile::tempdir().expect("a folder");
    let relayed = Arc::new(AtomicUsize::new(0));
    let upstream = sink(relayed.clone());
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let (config, logs) = (folder.path().join("penstock.toml"), folder.path().join("logs"));
    let text = format!(
        r#"
        [server]
        state-dir = "{}"
        [[input.tcp]]
        listen = "127.0.0.1:{port}"
        framing = "newline"
        [template]
        line = "{{timestamp}} {{hostname}} {{app-name}}[{{proc-id}}]: {{message}}"
        [[output.file]]
        name = "files"
        path = "{}/{{hostname}}/{{app-name}}.log"
        format = "line"
        [[output.forward]]
        name = "upstream"
        to = ["tcp://127.0.0.1:{upstream}"]
        framing = "newline"
        queue = {{ when-full = "block" }}
        [[route]]
        to = ["files", "upstream"]
        "#,
        folder.path().join("state").display(),
        logs.display()
    );
    std::fs::write(&config, text).expect("written");
    let plan = penstock::config::load(&config).and_then(|loaded| penstock::config::plan(&loaded));
    let plan = plan.unwrap_or_else(|errors| panic!("{errors}"));
    let server = std::thread::spawn(move || penstock::daemon::run(&config, plan, penstock::daemon::Succession::default()));
    let load = messages(COUNT).join("\n") + "\n";
    let connected = || TcpStream::connect(("127.0.0.1", port));
    wait_until("the server listens", || connected().is_ok());
    let mut stream = connected().expect("a connection");
    let mut send = |rounds: usize| {
        stream.write_all(load.as_bytes()).expect("sent");
        wait_until("all is relayed", || relayed.load(Ordering::Relaxed) == rounds * COUNT);
        wait_until("all is written", || lines_in(&logs) == rounds * COUNT);
        SERVER.load(Ordering::Relaxed)
    };
    let cold = send(1);
    let allocated = send(2) - cold;
    // SAFETY: the process's own identity; the server's handler is in place, for it has received.
    unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
    server.join().expect("no panic").expect("a clean stop");
    assert!(allocated * 100 < COUNT as u64, "{allocated} allocations for {COUNT} messages");
    eprintln!("{allocated} allocations for {COUNT} messages");
}
