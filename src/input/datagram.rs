//! Datagrams: recvmmsg(2) into one arena, a batch a call; UDP and unix alike.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::net::{UdpSocket, UnixDatagram};
use tokio::time::MissedTickBehavior;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Names, Protocol, Settings, Shared, Worker, python};
use crate::frame::trimmed;
use crate::message::{Batch, Frame, Origin, Received, Sender, Span};
use crate::route::Touched;
use crate::sys::datagram::{Credentials, Receiver};
use crate::sys::{process, reason, socket};
use crate::warn_limited;

/// Senders remembered by one thread; all are forgotten when there are more, and made again.
const SENDERS: usize = 8192;
/// Names may change: senders are made anew after this.
const FORGET: Duration = Duration::from_secs(3600);
/// The number of a process is another's soon.
const FORGET_PROCESSES: Duration = Duration::from_secs(2);
/// How often the kernel is asked what it has dropped.
const DROPS: Duration = Duration::from_secs(1);
/// A stop reads what has already arrived, for no longer than this.
const LAST_READS: Duration = Duration::from_secs(1);
/// A socket that reports an error (an ICMP of an earlier answer) is asked again after this.
const AFTER_ERROR: Duration = Duration::from_millis(10);

/// A socket that brought so many datagrams at a time lets its thread rest, for a wake-up costs as much as ten of them …
const BUSY: usize = 8;
/// … if its receive buffer holds what comes meanwhile many times over.
const ROOMY: usize = 4 << 20;

/// What a datagram socket's task is made of.
pub(super) struct Socket {
    pub(super) fd: OwnedFd,
    pub(super) shared: Arc<Shared>,
    pub(super) names: Arc<Names>,
    pub(super) token: TaskTrackerToken,
}

/// Either kind, as the runtime knows it.
enum Readable {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Readable {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        match socket2::SockRef::from(&fd).domain()? {
            socket2::Domain::UNIX => {
                socket2::SockRef::from(&fd).set_passcred(true)?;
                UnixDatagram::from_std(fd.into()).map(Self::Unix)
            }
            _ => UdpSocket::from_std(fd.into()).map(Self::Udp),
        }
    }

    async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.readable().await,
            Self::Unix(socket) => socket.readable().await,
        }
    }

    fn try_io(&self, read: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.try_io(Interest::READABLE, || read(socket.as_fd())),
            Self::Unix(socket) => socket.try_io(Interest::READABLE, || read(socket.as_fd())),
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Udp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }

    /// A unix socket holds few datagrams, and its senders wait.
    fn is_roomy(&self) -> bool {
        match self {
            Self::Udp(socket) => socket2::SockRef::from(socket).recv_buffer_size().is_ok_and(|size| size >= ROOMY),
            Self::Unix(_) => false,
        }
    }
}

/// Of whom a datagram is.
type Who = (Option<IpAddr>, Option<Credentials>);

/// The senders, as origins of a batch.
#[derive(Default)]
struct Senders {
    by_address: HashMap<Who, u32, foldhash::fast::RandomState>,
    origins: Vec<Arc<Origin>>,
    since: Option<Instant>,
    settings: Option<Arc<Settings>>,
}

/// Reads until the input ends; then what has already arrived, and no more.
pub(super) async fn serve(socket: Socket, worker: Rc<Worker>) {
    let Socket { fd, shared, names, token } = socket;
    let socket = match Readable::new(fd) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!("input `{}`: cannot be read: {}", shared.name, reason(&error)),
    };
    let mut reader = Reader {
        shared,
        names,
        kernel_drops: 0,
        is_local: matches!(socket, Readable::Unix(_)),
        slots: if matches!(socket, Readable::Unix(_)) { Receiver::with_credentials() } else { Receiver::default() },
        count: 0,
        frames: Vec::new(),
        translated: Vec::new(),
        senders: Senders::default(),
        touched: Touched::default(),
    };
    let mut looks = tokio::time::interval(DROPS);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (stop, roomy, counts) = (reader.shared.stop.clone(), socket.is_roomy(), matches!(socket, Readable::Udp(_)));
    let _tight = (!counts).then(|| worker.never_rest());
    loop {
        worker.unblocked(&reader.touched).await;
        let ready = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = looks.tick(), if counts => {
                reader.count_drops(socket.as_fd());
                continue;
            }
            ready = socket.readable() => ready,
        };
        match ready.and_then(|()| socket.try_io(|fd| reader.receive(fd, &worker))) {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if roomy && reader.count >= BUSY {
                    worker.rest();
                }
            }
            Err(error) => {
                reader.failed(&error);
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
    let enough = Instant::now() + LAST_READS;
    let mut more = true;
    while more && Instant::now() < enough {
        more = reader.receive(socket.as_fd(), &worker).is_ok();
        worker.unblocked(&reader.touched).await;
    }
    reader.count_drops(socket.as_fd());
    drop(token);
}

struct Reader {
    shared: Arc<Shared>,
    names: Arc<Names>,
    /// What the kernel said last.
    kernel_drops: u32,
    /// The senders are processes of this host.
    is_local: bool,
    slots: Receiver,
    /// How many datagrams the last call brought.
    count: usize,
    frames: Vec<Frame>,
    /// What records of Python became.
    translated: Vec<u8>,
    senders: Senders,
    touched: Touched,
}

impl Reader {
    /// One system call and what it brought; `WouldBlock` as soon as nothing more is there.
    fn receive(&mut self, fd: BorrowedFd<'_>, worker: &Worker) -> io::Result<()> {
        self.count = 0;
        let count = self.slots.receive(fd)?;
        self.count = count;
        let settings = self.shared.settings.load_full();
        self.senders.refresh(&settings, if self.is_local { FORGET_PROCESSES } else { FORGET });
        self.frames.clear();
        self.translated.clear();
        let is_python = settings.protocol == Protocol::Python;
        for i in 0..count {
            let datagram = self.slots.datagram(i);
            if datagram.peer.is_some_and(|peer| !settings.allows(peer)) {
                self.refuse(datagram.peer);
                continue;
            }
            let bytes = &self.slots.arena()[datagram.start..datagram.start + datagram.length];
            let who = (datagram.peer, datagram.credentials);
            if is_python {
                let origin = self.senders.of(who, &self.shared, &self.names, &settings);
                let record = python::datagram(bytes, &settings, &mut self.translated);
                self.shared.counters.foreign.add(u64::from(record.is_foreign));
                self.frames.push(Frame { origin, ..record.frame });
                continue;
            }
            let length = trimmed(bytes);
            if length == 0 {
                continue;
            }
            let kept = length.min(settings.max_message);
            let truncated = datagram.truncated || kept < length;
            let origin = self.senders.of(who, &self.shared, &self.names, &settings);
            let span = Span::new(datagram.start, datagram.start + kept);
            self.frames.push(Frame { origin, truncated, ..Frame::of(span) });
        }
        let received = Received::now();
        let arena = if is_python { &self.translated } else { self.slots.arena() };
        let batch = Batch { arena, frames: &self.frames, origins: &self.senders.origins, received: &received };
        worker.process(&self.shared, &settings, &batch, &mut self.touched, None);
        if count < Receiver::COUNT { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }

    fn count_drops(&mut self, fd: BorrowedFd<'_>) {
        let total = socket::drops(fd).unwrap_or(self.kernel_drops);
        let new = total.wrapping_sub(self.kernel_drops);
        self.kernel_drops = total;
        self.shared.counters.kernel_drops.add(u64::from(new));
    }

    fn refuse(&self, peer: Option<IpAddr>) {
        self.shared.counters.refused_allow.add(1);
        if let Some(peer) = peer {
            warn_limited!(
                self.shared.log.allow,
                "input `{}`: a datagram of {peer} was refused: not in `allow`",
                self.shared.name
            );
        }
    }

    fn failed(&self, error: &io::Error) {
        warn_limited!(self.shared.log.connection, "input `{}`: receiving failed: {}", self.shared.name, reason(error));
    }
}

/// What can be found out about a process; one that has ended keeps its numbers.
pub(super) fn sender(credentials: Credentials) -> Sender {
    let Credentials { pid, uid, gid } = credentials;
    let (unit, program) = (process::unit(pid).unwrap_or_default(), process::name(pid).unwrap_or_default());
    Sender { pid, uid, gid, unit: unit.into(), program: program.into(), ..Sender::default() }
}

impl Senders {
    fn refresh(&mut self, settings: &Arc<Settings>, forget: Duration) {
        let changed = self.settings.as_ref().is_none_or(|known| !Arc::ptr_eq(known, settings));
        let old = self.since.is_none_or(|since| since.elapsed() > forget);
        if changed || old || self.origins.len() > SENDERS {
            *self = Self { since: Some(Instant::now()), settings: Some(settings.clone()), ..Self::default() };
        }
    }

    fn of(&mut self, who: Who, shared: &Shared, names: &Arc<Names>, settings: &Settings) -> u32 {
        *self.by_address.entry(who).or_insert_with(|| {
            self.origins.push(match who.1 {
                Some(credentials) => names.of_sender(shared, settings, sender(credentials)),
                None => names.origin(shared, settings, who.0),
            });
            self.origins.len() as u32 - 1
        })
    }
}
