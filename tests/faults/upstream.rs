//! An upstream that knows what has arrived, and how to behave badly.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use crate::rig::random;

/// How an upstream behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Manner {
    Good,
    /// Nobody listens.
    Refuses,
    /// Closes as soon as it has accepted.
    Closes,
    /// Takes some bytes and resets the connection.
    Resets,
    /// Accepts and never reads.
    NeverReads,
    /// Takes half of what comes, and closes.
    Half,
    /// Acknowledges nothing.
    Silent,
    /// Reads, and never answers the offer.
    NeverOpens,
    /// Connections are reset after some messages, and after more, in turn.
    Alternates,
}

const MANNERS: [Manner; 9] = [
    Manner::Good,
    Manner::Refuses,
    Manner::Closes,
    Manner::Resets,
    Manner::NeverReads,
    Manner::Half,
    Manner::Silent,
    Manner::NeverOpens,
    Manner::Alternates,
];
/// An upstream that alternates takes so many messages before it resets, and then fifty times as many.
const SOME: usize = 20;

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
    /// A connection ends with its thread.
    open: Mutex<Vec<Weak<TcpStream>>>,
    /// While it alternates.
    connections: AtomicUsize,
}

impl Upstream {
    pub fn start() -> Self {
        let mut listener = listen(0);
        let port = listener.as_ref().and_then(|listener| listener.local_addr().ok()).expect("an address").port();
        let shared = Arc::new(Shared::default());
        let known = shared.clone();
        std::thread::spawn(move || {
            loop {
                if known.manner() == Manner::Refuses {
                    listener = None;
                }
                match listener.as_ref().map(TcpListener::accept) {
                    Some(Ok((stream, _))) => known.take(stream),
                    Some(Err(_)) => std::thread::sleep(Duration::from_millis(1)),
                    None => {
                        std::thread::sleep(Duration::from_millis(1));
                        if known.manner() != Manner::Refuses {
                            // A connection of somebody else may have the port for a while.
                            listener = listen(port);
                        }
                    }
                }
            }
        });
        Self { port, shared }
    }

    /// From now on, and what is open is broken off.
    pub fn behave(&self, manner: Manner) {
        self.shared.manner.store(manner as u64, SeqCst);
        for stream in self.shared.open.lock().expect("no panic").drain(..).filter_map(|stream| stream.upgrade()) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// All but alternating, of which something arrives.
    pub fn any_bad_manner() -> Manner {
        MANNERS[random(1..Manner::Alternates as u64) as usize]
    }

    /// How many numbers below this are missing, and how many came more than once.
    pub fn tally(&self, count: usize) -> (usize, usize) {
        let arrived = self.shared.arrived.lock().expect("no panic");
        (count - arrived.range(..count).count(), arrived.values().map(|times| times - 1).sum())
    }
}

fn listen(port: u16) -> Option<TcpListener> {
    // With SO_REUSEADDR: connections of its predecessor may still be closing.
    let listener = TcpListener::bind(("127.0.0.1", port)).ok()?;
    listener.set_nonblocking(true).expect("an option");
    Some(listener)
}

impl Shared {
    fn take(self: &Arc<Self>, stream: TcpStream) {
        let shared = self.clone();
        stream.set_nonblocking(false).expect("an option");
        let stream = Arc::new(stream);
        self.open.lock().expect("no panic").push(Arc::downgrade(&stream));
        std::thread::spawn(move || drop(shared.serve(&stream)));
    }

    fn manner(&self) -> Manner {
        MANNERS[self.manner.load(SeqCst) as usize]
    }

    fn serve(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        let mut manner = self.manner();
        let mut left = usize::MAX;
        if manner == Manner::Alternates {
            manner = Manner::Good;
            left = if self.connections.fetch_add(1, SeqCst).is_multiple_of(2) { SOME } else { 50 * SOME };
        }
        let mut received = Vec::new();
        loop {
            match manner {
                Manner::Refuses | Manner::Closes => return Ok(()),
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
                    "open" if manner == Manner::NeverOpens => "",
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
                left = left.saturating_sub(1);
                if command == "syslog" && (left == 0 || matches!(manner, Manner::Resets | Manner::Half)) {
                    if manner != Manner::Half {
                        socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
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
