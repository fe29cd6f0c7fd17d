//! A sender that knows what was accepted: RELP acknowledges.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

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

    /// Waits until everything that was sent is acknowledged, or nothing has been for a minute; how many numbers were.
    pub fn finish(self) -> usize {
        self.stop.store(true, SeqCst);
        let mut last = (self.accepted(), Instant::now());
        while !self.thread.is_finished() && last.1.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(5));
            if self.accepted() > last.0 {
                last = (self.accepted(), Instant::now());
            }
        }
        self.accepted()
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
