//! Messages as bytes: the format makes a header, the envelope separates one message from the next.
//!
//! The header is the same for all messages of a buffer, its timestamp included: at a low rate a buffer holds one
//! message, and at a high one the clock is not read for each.

use std::io::Write;

use chrono::{DateTime, FixedOffset, Local};
use clap::ValueEnum;

use super::HeaderArguments;
use crate::message::{Grammar, Priority};
use crate::net::target::Scheme;
use crate::parse;
use crate::sys::name;

/// What a message looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// <PRI>TEXT and a NUL, as Python's SysLogHandler
    Python,
    /// The text as it stands
    Raw,
    /// <PRI>TIMESTAMP HOST APP[PID]: TEXT
    Rfc3164,
    /// <PRI>1 TIMESTAMP HOST APP PID MSGID SD TEXT
    Rfc5424,
}

/// How a stream is cut into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Framing {
    /// A line feed ends each; one within is sent as #012
    Newline,
    /// A NUL ends each; one within is sent as #000
    Nul,
    /// The length stands before each (RFC 6587, section 3.4.1)
    OctetCounted,
}

/// What surrounds a message, by the kind of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) datagram: Option<Framing>,
    pub(super) stream: Framing,
}

/// A format and its fields, all of them valid.
pub(super) struct Layout {
    format: Format,
    priority: Priority,
    timestamp: Stamp,
    hostname: String,
    app_name: String,
    proc_id: String,
    msg_id: String,
    /// `-`, or elements without anything between them.
    structured_data: String,
}

enum Stamp {
    Fixed { moment: Option<DateTime<FixedOffset>>, text: String },
    Now,
}

/// Frames that have not gone yet.
pub(super) struct Frames {
    /// None: a message is a datagram of its own.
    framing: Option<Framing>,
    /// The header of those in `bytes`.
    header: Vec<u8>,
    bytes: Vec<u8>,
    /// Where each frame ends in `bytes`.
    ends: Vec<usize>,
}

impl Envelope {
    pub(super) fn new(format: Format, framing: Option<Framing>, scheme: Scheme) -> Result<Self, String> {
        match (format, framing, scheme) {
            (_, _, Scheme::Relp | Scheme::Relps) => Err("`send` does not speak RELP; an `[[output.forward]]` does".to_owned()),
            (_, Some(_), Scheme::Udp) => Err("a datagram is its own frame: `--framing` is for streams".to_owned()),
            (Format::Python, Some(Framing::Newline | Framing::OctetCounted), _) => {
                Err("python messages end with NUL: `--framing nul` is the only one for them".to_owned())
            }
            (Format::Python, ..) => Ok(Self { datagram: Some(Framing::Nul), stream: Framing::Nul }),
            _ => Ok(Self { datagram: None, stream: framing.unwrap_or(Framing::OctetCounted) }),
        }
    }
}

impl Layout {
    pub(super) fn new(format: Format, fields: &HeaderArguments) -> Result<Self, String> {
        placed(format, fields)?;
        let or = |field: &Option<String>, default: &dyn Fn() -> String| field.clone().unwrap_or_else(default);
        Ok(Self {
            format,
            priority: fields.priority.unwrap_or(Priority::DEFAULT),
            timestamp: Stamp::new(format, fields.timestamp.as_deref())?,
            hostname: word("--hostname", or(&fields.hostname, &name::of_this_host), 255)?,
            app_name: word("--app-name", or(&fields.app_name, &|| "penstock".to_owned()), 48)?,
            proc_id: word("--proc-id", or(&fields.proc_id, &|| std::process::id().to_string()), 128)?,
            msg_id: word("--msg-id", or(&fields.msg_id, &|| "-".to_owned()), 32)?,
            structured_data: structured_data(&fields.sd)?,
        })
    }

    fn write_header(&self, header: &mut Vec<u8>) {
        let Self { hostname, app_name, proc_id, msg_id, structured_data, .. } = self;
        let priority = self.priority.value();
        let stamp = self.timestamp.text(self.format);
        let text = match self.format {
            Format::Python => format!("<{priority}>"),
            Format::Raw => String::new(),
            Format::Rfc3164 if proc_id == "-" => format!("<{priority}>{stamp} {hostname} {app_name}: "),
            Format::Rfc3164 => format!("<{priority}>{stamp} {hostname} {app_name}[{proc_id}]: "),
            Format::Rfc5424 => format!("<{priority}>1 {stamp} {hostname} {app_name} {proc_id} {msg_id} {structured_data} "),
        };
        header.clear();
        header.extend_from_slice(text.as_bytes());
    }
}

impl Stamp {
    fn new(format: Format, text: Option<&str>) -> Result<Self, String> {
        let Some(text) = text else { return Ok(Self::Now) };
        let moment = DateTime::parse_from_rfc3339(text).ok();
        let known = match format {
            Format::Rfc5424 => is_rfc5424(&format!("<13>1 {text} - - - - -")),
            _ => moment.is_some(),
        };
        if known {
            return Ok(Self::Fixed { moment, text: text.to_owned() });
        }
        Err(format!("`{text}` is no timestamp: `2026-11-20T21:14:26.171000+01:00` is expected"))
    }

    fn text(&self, format: Format) -> String {
        let moment = match self {
            Self::Fixed { text, .. } if format == Format::Rfc5424 => return text.clone(),
            Self::Fixed { moment: Some(moment), .. } => *moment,
            Self::Fixed { moment: None, .. } | Self::Now => Local::now().fixed_offset(),
        };
        let pattern = if format == Format::Rfc3164 { "%b %e %H:%M:%S" } else { "%Y-%m-%dT%H:%M:%S%.6f%:z" };
        moment.format(pattern).to_string()
    }
}

impl Frames {
    pub(super) fn new(framing: Option<Framing>) -> Self {
        Self { framing, header: Vec::new(), bytes: Vec::new(), ends: Vec::new() }
    }

    pub(super) fn push(&mut self, layout: &Layout, text: &[u8]) {
        if self.ends.is_empty() {
            layout.write_header(&mut self.header);
        }
        match self.framing {
            None => self.append(text),
            Some(Framing::Newline) => self.delimited(text, b'\n', b"#012"),
            Some(Framing::Nul) => self.delimited(text, 0, b"#000"),
            Some(Framing::OctetCounted) => {
                let length = self.header.len() + text.len();
                write!(self.bytes, "{length} ").expect("a vector takes every byte");
                self.append(text);
            }
        }
        self.ends.push(self.bytes.len());
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many frames.
    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    /// The frames from the `first` on, which are datagrams.
    pub(super) fn datagrams(&self, first: usize) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).skip(first).map(|(start, end)| &self.bytes[start..*end])
    }

    fn append(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(&self.header);
        self.bytes.extend_from_slice(text);
    }

    /// A delimiter in the text would break the frame.
    fn delimited(&mut self, text: &[u8], delimiter: u8, instead: &[u8]) {
        self.bytes.extend_from_slice(&self.header);
        let mut start = 0;
        for at in memchr::memchr_iter(delimiter, text) {
            self.bytes.extend_from_slice(&text[start..at]);
            self.bytes.extend_from_slice(instead);
            start = at + 1;
        }
        self.bytes.extend_from_slice(&text[start..]);
        self.bytes.push(delimiter);
    }
}

/// An option without effect is a mistake.
fn placed(format: Format, fields: &HeaderArguments) -> Result<(), String> {
    let HeaderArguments { priority, hostname, app_name, proc_id, msg_id, sd, timestamp } = fields;
    let given = [
        ("--priority", priority.is_some(), format != Format::Raw),
        ("--hostname", hostname.is_some(), matches!(format, Format::Rfc3164 | Format::Rfc5424)),
        ("--app-name", app_name.is_some(), matches!(format, Format::Rfc3164 | Format::Rfc5424)),
        ("--proc-id", proc_id.is_some(), matches!(format, Format::Rfc3164 | Format::Rfc5424)),
        ("--msg-id", msg_id.is_some(), format == Format::Rfc5424),
        ("--sd", !sd.is_empty(), format == Format::Rfc5424),
        ("--timestamp", timestamp.is_some(), matches!(format, Format::Rfc3164 | Format::Rfc5424)),
    ];
    match given.iter().find(|(_, given, has_place)| *given && !has_place) {
        Some((option, ..)) => Err(format!("`{option}` has no place in this format")),
        None => Ok(()),
    }
}

/// `1*MAX PRINTUSASCII` (RFC 5424, section 6).
fn word(option: &str, text: String, longest: usize) -> Result<String, String> {
    if (1..=longest).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text);
    }
    Err(format!("`{option}`: 1 to {longest} printable ASCII characters without blanks are expected, not `{text}`"))
}

fn structured_data(elements: &[String]) -> Result<String, String> {
    let valid = |text: &str| text.starts_with('[') && is_rfc5424(&format!("<13>1 - - - - - {text}"));
    if let Some(wrong) = elements.iter().find(|element| !valid(element)) {
        return Err(format!("`{wrong}` is no element of structured data: `[id name=\"value\"]` is expected"));
    }
    match elements.concat() {
        none if none.is_empty() => Ok("-".to_owned()),
        all if valid(&all) => Ok(all),
        all => Err(format!("`{all}` has the same id twice")),
    }
}

/// The whole text is a header.
fn is_rfc5424(text: &str) -> bool {
    let fields = parse::parse(text.as_bytes(), &parse::Options::default());
    fields.grammar == Grammar::Rfc5424 && fields.message.is_empty() && !text.ends_with(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(format: Format) -> HeaderArguments {
        let some = |text: &str| Some(text.to_owned());
        let mut fields = HeaderArguments { priority: Priority::new(165), ..HeaderArguments::default() };
        if matches!(format, Format::Rfc3164 | Format::Rfc5424) {
            fields.timestamp = some("2026-11-02T21:14:26.171000+01:00");
            (fields.hostname, fields.app_name, fields.proc_id) = (some("host"), some("app"), some("7"));
        }
        if format == Format::Raw {
            fields.priority = None;
        }
        fields
    }

    fn frames(format: Format, framing: Option<Framing>, texts: &[&str]) -> Frames {
        let layout = Layout::new(format, &fields(format)).expect("valid fields");
        let mut frames = Frames::new(framing);
        texts.iter().for_each(|text| frames.push(&layout, text.as_bytes()));
        frames
    }

    fn shown(format: Format, framing: Option<Framing>) -> String {
        String::from_utf8_lossy(frames(format, framing, &["a\nb", "c\0"]).bytes()).into_owned()
    }

    const HEADERS: [(Format, &str); 4] = [
        (Format::Python, "<165>"),
        (Format::Raw, ""),
        (Format::Rfc3164, "<165>Nov  2 21:14:26 host app[7]: "),
        (Format::Rfc5424, "<165>1 2026-11-02T21:14:26.171000+01:00 host app 7 - - "),
    ];

    #[test]
    fn every_format_in_every_envelope() {
        for (format, header) in HEADERS {
            let counted = |text: &str| format!("{} {header}{text}", header.len() + text.len());
            assert_eq!(shown(format, None), format!("{header}a\nb{header}c\0"));
            assert_eq!(shown(format, Some(Framing::Newline)), format!("{header}a#012b\n{header}c\0\n"));
            assert_eq!(shown(format, Some(Framing::Nul)), format!("{header}a\nb\0{header}c#000\0"));
            assert_eq!(shown(format, Some(Framing::OctetCounted)), counted("a\nb") + &counted("c\0"));
        }
    }

    #[test]
    fn datagrams_are_the_frames_one_by_one() {
        let frames = frames(Format::Raw, None, &["a", "", "bcd"]);
        assert_eq!(frames.datagrams(0).collect::<Vec<_>>(), [&b"a"[..], b"", b"bcd"]);
        assert_eq!(frames.datagrams(2).collect::<Vec<_>>(), [b"bcd"]);
        assert_eq!(frames.count(), 3);
    }

    #[test]
    fn the_envelope_follows_the_socket() {
        let new = Envelope::new;
        let counted = Envelope { datagram: None, stream: Framing::OctetCounted };
        assert_eq!(new(Format::Rfc5424, None, Scheme::Udp), Ok(counted));
        assert_eq!(new(Format::Raw, None, Scheme::Tls), Ok(counted));
        assert_eq!(new(Format::Rfc3164, Some(Framing::Newline), Scheme::Tcp).map(|e| e.stream), Ok(Framing::Newline));
        let nul = Envelope { datagram: Some(Framing::Nul), stream: Framing::Nul };
        assert_eq!(new(Format::Python, None, Scheme::Unix), Ok(nul));
    }

    #[test]
    fn what_is_sent_by_default_is_understood() {
        let sd = vec![r#"[a x="1"]"#.to_owned(), r#"[b@1 y="\]"]"#.to_owned()];
        let fields = HeaderArguments { sd, ..HeaderArguments::default() };
        let mut frames = Frames::new(None);
        frames.push(&Layout::new(Format::Rfc5424, &fields).expect("valid"), b"text");
        let parsed = parse::parse(frames.bytes(), &parse::Options::default());
        assert_eq!((parsed.grammar, parsed.app_name, parsed.message), (Grammar::Rfc5424, &b"penstock"[..], &b"text"[..]));
        assert_eq!(parsed.structured_data, br#"[a x="1"][b@1 y="\]"]"#);
    }

    #[test]
    fn fields_that_no_message_can_have_are_refused() {
        let refused = |change: &dyn Fn(&mut HeaderArguments)| {
            let mut fields = fields(Format::Rfc5424);
            change(&mut fields);
            Layout::new(Format::Rfc5424, &fields).err().expect("an error")
        };
        assert!(refused(&|f| f.hostname = Some("a b".to_owned())).starts_with("`--hostname`: 1 to 255"));
        assert!(refused(&|f| f.app_name = Some("a".repeat(49))).starts_with("`--app-name`: 1 to 48"));
        assert!(refused(&|f| f.timestamp = Some("yesterday".to_owned())).starts_with("`yesterday` is no timestamp"));
        assert!(refused(&|f| f.sd = vec!["- x".to_owned()]).starts_with("`- x` is no element"));
        assert!(refused(&|f| f.sd = vec!["[a] x".to_owned()]).starts_with("`[a] x` is no element"));
    }
}
