//! One connection: read, frame, process, until the peer closes, falls silent for too long, or the input ends.
//!
//! What was read is never discarded: at a close, a half-close, a broken TLS session or a stop the last message is
//! delivered, terminated or not. An idle connection costs a task and a socket; bytes wait only while a frame is unfinished.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::handover::{ConnectionState, Keep, Kept};
use super::worker::{Seat, count_errors};
use super::{Shared, Worker};
use crate::frame::{Event, Framer, Saved};
use crate::message::{Batch, Origin, Received};
use crate::route::Touched;
use crate::sys::{reason, socket};
use crate::warn_limited;

/// Asked of the kernel at a time; with 256-byte messages some five hundred of them.
const READ_BYTES: usize = 128 << 10;
/// A stop reads what has already arrived, for no longer than this.
pub(super) const LAST_READS: Duration = Duration::from_secs(1);
/// After a stop, silence for so long means that nothing more was on its way.
pub(super) const NOTHING_MORE: Duration = Duration::from_millis(20);
/// A peer that does not take the close is left.
pub(super) const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// What belongs to a connection besides its stream.
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) worker: Rc<Worker>,
    pub(super) origin: Arc<Origin>,
    /// One of the thread's, counted until the end.
    pub(super) seat: Seat,
    /// The daemon waits for all of these before it stops.
    pub(super) token: TaskTrackerToken,
}

/// A stream between two reads.
struct Reading {
    framer: Framer,
    /// The beginning of a frame whose end has not come.
    held: Vec<u8>,
    touched: Touched,
    /// Nothing has come yet.
    fresh: bool,
    /// A pause has changed nothing: another one would not either.
    paused: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Closed,
    /// No byte for as long as `idle-timeout` allows.
    Idle,
    Pause,
    Read,
    Stop,
}

/// Serves the stream to its end, from where another process may have left it.
pub(super) async fn resume<S: Keep>(mut stream: S, connection: Connection, saved: &Saved, held: Vec<u8>) {
    let settings = connection.shared.settings.load_full();
    let framer = Framer::resume(settings.framing, settings.max_message, saved);
    let mut reading = Reading { framer, fresh: held.is_empty(), held, touched: Touched::default(), paused: false };
    let stopped = connection.shared.stop.cancelled();
    tokio::pin!(stopped);
    let mut last_byte = Instant::now();
    loop {
        connection.worker.unblocked(&reading.touched).await;
        let patience = reading.framer.patience(&reading.held).filter(|_| !reading.paused);
        if patience == Some(Duration::ZERO) {
            connection.split(&mut reading, Event::Pause);
            continue;
        }
        let idle = settings.idle.map(|time| last_byte + time);
        let next = tokio::select! {
            biased;
            () = &mut stopped => Next::Stop,
            read = poll_fn(|cx| connection.read(&mut stream, &mut reading, cx)) => read,
            () = sleep(patience.unwrap_or_default()), if patience.is_some() => Next::Pause,
            () = sleep_until(idle.unwrap_or(last_byte)), if idle.is_some() => Next::Idle,
        };
        match next {
            Next::Read => last_byte = Instant::now(),
            Next::Pause => connection.split(&mut reading, Event::Pause),
            Next::Closed | Next::Idle => break,
            Next::Stop if S::KEEPABLE && connection.shared.heir.get().is_some() => {
                let framer = reading.framer.save();
                return connection.hand_over(stream, framer, reading.held);
            }
            Next::Stop => {
                // What has arrived was accepted by the kernel in our name.
                let _ = timeout(LAST_READS, connection.read_what_is_there(&mut stream, &mut reading)).await;
                break;
            }
        }
    }
    connection.split(&mut reading, Event::End);
    connection.worker.unblocked(&reading.touched).await;
    // close_notify for TLS (RFC 5425, section 4.4); a peer that has gone makes no difference.
    let _ = timeout(CLOSE_DEADLINE, stream.shutdown()).await;
}

impl Connection {
    /// What has not been read stays in the socket.
    pub(super) fn hand_over(&self, stream: impl Keep, framer: Saved, held: Vec<u8>) {
        let (Some(heir), Some(fd)) = (self.shared.heir.get(), stream.keep()) else { return };
        let state = ConnectionState {
            cookie: socket::cookie(fd.as_fd()).unwrap_or(0),
            input: self.shared.name.to_string(),
            peer: self.origin.peer,
            framer,
            held,
        };
        // Nobody takes it: it is closed, as at any stop.
        let _ = heir.send(Kept { fd, state });
    }

    /// One read into the thread's arena, behind what is held, and everything that follows from it; all of it within one
    /// poll, so that the arena is free whenever anybody waits.
    fn read<S: AsyncRead + Unpin>(&self, stream: &mut S, reading: &mut Reading, cx: &mut Context<'_>) -> Poll<Next> {
        let mut buffers = self.worker.buffers.borrow_mut();
        let buffers = &mut *buffers;
        let held = reading.held.len();
        if buffers.arena.len() < held + READ_BYTES {
            buffers.arena.resize(held + READ_BYTES, 0);
        }
        let mut target = ReadBuf::new(&mut buffers.arena[held..held + READ_BYTES]);
        let count = match Pin::new(stream).poll_read(cx, &mut target) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) => target.filled().len(),
            Poll::Ready(Err(error)) => {
                self.broken(&error);
                0
            }
        };
        if count == 0 {
            return Poll::Ready(Next::Closed);
        }
        buffers.arena[..held].copy_from_slice(&reading.held);
        if std::mem::take(&mut reading.fresh) && self.is_tls_hello(&buffers.arena[..count]) {
            return Poll::Ready(Next::Closed);
        }
        let arena = &buffers.arena[..held + count];
        let used = self.process(reading, arena, Event::More, &mut buffers.frames);
        reading.held.clear();
        reading.held.extend_from_slice(&arena[used..]);
        if reading.held.is_empty() && reading.held.capacity() > 4096 {
            reading.held = Vec::new();
        }
        reading.paused = false;
        Poll::Ready(Next::Read)
    }

    /// Reads what has arrived.
    async fn read_what_is_there<S: AsyncRead + Unpin>(&self, stream: &mut S, reading: &mut Reading) {
        loop {
            // Pending may only mean that the runtime has not looked yet.
            match timeout(NOTHING_MORE, poll_fn(|cx| self.read(stream, reading, cx))).await {
                Ok(Next::Closed) | Err(_) => return,
                Ok(_) => {}
            }
            self.worker.unblocked(&reading.touched).await;
        }
    }

    /// Tells the framer what time has told us.
    fn split(&self, reading: &mut Reading, event: Event) {
        let mut buffers = self.worker.buffers.borrow_mut();
        let held = std::mem::take(&mut reading.held);
        let used = self.process(reading, &held, event, &mut buffers.frames);
        reading.paused = used == 0;
        reading.held.extend_from_slice(&held[used..]);
    }

    fn process(&self, reading: &mut Reading, arena: &[u8], event: Event, frames: &mut Vec<crate::message::Frame>) -> usize {
        frames.clear();
        let used = reading.framer.split(arena, event, frames);
        if !frames.is_empty() {
            let settings = self.shared.settings.load();
            let batch = Batch { arena, frames, origins: std::slice::from_ref(&self.origin), received: &Received::now() };
            self.worker.process(&self.shared, &settings, &batch, &mut reading.touched, None);
        }
        let errors = reading.framer.take_errors();
        // Oversized frames are counted as messages are.
        count_errors(&self.shared, &crate::frame::Errors { oversized: 0, ..errors });
        used
    }

    pub(super) fn is_tls_hello(&self, bytes: &[u8]) -> bool {
        let hello = matches!(self.shared.kind, "python" | "tcp") && bytes.starts_with(&[0x16, 0x03]);
        if hello {
            let Shared { name, log, .. } = &*self.shared;
            warn_limited!(
                log.protocol,
                "input `{name}`: {} speaks TLS (a ClientHello) to a plain TCP port; closed",
                self.origin.peer_text
            );
        }
        hello
    }

    /// Sessions end without a close_notify, and peers reset: what they have sent is delivered all the same.
    pub(super) fn broken(&self, error: &io::Error) {
        let Shared { name, log, .. } = &*self.shared;
        if error.kind() != io::ErrorKind::UnexpectedEof {
            warn_limited!(log.connection, "input `{name}`: the connection of {} broke: {}", self.origin.peer_text, reason(error));
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.counters.connections.sub(1);
        let _ = (&self.seat, &self.token);
    }
}
