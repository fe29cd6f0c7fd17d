//! `[[input.python]]`: the pickled records of Python's `SocketHandler` and `DatagramHandler`, as those send them.
//!
//! A record is four octets of length, the highest first, and a pickle. Nothing in it is executed (`translate::pickle`). Whoever
//! sends something else here is not turned away: what cannot be a record's length is syslog.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};
use toml::Spanned;

use super::handover::Keep;
use super::stream::{self, CLOSE_DEADLINE, Connection, LAST_READS, NOTHING_MORE};
use super::unix::Kind;
use super::{Plan, Protocol, Settings, Transport, tls_options};
use crate::config::{Address, FacilityName, Mode, Network, Period, Scope};
use crate::frame::{Saved, trimmed};
use crate::message::{Batch, Frame, Received, Span};
use crate::route::Touched;
use crate::translate::{Translated, from_pickle};
use crate::warn_limited;

tls_options! {
    input_config,
    pub struct Config {
        pub listen: Spanned<Address>,
        /// `SocketHandler` needs a stream, `DatagramHandler` datagrams.
        pub kind: Option<Kind>,
        /// Of records, which have none.
        pub facility: Option<FacilityName>,
        /// Others are closed; empty: everybody may come.
        #[serde(default)]
        pub allow: Vec<Network>,
        pub max_connections: Option<usize>,
        /// A connection that is silent for so long is closed; never where it is not given.
        pub idle_timeout: Option<Period>,
        /// Of a unix socket; everybody may write where it is not given.
        pub mode: Option<Mode>,
        pub owner: Option<Spanned<String>>,
        pub group: Option<Spanned<String>>,
    }
}

/// A traceback and what an application adds to a record come to more than a line of syslog does.
const MAX_MESSAGE: usize = 1 << 20;
/// Asked of the kernel at a time.
const READ_BYTES: usize = 64 << 10;
/// Of the length before a record.
const LENGTH: usize = 4;

pub(super) fn plan(config: &Config, scope: &mut Scope<'_>) -> Option<Plan> {
    let transport = match config.kind {
        Some(Kind::Datagram) => Transport::Datagram,
        Some(Kind::Stream) | None => Transport::Stream,
    };
    let is_tcp = transport == Transport::Stream && matches!(config.listen.as_ref(), Address::Ip(_));
    if let Some(certificate) = config.certificate.as_ref().filter(|_| !is_tcp) {
        scope.error(certificate.span(), "TLS is for TCP: an address and port, and streams");
    }
    let settings = config.settings(scope);
    let settings = Settings {
        max_message: if config.max_message.is_some() { settings.max_message } else { MAX_MESSAGE },
        allow: config.allow.iter().map(|network| network.0).collect(),
        max_connections: config.max_connections.unwrap_or(settings.max_connections),
        idle: config.idle_timeout.map(|period| period.0),
        handshake: config.handshake_timeout.map_or(settings.handshake, |period| period.0),
        protocol: Protocol::Python,
        facility: config.facility.map_or(settings.facility, |facility| facility.0),
        tls: config.tls(scope),
        ..settings
    };
    let owner = scope.user(config.owner.as_ref()).map(|user| user.uid);
    let group = scope.group(config.group.as_ref());
    Some(Plan {
        name: config.name.as_str().into(),
        kind: "python",
        transport,
        address: config.listen.as_ref().clone(),
        permissions: (config.mode.map_or(0o666, |mode| mode.0), owner, group),
        settings,
    })
}

/// A datagram is a record with its length; one without is taken too, and what is neither is a message of syslog.
pub(super) fn datagram(bytes: &[u8], settings: &Settings, arena: &mut Vec<u8>) -> Translated {
    let options = settings.translation();
    match bytes.split_first_chunk::<LENGTH>() {
        Some((length, pickle)) if is_pickle(pickle) && !is_priority(length) => {
            let cut = &pickle[..pickle.len().min(settings.max_message)];
            let translated = from_pickle(cut, &options, arena);
            let frame = Frame { truncated: translated.frame.truncated || cut.len() < pickle.len(), ..translated.frame };
            Translated { frame, ..translated }
        }
        _ if is_pickle(bytes) => from_pickle(bytes, &options, arena),
        _ => {
            let (start, length) = (arena.len(), trimmed(bytes).min(settings.max_message));
            arena.extend_from_slice(&bytes[..length]);
            Translated { frame: Frame::of(Span::new(start, arena.len())), is_foreign: true }
        }
    }
}

/// A dict in protocol 0 or 1, or any value in a later one.
fn is_pickle(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(b'}' | b'(' | 0x80))
}

/// `<78>(root) CMD` is syslog, and no record of a gigabyte.
fn is_priority(bytes: &[u8]) -> bool {
    matches!(bytes, [b'<', b'0'..=b'9', ..])
}

/// A stream between two reads.
#[derive(Default)]
struct Reading {
    /// What has come and is not taken yet.
    buffer: Vec<u8>,
    /// Octets of an overlong record that go to nobody.
    skip: usize,
    touched: Touched,
    /// What records became; kept for its memory.
    arena: Vec<u8>,
    frames: Vec<Frame>,
}

/// Serves the stream to its end; another process may have left a beginning.
pub(super) async fn serve<S: Keep>(mut stream: S, connection: Connection, held: Vec<u8>) {
    let (shared, settings) = (connection.shared.clone(), connection.shared.settings.load_full());
    let mut reading = Reading { buffer: held, ..Reading::default() };
    let stopped = shared.stop.cancelled();
    tokio::pin!(stopped);
    let mut last_byte = Instant::now();
    loop {
        if reading.take(&connection) == Found::Syslog {
            if settings.tls.is_none() && connection.is_tls_hello(&reading.buffer) {
                return;
            }
            return go_on_as_syslog(stream, connection, reading.buffer).await;
        }
        connection.worker.unblocked(&reading.touched).await;
        let idle = settings.idle.map(|time| last_byte + time);
        tokio::select! {
            biased;
            () = &mut stopped => {
                if S::KEEPABLE && reading.skip == 0 && shared.heir.get().is_some() {
                    return connection.hand_over(stream, Saved::default(), reading.buffer);
                }
                let _ = timeout(LAST_READS, reading.read_what_is_there(&mut stream, &connection)).await;
                break;
            }
            () = sleep_until(idle.unwrap_or(last_byte)), if idle.is_some() => break,
            count = reading.read(&mut stream) => match count {
                Ok(0) => break,
                Ok(_) => last_byte = Instant::now(),
                Err(error) => {
                    connection.broken(&error);
                    break;
                }
            },
        }
    }
    reading.end(&connection);
    connection.worker.unblocked(&reading.touched).await;
    let _ = timeout(CLOSE_DEADLINE, stream.shutdown()).await;
}

async fn go_on_as_syslog<S: Keep>(stream: S, connection: Connection, held: Vec<u8>) {
    let (name, peer) = (&connection.shared.name, &connection.origin.peer_text);
    connection.shared.counters.foreign.add(1);
    warn_limited!(
        connection.shared.log.protocol,
        "input `{name}`: {peer} sends no pickled records (Python's SocketHandler does); it is read as syslog"
    );
    stream::resume(stream, connection, &Saved::default(), held).await;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Records,
    /// What stands where a length should is text.
    Syslog,
}

impl Reading {
    async fn read<S: Keep>(&mut self, stream: &mut S) -> io::Result<usize> {
        self.buffer.reserve(READ_BYTES);
        stream.read_buf(&mut self.buffer).await
    }

    async fn read_what_is_there<S: Keep>(&mut self, stream: &mut S, connection: &Connection) {
        // Pending may only mean that the runtime has not looked yet.
        while let Ok(Ok(1..)) = timeout(NOTHING_MORE, self.read(stream)).await {
            self.take(connection);
            connection.worker.unblocked(&self.touched).await;
        }
    }

    /// Everything whole that has come.
    fn take(&mut self, connection: &Connection) -> Found {
        let settings = connection.shared.settings.load_full();
        let skipped = self.skip.min(self.buffer.len());
        let mut at = skipped;
        self.skip -= skipped;
        let mut found = Found::Records;
        while let Some((length, rest)) = self.buffer[at..].split_first_chunk::<LENGTH>() {
            let length = u32::from_be_bytes(*length) as usize;
            if length <= settings.max_message {
                let Some(record) = rest.get(..length) else { break };
                if length > 0 {
                    let translated = from_pickle(record, &settings.translation(), &mut self.arena);
                    connection.shared.counters.foreign.add(u64::from(translated.is_foreign));
                    self.frames.push(translated.frame);
                }
                at += LENGTH + length;
                continue;
            }
            match rest.first() {
                None => break,
                Some(_) if !is_pickle(rest) || is_priority(&length.to_be_bytes()[4..]) => {
                    found = Found::Syslog;
                    break;
                }
                // What is cut gives what had come of it.
                Some(_) => {
                    let Some(record) = rest.get(..settings.max_message) else { break };
                    let translated = from_pickle(record, &settings.translation(), &mut self.arena);
                    self.frames.push(Frame { truncated: true, ..translated.frame });
                    let have = rest.len().min(length);
                    self.skip = length - have;
                    at += LENGTH + have;
                }
            }
        }
        self.process(connection);
        self.buffer.drain(..at);
        if self.buffer.is_empty() && self.buffer.capacity() > 2 * READ_BYTES {
            self.buffer = Vec::new();
        }
        found
    }

    /// A record that breaks off gives what had come of it.
    fn end(&mut self, connection: &Connection) {
        let settings = connection.shared.settings.load_full();
        if self.skip == 0 && self.buffer.len() > LENGTH {
            let translated = from_pickle(&self.buffer[LENGTH..], &settings.translation(), &mut self.arena);
            connection.shared.counters.foreign.add(1);
            self.frames.push(Frame { truncated: true, ..translated.frame });
            self.process(connection);
        }
    }

    fn process(&mut self, connection: &Connection) {
        if self.frames.is_empty() {
            return;
        }
        let settings = connection.shared.settings.load();
        let origins = std::slice::from_ref(&connection.origin);
        let batch = Batch { arena: &self.arena, frames: &self.frames, origins, received: &Received::now() };
        connection.worker.process(&connection.shared, &settings, &batch, &mut self.touched, None);
        self.frames.clear();
        self.arena.clear();
        if self.arena.capacity() > 4 * READ_BYTES {
            self.arena = Vec::new();
        }
    }
}
