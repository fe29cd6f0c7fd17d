//! `[[input.relp]]`: RELP, plain and over TLS. A message is acknowledged when every output that takes it has it for good:
//! written, delivered, or in its queue on disk.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::stream::Connection;
use super::{Plan, Protocol, Settings, tls_options};
use crate::config::Scope;
use crate::frame::relp::{self, Relp};
use crate::frame::trimmed;
use crate::message::{Batch, Frame, Received, Span};
use crate::net::compression::Unpacker;
use crate::queue::{Acceptance, Receipt};
use crate::route::Touched;
use crate::warn_limited;

tls_options! {
    stream_config,
    pub struct Config {
    }
}

pub(super) fn plan(config: &Config, scope: &mut Scope<'_>) -> Option<Plan> {
    let tls = config.tls(scope);
    Some(config.plan("relp", scope, |settings| Settings {
        handshake: config.handshake_timeout.map_or(settings.handshake, |period| period.0),
        protocol: Protocol::Relp,
        tls,
        ..settings
    }))
}

/// Asked of the kernel at a time.
const READ_BYTES: usize = 64 << 10;
/// A client that does not take its answers is left.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);
/// At a stop: for what has been taken to become safe, so that it need not come again.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);
/// RELP's own commands are short.
const LONGEST_COMMAND: usize = 64 << 10;

struct Session {
    /// What has come and is not taken yet.
    buffer: Vec<u8>,
    /// Through which everything comes after the client has asked for it.
    unpacker: Option<Unpacker>,
    /// Octets of an overlong message that go to nobody.
    skip: usize,
    is_open: bool,
    /// The client has said that it closes.
    closing: bool,
    /// What has been taken and not acknowledged, in its order.
    taken: VecDeque<(Acceptance, Vec<u32>)>,
    /// Told when some of it may have become safe.
    safe: Arc<Notify>,
    touched: Touched,
    /// Frames for the client.
    answers: Vec<u8>,
}

/// What one read has brought.
#[derive(Default)]
struct Taken {
    frames: Vec<Frame>,
    numbers: Vec<u32>,
}

/// Serves the stream to its end.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, connection: Connection) {
    let settings = connection.shared.settings.load_full();
    let mut session = Session {
        buffer: Vec::new(),
        unpacker: None,
        skip: 0,
        is_open: false,
        closing: false,
        taken: VecDeque::new(),
        safe: Arc::default(),
        touched: Touched::default(),
        answers: Vec::new(),
    };
    let result = session.run(&mut stream, &connection, &settings).await;
    if let Err(error) = result {
        let what = match error.kind() {
            io::ErrorKind::InvalidData => format!("does not speak RELP: {error}; closed"),
            _ => format!("broke its connection: {}", crate::sys::reason(&error)),
        };
        let (name, peer) = (&connection.shared.name, &connection.origin.peer_text);
        warn_limited!(connection.shared.log.connection, "input `{name}`: {peer} {what}");
    }
    let _ = timeout(CLOSE_DEADLINE, stream.shutdown()).await;
}

impl Session {
    async fn run<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        connection: &Connection,
        settings: &Settings,
    ) -> io::Result<()> {
        let stopped = connection.shared.stop.cancelled();
        tokio::pin!(stopped);
        let mut last_byte = Instant::now();
        let safe = self.safe.clone();
        loop {
            self.answer(stream).await?;
            if self.closing && self.taken.is_empty() {
                return Ok(());
            }
            let idle = settings.idle.map(|time| last_byte + time);
            let reading = async {
                // A full queue stops the reading; what has become safe is acknowledged all the same.
                connection.worker.unblocked(&self.touched).await;
                receive(stream, self.unpacker.as_mut(), &mut self.buffer).await
            };
            let count = tokio::select! {
                biased;
                () = &mut stopped => return self.stop(stream).await,
                () = safe.notified() => continue,
                () = sleep_until(idle.unwrap_or(last_byte)), if idle.is_some() => return Ok(()),
                count = reading, if !self.closing => count?,
            };
            if count == 0 {
                return Ok(());
            }
            last_byte = Instant::now();
            self.take(connection, settings)?;
        }
    }

    /// What was taken may still become safe; everything else comes again.
    async fn stop<S: AsyncWrite + Unpin>(&mut self, stream: &mut S) -> io::Result<()> {
        let (safe, deadline) = (self.safe.clone(), Instant::now() + LAST_ANSWERS);
        while !self.taken.is_empty() && timeout_at(deadline, safe.notified()).await.is_ok() {
            self.answer(stream).await?;
        }
        relp::write(0, "serverclose", b"", &mut self.answers);
        self.answer(stream).await
    }

    /// Acknowledges what has become safe, in the order in which it came.
    async fn answer<S: AsyncWrite + Unpin>(&mut self, stream: &mut S) -> io::Result<()> {
        while self.taken.front().is_some_and(|(acceptance, _)| acceptance.is_given()) {
            let numbers = self.taken.pop_front().map(|(_, numbers)| numbers);
            for number in numbers.into_iter().flatten() {
                relp::write(number, "rsp", b"200 OK", &mut self.answers);
            }
        }
        if self.answers.is_empty() {
            return Ok(());
        }
        let writing = async {
            stream.write_all(&self.answers).await?;
            stream.flush().await
        };
        timeout(WRITE_DEADLINE, writing).await.map_err(|_| io::ErrorKind::TimedOut)??;
        self.answers.clear();
        Ok(())
    }

    /// Everything whole that has come.
    fn take(&mut self, connection: &Connection, settings: &Settings) -> io::Result<()> {
        let skipped = self.skip.min(self.buffer.len());
        let (mut at, mut taken) = (skipped, Taken::default());
        self.skip -= skipped;
        let wrong = loop {
            match relp::split(&self.buffer[at..]) {
                Relp::Frame(frame) => {
                    let data = at + frame.data.start..at + frame.data.end;
                    let command = &self.buffer[at + frame.command.start..at + frame.command.end];
                    if command == b"syslog" && self.is_open {
                        // rsyslog sends the line feed of its templates.
                        let end = data.start + trimmed(&self.buffer[data.clone()]);
                        taken.add(frame.number, data.start..end, settings.max_message);
                    } else if let Err(why) = self.obey(frame.number, at + frame.command.start..at + frame.command.end, data) {
                        break Some(why);
                    }
                    at += frame.length;
                }
                Relp::Unfinished(Some(frame)) if frame.data.len() > settings.max_message.max(LONGEST_COMMAND) => {
                    let command = &self.buffer[at + frame.command.start..at + frame.command.end];
                    if command != b"syslog" || !self.is_open {
                        break Some("its command is too long");
                    }
                    let have = self.buffer.len() - at;
                    if have < frame.data.start + settings.max_message {
                        break None;
                    }
                    taken.add(frame.number, at + frame.data.start..at + frame.data.end, settings.max_message);
                    self.skip = frame.length - have;
                    at = self.buffer.len();
                }
                Relp::Unfinished(_) => break None,
                Relp::Wrong(why) => break Some(why),
            }
        };
        self.process(connection, settings, taken);
        self.buffer.drain(..at);
        if self.buffer.is_empty() && self.buffer.capacity() > 2 * READ_BYTES {
            self.buffer = Vec::new();
        }
        wrong.map_or(Ok(()), |why| Err(io::Error::new(io::ErrorKind::InvalidData, why)))
    }

    fn process(&mut self, connection: &Connection, settings: &Settings, taken: Taken) {
        if taken.frames.is_empty() {
            return;
        }
        let (receipt, acceptance) = Receipt::new(self.safe.clone());
        let origins = std::slice::from_ref(&connection.origin);
        let batch = Batch { arena: &self.buffer, frames: &taken.frames, origins, received: &Received::now() };
        connection.worker.process(&connection.shared, settings, &batch, &mut self.touched, Some(receipt));
        self.taken.push_back((acceptance, taken.numbers));
    }

    /// The answer to an opened session.
    fn open(&mut self, offers: &[u8]) -> Result<String, &'static str> {
        let compressed = !self.is_open && relp::offers_compression(offers);
        if compressed {
            self.unpacker = Some(Unpacker::new().map_err(|_| "there is no memory to unpack it")?);
        }
        self.is_open = true;
        Ok(format!("200 OK\n{}", relp::offers(offered_version(offers), compressed)))
    }

    /// A command that is no message.
    fn obey(&mut self, number: u32, command: std::ops::Range<usize>, data: std::ops::Range<usize>) -> Result<(), &'static str> {
        match &self.buffer[command] {
            b"open" => {
                let offers = self.buffer[data].to_vec();
                let answer = self.open(&offers)?;
                relp::write(number, "rsp", answer.as_bytes(), &mut self.answers);
                Ok(())
            }
            b"close" => {
                relp::write(number, "rsp", b"", &mut self.answers);
                relp::write(0, "serverclose", b"", &mut self.answers);
                self.closing = true;
                Ok(())
            }
            b"syslog" => Err("a message comes before `open`"),
            b"starttls" => {
                relp::write(number, "rsp", b"500 TLS begins with the connection", &mut self.answers);
                Ok(())
            }
            _ => {
                relp::write(number, "rsp", b"500 no such command", &mut self.answers);
                Ok(())
            }
        }
    }
}

/// Reads what there is, unpacked; 0 is the end. Cancel-safe.
async fn receive<S: AsyncRead + Unpin>(
    stream: &mut S,
    unpacker: Option<&mut Unpacker>,
    buffer: &mut Vec<u8>,
) -> io::Result<usize> {
    buffer.reserve(READ_BYTES);
    let Some(unpacker) = unpacker else { return stream.read_buf(buffer).await };
    loop {
        // A little can stand for very much: others have their turn.
        tokio::task::consume_budget().await;
        let broken = |_| io::Error::new(io::ErrorKind::InvalidData, "its compressed stream is broken");
        let count = unpacker.unpack(READ_BYTES, buffer).map_err(broken)?;
        if count > 0 {
            return Ok(count);
        }
        let packed = unpacker.packed();
        packed.reserve(READ_BYTES);
        if stream.read_buf(packed).await? == 0 {
            return Ok(0);
        }
    }
}

impl Taken {
    fn add(&mut self, number: u32, data: std::ops::Range<usize>, max: usize) {
        let truncated = data.len() > max;
        let span = Span::new(data.start, data.start + data.len().min(max));
        self.frames.push(Frame { truncated, ..Frame::of(span) });
        self.numbers.push(number);
    }
}

/// Versions 0 and 1 say the same; what is offered is taken.
fn offered_version(offers: &[u8]) -> u8 {
    let line = offers.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"relp_version="));
    u8::from(line.is_some_and(|version| version != b"0"))
}
