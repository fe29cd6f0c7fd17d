//! The fields of a message by their names in the configuration, and how each becomes bytes.

use std::sync::atomic::{AtomicU32, Ordering};

use chrono::DateTime;
use chrono::format::{Item, StrftimeItems};

use super::clock::{Clock, Grain, Stamp};
use super::structured::{Part, Structured, trace};
use crate::message::{Grammar, Message, Sender, Timestamp};
use crate::parse::structured_data;

/// Everything but the moments. In alphabetical order, as in the documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// As it came, without its PRI.
    AfterPri,
    AppName,
    Facility,
    /// The file that the message was read from.
    File,
    /// `true` where a message names another process than the one that has sent it.
    Forged,
    Hostname,
    Input,
    /// `json.user.id`: of the object that the message is, or its text.
    Json(Box<str>),
    Message,
    /// What rsyslog calls so: what stands behind the tag, with the blank between them.
    Msg,
    MsgId,
    Peer,
    /// The peer's name from the table `hostnames` or DNS, else its address.
    PeerName,
    Pri,
    ProcId,
    Raw,
    Sd(Box<SdPath>),
    SenderGid,
    SenderPid,
    SenderProgram,
    SenderUid,
    SenderUnit,
    Severity,
    SpanId,
    StructuredData,
    /// What rsyslog calls so: the BSD tag as it came, of RFC 5424 the program without a colon.
    SyslogTag,
    Tag,
    TraceId,
    Truncated,
    Version,
}

/// `sd[id][param]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SdPath {
    pub id: Box<[u8]>,
    pub param: Box<[u8]>,
}

impl Field {
    /// Every name but `json.path`, `sd[id][param]`, `timestamp` and `received`.
    pub const NAMES: [(&'static str, Self); 28] = [
        ("after-pri", Self::AfterPri),
        ("app-name", Self::AppName),
        ("facility", Self::Facility),
        ("file", Self::File),
        ("forged", Self::Forged),
        ("hostname", Self::Hostname),
        ("input", Self::Input),
        ("message", Self::Message),
        ("msg", Self::Msg),
        ("msg-id", Self::MsgId),
        ("peer", Self::Peer),
        ("peer-name", Self::PeerName),
        ("pri", Self::Pri),
        ("proc-id", Self::ProcId),
        ("raw", Self::Raw),
        ("sender-gid", Self::SenderGid),
        ("sender-pid", Self::SenderPid),
        ("sender-program", Self::SenderProgram),
        ("sender-uid", Self::SenderUid),
        ("sender-unit", Self::SenderUnit),
        ("severity", Self::Severity),
        ("span-id", Self::SpanId),
        ("structured-data", Self::StructuredData),
        ("syslogtag", Self::SyslogTag),
        ("tag", Self::Tag),
        ("trace-id", Self::TraceId),
        ("truncated", Self::Truncated),
        ("version", Self::Version),
    ];

    pub fn parse(name: &str) -> Option<Self> {
        if let Some(path) = name.strip_prefix("sd[").and_then(|rest| rest.strip_suffix(']')) {
            let (id, param) = path.split_once("][")?;
            let (id, param) = (id.as_bytes().into(), param.as_bytes().into());
            return Some(Self::Sd(Box::new(SdPath { id, param })));
        }
        if let Some(path) = name.strip_prefix("json.") {
            return (!path.is_empty()).then(|| Self::Json(path.into()));
        }
        // As the two are written everywhere else.
        let name = match name {
            "span_id" => "span-id",
            "trace_id" => "trace-id",
            name => name,
        };
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, field)| field.clone())
    }

    /// Whether [`Field::borrowed`] always has the bytes.
    pub fn is_borrowed(&self) -> bool {
        let is_written = matches!(self, Self::Pri | Self::Sd(_) | Self::SyslogTag | Self::Tag | Self::Truncated | Self::Version);
        let is_structured = matches!(self, Self::Json(_) | Self::SpanId | Self::TraceId);
        !is_written && !is_structured && !matches!(self, Self::Forged | Self::SenderGid | Self::SenderPid | Self::SenderUid)
    }

    /// The grammar itself allows nothing but printable ASCII here (RFC 5424, section 6), and the parser holds it.
    pub(super) fn is_printable(&self, message: &Message<'_>) -> bool {
        let fields = &message.fields;
        match self {
            Self::AppName | Self::MsgId | Self::ProcId => fields.grammar == Grammar::Rfc5424,
            Self::Hostname => fields.grammar == Grammar::Rfc5424 && !fields.hostname.is_empty(),
            Self::Facility | Self::Severity => true,
            _ => false,
        }
    }

    /// The bytes where they stand somewhere already; empty where absent. None: see [`Field::append`].
    pub fn borrowed<'b>(&self, message: &Message<'b>) -> Option<&'b [u8]> {
        let fields = &message.fields;
        Some(match self {
            Self::AfterPri => after_pri(message.raw),
            Self::AppName => fields.app_name,
            Self::Facility => fields.priority.facility().name().as_bytes(),
            Self::File => message.origin.sender.as_ref().map_or(&b""[..], |sender| sender.file.as_bytes()),
            Self::Hostname => message.hostname(),
            Self::Input => message.origin.input.as_bytes(),
            Self::Message => fields.message,
            Self::Msg => with_blank(message),
            Self::MsgId => fields.msg_id,
            Self::Peer => message.origin.peer_text.as_bytes(),
            Self::PeerName => message.origin.hostname().as_bytes(),
            Self::ProcId => fields.proc_id,
            Self::Raw => message.raw,
            Self::SenderProgram => message.origin.sender.as_ref().map_or(&b""[..], |sender| sender.program.as_bytes()),
            Self::SenderUnit => message.origin.sender.as_ref().map_or(&b""[..], |sender| sender.unit.as_bytes()),
            Self::Severity => fields.priority.severity().name().as_bytes(),
            Self::StructuredData => fields.structured_data,
            Self::Pri | Self::Sd(_) | Self::SyslogTag | Self::Tag | Self::Truncated | Self::Version => return None,
            Self::Forged | Self::SenderGid | Self::SenderPid | Self::SenderUid => return None,
            Self::Json(_) | Self::SpanId | Self::TraceId => return None,
        })
    }

    /// Appends the value; nothing where the field is absent.
    pub fn append(&self, message: &Message<'_>, out: &mut Vec<u8>) {
        if let Some(bytes) = self.borrowed(message) {
            return out.extend_from_slice(bytes);
        }
        if let Some(sender) = message.origin.sender.as_ref().filter(|sender| sender.pid > 0) {
            match self {
                Self::Forged if is_forged(message, sender) => return out.extend_from_slice(b"true"),
                Self::SenderGid => return number(sender.gid, out),
                Self::SenderPid => return number(sender.pid, out),
                Self::SenderUid => return number(sender.uid, out),
                _ => {}
            }
        }
        match self {
            Self::Json(path) => {
                if let Some(structured) = Structured::of(message) {
                    structured.append(path, out);
                }
            }
            Self::SpanId => trace(Part::Span, message, out),
            Self::TraceId => trace(Part::Trace, message, out),
            Self::Pri => number(u32::from(message.fields.priority.value()), out),
            Self::Sd(path) => {
                let param = structured_data::find(message.fields.structured_data, &path.id, &path.param);
                param.iter().flat_map(|param| param.pieces()).for_each(|piece| out.extend_from_slice(piece));
            }
            Self::SyslogTag => syslogtag(message, out),
            Self::Tag => tag(message, out),
            Self::Truncated if message.truncated => out.extend_from_slice(b"true"),
            Self::Version if message.fields.version > 0 => number(u32::from(message.fields.version), out),
            _ => {}
        }
    }

    /// What stands for an absent value: the NILVALUE of RFC 5424, but nothing where text is expected.
    pub fn nil(&self) -> &'static [u8] {
        match self {
            Self::AfterPri
            | Self::Message
            | Self::Msg
            | Self::Raw
            | Self::SyslogTag
            | Self::Tag
            | Self::Truncated
            | Self::Forged => b"",
            _ => b"-",
        }
    }
}

/// The message names a process, and it is not the one that the kernel has seen sending it.
fn is_forged(message: &Message<'_>, sender: &Sender) -> bool {
    let claimed = std::str::from_utf8(message.fields.proc_id).ok().and_then(|text| text.parse::<u32>().ok());
    claimed.is_some_and(|pid| pid != sender.pid)
}

/// RFC 5424, section 6: `"<" PRIVAL ">"` is at most five octets.
fn after_pri(raw: &[u8]) -> &[u8] {
    match raw.iter().take(5).position(|byte| *byte == b'>') {
        Some(end) if raw.starts_with(b"<") => &raw[end + 1..],
        _ => raw,
    }
}

/// The text runs to the end of the frame, and the tag stands before it, or at its beginning.
fn with_blank<'b>(message: &Message<'b>) -> &'b [u8] {
    let (raw, fields) = (message.raw, &message.fields);
    let start = raw.len() - fields.message.len();
    match raw[..start].last() {
        Some(b' ') if !fields.tag.is_empty() => &raw[start - 1..],
        _ => &fields.message[inner_tag(message)..],
    }
}

/// How much of the text is the tag, for rsyslog: the first word or what ends with a colon; in a message without header only where the
/// parser has found a program.
pub(super) fn inner_tag(message: &Message<'_>) -> usize {
    let fields = &message.fields;
    match fields.grammar {
        Grammar::Rfc3164 if fields.tag.is_empty() => {
            let end = fields.message.iter().position(|octet| matches!(octet, b' ' | b':')).unwrap_or(fields.message.len());
            end + usize::from(fields.message.get(end) == Some(&b':'))
        }
        Grammar::Headerless if !fields.app_name.is_empty() && fields.timestamp == Timestamp::Absent => {
            memchr::memchr(b':', fields.message).map_or(0, |colon| colon + 1)
        }
        _ => 0,
    }
}

fn syslogtag(message: &Message<'_>, out: &mut Vec<u8>) {
    let fields = &message.fields;
    let inner = inner_tag(message);
    if inner > 0 {
        return out.extend_from_slice(fields.message[..inner].trim_ascii_start());
    }
    let start = out.len();
    tag(message, out);
    if fields.tag.is_empty() && out.len() > start {
        if !message.origin.is_source {
            out.pop();
        }
    } else if fields.grammar == Grammar::Rfc5424 {
        out.push(b'-');
    }
}

pub fn number(value: u32, out: &mut Vec<u8>) {
    let mut digits = [0; 10];
    let mut at = digits.len();
    let mut left = value;
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// What stands before the text in BSD form: the tag as it came, or `app[process]:`. Nothing where the text itself
/// begins with it.
pub(super) fn tag(message: &Message<'_>, out: &mut Vec<u8>) {
    let fields = &message.fields;
    if !fields.tag.is_empty() {
        return out.extend_from_slice(fields.tag);
    }
    if fields.app_name.is_empty() || fields.grammar == Grammar::Headerless {
        return;
    }
    out.extend_from_slice(fields.app_name);
    if !fields.proc_id.is_empty() {
        out.push(b'[');
        out.extend_from_slice(fields.proc_id);
        out.push(b']');
    }
    out.push(b':');
}

/// `{timestamp}` or `{received}`, with how it is to be written.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    pub of: Of,
    /// None: RFC 3339.
    pub format: Option<Box<[Item<'static>]>>,
    grain: Grain,
    pub zone: Wall,
    /// Which of the clock's caches is this part's own.
    slot: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Message,
    Receipt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wall {
    Local,
    /// As the message has it.
    Own,
    Utc,
}

impl Moment {
    pub(super) fn new(of: Of, format: Option<Box<[Item<'static>]>>, zone: Wall) -> Self {
        static SLOTS: AtomicU32 = AtomicU32::new(0);
        let grain = format.as_deref().map_or(Grain::Finest, Grain::of);
        Self { of, format, grain, zone, slot: SLOTS.fetch_add(1, Ordering::Relaxed) as usize }
    }

    /// strftime's conversions, or None where one does not exist or is only for reading.
    pub(super) fn items(format: &str) -> Option<Box<[Item<'static>]>> {
        let items = StrftimeItems::new(format).parse_to_owned().ok()?;
        DateTime::UNIX_EPOCH.format_with_items(items.iter()).write_to(&mut String::new()).ok()?;
        Some(items.into())
    }

    /// How many folders it makes of a path.
    pub(super) fn slashes(&self) -> usize {
        let texts = self.format.iter().flat_map(|items| items.iter()).map(|item| match item {
            Item::Literal(text) => text,
            Item::OwnedLiteral(text) => &**text,
            _ => "",
        });
        texts.map(|text| text.matches('/').count()).sum()
    }

    /// Where the clock keeps its text, and for how long.
    pub(super) fn slot(&self) -> (usize, Grain) {
        (self.slot, self.grain)
    }

    pub(super) fn append(&self, message: &Message<'_>, clock: &mut Clock, out: &mut Vec<u8>) {
        let stamp = match self.of {
            Of::Message => Stamp::of(message),
            Of::Receipt => Stamp::received(message),
        };
        clock.append(stamp, (self.slot, self.grain), self.format.as_deref(), self.zone, out);
    }
}
