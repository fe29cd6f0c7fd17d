//! The message: borrowed views into the bytes that a socket gave.
//!
//! Nothing here is copied or allocated for a message. [`Fields`] is what the parser found, [`Origin`] is what is known of
//! the sender before it says anything, and [`Message`] is both together: the view that routes and templates use.

mod batch;
mod priority;
mod span;
mod timestamp;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

pub use batch::{Batch, Frame};
pub use priority::{FACILITIES, Facility, Priority, SEVERITIES, Severity};
pub use span::Span;
pub use timestamp::{Civil, Received, Timestamp, Zone, rfc3339};

/// The grammar that took a message; the label of the counters and of `explain`. From the strictest to the loosest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grammar {
    /// RFC 5424, section 6: the whole header was well-formed.
    Rfc5424,
    /// A BSD header as really sent: at least a timestamp stood where RFC 3164 expects one.
    Rfc3164,
    /// A priority and then text, as Python's `SysLogHandler` sends it (RFC 3164, section 4.3.2).
    Headerless,
    /// No syslog at all: kept as text with the priority of RFC 3164, section 4.3.3.
    Text,
}

impl Grammar {
    pub const ALL: [Self; 4] = [Self::Rfc5424, Self::Rfc3164, Self::Headerless, Self::Text];

    pub fn name(self) -> &'static str {
        match self {
            Self::Rfc5424 => "rfc5424",
            Self::Rfc3164 => "rfc3164",
            Self::Headerless => "headerless",
            Self::Text => "text",
        }
    }
}

/// What the parser found in a frame, by the names of RFC 5424, section 6. Empty slices mean "not there".
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fields<'b> {
    pub grammar: Grammar,
    pub priority: Priority,
    /// 0 where the message has no version (everything but RFC 5424).
    pub version: u16,
    pub timestamp: Timestamp<'b>,
    pub hostname: &'b [u8],
    pub app_name: &'b [u8],
    pub proc_id: &'b [u8],
    pub msg_id: &'b [u8],
    /// The SD-ELEMENTs as they stood, brackets included; taken apart by [`crate::parse::structured_data`].
    pub structured_data: &'b [u8],
    /// The BSD tag as it stood, colon included (`postfix/smtpd[12]:`); empty where the message has none of its own
    /// (RFC 5424, or an app name that is part of the text).
    pub tag: &'b [u8],
    /// Without the byte order mark of RFC 5424, section 6.4.
    pub message: &'b [u8],
}

impl<'b> Fields<'b> {
    /// Everything absent but the text.
    pub fn text(priority: Priority, message: &'b [u8]) -> Self {
        Self {
            grammar: Grammar::Text,
            priority,
            version: 0,
            timestamp: Timestamp::Absent,
            hostname: b"",
            app_name: b"",
            proc_id: b"",
            msg_id: b"",
            structured_data: b"",
            tag: b"",
            message,
        }
    }
}

/// Who sent: made once for a connection, or once for each address of a datagram socket.
#[derive(Debug)]
pub struct Origin {
    /// The input's name in the configuration.
    pub input: Arc<str>,
    /// None for a unix socket.
    pub peer: Option<IpAddr>,
    /// The address as text; this host's own name for a unix socket.
    pub peer_text: Box<str>,
    /// From the table `hostnames` at once, from reverse DNS as soon as it answers; until then the address serves.
    pub name: OnceLock<Box<str>>,
    /// In which BSD timestamps of this sender are read.
    pub zone: Zone,
    /// Where a process of this host has sent, or a file was read.
    pub sender: Option<Box<Sender>>,
    /// The headers are written here, for messages that came without.
    pub is_source: bool,
}

/// What is known for certain of a sender on this host, whatever its messages claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// 0 where it was no process.
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
    /// systemd's unit; empty where there is none, or the process has ended.
    pub unit: Box<str>,
    /// The process's own name (`comm`).
    pub program: Box<str>,
    /// The file that the message was read from.
    pub file: Box<str>,
}

impl Origin {
    pub fn new(input: Arc<str>, peer: Option<IpAddr>, local_name: &str, zone: Zone) -> Self {
        let peer = peer.map(|address| address.to_canonical());
        let peer_text = match peer {
            Some(address) => address.to_string().into(),
            None => local_name.into(),
        };
        Self { input, peer, peer_text, name: OnceLock::new(), zone, sender: None, is_source: false }
    }

    /// What stands for the host of a message that names none.
    pub fn hostname(&self) -> &str {
        self.name.get().unwrap_or(&self.peer_text)
    }
}

/// One message as routes, conditions and templates see it.
#[derive(Clone, Copy, Debug)]
pub struct Message<'b> {
    /// The frame as it came, without its delimiter.
    pub raw: &'b [u8],
    pub fields: Fields<'b>,
    pub origin: &'b Origin,
    pub received: &'b Received,
    /// The frame was longer than `max-message` and has been cut.
    pub truncated: bool,
    /// The object (RFC 8259) that the message was made of, where it came as one; else empty.
    pub json: &'b [u8],
}

impl<'b> Message<'b> {
    /// The host that the message names, or its peer.
    pub fn hostname(&self) -> &'b [u8] {
        match self.fields.hostname {
            b"" => self.origin.hostname().as_bytes(),
            name => name,
        }
    }
}
