//! One target: its connection, and when to try again.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::relp::Session;
use super::within;
use crate::message::Span;
use crate::net::lookup::lookup;
use crate::net::target::{Place, Scheme, Target};
use crate::net::tls::{self, ClientTls};
use crate::queue::{Answer, Chunk, Record, Run, State};
use crate::sys::{datagram, reason, socket};

/// A target that failed is not tried again before this while another one works.
const REST: Duration = Duration::from_secs(5);
/// A peer that does not close is left.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);
const NOT_READ: &str = "it did not read what was sent";
/// The largest payload of a UDP datagram over IPv4.
const LARGEST_DATAGRAM: usize = 65507;
const KEEPALIVE: socket2::TcpKeepalive =
    socket2::TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10)).with_retries(3);

pub(super) struct Link {
    target: Target,
    tls: Option<ClientTls>,
    timeout: Duration,
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
    /// Another link is used: this one is closed when nothing is on its way.
    unneeded: bool,
    /// An attempt that runs while another link works.
    attempt: Option<JoinHandle<Result<Connected, String>>>,
    tried: Option<Instant>,
}

enum Connected {
    Tcp(TcpStream),
    Tls(Box<TlsStream<Counted>>),
    Udp(UdpSocket),
    Relp(Box<Session>),
}

/// What became of records that were on their way.
pub(super) enum Outcomes {
    /// So many have arrived.
    Arrived(usize),
    Answered(Vec<Answer>),
}

impl Link {
    pub(super) fn new(target: Target, tls: Option<ClientTls>, timeout: Duration) -> Self {
        Self {
            target,
            tls,
            timeout,
            socket: None,
            since: Instant::now(),
            sent: 0,
            written: 0,
            ends: VecDeque::new(),
            arrived: 0,
            answered: Vec::new(),
            unneeded: false,
            attempt: None,
            tried: None,
        }
    }

    /// Sends what is pending; on failure the connection is closed.
    pub(super) async fn send(&mut self, chunk: &mut Chunk) -> Result<(), String> {
        self.unneeded = false;
        let before = chunk.pending();
        let mut sending = Sending { chunk, written: &mut self.written, ends: &mut self.ends, timeout: self.timeout };
        let result = match self.socket.as_mut() {
            None => Err("not connected".to_owned()),
            Some(Connected::Udp(socket)) => send_datagrams(socket, sending.chunk).await,
            Some(Connected::Tcp(stream)) => sending.plain(stream).await,
            Some(Connected::Tls(stream)) => sending.tls(stream).await,
            Some(Connected::Relp(session)) => session.send(sending.chunk, self.timeout).await,
        };
        self.sent += (before - sending.chunk.pending()) as u64;
        result.map_err(|why| {
            self.lose();
            self.tried = Some(Instant::now());
            format!("{}: {why}", self.target)
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
            return Outcomes::Answered(std::mem::take(&mut self.answered));
        }
        Outcomes::Arrived(self.arrived())
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
        self.socket = Some(socket);
    }

    pub(super) async fn connect(&mut self) -> Result<(), String> {
        self.attempt = None;
        self.tried = Some(Instant::now());
        let connecting = connect(self.target.clone(), self.tls.clone(), self.timeout);
        let socket = connecting.await.map_err(|why| format!("{}: {why}", self.target))?;
        self.use_now(socket);
        tracing::info!("connected to {}", self.target);
        Ok(())
    }

    pub(super) fn connect_in_background(&mut self) {
        let rests = self.tried.is_some_and(|tried| tried.elapsed() < REST);
        if self.socket.is_none() && self.attempt.is_none() && !rests {
            self.tried = Some(Instant::now());
            self.attempt = Some(tokio::spawn(connect(self.target.clone(), self.tls.clone(), self.timeout)));
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

impl Connected {
    /// close_notify and FIN; then everything the peer has to say is read until it closes too. A socket that is closed
    /// over unread bytes (a server's session tickets) is reset by the kernel, and what was under way is lost.
    async fn close(&mut self) {
        let closing = async {
            match self {
                Self::Tcp(stream) => close_stream(stream).await,
                Self::Tls(stream) => close_stream(stream.as_mut()).await,
                Self::Relp(session) => session.close().await,
                Self::Udp(_) => Ok(()),
            }
        };
        let _ = tokio::time::timeout(CLOSE_DEADLINE, closing).await;
    }
}

async fn close_stream(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    stream.shutdown().await?;
    tokio::io::copy(stream, &mut tokio::io::sink()).await.map(drop)
}

/// The result of a task that has finished.
fn finished<T>(task: JoinHandle<T>) -> Option<Result<T, tokio::task::JoinError>> {
    let mut task = task;
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match Pin::new(&mut task).poll(&mut context) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

async fn connect(target: Target, tls: Option<ClientTls>, timeout: Duration) -> Result<Connected, String> {
    let Place::Host { host, port } = &target.place else {
        return Err("is no network address".to_owned());
    };
    let looking_up = async { lookup(host, *port).await.map_err(|error| reason(&error)) };
    let addresses = within(timeout, "no answer to the look-up of its name", looking_up).await?;
    if target.scheme == Scheme::Udp {
        return connect_udp(*addresses.first().ok_or("its name has no address")?).await.map_err(|error| reason(&error));
    }
    let connecting = async { TcpStream::connect(addresses.as_slice()).await.map_err(|error| reason(&error)) };
    let stream = within(timeout, "no connection", connecting).await?;
    let socket = socket2::SockRef::from(&stream);
    let _ = socket.set_tcp_keepalive(&KEEPALIVE);
    // What is written and not acknowledged for so long breaks the connection.
    let _ = socket.set_tcp_user_timeout(Some(timeout));
    // A chunk is one write: nothing is gained by waiting for more.
    let _ = stream.set_nodelay(true);
    match tls {
        Some(tls) if target.scheme == Scheme::Relps => {
            let stream = within(timeout, "the TLS handshake was not over", tls::connect(stream, host, &tls)).await?;
            Ok(Connected::Relp(Box::new(Session::open(Box::new(stream), timeout).await?)))
        }
        Some(tls) => {
            let stream = Counted { stream, written: 0 };
            let stream = within(timeout, "the TLS handshake was not over", tls::connect(stream, host, &tls)).await?;
            Ok(Connected::Tls(Box::new(stream)))
        }
        None if target.scheme == Scheme::Relp => Ok(Connected::Relp(Box::new(Session::open(Box::new(stream), timeout).await?))),
        None => Ok(Connected::Tcp(stream)),
    }
}

async fn connect_udp(address: SocketAddr) -> io::Result<Connected> {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    Ok(Connected::Udp(socket))
}

/// Reads what a peer has to say, which is nothing but its end.
fn is_closed<S: AsyncRead + Unpin>(stream: &mut S) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
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

/// Counts the octets that go through it.
struct Counted {
    stream: TcpStream,
    written: u64,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = result {
            self.written += count as u64;
        }
        result
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        if let Poll::Ready(Ok(count)) = result {
            self.written += count as u64;
        }
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
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
