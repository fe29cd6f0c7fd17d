//! From the moment a message is sent to the moment it is in the file: one thread sends at a fixed rate, another is woken
//! by inotify(7) and reads what is new. Both read the same clock.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use memchr::memmem;

use crate::Outcome;

/// At high rates the messages of this time go together.
const TICK: Duration = Duration::from_micros(250);
/// Nothing new for so long: the rest is lost.
const PATIENCE: Duration = Duration::from_secs(5);
const MARK: &[u8] = b" sent=";

#[derive(Args)]
pub struct Arguments {
    /// The server's TCP port
    to: SocketAddr,
    /// Where it writes
    file: PathBuf,
    /// A second
    #[arg(long)]
    rate: u64,
    #[arg(long)]
    count: u64,
    #[arg(long, default_value_t = 256)]
    size: usize,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let start = Instant::now();
    let mut stream = TcpStream::connect(arguments.to)?;
    stream.set_nodelay(true)?;
    // The first makes the file, and is not counted.
    stream.write_all(message(0, start, arguments.size).as_bytes())?;
    wait_for(&arguments.file)?;
    let (path, count) = (arguments.file.clone(), arguments.count as usize);
    let watcher = thread::spawn(move || watch(&path, count, start));
    send(arguments, &mut stream, start)?;
    let mut times = watcher.join().expect("the watcher does not panic")?;
    times.sort_unstable();
    println!("{}", report(arguments.count, &times));
    Ok(())
}

fn message(number: u64, start: Instant, size: usize) -> String {
    let head =
        format!("<165>1 2003-10-11T22:14:15.003Z host0 program0 1 ID47 - seq={number} sent={} ", start.elapsed().as_nanos());
    format!("{head:x<width$}\n", width = size.saturating_sub(1))
}

fn send(arguments: &Arguments, stream: &mut TcpStream, start: Instant) -> io::Result<()> {
    let (first, mut sent) = (Instant::now(), 0);
    while sent < arguments.count {
        let due = (first.elapsed().as_nanos() * u128::from(arguments.rate) / 1_000_000_000) as u64 + 1;
        let due = due.min(arguments.count);
        let texts: String = (sent..due).map(|number| message(number + 1, start, arguments.size)).collect();
        stream.write_all(texts.as_bytes())?;
        sent = due;
        let next = Duration::from_nanos(sent * 1_000_000_000 / arguments.rate);
        thread::sleep(next.saturating_sub(first.elapsed()).max(TICK));
    }
    Ok(())
}

/// How long each message took.
fn watch(path: &Path, count: usize, start: Instant) -> io::Result<Vec<u64>> {
    let (mut file, events) = (File::open(path)?, inotify(path)?);
    let (mut times, mut block, mut kept) = (Vec::with_capacity(count), vec![0; 1 << 20], 0);
    loop {
        let read = file.read(&mut block[kept..])?;
        let end = kept + read;
        let whole = memchr::memrchr(b'\n', &block[..end]).map_or(0, |at| at + 1);
        note(&block[..whole], start.elapsed().as_nanos() as u64, &mut times);
        block.copy_within(whole..end, 0);
        kept = end - whole;
        if times.len() >= count {
            return Ok(times);
        }
        if read == 0 && !changed(&events)? {
            return Ok(times);
        }
    }
}

fn note(lines: &[u8], now: u64, times: &mut Vec<u64>) {
    for at in memmem::find_iter(lines, MARK) {
        let digits = lines[at + MARK.len()..].iter().take_while(|byte| byte.is_ascii_digit());
        let sent = digits.fold(0, |sent, digit| sent * 10 + u64::from(digit - b'0'));
        // The first message made the file.
        if !lines[..at].ends_with(b" seq=0") {
            times.push(now.saturating_sub(sent));
        }
    }
}

fn report(sent: u64, times: &[u64]) -> String {
    let percentile = |of: f64| times.get((times.len() as f64 * of) as usize).map_or(0.0, |nanos| *nanos as f64 / 1000.0);
    let (p50, p99, p999) = (percentile(0.5), percentile(0.99), percentile(0.999));
    format!("{{\"sent\": {sent}, \"received\": {}, \"p50\": {p50}, \"p99\": {p99}, \"p99.9\": {p999}}}", times.len())
}

fn wait_for(path: &Path) -> io::Result<()> {
    let end = Instant::now() + PATIENCE;
    while !path.exists() {
        if Instant::now() > end {
            return Err(io::Error::other(format!("{} was not made", path.display())));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn inotify(path: &Path) -> io::Result<OwnedFd> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: makes a descriptor of its own.
    let fd = unsafe { libc::inotify_init1(libc::IN_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was made above and belongs to nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the path is a C string that lives through the call.
    match unsafe { libc::inotify_add_watch(fd.as_raw_fd(), path.as_ptr(), libc::IN_MODIFY) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(fd),
    }
}

/// Waits for the next change; false where there is none for long.
fn changed(events: &OwnedFd) -> io::Result<bool> {
    if !readable(events.as_fd(), PATIENCE.as_millis() as i32)? {
        return Ok(false);
    }
    let mut bytes = [0; 4096];
    let mut file = File::from(events.try_clone()?);
    file.read(&mut bytes).map(|_| true)
}

/// Something can be read within so many milliseconds; -1 is for ever.
pub fn readable(fd: BorrowedFd<'_>, milliseconds: i32) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, which lives through the call.
    match unsafe { libc::poll(&mut poll, 1, milliseconds) } {
        -1 => Err(io::Error::last_os_error()),
        ready => Ok(ready > 0),
    }
}
