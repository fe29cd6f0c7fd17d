//! Bytes of a stream → frames (RFC 6587, RFC 5425), and what is taken off a datagram. No I/O and no clock.
//!
//! The framing is found for each frame. A [`Framer`] is given everything that has come and is not consumed yet, says
//! which parts are whole messages, and keeps no bytes itself. Where only the future can tell (is a line feed the end of
//! a message, or does a traceback follow?) it holds the bytes back and says through [`Framer::patience`] for how long;
//! a pause of the sender is then told to it as an [`Event`]. Cut a stream where you like: the frames are the same.
//!
//! | first octets | frame |
//! |---|---|
//! | `1`–`9`, digits, a blank, `<` | octet-counted: so many octets, line feeds and NULs among them |
//! | `<` in a stream in which a NUL has ended a message | to the next NUL; line feeds are data (Python's `SysLogHandler`) |
//! | `<PRI>` otherwise | to the line feed, and further over lines that begin with no `<PRI>`, until a NUL, the next `<PRI>` or a pause |
//! | anything else | a line of text |

mod auto;
mod counted;
pub mod relp;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::message::{Frame, Span};

/// How the frames of a stream end; the option `framing` of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// Found for each frame.
    #[default]
    Auto,
    /// Every line feed ends a message.
    Newline,
    /// Every NUL ends a message.
    Nul,
    /// `MSG-LEN SP SYSLOG-MSG` (RFC 5425, section 4.3); a line of text where no count stands.
    OctetCounted,
}

/// What is known of the bytes that have not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The stream has ended: everything is a frame now.
    End,
    /// More may come at any moment.
    More,
    /// Nothing came for as long as [`Framer::patience`] asked.
    Pause,
}

/// How long a line feed or NUL at the end of what came may be the middle of a message. The rest of a write that was cut
/// into segments is there within a millisecond on any local network.
const BRIEF: Duration = Duration::from_millis(10);
/// How long a whole message is held because an unfinished line stands behind it.
const LONG: Duration = Duration::from_secs(1);
/// After so many single lines one after the other a stream is one of lines, and a lone line goes at once.
const PROVEN: u32 = 16;

#[derive(Clone, Debug)]
pub struct Framer {
    framing: Framing,
    /// Longest frame, in octets.
    max: usize,
    /// What is left of an overlong frame and goes to nobody.
    discard: Discard,
    /// A NUL has ended a message: line feeds are data from now on (Auto only).
    nul: bool,
    /// A counted frame was seen: a count is believed without the `<` behind it, and text ends where one begins.
    counted: bool,
    /// Single lines one after the other, each followed by the next `<PRI>`.
    lines: u32,
    /// Frames cut to `max` since the last [`Framer::take_errors`].
    pub errors: Errors,
}

/// Framing errors, to be counted by whoever drives the framer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors {
    /// Frames longer than `max-message`, cut.
    pub oversized: u64,
    /// Counts that cannot be meant: followed by no blank, or larger than anyone sends.
    pub miscounted: u64,
}

/// What a framer has found out, for another process to go on with.
/// The other process may be of another version: what it does not say is as in a new framer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Saved {
    discard: Discard,
    nul: bool,
    counted: bool,
    lines: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Discard {
    Bytes(usize),
    #[default]
    Nothing,
    /// To a line feed, or to a NUL in a stream of those.
    Rest,
}

/// What a rule says about the bytes at the beginning of a frame.
enum Step {
    /// `bytes[..end]` is a message, and the next may begin at `next`.
    Frame { start: usize, end: usize, next: usize },
    /// `bytes[start..start + max]` is the beginning of one that is too long.
    Overlong { start: usize, discard: Discard },
    /// Nothing can be said yet.
    Wait,
}

impl Framer {
    /// `max`: the longest frame in octets, at least 480 (RFC 5424, section 6.1) by the plan.
    pub fn new(framing: Framing, max: usize) -> Self {
        let errors = Errors::default();
        Self { framing, max, discard: Discard::Nothing, nul: false, counted: false, lines: 0, errors }
    }

    /// Goes on where another one was saved.
    pub fn resume(framing: Framing, max: usize, saved: &Saved) -> Self {
        let Saved { discard, nul, counted, lines } = *saved;
        Self { framing, max, discard, nul, counted, lines, errors: Errors::default() }
    }

    pub fn save(&self) -> Saved {
        Saved { discard: self.discard, nul: self.nul, counted: self.counted, lines: self.lines }
    }

    /// Finds the whole frames in `bytes` and returns how many bytes are done with; the rest comes again next time, in
    /// front of what follows. At [`Event::End`] all of it is.
    pub fn split(&mut self, bytes: &[u8], event: Event, frames: &mut Vec<Frame>) -> usize {
        let mut at = 0;
        loop {
            at += self.skip(&bytes[at..]);
            let rest = &bytes[at..];
            if rest.is_empty() {
                return at;
            }
            match self.step(rest, event) {
                Step::Frame { start, end, next } => {
                    let (start, end) = (at + start, at + start + trimmed(&rest[start..end]));
                    if end > start {
                        frames.push(Frame::of(Span::new(start, end)));
                    }
                    at += next;
                }
                Step::Overlong { start, discard } => {
                    let start = at + start;
                    frames.push(Frame { truncated: true, ..Frame::of(Span::new(start, start + self.max)) });
                    self.errors.oversized += 1;
                    self.discard = discard;
                    at = start + self.max;
                }
                Step::Wait => return at,
            }
        }
    }

    /// How long the driver shall wait for more before it tells of a [`Event::Pause`]; None: for ever. `held` is what
    /// [`Framer::split`] left.
    pub fn patience(&self, held: &[u8]) -> Option<Duration> {
        if self.framing != Framing::Auto || self.nul || self.discard != Discard::Nothing {
            return None;
        }
        match held.last()? {
            b'\n' if self.lines >= PROVEN => Some(Duration::ZERO),
            b'\n' | 0 => Some(BRIEF),
            _ if auto::begins_with_pri(held) && memchr::memchr(b'\n', held).is_some() => Some(LONG),
            _ => None,
        }
    }

    pub fn take_errors(&mut self) -> Errors {
        std::mem::take(&mut self.errors)
    }

    /// What belongs to no frame: the rest of an overlong one, and empty frames.
    fn skip(&mut self, bytes: &[u8]) -> usize {
        let mut skipped = match self.discard {
            Discard::Bytes(left) => {
                let gone = left.min(bytes.len());
                self.discard = if gone < left { Discard::Bytes(left - gone) } else { Discard::Nothing };
                gone
            }
            Discard::Nothing => 0,
            Discard::Rest => match self.delimiter(bytes) {
                Some(end) => {
                    self.discard = Discard::Nothing;
                    end + 1
                }
                None => bytes.len(),
            },
        };
        if self.discard == Discard::Nothing {
            skipped += bytes[skipped..].iter().take_while(|b| self.separates(**b)).count();
        }
        skipped
    }

    fn separates(&self, byte: u8) -> bool {
        match self.framing {
            Framing::Auto | Framing::OctetCounted => matches!(byte, b'\n' | b'\r' | 0),
            Framing::Newline => matches!(byte, b'\n' | b'\r'),
            Framing::Nul => byte == 0,
        }
    }

    fn delimiter(&self, bytes: &[u8]) -> Option<usize> {
        match self.framing {
            Framing::Newline | Framing::OctetCounted => memchr::memchr(b'\n', bytes),
            Framing::Nul => memchr::memchr(0, bytes),
            Framing::Auto if self.nul => memchr::memchr(0, bytes),
            Framing::Auto => memchr::memchr2(b'\n', 0, bytes),
        }
    }

    fn step(&mut self, bytes: &[u8], event: Event) -> Step {
        match self.framing {
            Framing::Auto => self.auto(bytes, event),
            Framing::Newline | Framing::Nul => self.delimited(bytes, event),
            Framing::OctetCounted => self.counted(bytes, event).unwrap_or_else(|| self.delimited(bytes, event)),
        }
    }

    /// To the next delimiter, whatever stands before it.
    fn delimited(&self, bytes: &[u8], event: Event) -> Step {
        match self.delimiter(bytes) {
            Some(end) if end <= self.max => Step::Frame { start: 0, end, next: end + 1 },
            None if bytes.len() <= self.max => self.unfinished(bytes, event),
            _ => Step::Overlong { start: 0, discard: Discard::Rest },
        }
    }

    /// At the end of the stream the last frame needs no trailer.
    fn unfinished(&self, bytes: &[u8], event: Event) -> Step {
        match event {
            Event::End => Step::Frame { start: 0, end: bytes.len(), next: bytes.len() },
            Event::More | Event::Pause => Step::Wait,
        }
    }
}

/// The length without one NUL and one LF or CRLF at the end: what remains of a datagram or frame.
pub fn trimmed(bytes: &[u8]) -> usize {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    let bytes = match bytes.strip_suffix(b"\n") {
        Some(line) => line,
        None => bytes,
    };
    bytes.strip_suffix(b"\r").unwrap_or(bytes).len()
}

/// The property of a fuzz target: however a stream is cut, its frames are the same, and no byte of text is invented.
///
/// # Panics
/// When the property does not hold.
pub fn cuts_do_not_matter(stream: &[u8], cuts: &[u8], framing: Framing, max: usize) {
    let whole = texts(stream, framing, max, std::iter::once(stream.len()));
    let pieces = cuts.iter().map(|cut| usize::from(*cut) + 1).chain(std::iter::repeat(stream.len().max(1)));
    assert_eq!(whole, texts(stream, framing, max, pieces), "{framing:?}");
    assert!(whole.iter().all(|text| text.len() <= max));
}

fn texts(stream: &[u8], framing: Framing, max: usize, pieces: impl Iterator<Item = usize>) -> Vec<Vec<u8>> {
    let mut framer = Framer::new(framing, max);
    let (mut texts, mut held, mut frames, mut rest) = (Vec::new(), Vec::new(), Vec::new(), stream);
    for piece in pieces {
        let (now, later) = rest.split_at(piece.min(rest.len()));
        rest = later;
        held.extend_from_slice(now);
        let event = if rest.is_empty() { Event::End } else { Event::More };
        let used = framer.split(&held, event, &mut frames);
        texts.extend(frames.drain(..).map(|frame| frame.span.of(&held).to_vec()));
        held.drain(..used);
        if event == Event::End {
            assert!(held.is_empty(), "at the end nothing is kept");
            break;
        }
    }
    texts
}

#[cfg(test)]
mod tests;
