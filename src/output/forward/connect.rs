//! Connections to a target, and their ends.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::client::TlsStream;

use super::relp::Session;
use super::within;
use crate::net::lookup::lookup;
use crate::net::target::{Place, Scheme, Target};
use crate::net::tls::{self, ClientTls};
use crate::sys::reason;

/// A peer that does not close is left.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);
const KEEPALIVE: socket2::TcpKeepalive =
    socket2::TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10)).with_retries(3);

pub(super) enum Connected {
    Tcp(TcpStream),
    Tls(Box<TlsStream<Counted>>),
    Udp(UdpSocket),
    Relp(Box<Session>),
}

impl Connected {
    /// close_notify and FIN; then everything the peer has to say is read until it closes too. A socket that is closed
    /// over unread bytes (a server's session tickets) is reset by the kernel, and what was under way is lost.
    pub(super) async fn close(&mut self) {
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

/// A target, and how it is reached.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) target: Target,
    pub(super) tls: Option<ClientTls>,
    /// For a connection, a handshake, and a write without progress.
    pub(super) timeout: Duration,
    /// Of RELP.
    pub(super) window: usize,
    pub(super) compressed: bool,
}

pub(super) async fn connect(way: Way) -> Result<Connected, String> {
    let Way { target, tls, timeout, window, compressed } = way;
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
            Ok(Connected::Relp(Box::new(Session::open(Box::new(stream), timeout, window, compressed).await?)))
        }
        Some(tls) => {
            let stream = Counted { stream, written: 0 };
            let stream = within(timeout, "the TLS handshake was not over", tls::connect(stream, host, &tls)).await?;
            Ok(Connected::Tls(Box::new(stream)))
        }
        None if target.scheme == Scheme::Relp => {
            Ok(Connected::Relp(Box::new(Session::open(Box::new(stream), timeout, window, compressed).await?)))
        }
        None => Ok(Connected::Tcp(stream)),
    }
}

async fn connect_udp(address: SocketAddr) -> io::Result<Connected> {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    Ok(Connected::Udp(socket))
}

/// Counts the octets that go through it.
pub(super) struct Counted {
    pub(super) stream: TcpStream,
    pub(super) written: u64,
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
