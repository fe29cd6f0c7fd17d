//! A body → frames: objects of JSON in any arrangement, a form, lines of text, or syslog in any framing.

use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;
use serde_json::value::RawValue;

use super::answer::{Answer, Bad};
use super::body::{Read, Room};
use super::config::Http;
use crate::frame::{Event, Framer, Framing, Saved};
use crate::input::Settings;
use crate::message::{Frame, Span};
use crate::parse::json;
use crate::translate::{Options, from_form, from_object, pairs};

/// Records taken at a time; others have their turn in between.
const SLICE: usize = 256;

/// A record has about twenty, and what the application adds.
const MOST_FIELDS: usize = 1000;
/// Of what is wrong in a request that is taken in part, so much is said.
const MOST_REASONS: usize = 100;

/// What may be asked for by `?format=`.
const FORMATS: [&str; 4] = ["form", "json", "syslog", "text"];

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of Python's `HTTPHandler`.
    Form,
    /// Objects, one after the other, or in arrays.
    Json,
    /// Syslog, framed as on a stream.
    Syslog,
    /// A message a line.
    Text,
}

impl Kind {
    /// By `?format=`, the type, or what it looks like.
    pub(super) fn of(parts: &Parts, body: &[u8]) -> Result<Self, Answer> {
        if parts.method == hyper::Method::GET {
            return Ok(Self::Form);
        }
        let query = pairs(parts.uri.query().unwrap_or_default().as_bytes());
        let asked = query.iter().find(|(name, _)| name == "format").map(|(_, value)| value.to_ascii_lowercase());
        if let Some(unknown) = asked.as_deref().filter(|asked| !FORMATS.contains(asked)) {
            return Err(Answer::bad(format!("the format `{unknown}` is not known: there is {}", FORMATS.join(", "))));
        }
        let header = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media = header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        Ok(match asked.as_deref().unwrap_or(&media) {
            "form" | "application/x-www-form-urlencoded" => Self::form_or(body),
            "syslog" | "application/syslog" | "text/syslog" => Self::Syslog,
            "text" | "text/plain" => Self::Text,
            media if media.contains("json") => Self::Json,
            _ => Self::seen(body),
        })
    }

    /// curl says that everything is a form.
    fn form_or(body: &[u8]) -> Self {
        match Self::seen(body) {
            Self::Text if memchr::memchr(b'=', body).is_some() && memchr::memchr2(b' ', b'\n', body.trim_ascii()).is_none() => {
                Self::Form
            }
            seen => seen,
        }
    }

    fn seen(body: &[u8]) -> Self {
        match body.trim_ascii_start().first() {
            Some(b'{' | b'[') => Self::Json,
            Some(b'<' | b'1'..=b'9') => Self::Syslog,
            _ => Self::Text,
        }
    }

    /// `?partial=true`: what is good is taken, whatever stands beside it.
    pub(super) fn wants_partial(query: &[u8]) -> bool {
        pairs(query).iter().any(|(name, value)| name == "partial" && matches!(&**value, "true" | "1" | ""))
    }
}

/// What is to be taken, all of it or nothing.
#[derive(Default)]
pub(super) struct Intake {
    pub(super) arena: Vec<u8>,
    pub(super) frames: Vec<Frame>,
    /// How much was not to be had, where the rest is wanted all the same …
    pub(super) refused: usize,
    /// … and why, of the first.
    pub(super) bad: Vec<Bad>,
    /// Of body, arena and frames.
    room: Option<Room>,
}

impl Intake {
    pub(super) async fn read(kind: Kind, read: Read, settings: &Settings, http: &Http, is_partial: bool) -> Result<Self, Answer> {
        let (body, room) = read.into_parts();
        let mut intake = Self { room, ..Self::default() };
        match kind {
            Kind::Form => intake.form(&body, settings)?,
            Kind::Json => {
                let objects = Objects { options: settings.translation(), http, is_partial };
                intake.json(&body, &objects).await?;
            }
            Kind::Syslog => intake.lines(body, Framing::Auto, settings, http)?,
            Kind::Text => intake.lines(body, Framing::Newline, settings, http)?,
        }
        Ok(intake)
    }

    fn form(&mut self, body: &[u8], settings: &Settings) -> Result<(), Answer> {
        if memchr::memchr_iter(b'&', body).count() > MOST_FIELDS {
            return Err(Answer::bad(format!("a form may have {MOST_FIELDS} fields")));
        }
        let pairs = pairs(body);
        if !pairs.iter().any(|(name, _)| matches!(&**name, "msg" | "message")) {
            return Err(Answer::bad("a form with `msg` is expected, as Python's HTTPHandler sends it".to_owned()));
        }
        let translated = from_form(&pairs, &settings.translation(), &mut self.arena);
        self.frames.push(translated.frame);
        Ok(())
    }

    fn lines(&mut self, body: Vec<u8>, framing: Framing, settings: &Settings, http: &Http) -> Result<(), Answer> {
        // Every message has a delimiter, or the digits of its length.
        self.take_room(body.len() + memchr::memchr2_iter(b'\n', 0, &body).count() * size_of::<Frame>(), http)?;
        let mut framer = Framer::resume(framing, settings.max_message, &Saved::default());
        let used = framer.split(&body, Event::More, &mut self.frames);
        let first = self.frames.len();
        framer.split(&body[used..], Event::End, &mut self.frames);
        let moved = |span: Span| Span::new(span.start as usize + used, span.end as usize + used);
        self.frames[first..].iter_mut().for_each(|frame| frame.span = moved(frame.span));
        self.arena = body;
        Ok(())
    }

    fn take_room(&mut self, bytes: usize, http: &Http) -> Result<(), Answer> {
        self.room.as_mut().map_or(Ok(()), |room| room.grow(bytes, http))
    }

    /// Between two records, now and then.
    async fn pause(&mut self, body: &str, objects: &Objects<'_>) -> Result<(), Answer> {
        if (self.frames.len() + self.refused) % SLICE == SLICE - 1 {
            self.take_room(body.len() + self.arena.capacity() + self.frames.capacity() * size_of::<Frame>(), objects.http)?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn json(&mut self, body: &[u8], objects: &Objects<'_>) -> Result<(), Answer> {
        let text = match std::str::from_utf8(body) {
            Ok(text) => text,
            Err(error) => return Err(Answer::bad_record(&bad(body, 1, error.valid_up_to(), "it is no UTF-8".to_owned()))),
        };
        // A byte order mark is no JSON, and sent all the same (RFC 8259, section 8.1).
        let mut at = if text.starts_with('\u{FEFF}') { '\u{FEFF}'.len_utf8() } else { 0 };
        while at < text.len() {
            self.pause(text, objects).await?;
            let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<&RawValue>();
            match values.next() {
                None => break,
                Some(Ok(value)) => {
                    at += values.byte_offset();
                    match value.get().strip_prefix('[') {
                        Some(items) => self.array(text, items, objects).await?,
                        None => self.object(text, value.get(), objects)?,
                    }
                }
                Some(Err(error)) => {
                    let place = at + offset(&text[at..], error.line(), error.column());
                    let what = error.to_string();
                    let what = what.split(" at line").next().unwrap_or_default();
                    self.refuse(body, place, what, objects)?;
                    // Of lines, the next may be good.
                    at = memchr::memchr(b'\n', &body[place..]).map_or(body.len(), |end| place + end + 1);
                }
            }
        }
        Ok(())
    }

    /// The items of an array that is known to be one, from behind its bracket on.
    async fn array(&mut self, body: &str, mut items: &str, objects: &Objects<'_>) -> Result<(), Answer> {
        loop {
            self.pause(body, objects).await?;
            items = items.trim_start_matches([' ', '\t', '\r', '\n', ',']);
            if items.starts_with(']') {
                return Ok(());
            }
            let length = match items.as_bytes().first() {
                Some(b'{' | b'[' | b'"') => {
                    let mut values = serde_json::Deserializer::from_str(items).into_iter::<&RawValue>();
                    values.next().map_or(0, |_| values.byte_offset())
                }
                // A number or a word ends where the next item begins.
                _ => items.find([',', ']']).unwrap_or(0),
            };
            if length == 0 {
                return Ok(());
            }
            let (item, rest) = items.split_at(length);
            self.object(body, item, objects)?;
            items = rest;
        }
    }

    fn object(&mut self, body: &str, object: &str, objects: &Objects<'_>) -> Result<(), Answer> {
        let what = if !object.starts_with('{') {
            "an object is expected"
        } else if !json::is_shallow(object) {
            "it is nested too deeply"
        } else {
            match from_object(object, &objects.http.mapping, &objects.options, &mut self.arena) {
                Ok(translated) => {
                    self.frames.push(translated.frame);
                    return Ok(());
                }
                Err(_) => "its text is no Unicode",
            }
        };
        let place = object.as_ptr() as usize - body.as_ptr() as usize;
        self.refuse(body.as_bytes(), place, what, objects)
    }

    fn refuse(&mut self, body: &[u8], place: usize, what: &str, objects: &Objects<'_>) -> Result<(), Answer> {
        if self.bad.len() < MOST_REASONS {
            // To find the line costs a look at all that stands before it.
            let bad = bad(body, self.frames.len() + self.refused + 1, place, what.to_owned());
            if !objects.is_partial {
                return Err(Answer::bad_record(&bad));
            }
            self.bad.push(bad);
        }
        self.refused += 1;
        Ok(())
    }
}

struct Objects<'h> {
    options: Options,
    http: &'h Http,
    is_partial: bool,
}

fn bad(body: &[u8], record: usize, place: usize, what: String) -> Bad {
    let before = &body[..place];
    let line = memchr::memchr_iter(b'\n', before).count() + 1;
    let column = place - memchr::memrchr(b'\n', before).map_or(0, |end| end + 1) + 1;
    Bad { record, line, column, what }
}

/// Of a line and column, both counted from 1, as serde_json gives them.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start = match line.checked_sub(2) {
        Some(feeds) => memchr::memchr_iter(b'\n', text.as_bytes()).nth(feeds).map_or(text.len(), |end| end + 1),
        None => 0,
    };
    (start + column.saturating_sub(1)).min(text.len())
}

#[cfg(test)]
mod tests;
