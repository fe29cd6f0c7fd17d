//! Senders that know what was accepted, and an upstream that knows what has arrived.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long each fault is repeated: `PENSTOCK_FAULTS_SECONDS`, or a few.
pub fn duration() -> Duration {
    let seconds = std::env::var("PENSTOCK_FAULTS_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(4))
}

pub fn random(range: std::ops::Range<u64>) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    range.start + RandomState::new().hash_one(Instant::now()) % (range.end - range.start)
}

/// Sends numbers by RELP, over one connection after the other, and goes on with what was not acknowledged.
pub struct Sender {
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Sender {
    pub fn start(port: u16) -> Self {
        let (stop, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (stop.clone(), accepted.clone());
        let thread = std::thread::spawn(move || {
            let mut unacknowledged = VecDeque::new();
            let mut next = 0;
            while !(stopped.load(SeqCst) && unacknowledged.is_empty()) {
                if session(port, &stopped, &count, &mut unacknowledged, &mut next).is_none() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        Self { stop, accepted, thread }
    }

    /// All numbers below this have been acknowledged.
    pub fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }

    /// Waits until everything that was sent is acknowledged; how many numbers that were.
    pub fn finish(self) -> usize {
        self.stop.store(true, SeqCst);
        self.thread.join().expect("no panic");
        self.accepted.load(SeqCst)
    }
}

/// One connection, to its end. None: it broke.
fn session(
    port: u16,
    stop: &AtomicBool,
    accepted: &AtomicUsize,
    unacknowledged: &mut VecDeque<usize>,
    next: &mut usize,
) -> Option<()> {
    const WINDOW: usize = 64;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let mut answers = BufReader::new(stream.try_clone().ok()?);
    stream.write_all(b"1 open 30 relp_version=0\ncommands=syslog\n").ok()?;
    let mut line = String::new();
    for _ in 0..4 {
        answers.read_line(&mut line).ok().filter(|count| *count > 0)?;
    }
    let mut number = 2;
    let mut first = 2;
    let mut again: VecDeque<usize> = unacknowledged.clone();
    loop {
        let mut frames = Vec::new();
        while number - first < WINDOW {
            let value = match again.pop_front() {
                Some(value) => value,
                None if stop.load(SeqCst) => break,
                None => {
                    unacknowledged.push_back(*next);
                    *next += 1;
                    *next - 1
                }
            };
            let message = format!("<14>1 - h a - - - {value}");
            writeln!(frames, "{number} syslog {} {message}", message.len()).ok()?;
            number += 1;
        }
        stream.write_all(&frames).ok()?;
        if number == first {
            return Some(());
        }
        line.clear();
        answers.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let (answered, rest) = line.split_once(' ')?;
        if answered == "0" {
            return None;
        }
        assert_eq!((answered.parse(), rest), (Ok(first), "rsp 6 200 OK\n"), "answers come in order");
        first += 1;
        let value = unacknowledged.pop_front()?;
        accepted.store(value + 1, SeqCst);
    }
}

/// How an upstream behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Manner {
    Good,
    /// Closes as soon as it has accepted.
    Refuses,
    /// Takes some bytes and resets the connection.
    Resets,
    /// Accepts and never reads.
    NeverReads,
    /// Takes half of what comes, and closes.
    Half,
    /// Acknowledges nothing.
    Silent,
}

const MANNERS: [Manner; 6] = [Manner::Good, Manner::Refuses, Manner::Resets, Manner::NeverReads, Manner::Half, Manner::Silent];

/// A RELP server that counts what it has acknowledged.
pub struct Upstream {
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    manner: AtomicU64,
    /// Numbers, and how often each has come.
    arrived: Mutex<BTreeMap<usize, usize>>,
    open: Mutex<Vec<TcpStream>>,
}

impl Upstream {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared::default());
        let known = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = known.clone();
                shared.open.lock().expect("no panic").push(stream.try_clone().expect("a handle"));
                std::thread::spawn(move || drop(shared.serve(stream)));
            }
        });
        Self { port, shared }
    }

    /// From now on, and what is open is broken off.
    pub fn behave(&self, manner: Manner) {
        self.shared.manner.store(manner as u64, SeqCst);
        for stream in self.shared.open.lock().expect("no panic").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub fn any_bad_manner() -> Manner {
        MANNERS[random(1..MANNERS.len() as u64) as usize]
    }

    pub fn has_all(&self, count: usize) -> bool {
        self.shared.arrived.lock().expect("no panic").range(..count).count() == count
    }

    /// How many numbers below this are missing, and how many came more than once.
    pub fn tally(&self, count: usize) -> (usize, usize) {
        let arrived = self.shared.arrived.lock().expect("no panic");
        (count - arrived.range(..count).count(), arrived.values().map(|times| times - 1).sum())
    }
}

impl Shared {
    fn manner(&self) -> Manner {
        MANNERS[self.manner.load(SeqCst) as usize]
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let manner = self.manner();
        let mut received = Vec::new();
        loop {
            match manner {
                Manner::Refuses => return Ok(()),
                Manner::NeverReads => {
                    while self.manner() == manner {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    return Ok(());
                }
                _ => {}
            }
            let mut bytes = [0; 8192];
            let count = stream.read(&mut bytes)?;
            if count == 0 {
                return Ok(());
            }
            received.extend_from_slice(&bytes[..count]);
            let mut answers = Vec::new();
            while let Some((number, command, data, length)) = frame(&received) {
                let answer = match command.as_str() {
                    "open" => "200 OK\nrelp_version=0\ncommands=syslog",
                    "syslog" if manner == Manner::Good => {
                        let value = data.rsplit(' ').next().and_then(|value| value.trim().parse().ok()).expect("a number");
                        *self.arrived.lock().expect("no panic").entry(value).or_default() += 1;
                        "200 OK"
                    }
                    "syslog" => "",
                    _ => "200 OK",
                };
                received.drain(..length);
                if !answer.is_empty() {
                    writeln!(answers, "{number} rsp {} {answer}", answer.len())?;
                }
                if command == "syslog" && matches!(manner, Manner::Resets | Manner::Half) {
                    if manner == Manner::Resets {
                        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
                    }
                    return Ok(());
                }
            }
            stream.write_all(&answers)?;
        }
    }
}

/// Number, command, data and length of a whole frame.
fn frame(bytes: &[u8]) -> Option<(usize, String, String, usize)> {
    let head: Vec<_> =
        bytes.iter().take(64).enumerate().filter(|(_, byte)| matches!(byte, b' ' | b'\n')).map(|(at, _)| at).collect();
    let [first, second, third] = *head.get(..3)? else { return None };
    let text = |range: std::ops::Range<usize>| String::from_utf8_lossy(&bytes[range]).into_owned();
    let length: usize = text(second + 1..third).parse().ok()?;
    let end = third + usize::from(length > 0) + length;
    if bytes.len() <= end {
        return None;
    }
    Some((text(0..first).parse().ok()?, text(first + 1..second), text(third.min(end - length)..end), end + 1))
}
