//! Sockets: bound here or handed over by systemd, and the loops that accept.

use std::cell::Cell;
use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::spawn_local;
use tokio_util::task::TaskTracker;

use super::bind::bind;
use super::handover::{ConnectionState, Keep};
use super::stream::{self, Connection};
use super::worker::Seat;
use super::{Names, Plan, Protocol, Shared, Transport, Worker, Workers, datagram, http, python, relp, source};
use crate::config::Address;
use crate::message::Origin;
use crate::net::tls::{self, ServerTls};
use crate::sys::{reason, socket};
use crate::warn_limited;

/// Out of descriptors or memory: connections wait in the kernel until some are closed.
const OUT_OF_RESOURCES: Duration = Duration::from_millis(100);
/// A peer that has vanished without a word is found out after about two minutes.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)).with_retries(4);

/// No socket unit can give this name.
const KEPT: &str = "kept:";

/// A socket from systemd (sd_listen_fds(3)) with its FileDescriptorName, or of an input that is to be replaced.
#[derive(Debug)]
pub struct Given {
    pub name: String,
    socket: OwnedFd,
    /// An input has taken it.
    pub used: Cell<bool>,
}

impl Given {
    pub fn new(name: String, socket: OwnedFd) -> Self {
        Self { name, socket, used: Cell::new(false) }
    }

    /// Of a former process of ours: it is known by its address alone.
    pub fn kept(socket: OwnedFd) -> Self {
        Self::new(KEPT.to_owned(), socket)
    }

    pub fn is_kept(&self) -> bool {
        self.name == KEPT
    }

    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }
}

/// An input's sockets, before anybody reads them.
#[derive(Debug)]
pub struct Opened {
    sockets: Vec<Socket>,
    transport: Transport,
    address: Address,
}

/// Opens the plan's sockets, or takes the one given: by the input's name, or else by address. `threads` UDP sockets
/// share a port, so that the kernel deals senders out among the threads.
pub fn open(plan: &Plan, given: &[Given], threads: usize) -> Result<Opened, String> {
    if plan.transport == Transport::Source {
        return Ok(Opened { sockets: Vec::new(), transport: plan.transport, address: plan.address.clone() });
    }
    let failed = |error: io::Error| format!("input `{}`: cannot listen on {}: {}", plan.name, plan.address, reason(&error));
    // A socket whose name is gone from its folder can be found by nobody.
    let is_there = |given: &&Given| match local_address(&socket2::SockRef::from(&given.socket)) {
        Some(Address::Path(path)) => path.exists(),
        _ => true,
    };
    let fitting = given.iter().filter(|given| fits(given, plan)).filter(is_there).map(|given| {
        given.used.set(true);
        given.socket.try_clone().map(Socket::from)
    });
    let mut sockets = fitting.collect::<io::Result<Vec<_>>>().map_err(failed)?;
    // systemd may have the same socket twice: from a socket unit, and from a former process.
    let mut known = HashSet::new();
    sockets.retain(|socket| socket::cookie(socket.as_fd()).map_or(true, |cookie| known.insert(cookie)));
    if plan.transport == Transport::Stream {
        sockets.truncate(1);
    }
    if sockets.is_empty() {
        sockets = bind(plan, threads).map_err(failed)?;
    }
    let mut smallest = plan.settings.receive_buffer;
    for socket in &sockets {
        socket.set_nonblocking(true).map_err(failed)?;
        if plan.transport == Transport::Datagram {
            let granted = socket::grow_receive_buffer(socket.as_fd(), plan.settings.receive_buffer).map_err(failed)?;
            smallest = smallest.min(granted);
        }
    }
    say_if_cut(smallest, plan);
    let address = local_address(&sockets[0]).unwrap_or_else(|| plan.address.clone());
    tracing::info!("input `{}`: listening on {} {address}", plan.name, plan.kind);
    Ok(Opened { sockets, transport: plan.transport, address })
}

fn fits(given: &Given, plan: &Plan) -> bool {
    let socket = socket2::SockRef::from(&given.socket);
    let kind = match plan.transport {
        Transport::Datagram => Type::DGRAM,
        Transport::Source => return false,
        Transport::Stream => Type::STREAM,
    };
    let same_kind = socket.r#type().is_ok_and(|given| given == kind);
    let same_address = || local_address(&socket).is_some_and(|address| address == plan.address);
    same_kind && (given.name.is_empty() || given.name == *plan.name || same_address())
}

fn local_address(socket: &Socket) -> Option<Address> {
    let address = socket.local_addr().ok()?;
    let unix = || address.as_pathname().map(|path| Address::Path(path.to_owned()));
    address.as_socket().map(Address::Ip).or_else(unix)
}

fn say_if_cut(granted: usize, plan: &Plan) {
    let wanted = plan.settings.receive_buffer;
    if granted < wanted {
        tracing::warn!(
            "input `{}`: the receive buffer is {granted} bytes, not {wanted}: net.core.rmem_max cuts it (sysctl -w net.core.rmem_max={})",
            plan.name,
            wanted / 2
        );
    }
}

impl Opened {
    /// Its sockets once more.
    pub fn duplicates(&self) -> io::Result<Vec<Given>> {
        self.sockets.iter().map(|socket| Ok(Given::new(String::new(), socket.try_clone()?.into()))).collect()
    }

    /// Lets the threads read. The sockets are closed when the input's `stop` is cancelled.
    pub fn start(
        self,
        shared: &Arc<Shared>,
        workers: &Arc<Workers>,
        names: &Arc<Names>,
        tracker: &TaskTracker,
        state_dir: &Path,
    ) -> io::Result<()> {
        match self.transport {
            Transport::Source => {
                start_source(shared, workers, names, tracker, state_dir);
                Ok(())
            }
            Transport::Datagram => {
                start_datagrams(self.sockets, shared, workers, names, tracker);
                Ok(())
            }
            Transport::Stream => {
                remember_keys(shared, state_dir);
                let [socket] = <[Socket; 1]>::try_from(self.sockets).expect("a stream input has one socket");
                let door =
                    Door { shared: shared.clone(), workers: workers.clone(), names: names.clone(), tracker: tracker.clone() };
                match self.address {
                    Address::Ip(_) => {
                        let listener = TcpListener::from_std(socket.into())?;
                        tracker.spawn(door.accept_tcp(listener));
                    }
                    Address::Path(path) => {
                        let listener = UnixListener::from_std(StdUnixListener::from(OwnedFd::from(socket)))?;
                        tracker.spawn(door.accept_unix(listener, path));
                    }
                }
                Ok(())
            }
        }
    }
}

/// Goes on with a connection of another process; without its descriptor the message that had begun is delivered as it is.
pub fn resume(
    fd: Option<OwnedFd>,
    state: ConnectionState,
    shared: &Arc<Shared>,
    workers: &Arc<Workers>,
    names: &Arc<Names>,
    tracker: &TaskTracker,
) {
    let door = Door { shared: shared.clone(), workers: workers.clone(), names: names.clone(), tracker: tracker.clone() };
    shared.counters.connections.add(1);
    match (fd, state.peer) {
        (Some(fd), Some(peer)) => {
            let stream = std::net::TcpStream::from(fd);
            door.deal_tcp(stream.set_nonblocking(true).map(|()| stream), peer, Some(state));
        }
        (Some(fd), None) => {
            let stream = std::os::unix::net::UnixStream::from(fd);
            door.deal_unix(stream.set_nonblocking(true).map(|()| stream), Some(state));
        }
        (None, _) => door.deal_rest(state),
    }
}

/// What clients have sent before is known from a file.
fn remember_keys(shared: &Shared, state_dir: &Path) {
    if shared.settings.load().protocol != Protocol::Http {
        return;
    }
    let place = source::place(state_dir, "idempotency", shared.kind, &shared.name);
    if let Err(error) = shared.keys.open(&place) {
        let (name, place) = (&shared.name, place.display());
        tracing::warn!("input `{name}`: idempotency keys are forgotten at a stop: {place}: {}", reason(&error));
    }
}

/// Each socket has one reader, or a sender's messages would overtake each other; a single one (given, or a unix socket)
/// goes to the thread with the fewest connections.
fn start_datagrams(sockets: Vec<Socket>, shared: &Arc<Shared>, workers: &Workers, names: &Arc<Names>, tracker: &TaskTracker) {
    for socket in sockets {
        let socket = datagram::Socket { fd: socket.into(), shared: shared.clone(), names: names.clone(), token: tracker.token() };
        workers.deal(move |worker, seat| {
            spawn_local(async move {
                datagram::serve(socket, worker).await;
                drop(seat);
            });
        });
    }
}

fn start_source(shared: &Arc<Shared>, workers: &Workers, names: &Arc<Names>, tracker: &TaskTracker, state_dir: &Path) {
    let Some(source) = shared.settings.load().source.clone() else { return };
    let place = source::place(state_dir, "positions", shared.kind, &shared.name);
    let task = source::Task { source, shared: shared.clone(), names: names.clone(), place, token: tracker.token() };
    workers.deal(move |worker, seat| drop(spawn_local(source::serve(task, worker, seat))));
}

/// Who is let in, and to which thread.
struct Door {
    shared: Arc<Shared>,
    workers: Arc<Workers>,
    names: Arc<Names>,
    tracker: TaskTracker,
}

impl Door {
    async fn accept_tcp(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.shared.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) if self.admits(Some(peer.ip().to_canonical())) => {
                    let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE);
                    self.deal_tcp(stream.into_std(), peer.ip(), None);
                }
                Ok(_) => {}
                Err(error) if self.give_up(&error).await => return,
                Err(_) => {}
            }
        }
    }

    async fn accept_unix(self, listener: UnixListener, path: std::path::PathBuf) {
        loop {
            let accepted = tokio::select! {
                () = self.shared.stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) if self.admits(None) => self.deal_unix(stream.into_std(), None),
                Ok(_) => {}
                Err(error) if self.give_up(&error).await => break,
                Err(_) => {}
            }
        }
        drop(listener);
        tracing::debug!("closed {}", path.display());
    }

    /// By the allow-list and by the limit on connections.
    fn admits(&self, peer: Option<IpAddr>) -> bool {
        let settings = self.shared.settings.load();
        let Shared { name, counters, log, .. } = &*self.shared;
        if let Some(peer) = peer.filter(|peer| !settings.allows(*peer)) {
            counters.refused_allow.add(1);
            warn_limited!(log.allow, "input `{name}`: {peer} was refused: not in `allow`");
            return false;
        }
        let limit = settings.max_connections;
        if counters.connections.get() >= limit as u64 {
            counters.refused_limit.add(1);
            let who = peer.map_or_else(|| "a local program".to_owned(), |peer| peer.to_string());
            warn_limited!(log.limit, "input `{name}`: {who} was refused: {limit} connections are open (max-connections)");
            return false;
        }
        counters.connections.add(1);
        counters.connections_total.add(1);
        true
    }

    fn deal_tcp(&self, stream: io::Result<std::net::TcpStream>, peer: IpAddr, left: Option<ConnectionState>) {
        let connect = self.connection(Some(peer));
        self.workers.deal(move |worker, seat| {
            spawn_local(async move {
                let connection = connect(worker, seat);
                match stream.and_then(TcpStream::from_std) {
                    Ok(stream) => match left {
                        Some(left) => go_on(stream, connection, left).await,
                        None => serve_tcp(stream, connection).await,
                    },
                    Err(error) => tracing::error!("a connection was lost: {}", reason(&error)),
                }
            });
        });
    }

    fn deal_unix(&self, stream: io::Result<std::os::unix::net::UnixStream>, left: Option<ConnectionState>) {
        let credentials = stream.as_ref().ok().and_then(|stream| socket::peer_credentials(stream.as_fd()).ok());
        let connect = self.connection_of(match credentials.filter(|credentials| credentials.pid > 0) {
            Some(credentials) => self.names.of_sender(&self.shared, &self.shared.settings.load(), datagram::sender(credentials)),
            None => self.names.origin(&self.shared, &self.shared.settings.load(), None),
        });
        self.workers.deal(move |worker, seat| {
            spawn_local(async move {
                let connection = connect(worker, seat);
                match stream.and_then(UnixStream::from_std) {
                    Ok(stream) => go_on(stream, connection, left.unwrap_or_default()).await,
                    Err(error) => tracing::error!("a connection was lost: {}", reason(&error)),
                }
            });
        });
    }

    /// A connection that is no more, though it had sent something.
    fn deal_rest(&self, left: ConnectionState) {
        let connect = self.connection(left.peer);
        self.workers.deal(move |worker, seat| {
            spawn_local(async move {
                let nothing = tokio::io::join(tokio::io::empty(), tokio::io::sink());
                go_on(nothing, connect(worker, seat), left).await;
            });
        });
    }

    fn connection(&self, peer: Option<IpAddr>) -> impl FnOnce(Rc<Worker>, Seat) -> Connection + Send + use<> {
        self.connection_of(self.names.origin(&self.shared, &self.shared.settings.load(), peer))
    }

    fn connection_of(&self, origin: Arc<Origin>) -> impl FnOnce(Rc<Worker>, Seat) -> Connection + Send + use<> {
        let (shared, token) = (self.shared.clone(), self.tracker.token());
        move |worker, seat| Connection { shared, worker, origin, seat, token }
    }

    /// Three kinds of errors: forget (the connection is gone already), wait (nothing is left to accept it with), and
    /// give up (the socket itself is of no use).
    async fn give_up(&self, error: &io::Error) -> bool {
        let name = &self.shared.name;
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                warn_limited!(self.shared.log.accept, "input `{name}`: no connection can be accepted: {}", reason(error));
                tokio::time::sleep(OUT_OF_RESOURCES).await;
                false
            }
            Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP) => {
                tracing::error!("input `{name}`: no more connections are accepted: {}", reason(error));
                true
            }
            _ => false,
        }
    }
}

/// A stream of any protocol; those of one direction go on where they were left.
async fn go_on(stream: impl Keep + 'static, connection: Connection, left: ConnectionState) {
    let protocol = connection.shared.settings.load().protocol;
    match protocol {
        Protocol::Http => Box::pin(http::serve(stream, connection)).await,
        Protocol::Python => Box::pin(python::serve(stream, connection, left.held)).await,
        Protocol::Relp => Box::pin(relp::serve(stream, connection)).await,
        Protocol::Syslog => stream::resume(stream, connection, &left.framer, left.held).await,
    }
}

/// Ten thousand plain connections do not pay for what a TLS session needs.
async fn serve_tcp(stream: TcpStream, connection: Connection) {
    let settings = connection.shared.settings.load_full();
    match &settings.tls {
        None => go_on(stream, connection, ConnectionState::default()).await,
        Some(server) => Box::pin(serve_tls(stream, server, settings.handshake, connection)).await,
    }
}

async fn serve_tls(stream: TcpStream, server: &ServerTls, handshake: Duration, connection: Connection) {
    let accepted = tokio::select! {
        () = connection.shared.stop.cancelled() => return,
        accepted = tls::accept(stream, server, handshake) => accepted,
    };
    match accepted {
        Ok(stream) => go_on(stream, connection, ConnectionState::default()).await,
        Err(why) => {
            let Shared { name, counters, log, .. } = &*connection.shared;
            counters.refused_tls.add(1);
            warn_limited!(log.tls, "input `{name}`: {} was refused: {why}", connection.origin.peer_text);
        }
    }
}
