//! `[[input.journal]]`: systemd's journal, by `journalctl --output=export` (its format:
//! <https://systemd.io/JOURNAL_EXPORT_FORMATS/>). The cursor of the last entry is the position.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use memchr::memchr;
use tokio::net::unix::pipe::Receiver;
use toml::Spanned;

use super::source::{self, Header, Reader, Taken};
use super::{Plan, Settings, Transport, input_config};
use crate::config::{Address, Scope};
use crate::message::Sender;

input_config! {
    pub struct Config {
        /// Another journal than that of this system.
        pub directory: Option<Spanned<PathBuf>>,
        /// `FIELD=VALUE`, as journalctl(1) takes them: only these entries.
        #[serde(default)]
        pub matches: Vec<Spanned<String>>,
        /// Where the very first start begins.
        #[serde(default)]
        pub from: From,
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum From {
    /// Everything that the journal has.
    Beginning,
    #[default]
    Boot,
    /// Only what comes.
    Now,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    directory: Option<PathBuf>,
    matches: Vec<String>,
    from: From,
}

pub(super) fn plan(config: &Config, scope: &mut Scope<'_>) -> Option<Plan> {
    for text in &config.matches {
        let is_match = text.as_ref() == "+" || text.as_ref().split_once('=').is_some_and(|(field, _)| is_field(field));
        if !is_match {
            scope.error(
                text.span(),
                format!("`{}` where `FIELD=VALUE` is expected, as in `_SYSTEMD_UNIT=ssh.service`", text.as_ref()),
            );
        }
    }
    let source = Source {
        directory: config.directory.as_ref().map(|path| path.as_ref().clone()),
        matches: config.matches.iter().map(|text| text.as_ref().clone()).collect(),
        from: config.from,
    };
    let address = source.directory.clone().unwrap_or_else(|| "/run/systemd/journal".into());
    Some(Plan {
        name: config.name.as_str().into(),
        kind: "journal",
        transport: Transport::Source,
        address: Address::Path(address),
        permissions: (0, None, None),
        settings: Settings { source: Some(source::Source::Journal(source)), ..config.settings(scope) },
    })
}

fn is_field(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_uppercase() || octet.is_ascii_digit() || octet == b'_')
}

/// Asked of the pipe at a time.
const READ_BYTES: usize = 64 << 10;
/// What is asked for: an entry may also have a core dump.
const FIELDS: &str = "--output-fields=MESSAGE,MESSAGE_ID,PRIORITY,SYSLOG_FACILITY,SYSLOG_IDENTIFIER,SYSLOG_PID,\
    _COMM,_GID,_PID,_SOURCE_REALTIME_TIMESTAMP,_SYSTEMD_UNIT,_TRANSPORT,_UID";
/// No entry is longer than this.
const LONGEST: usize = 64 << 20;
/// Entries of one batch.
const MOST: usize = 512;

pub(super) struct Journal {
    child: Child,
    output: Receiver,
    buffer: Vec<u8>,
    /// There may be whole entries in the buffer.
    more: bool,
    cursor: String,
}

impl Reader for Journal {
    type Source = Source;

    fn open(source: &Source, position: &str) -> io::Result<Self> {
        let mut command = Command::new("journalctl");
        command.args(["--output=export", "--follow", "--all", "--quiet", FIELDS]);
        if let Some(directory) = &source.directory {
            command.arg("--directory").arg(directory);
        }
        match (position, source.from) {
            ("", From::Beginning) => command.arg("--no-tail"),
            ("", From::Boot) => command.args(["--no-tail", "--boot"]),
            ("", From::Now) => command.arg("--lines=0"),
            (cursor, _) => command.arg("--no-tail").arg(format!("--after-cursor={cursor}")),
        };
        command.args(&source.matches).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child =
            command.spawn().map_err(|error| io::Error::other(format!("journalctl: {}", crate::sys::reason(&error))))?;
        let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let output = Receiver::from_owned_fd(OwnedFd::from(output))?;
        Ok(Self { child, output, buffer: Vec::new(), more: false, cursor: position.to_owned() })
    }

    async fn ready(&mut self) -> io::Result<()> {
        if self.more { Ok(()) } else { self.output.readable().await }
    }

    fn read(&mut self, taken: &mut Taken<'_>) -> io::Result<()> {
        let from = self.buffer.len();
        self.buffer.resize(from + READ_BYTES, 0);
        let read = self.output.try_read(&mut self.buffer[from..]);
        self.buffer.truncate(from + read.as_ref().map_or(0, |count| *count));
        let mut at = 0;
        while let Some((entry, length)) = entry(&self.buffer[at..]) {
            at += length;
            if let Some(cursor) = entry.text("__CURSOR") {
                cursor.clone_into(&mut self.cursor);
            }
            entry.take(taken);
            if taken.len() >= MOST {
                break;
            }
        }
        self.more = taken.len() >= MOST;
        self.buffer.drain(..at);
        if self.buffer.len() > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an entry of the journal is longer than 64 MiB"));
        }
        match read {
            Ok(0) => Err(io::Error::other(format!("journalctl ended ({})", self.status()))),
            other => other.map(drop),
        }
    }

    fn position(&self) -> String {
        self.cursor.clone()
    }
}

impl Journal {
    fn status(&mut self) -> String {
        match self.child.try_wait() {
            Ok(Some(status)) => status.to_string(),
            _ => "its output is closed".to_owned(),
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The fields of one entry.
#[derive(Debug, Default, PartialEq, Eq)]
struct Entry<'e>(BTreeMap<&'e str, &'e [u8]>);

/// The first entry and its length, if it is whole: lines of `NAME=value`, or `NAME` with a length of eight octets
/// (little-endian), the value and a line feed; ended by an empty line.
fn entry(text: &[u8]) -> Option<(Entry<'_>, usize)> {
    let (mut fields, mut at) = (BTreeMap::new(), 0);
    loop {
        let end = at + memchr(b'\n', &text[at..])?;
        let line = &text[at..end];
        at = end + 1;
        if line.is_empty() {
            return Some((Entry(fields), at));
        }
        let (name, value) = match memchr(b'=', line) {
            Some(equals) => (&line[..equals], &line[equals + 1..]),
            None => {
                let length = usize::try_from(u64::from_le_bytes(*text[at..].first_chunk()?)).ok()?;
                let value = text.get(at + 8..(at + 8).checked_add(length)?)?;
                at += 8 + length + 1;
                if at > text.len() {
                    return None;
                }
                (line, value)
            }
        };
        if let Ok(name) = std::str::from_utf8(name) {
            fields.entry(name).or_insert(value);
        }
    }
}

impl Entry<'_> {
    fn text(&self, field: &str) -> Option<&str> {
        std::str::from_utf8(self.0.get(field)?).ok()
    }

    fn number<T: std::str::FromStr>(&self, field: &str) -> Option<T> {
        self.text(field)?.parse().ok()
    }

    fn octets(&self, fields: &[&str]) -> &[u8] {
        fields.iter().find_map(|field| self.0.get(field)).copied().unwrap_or_default()
    }

    /// Its message; entries without one (there are such) have nothing to say.
    fn take(&self, taken: &mut Taken<'_>) {
        let Some(text) = self.0.get("MESSAGE") else { return };
        let facility = self.number::<u8>("SYSLOG_FACILITY").filter(|facility| *facility < 24);
        let is_kernel = self.text("_TRANSPORT") == Some("kernel");
        // As journald itself has it: what names no facility is of a daemon, but for the kernel's.
        let facility = facility.unwrap_or(if is_kernel { 0 } else { 3 });
        let severity = self.number::<u8>("PRIORITY").filter(|severity| *severity < 8).unwrap_or(6);
        let header = Header {
            priority: facility * 8 + severity,
            micros: self.number("_SOURCE_REALTIME_TIMESTAMP").or_else(|| self.number("__REALTIME_TIMESTAMP")),
            app_name: if is_kernel { b"kernel" } else { self.octets(&["SYSLOG_IDENTIFIER", "_COMM"]) },
            proc_id: self.octets(&["SYSLOG_PID", "_PID"]),
            msg_id: self.octets(&["MESSAGE_ID"]),
        };
        let sender = Sender {
            pid: self.number("_PID").unwrap_or_default(),
            uid: self.number("_UID").unwrap_or(u32::MAX),
            gid: self.number("_GID").unwrap_or(u32::MAX),
            unit: self.text("_SYSTEMD_UNIT").unwrap_or_default().into(),
            program: self.text("_COMM").unwrap_or_default().into(),
            ..Sender::default()
        };
        taken.message(&header, (sender.pid > 0).then_some(sender), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_with_text_and_with_octets() {
        let mut text = b"__CURSOR=s=1;i=2\nPRIORITY=3\nMESSAGE\n".to_vec();
        text.extend_from_slice(&9u64.to_le_bytes());
        text.extend_from_slice(b"two\nlines\n_PID=7\n\nPRIORITY=6\n");
        let (found, length) = entry(&text).expect("an entry");
        assert_eq!(found.octets(&["MESSAGE"]), b"two\nlines");
        assert_eq!((found.text("__CURSOR"), found.number::<u32>("_PID")), (Some("s=1;i=2"), Some(7)));
        for end in 0..length {
            assert_eq!(entry(&text[..end]), None, "cut at {end}");
        }
        assert_eq!(entry(&text[length..]), None);
    }
}
