//! One target: its connection, and when to try again.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::connect::{Connected, Counted, Way, connect};
use super::within;
use crate::message::Span;
use crate::queue::{Answer, Chunk, Record, Run, State};
use crate::sys::{datagram, reason, socket};

/// A target that failed is not tried again before this while another one works.
const REST: Duration = Duration::from_secs(5);
const NOT_READ: &str = "it did not read what was sent";
/// The largest payload of a UDP datagram over IPv4.
const LARGEST_DATAGRAM: usize = 65507;

pub(super) struct Link {
    way: Way,
    socket: Option<Connected>,
    /// When it was connected, and how many messages have gone since.
    since: Instant,
    sent: u64,
    /// Octets that the socket has taken.
    written: u64,
    /// For each record on its way, what `written` was behind it.
    ends: VecDeque<u64>,
    /// Records that arrived on a connection that is gone, and have not been reported.
    arrived: usize,
    answered: Vec<Answer>,
    /// Something has arrived by this connection.
    has_taken: bool,
    is_barren: bool,
    /// Another link is used: this one is closed when nothing is on its way.
    unneeded: bool,
    /// An attempt that runs while another link works.
    attempt: Option<JoinHandle<Result<Connected, String>>>,
    tried: Option<Instant>,
}

/// What became of records that were on their way.
pub(super) enum Outcomes {
    /// So many have arrived.
    Arrived(usize),
    Answered(Vec<Answer>),
}

impl Link {
    pub(super) fn new(way: Way) -> Self {
        Self {
            way,
            socket: None,
            since: Instant::now(),
            sent: 0,
            written: 0,
            ends: VecDeque::new(),
            arrived: 0,
            answered: Vec::new(),
            has_taken: false,
            is_barren: false,
            unneeded: false,
            attempt: None,
            tried: None,
        }
    }

    /// Sends what is pending; on failure the connection is closed.
    pub(super) async fn send(&mut self, chunk: &mut Chunk) -> Result<(), String> {
        self.unneeded = false;
        let before = chunk.pending();
        let mut sending = Sending { chunk, written: &mut self.written, ends: &mut self.ends, timeout: self.way.timeout };
        let result = match self.socket.as_mut() {
            None => Err("not connected".to_owned()),
            Some(Connected::Udp(socket)) => send_datagrams(socket, sending.chunk).await,
            Some(Connected::Tcp(stream)) => sending.plain(stream).await,
            Some(Connected::Tls(stream)) => sending.tls(stream).await,
            Some(Connected::Relp(session)) => session.send(sending.chunk, self.way.timeout).await,
        };
        self.sent += (before - sending.chunk.pending()) as u64;
        result.map_err(|why| {
            self.lose();
            self.tried = Some(Instant::now());
            format!("{}: {why}", self.way.target)
        })
    }

    /// What became of the first of the records on their way: by RELP they have been answered, otherwise the other side's
    /// kernel has acknowledged their last octet.
    pub(super) fn confirmed(&mut self) -> Outcomes {
        if let Some(Connected::Relp(session)) = &mut self.socket {
            self.answered.extend(session.outcomes());
            self.close_if_unneeded();
        }
        if !self.answered.is_empty() {
            self.has_taken = true;
            return Outcomes::Answered(std::mem::take(&mut self.answered));
        }
        let count = self.arrived();
        self.has_taken |= count > 0;
        Outcomes::Arrived(count)
    }

    fn arrived(&mut self) -> usize {
        let acknowledged = match &self.socket {
            Some(Connected::Tcp(stream)) => self.written.saturating_sub(unacknowledged(stream)),
            Some(Connected::Tls(stream)) => self.written.saturating_sub(unacknowledged(&stream.get_ref().0.stream)),
            Some(Connected::Udp(_) | Connected::Relp(_)) | None => 0,
        };
        let count = self.ends.partition_point(|end| *end <= acknowledged);
        self.ends.drain(..count);
        self.close_if_unneeded();
        count + std::mem::take(&mut self.arrived)
    }

    fn close_if_unneeded(&mut self) {
        if self.unneeded
            && self.is_idle()
            && let Some(mut socket) = self.socket.take()
        {
            tokio::spawn(async move { socket.close().await });
        }
    }

    /// The connection is of no use any more; what has arrived by it is kept in mind.
    fn lose(&mut self) {
        match self.confirmed() {
            Outcomes::Arrived(count) => self.arrived = count,
            Outcomes::Answered(answers) => self.answered = answers,
        }
        self.socket = None;
    }

    /// What was on its way is called back.
    pub(super) fn forget(&mut self) {
        self.ends.clear();
    }

    /// Some was on its way when the connection ended.
    pub(super) fn has_failed(&mut self) {
        self.is_barren = !self.has_taken;
    }

    /// The last connection ended before anything had arrived by it: the next one has to wait for its turn. Says so once.
    pub(super) fn take_barren(&mut self) -> bool {
        std::mem::take(&mut self.is_barren)
    }

    /// How much of its time and messages a connection has had.
    pub(super) fn wear(&self, messages: u64, time: Option<Duration>) -> f64 {
        let by_time = time.map_or(0.0, |time| self.since.elapsed().as_secs_f64() / time.as_secs_f64().max(0.001));
        by_time.max(self.sent as f64 / messages as f64)
    }

    /// Nothing is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.ends.is_empty() && !matches!(&self.socket, Some(Connected::Relp(session)) if !session.is_empty())
    }

    pub(super) fn is_connected(&self) -> bool {
        self.socket.is_some()
    }

    /// Takes over what was connected in the background, and finds out a peer that closed while nothing was sent.
    pub(super) fn look(&mut self) {
        if self.attempt.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(attempt) = self.attempt.take()
        {
            // It has finished: nothing is waited for.
            if let Some(Ok(Ok(socket))) = finished(attempt) {
                self.use_now(socket);
            }
        }
        let closed = match self.socket.as_mut() {
            Some(Connected::Tcp(stream)) => is_closed(stream),
            Some(Connected::Tls(stream)) => is_closed(stream.as_mut()),
            Some(Connected::Relp(session)) => !session.look(),
            Some(Connected::Udp(_)) | None => false,
        };
        if closed {
            self.lose();
        }
    }

    fn use_now(&mut self, socket: Connected) {
        self.lose();
        (self.written, self.sent, self.since) = (0, 0, Instant::now());
        (self.has_taken, self.is_barren) = (false, false);
        self.socket = Some(socket);
    }

    pub(super) async fn connect(&mut self) -> Result<(), String> {
        self.attempt = None;
        self.tried = Some(Instant::now());
        let connecting = connect(self.way.clone());
        let socket = connecting.await.map_err(|why| format!("{}: {why}", self.way.target))?;
        self.use_now(socket);
        let compressed = matches!(&self.socket, Some(Connected::Relp(session)) if session.is_compressed());
        match (self.way.compressed, compressed) {
            (false, _) => tracing::info!("connected to {}", self.way.target),
            (true, true) => tracing::info!("connected to {}, compressed", self.way.target),
            (true, false) => tracing::warn!("connected to {}, which takes nothing compressed: it goes as it is", self.way.target),
        }
        Ok(())
    }

    pub(super) fn connect_in_background(&mut self) {
        let rests = self.tried.is_some_and(|tried| tried.elapsed() < REST);
        if self.socket.is_none() && self.attempt.is_none() && !rests {
            self.tried = Some(Instant::now());
            self.attempt = Some(tokio::spawn(connect(self.way.clone())));
        }
    }

    /// Closes, and returns when the peer has everything or does not say so in time.
    pub(super) async fn finish(&mut self) {
        if let Some(socket) = &mut self.socket {
            socket.close().await;
            self.lose();
        }
    }

    /// As soon as nothing is on its way.
    pub(super) fn close(&mut self) {
        self.unneeded = true;
        self.close_if_unneeded();
        if let Some(attempt) = self.attempt.take() {
            attempt.abort();
        }
    }
}

/// The result of a task that has finished.
fn finished<T>(task: JoinHandle<T>) -> Option<Result<T, tokio::task::JoinError>> {
    let mut task = task;
    let mut context = Context::from_waker(Waker::noop());
    match Pin::new(&mut task).poll(&mut context) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

/// Reads what a peer has to say, which is nothing but its end.
fn is_closed<S: AsyncRead + Unpin>(stream: &mut S) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    let mut bytes = [0; 512];
    loop {
        let mut buffer = ReadBuf::new(&mut bytes);
        match Pin::new(&mut *stream).poll_read(&mut context, &mut buffer) {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
            Poll::Ready(_) => return true,
        }
    }
}

/// A chunk while it goes to a stream.
struct Sending<'l> {
    chunk: &'l mut Chunk,
    written: &'l mut u64,
    ends: &'l mut VecDeque<u64>,
    timeout: Duration,
}

impl Sending<'_> {
    async fn plain(&mut self, stream: &mut TcpStream) -> Result<(), String> {
        while let Some(run) = self.chunk.first_run() {
            let (mut at, end) = (run.bytes.start as usize, run.bytes.end as usize);
            let (before, start) = (*self.written, run.bytes.start);
            while at < end {
                let writing = write_some(stream, &self.chunk.bytes[at..end]);
                at += within(self.timeout, NOT_READ, writing).await?;
                *self.written = before + (at as u64 - u64::from(start));
                self.note(&run, at, |body| before + u64::from(body.end - start));
            }
        }
        Ok(())
    }

    async fn tls(&mut self, stream: &mut TlsStream<Counted>) -> Result<(), String> {
        while let Some(run) = self.chunk.first_run() {
            let (mut at, end) = (run.bytes.start as usize, run.bytes.end as usize);
            while at < end {
                let writing = write_some(stream, &self.chunk.bytes[at..end]);
                at += within(self.timeout, NOT_READ, writing).await?;
                // Octets of TLS: a record has arrived when those have that were written up to its end.
                *self.written = stream.get_ref().0.written;
                let written = *self.written;
                self.note(&run, at, |_| written);
            }
        }
        Ok(())
    }

    /// The run's records that end at or before `at` are on their way.
    fn note(&mut self, run: &Run, at: usize, end: impl Fn(Span) -> u64) {
        for record in run.records.clone() {
            let Record { body, state, .. } = self.chunk.records[record];
            if body.end as usize > at {
                return;
            }
            if state == State::Pending {
                self.chunk.settle(record, State::Sent);
                self.ends.push_back(end(body));
            }
        }
    }
}

fn unacknowledged(stream: &TcpStream) -> u64 {
    // Nothing is known to have arrived, then.
    socket::unacknowledged(stream.as_fd()).unwrap_or(u64::MAX)
}

async fn write_some<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> Result<usize, String> {
    let count = stream.write(bytes).await.map_err(|error| reason(&error))?;
    // TLS may keep bytes of its own; they have not gone before it has given them away.
    stream.flush().await.map_err(|error| reason(&error))?;
    if count == 0 { Err("it takes no more".to_owned()) } else { Ok(count) }
}

async fn send_datagrams(socket: &UdpSocket, chunk: &mut Chunk) -> Result<(), String> {
    while chunk.pending() > 0 {
        let pending: Vec<_> = chunk.to_send().map(|(i, record)| (i, record.body)).collect();
        // What is too long for any datagram goes as far as it fits.
        let bodies = pending.iter().map(|(_, body)| {
            let bytes = body.of(&chunk.bytes);
            &bytes[..bytes.len().min(LARGEST_DATAGRAM)]
        });
        let sent = socket.try_io(Interest::WRITABLE, || datagram::send(socket.as_fd(), bodies));
        match sent {
            Ok(count) => pending.iter().take(count).for_each(|(i, _)| chunk.settle(*i, State::Delivered)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                socket.writable().await.map_err(|error| reason(&error))?;
            }
            // The path is too narrow for this one, and will be.
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                chunk.refuse(pending[0].0, State::Rejected, "too long for a datagram on its way".into());
            }
            Err(error) => return Err(reason(&error)),
        }
    }
    Ok(())
}
