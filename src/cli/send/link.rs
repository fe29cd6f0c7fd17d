//! Connections to the target: opened, written to in large pieces, and closed so that nothing in flight is lost.
//!
//! A socket that is closed with something unread in it resets the connection, and the peer may lose what it has not
//! read yet. So a stream's end is said first (close_notify, FIN), and then what the peer has to say is read.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, UnixStream, lookup_host};
use tokio::time::timeout;

use super::frame::{Frames, Framing, Layout};
use super::{Job, Sent};
use crate::net::target::{Place, Scheme, Target};
use crate::net::tls::{self, ClientTls};
use crate::sys::{datagram, reason};

/// A buffer of this size goes out.
const BUFFER: usize = 64 << 10;
/// For a connection and its handshake, and for the peer to close.
const PATIENCE: Duration = Duration::from_secs(10);
/// A peer that has said nothing for so long leaves its end open; closing cannot reset anything then.
const SILENCE: Duration = Duration::from_secs(3);
/// What a peer that broke off may have sent before is here already.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// Until a full queue of the network device has moved on.
const DEVICE: Duration = Duration::from_millis(1);

/// All connections; messages go to them in turn.
pub(super) struct Links {
    target: Target,
    links: Vec<(Socket, Frames)>,
    /// Whose turn it is.
    next: usize,
    sent: Sent,
}

enum Socket {
    Stream(Box<dyn Stream>),
    Udp(UdpSocket),
    UnixDatagrams(UnixDatagram),
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

impl Links {
    pub(super) async fn connect(job: &Job) -> Result<Self, String> {
        let mut links = Vec::new();
        for _ in 0..job.connections {
            let socket = Socket::connect(&job.target, job.tls.as_ref()).await;
            let socket = socket.map_err(|why| format!("{}: {why}", job.target))?;
            let framing: Option<Framing> = match socket {
                Socket::Stream(_) => Some(job.envelope.stream),
                Socket::Udp(_) | Socket::UnixDatagrams(_) => job.envelope.datagram,
            };
            links.push((socket, Frames::new(framing)));
        }
        Ok(Self { target: job.target.clone(), links, next: 0, sent: Sent::default() })
    }

    pub(super) async fn push(&mut self, layout: &Layout, text: &[u8]) -> Result<(), String> {
        let turn = self.next;
        self.next = (turn + 1) % self.links.len();
        let frames = &mut self.links[turn].1;
        frames.push(layout, text);
        if frames.bytes().len() >= BUFFER { self.flush_one(turn).await } else { Ok(()) }
    }

    /// Hands over everything that was pushed.
    pub(super) async fn flush(&mut self) -> Result<(), String> {
        for link in 0..self.links.len() {
            self.flush_one(link).await?;
        }
        Ok(())
    }

    /// Ends every connection; what has gone over all of them.
    pub(super) async fn close(self) -> Result<Sent, String> {
        let Self { target, mut links, sent, .. } = self;
        let mut result = Ok(sent);
        // All are told before the first is waited for, so that they end together.
        for (socket, _) in &mut links {
            if let Err(why) = socket.end().await {
                result = Err(format!("{target}: {why}"));
            }
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for (mut socket, _) in links {
            if let Ok(Err(error)) = tokio::time::timeout_at(deadline, socket.drain(SILENCE)).await {
                result = Err(format!("{target}: {}", reason(&error)));
            }
        }
        result
    }

    async fn flush_one(&mut self, link: usize) -> Result<(), String> {
        let (socket, frames) = &mut self.links[link];
        if frames.count() == 0 {
            return Ok(());
        }
        socket.send(frames).await.map_err(|why| format!("{}: {why}", self.target))?;
        self.sent.messages += frames.count() as u64;
        self.sent.bytes += frames.bytes().len() as u64;
        frames.clear();
        Ok(())
    }
}

impl Socket {
    async fn connect(target: &Target, tls: Option<&ClientTls>) -> Result<Self, String> {
        match (&target.place, target.scheme) {
            (Place::Path(path), _) => unix(path).await.map_err(|error| reason(&error)),
            (Place::Host { host, port }, Scheme::Udp) => {
                let addresses = within("no answer to the look-up of its name", lookup_host((host.as_str(), *port))).await?;
                udp(addresses).await.map_err(|error| reason(&error))
            }
            (Place::Host { host, port }, _) => {
                let stream = within("no connection", TcpStream::connect((host.as_str(), *port))).await?;
                // Whole buffers are written: nothing is gained by waiting for more.
                let _ = stream.set_nodelay(true);
                let Some(tls) = tls else { return Ok(Self::Stream(Box::new(stream))) };
                let handshake = timeout(PATIENCE, tls::connect(stream, host, tls)).await;
                let stream = handshake.map_err(|_| too_long("the TLS handshake was not over"))??;
                Ok(Self::Stream(Box::new(stream)))
            }
        }
    }

    async fn send(&mut self, frames: &Frames) -> Result<(), String> {
        let result = match self {
            Self::Stream(stream) => write(stream, frames.bytes()).await,
            Self::Udp(_) | Self::UnixDatagrams(_) => self.send_datagrams(frames).await,
        };
        let Err(error) = result else { return Ok(()) };
        // A TLS peer says why it breaks off; the failed write does not.
        match self.drain(LAST_WORDS).await {
            Err(said) if said.kind() == io::ErrorKind::InvalidData => Err(reason(&said)),
            _ => Err(reason(&error)),
        }
    }

    async fn send_datagrams(&self, frames: &Frames) -> io::Result<()> {
        let mut sent = 0;
        while sent < frames.count() {
            match self.send_some(frames, sent).await {
                Ok(count) => sent += count,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => tokio::time::sleep(DEVICE).await,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// From the `first` on; how many of them went.
    async fn send_some(&self, frames: &Frames, first: usize) -> io::Result<usize> {
        let rest = || frames.datagrams(first);
        match self {
            Self::Stream(_) => Ok(frames.count() - first),
            Self::Udp(socket) => socket.async_io(Interest::WRITABLE, || datagram::send(socket.as_fd(), rest())).await,
            Self::UnixDatagrams(socket) => socket.async_io(Interest::WRITABLE, || datagram::send(socket.as_fd(), rest())).await,
        }
    }

    async fn end(&mut self) -> Result<(), String> {
        let Self::Stream(stream) = self else { return Ok(()) };
        match within("it did not read what was sent", stream.shutdown()).await {
            Ok(()) => Ok(()),
            // The cause is read rather than written: `Transport endpoint is not connected` says little.
            Err(what) => self.drain(LAST_WORDS).await.map_err(|error| reason(&error)).and(Err(what)),
        }
    }

    /// Reads to the peer's end, or until it has been silent for that long.
    async fn drain(&mut self, silence: Duration) -> io::Result<()> {
        let stream = match self {
            Self::Stream(stream) => stream,
            // Nobody there: on the same host that is known by now.
            Self::Udp(socket) => return socket.take_error()?.map_or(Ok(()), Err),
            Self::UnixDatagrams(_) => return Ok(()),
        };
        let mut bytes = [0; 4096];
        loop {
            match timeout(silence, stream.read(&mut bytes)).await {
                Ok(Ok(0)) | Err(_) => return Ok(()),
                Ok(Ok(_)) => {}
                // TLS without close_notify: there is nothing here that could be cut.
                Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Ok(Err(error)) => return Err(error),
            }
        }
    }
}

async fn within<T>(what: &str, future: impl Future<Output = io::Result<T>>) -> Result<T, String> {
    match timeout(PATIENCE, future).await {
        Ok(result) => result.map_err(|error| reason(&error)),
        Err(_) => Err(too_long(what)),
    }
}

fn too_long(what: &str) -> String {
    format!("{what} within {} s", PATIENCE.as_secs())
}

/// A datagram socket where there is one, as /dev/log is; otherwise a stream.
async fn unix(path: &Path) -> io::Result<Socket> {
    let socket = UnixDatagram::unbound()?;
    match socket.connect(path) {
        Ok(()) => Ok(Socket::UnixDatagrams(socket)),
        Err(error) if error.raw_os_error() == Some(libc::EPROTOTYPE) => {
            Ok(Socket::Stream(Box::new(UnixStream::connect(path).await?)))
        }
        Err(error) => Err(error),
    }
}

async fn udp(mut addresses: impl Iterator<Item = SocketAddr>) -> io::Result<Socket> {
    let address = addresses.next().ok_or_else(|| io::Error::other("its name has no address"))?;
    let any: SocketAddr = if address.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    Ok(Socket::Udp(socket))
}

async fn write(stream: &mut dyn Stream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    // TLS keeps bytes of its own.
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::net::TcpListener;

    use super::*;

    fn target(text: &str) -> Target {
        Target::parse(text).expect("a target")
    }

    #[tokio::test]
    async fn nobody_there_is_said_in_plain_words() {
        let refused = Socket::connect(&target("tcp://127.0.0.1:1"), None).await;
        assert_eq!(refused.err().as_deref(), Some("Connection refused"));
        let missing = Socket::connect(&target("unix:///nowhere/log"), None).await;
        assert_eq!(missing.err().as_deref(), Some("No such file or directory"));
    }

    #[tokio::test]
    async fn a_unix_socket_may_be_of_either_kind() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, other) = (folder.path().join("datagram"), folder.path().join("stream"));
        let _datagram = UnixDatagram::bind(&one).expect("a socket");
        let _stream = tokio::net::UnixListener::bind(&other).expect("a socket");
        assert!(matches!(unix(&one).await, Ok(Socket::UnixDatagrams(_))));
        assert!(matches!(unix(&other).await, Ok(Socket::Stream(_))));
    }

    #[tokio::test]
    async fn closing_waits_for_a_peer_that_still_reads() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let to = target(&format!("tcp://{}", listener.local_addr().expect("an address")));
        let peer = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            stream.write_all(b"unasked").await.expect("written");
            tokio::time::sleep(Duration::from_millis(200)).await;
            let mut got = Vec::new();
            stream.read_to_end(&mut got).await.map(|_| got.len())
        });
        let mut socket = Socket::connect(&to, None).await.expect("connected");
        let Socket::Stream(stream) = &mut socket else { panic!("a stream") };
        write(stream, &[b'x'; 300_000]).await.expect("written");
        socket.end().await.expect("ended");
        socket.drain(SILENCE).await.expect("drained");
        drop(socket);
        assert_eq!(peer.await.expect("no panic").expect("no reset"), 300_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_not_waited_for_long() {
        let (near, _far) = duplex(64);
        let start = tokio::time::Instant::now();
        Socket::Stream(Box::new(near)).drain(SILENCE).await.expect("given up silently");
        assert_eq!(start.elapsed(), SILENCE);
    }
}
