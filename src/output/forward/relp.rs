//! A RELP session to one target: messages with numbers, and answers that say which have arrived.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::within;
use crate::frame::relp::{self, Relp};
use crate::net::compression::Packer;
use crate::queue::{Answer, Chunk, State};
use crate::sys::reason;

/// A server acknowledges when it has stored a message, and may have to wait for that itself.
const ACKNOWLEDGED: Duration = Duration::from_secs(90);
/// So long a full window is waited for before others have a look at it.
const LOOK: Duration = Duration::from_millis(20);
const READ_BYTES: usize = 16 << 10;
/// No answer is longer.
const LONGEST_ANSWER: usize = 128 << 10;

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub(super) struct Session {
    stream: Box<dyn Stream>,
    /// Of what is on its way, something must be acknowledged within this.
    patience: Duration,
    /// So many messages may be on their way.
    window: usize,
    /// The number of the next command.
    number: u32,
    /// Messages on their way: their numbers, and what was answered.
    under_way: VecDeque<(u32, Option<Answer>)>,
    /// What became of those before them, and has not been reported.
    outcomes: Vec<Answer>,
    received: Vec<u8>,
    frames: Vec<u8>,
    /// Where the server takes it.
    packer: Option<Packer>,
    /// On its way to the socket, and how much of it has gone.
    outgoing: Vec<u8>,
    gone: usize,
    /// When something was acknowledged, or nothing was on its way.
    progress: Instant,
    /// The server has said that it closes.
    closed: bool,
}

impl Session {
    /// Opens the session.
    pub(super) async fn open(
        stream: Box<dyn Stream>,
        timeout: Duration,
        window: usize,
        compressed: bool,
    ) -> Result<Self, String> {
        let mut session = Self {
            stream,
            patience: timeout.max(ACKNOWLEDGED),
            window,
            number: 1,
            under_way: VecDeque::new(),
            outcomes: Vec::new(),
            received: Vec::new(),
            frames: Vec::new(),
            packer: None,
            outgoing: Vec::new(),
            gone: 0,
            progress: Instant::now(),
            closed: false,
        };
        relp::write(1, "open", relp::offers(0, compressed).as_bytes(), &mut session.frames);
        session.number = 2;
        within(timeout, "no answer to the opening of a RELP session", session.opened()).await?;
        Ok(session)
    }

    async fn opened(&mut self) -> Result<(), String> {
        self.flush().await?;
        loop {
            if let Some((_, answer)) = self.next_answer()? {
                return match answer.strip_prefix(b"200") {
                    Some(answer) => {
                        if relp::offers_compression(answer) {
                            self.packer = Some(Packer::new().map_err(|error| reason(&error))?);
                        }
                        Ok(())
                    }
                    None => Err(format!("the RELP session was refused: {}", String::from_utf8_lossy(&answer))),
                };
            }
            self.receive().await?;
        }
    }

    /// Sends what is pending; waits a little for answers where too many messages are on their way, and leaves the rest.
    pub(super) async fn send(&mut self, chunk: &mut Chunk, timeout: Duration) -> Result<(), String> {
        while chunk.pending() > 0 {
            if self.under_way.len() >= self.window {
                match tokio::time::timeout(LOOK, self.answered()).await {
                    Ok(answered) => answered?,
                    Err(_) if self.progress.elapsed() < self.patience => return Ok(()),
                    Err(_) => return Err("it acknowledged nothing".to_owned()),
                }
            }
            let room = self.window - self.under_way.len();
            if self.under_way.is_empty() {
                self.progress = Instant::now();
            }
            let some: Vec<_> = chunk.to_send().map(|(i, record)| (i, record.body)).take(room).collect();
            for (i, body) in some {
                relp::write(self.number, "syslog", body.of(&chunk.bytes), &mut self.frames);
                self.under_way.push_back((self.number, None));
                self.number = relp::next(self.number);
                chunk.settle(i, State::Sent);
            }
            within(timeout, "it did not read what was sent", self.flush()).await?;
        }
        Ok(())
    }

    /// Returns when the oldest message has been answered.
    async fn answered(&mut self) -> Result<(), String> {
        loop {
            self.note_answers()?;
            if self.under_way.len() < self.window {
                return Ok(());
            }
            self.receive().await?;
        }
    }

    /// What became of the first of those on their way.
    pub(super) fn outcomes(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.outcomes)
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.packer.is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty() && self.outcomes.is_empty()
    }

    /// Takes the answers that have come. False: the session is over.
    pub(super) fn look(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let mut bytes = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(&mut context, &mut buffer) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => self.received.extend_from_slice(buffer.filled()),
                Poll::Ready(_) => {
                    self.closed = true;
                    break;
                }
            }
        }
        let speaks_relp = self.note_answers().is_ok();
        let silent = !self.under_way.is_empty() && self.progress.elapsed() > self.patience;
        speaks_relp && !self.closed && !silent
    }

    /// Waits for what is on its way, says good-bye, and closes.
    pub(super) async fn close(&mut self) -> io::Result<()> {
        self.note_answers().map_err(io::Error::other)?;
        while !self.under_way.is_empty() {
            self.receive().await.map_err(io::Error::other)?;
            self.note_answers().map_err(io::Error::other)?;
        }
        relp::write(self.number, "close", b"", &mut self.frames);
        self.flush().await.map_err(io::Error::other)?;
        // Its answer, `serverclose`, or the end of the connection.
        self.receive().await.map_err(io::Error::other)?;
        self.stream.shutdown().await
    }

    fn note_answers(&mut self) -> Result<(), String> {
        while let Some((number, answer)) = self.next_answer()? {
            let Some(message) = self.under_way.iter_mut().find(|(other, _)| *other == number) else { continue };
            message.1 = Some(match answer.starts_with(b"200") {
                true => Ok(()),
                false => Err(format!("the upstream refuses it: {}", String::from_utf8_lossy(&answer)).into()),
            });
        }
        // They are reported in their order.
        while let Some((_, Some(answer))) = self.under_way.front_mut() {
            self.outcomes.push(std::mem::replace(answer, Ok(())));
            self.under_way.pop_front();
            self.progress = Instant::now();
        }
        Ok(())
    }

    /// The number and text of an answer that has come whole.
    fn next_answer(&mut self) -> Result<Option<(u32, Vec<u8>)>, String> {
        loop {
            match relp::split(&self.received) {
                Relp::Frame(frame) => {
                    let answer = self.received[frame.data].to_vec();
                    let command = self.received[frame.command].to_vec();
                    self.received.drain(..frame.length);
                    match command.as_slice() {
                        b"rsp" => return Ok(Some((frame.number, answer))),
                        b"serverclose" => self.closed = true,
                        _ => {}
                    }
                }
                Relp::Unfinished(_) if self.received.len() > LONGEST_ANSWER => return Err("its answer has no end".to_owned()),
                Relp::Unfinished(_) => return Ok(None),
                Relp::Wrong(why) => return Err(format!("it does not speak RELP: {why}")),
            }
        }
    }

    async fn receive(&mut self) -> Result<(), String> {
        self.received.reserve(READ_BYTES);
        let count = self.stream.read_buf(&mut self.received).await.map_err(|error| reason(&error))?;
        if count == 0 || self.closed { Err("it closed the session".to_owned()) } else { Ok(()) }
    }

    /// Cancel-safe: what has gone does not go again.
    async fn flush(&mut self) -> Result<(), String> {
        match &mut self.packer {
            _ if self.frames.is_empty() => {}
            Some(packer) => packer.pack(&self.frames, &mut self.outgoing).map_err(|error| reason(&error))?,
            None => self.outgoing.extend_from_slice(&self.frames),
        }
        self.frames.clear();
        let writing = async {
            while self.gone < self.outgoing.len() {
                match self.stream.write(&self.outgoing[self.gone..]).await? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    count => self.gone += count,
                }
            }
            self.gone = 0;
            self.outgoing.clear();
            self.stream.flush().await
        };
        writing.await.map_err(|error| reason(&error))
    }
}
