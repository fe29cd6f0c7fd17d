//! Datagrams at a fixed rate, as cheap as they can be sent: the kernel cuts one large write into messages of one size
//! (UDP_SEGMENT), so that the sender leaves the processors to the server that is measured.

use std::io;
use std::mem::size_of;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use crate::Outcome;

/// What became due within this time goes together.
const TICK: Duration = Duration::from_millis(1);
/// The kernel takes no more segments and no more octets at once.
const SEGMENTS: usize = 60;
const OCTETS: usize = 65_000;

#[derive(Args)]
pub struct Arguments {
    to: SocketAddr,
    /// As `load` writes it: messages of one size
    file: PathBuf,
    /// A second
    #[arg(long)]
    rate: u64,
    /// All that are in the file where not given
    #[arg(long)]
    count: Option<usize>,
    /// Messages go over these in turn
    #[arg(long, default_value_t = 8)]
    sockets: usize,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let (mut bytes, size) = messages(&std::fs::read(&arguments.file)?)?;
    bytes.truncate(arguments.count.map_or(bytes.len(), |count| count * size));
    let sockets: Vec<_> = (0..arguments.sockets).map(|_| socket(arguments.to, size)).collect::<Result<_, _>>()?;
    let mut chunks = Chunks { bytes: &bytes, size, turn: 0 };
    let start = Instant::now();
    let mut next = Instant::now();
    let mut sent = 0;
    while !chunks.bytes.is_empty() {
        let due = start.elapsed().as_nanos() * u128::from(arguments.rate) / 1_000_000_000;
        sent += chunks.send(due as usize - sent, &sockets)?;
        next += TICK;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    println!("{{\"sent\": {sent}, \"seconds\": {}}}", start.elapsed().as_secs_f64());
    Ok(())
}

/// What has not been sent yet.
struct Chunks<'b> {
    bytes: &'b [u8],
    size: usize,
    /// Of the sockets.
    turn: usize,
}

impl Chunks<'_> {
    /// Sends so many, or what is left; how many went.
    fn send(&mut self, due: usize, sockets: &[UdpSocket]) -> io::Result<usize> {
        let due = due.min(self.bytes.len() / self.size);
        let most = SEGMENTS.min(OCTETS / self.size);
        let mut rest = due;
        while rest > 0 {
            let count = rest.min(most);
            let (chunk, others) = self.bytes.split_at(count * self.size);
            sockets[self.turn].send(chunk)?;
            self.turn = (self.turn + 1) % sockets.len();
            self.bytes = others;
            rest -= count;
        }
        Ok(due)
    }
}

/// The messages without their line feeds, and the size of each.
fn messages(lines: &[u8]) -> Result<(Vec<u8>, usize), String> {
    let size = memchr::memchr(b'\n', lines).ok_or("no line in the file")?;
    if !lines.len().is_multiple_of(size + 1) {
        return Err("the messages are not of one size".to_owned());
    }
    let mut bytes = Vec::with_capacity(lines.len());
    lines.chunks(size + 1).for_each(|line| bytes.extend_from_slice(&line[..size]));
    Ok((bytes, size))
}

fn socket(to: SocketAddr, size: usize) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(to)?;
    let size = size as libc::c_int;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value lives through the call and has the length given.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, std::ptr::from_ref(&size).cast(), length)
    };
    if set == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}
