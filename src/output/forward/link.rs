//! One target: its connection, and when to try again.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::within;
use crate::net::target::{Place, Scheme, Target};
use crate::net::tls::{self, ClientTls};
use crate::queue::{Chunk, State};
use crate::sys::{datagram, reason};

/// A target that failed is not tried again before this while another one works.
const REST: Duration = Duration::from_secs(5);
/// A peer that does not close is left.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);
/// The largest payload of a UDP datagram over IPv4.
const LARGEST_DATAGRAM: usize = 65507;
const KEEPALIVE: socket2::TcpKeepalive =
    socket2::TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10)).with_retries(3);

pub(super) struct Link {
    target: Target,
    tls: Option<ClientTls>,
    timeout: Duration,
    socket: Option<Connected>,
    /// An attempt that runs while another link works.
    attempt: Option<JoinHandle<Result<Connected, String>>>,
    tried: Option<Instant>,
}

enum Connected {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Udp(UdpSocket),
}

impl Link {
    pub(super) fn new(target: Target, tls: Option<ClientTls>, timeout: Duration) -> Self {
        Self { target, tls, timeout, socket: None, attempt: None, tried: None }
    }

    /// Sends what is pending; on failure the connection is closed, and what had gone is settled.
    pub(super) async fn send(&mut self, chunk: &mut Chunk) -> Result<(), String> {
        let result = match self.socket.as_mut() {
            None => Err("not connected".to_owned()),
            Some(Connected::Udp(socket)) => send_datagrams(socket, chunk).await,
            Some(Connected::Tcp(stream)) => send_stream(stream, chunk, self.timeout).await,
            Some(Connected::Tls(stream)) => send_stream(stream, chunk, self.timeout).await,
        };
        result.map_err(|why| {
            self.socket = None;
            self.tried = Some(Instant::now());
            format!("{}: {why}", self.target)
        })
    }

    pub(super) fn is_connected(&self) -> bool {
        self.socket.is_some()
    }

    /// Takes over what was connected in the background, and finds out a peer that closed while nothing was sent.
    pub(super) fn look(&mut self) {
        if self.attempt.as_ref().is_some_and(JoinHandle::is_finished) && let Some(attempt) = self.attempt.take() {
            // It has finished: nothing is waited for.
            if let Some(Ok(Ok(socket))) = finished(attempt) {
                self.socket = Some(socket);
            }
        }
        let closed = match self.socket.as_mut() {
            Some(Connected::Tcp(stream)) => is_closed(stream),
            Some(Connected::Tls(stream)) => is_closed(stream.as_mut()),
            Some(Connected::Udp(_)) | None => false,
        };
        if closed {
            self.socket = None;
        }
    }

    pub(super) async fn connect(&mut self) -> Result<(), String> {
        self.attempt = None;
        self.tried = Some(Instant::now());
        let connecting = connect(self.target.clone(), self.tls.clone(), self.timeout);
        self.socket = Some(connecting.await.map_err(|why| format!("{}: {why}", self.target))?);
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
        if let Some(socket) = self.socket.take() {
            socket.close().await;
        }
    }

    pub(super) fn close(&mut self) {
        if let Some(socket) = self.socket.take() {
            tokio::spawn(socket.close());
        }
        if let Some(attempt) = self.attempt.take() {
            attempt.abort();
        }
    }
}

impl Connected {
    /// close_notify and FIN; then everything the peer has to say is read until it closes too. A socket that is closed
    /// over unread bytes (a server's session tickets) is reset by the kernel, and what was under way is lost.
    async fn close(self) {
        let closing = async {
            match self {
                Self::Tcp(stream) => close_stream(stream).await,
                Self::Tls(stream) => close_stream(stream).await,
                Self::Udp(_) => Ok(()),
            }
        };
        let _ = tokio::time::timeout(CLOSE_DEADLINE, closing).await;
    }
}

async fn close_stream(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    stream.shutdown().await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
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
    if target.scheme == Scheme::Udp {
        return within(timeout, "no answer to the look-up of its name", connect_udp(host, *port)).await;
    }
    let connecting = async { TcpStream::connect((host.as_str(), *port)).await.map_err(|error| reason(&error)) };
    let stream = within(timeout, "no connection", connecting).await?;
    let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE);
    // A chunk is one write: nothing is gained by waiting for more.
    let _ = stream.set_nodelay(true);
    match tls {
        Some(tls) => {
            let stream = within(timeout, "the TLS handshake was not over", tls::connect(stream, host, &tls)).await?;
            Ok(Connected::Tls(Box::new(stream)))
        }
        None => Ok(Connected::Tcp(stream)),
    }
}

async fn connect_udp(host: &str, port: u16) -> Result<Connected, String> {
    let mut addresses = lookup_host((host, port)).await.map_err(|error| reason(&error))?;
    let address = addresses.next().ok_or("its name has no address")?;
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let connecting = async {
        let socket = UdpSocket::bind(any).await?;
        socket.connect(address).await?;
        Ok(Connected::Udp(socket))
    };
    connecting.await.map_err(|error: io::Error| reason(&error))
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

/// What has gone is settled at once, so that breaking off sends nothing twice but the record that it cut.
async fn send_stream<S: AsyncWrite + Unpin>(stream: &mut S, chunk: &mut Chunk, timeout: Duration) -> Result<(), String> {
    while let Some(run) = chunk.first_run() {
        let (mut at, end) = (run.bytes.start as usize, run.bytes.end as usize);
        while at < end {
            let writing = write_some(stream, &chunk.bytes[at..end]);
            at += within(timeout, "it did not read what was sent", writing).await?;
            chunk.settle_up_to(&run, at);
        }
    }
    Ok(())
}

async fn write_some<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> Result<usize, String> {
    let count = stream.write(bytes).await.map_err(|error| reason(&error))?;
    // TLS may keep bytes of its own; they have not gone before it has given them away.
    stream.flush().await.map_err(|error| reason(&error))?;
    if count == 0 { Err("it takes no more".to_owned()) } else { Ok(count) }
}

async fn send_datagrams(socket: &UdpSocket, chunk: &mut Chunk) -> Result<(), String> {
    while chunk.pending() > 0 {
        let pending: Vec<_> = chunk.unsettled().map(|(i, record)| (i, record.body)).collect();
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
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => chunk.settle(pending[0].0, State::Rejected),
            Err(error) => return Err(reason(&error)),
        }
    }
    Ok(())
}
