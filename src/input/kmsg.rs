//! `[[input.kmsg]]`: the kernel's messages, from /dev/kmsg (its format: Documentation/ABI/testing/dev-kmsg).

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use memchr::memchr;
use tokio::net::unix::pipe::Receiver;

use super::source::{self, Header, Reader, Taken};
use super::{Plan, Settings, Transport, input_config};
use crate::config::{Address, Scope};
use crate::sys::clock;

input_config! {
    pub struct Config {}
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    path: PathBuf,
}

pub(super) fn plan(config: &Config, scope: &mut Scope<'_>) -> Option<Plan> {
    let path = PathBuf::from("/dev/kmsg");
    Some(Plan {
        name: config.name.as_str().into(),
        kind: "kmsg",
        transport: Transport::Source,
        address: Address::Path(path.clone()),
        permissions: (0, None, None),
        settings: Settings { source: Some(source::Source::Kmsg(Source { path })), ..config.settings(scope) },
    })
}

/// The kernel gives one record with a read; they are no longer than this.
const LONGEST: usize = 8192;
/// Records of one batch.
const MOST: usize = 256;

pub(super) struct Kmsg {
    file: Receiver,
    boot: String,
    /// The number of the last record that was taken; none is known before the first.
    last: Option<u64>,
}

impl Reader for Kmsg {
    type Source = Source;

    fn open(source: &Source, position: &str) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::other(format!("{}: {}", source.path.display(), crate::sys::reason(&error)));
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&source.path).map_err(named)?;
        let boot = boot_id();
        // Numbers begin anew with each boot.
        let last = position
            .split_once(' ')
            .filter(|(of, _)| !boot.is_empty() && *of == boot)
            .and_then(|(_, number)| number.parse().ok());
        // A device that can be waited for as a pipe can.
        Ok(Self { file: Receiver::from_file_unchecked(file)?, boot, last })
    }

    async fn ready(&mut self) -> io::Result<()> {
        self.file.readable().await
    }

    fn read(&mut self, taken: &mut Taken<'_>) -> io::Result<()> {
        let mut record = [0; LONGEST];
        // What the kernel's clock showed at its start.
        let booted = clock::realtime_micros() - clock::monotonic_micros();
        while taken.len() < MOST {
            match self.file.try_read(&mut record) {
                // Overwritten while we were away: the next read goes on behind the gap.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                other => self.take(&record[..other?], booted, taken),
            }
        }
        Ok(())
    }

    fn position(&self) -> String {
        format!("{} {}", self.boot, self.last.unwrap_or_default())
    }
}

impl Kmsg {
    fn take(&mut self, record: &[u8], booted: i64, taken: &mut Taken<'_>) {
        let Some(parsed) = parse(record) else { return };
        match self.last {
            Some(last) if parsed.number <= last => return,
            Some(last) if parsed.number > last + 1 => taken.missed(parsed.number - last - 1),
            _ => {}
        }
        self.last = Some(parsed.number);
        let mut text = Vec::with_capacity(parsed.text.len());
        unescape(parsed.text, &mut text);
        let (app_name, proc_id, text) = if parsed.priority < 8 { (&b"kernel"[..], &b""[..], &text[..]) } else { tagged(&text) };
        let header =
            Header { priority: parsed.priority, micros: Some(booted + parsed.micros), app_name, proc_id, ..Header::default() };
        taken.message(&header, None, text);
    }
}

/// `PRIORITY,NUMBER,MICROSECONDS,FLAGS[,…];TEXT LF` and lines of a dictionary that begin with a blank.
#[derive(Debug, PartialEq, Eq)]
struct Record<'r> {
    priority: u8,
    number: u64,
    /// Since the start of the kernel.
    micros: i64,
    text: &'r [u8],
}

fn parse(record: &[u8]) -> Option<Record<'_>> {
    let (prefix, rest) = record.split_at(memchr(b';', record)?);
    let mut parts = std::str::from_utf8(prefix).ok()?.split(',');
    let priority = parts.next()?.parse::<u64>().ok()?;
    let (number, micros) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let text = &rest[1..];
    let text = &text[..memchr(b'\n', text).unwrap_or(text.len())];
    // A facility that syslog has not is the user's.
    let priority = u8::try_from(priority).ok().filter(|priority| *priority <= 191).unwrap_or(8 + (priority % 8) as u8);
    Some(Record { priority, number, micros, text })
}

/// What cannot be printed comes as `\xHH`.
fn unescape(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let digits = rest.get(at + 2..at + 4).filter(|_| rest.get(at + 1) == Some(&b'x'));
        let octet = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        out.push(octet.unwrap_or(b'\\'));
        rest = &rest[at + if octet.is_some() { 4 } else { 1 }..];
    }
    out.extend_from_slice(rest);
}

/// Programs write there before there is a syslog: `systemd[1]: text`.
fn tagged(text: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let Some(colon) = memchr(b':', &text[..text.len().min(64)]) else {
        return (b"", b"", text);
    };
    let (tag, rest) = (&text[..colon], &text[colon + 1..]);
    let (name, process) = match tag.strip_suffix(b"]").and_then(|tag| Some(tag.split_at(memchr(b'[', tag)?))) {
        Some((name, process)) => (name, &process[1..]),
        None => (tag, &b""[..]),
    };
    let is_name = !name.is_empty() && name.iter().all(|octet| octet.is_ascii_alphanumeric() || b"-_./@".contains(octet));
    if is_name { (name, process, rest.trim_ascii_start()) } else { (b"", b"", text) }
}

fn boot_id() -> String {
    let id = std::fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id")).unwrap_or_default();
    id.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the kernel's own documentation, and what programs write there.
    #[test]
    fn records_of_the_kernel() {
        let record = b"6,339,5140900,-;NET: Registered protocol family 10\n SUBSYSTEM=net\n";
        let expected = Record { priority: 6, number: 339, micros: 5_140_900, text: b"NET: Registered protocol family 10" };
        assert_eq!(parse(record), Some(expected));
        assert_eq!(parse(b"2047,1,2,-,x=y;text").map(|record| record.priority), Some(15), "facility 255 is the user's");
        assert_eq!((parse(b""), parse(b"x,1,2;t"), parse(b"6,1")), (None, None, None));
        let mut text = Vec::new();
        unescape(br"a\x0ab\\x\xZZ\x4", &mut text);
        assert_eq!(text, b"a\nb\\\\x\\xZZ\\x4");
        assert_eq!(tagged(b"systemd[1]: Started x."), (&b"systemd"[..], &b"1"[..], &b"Started x."[..]));
        assert_eq!(tagged(b"no tag: here"), (&b""[..], &b""[..], &b"no tag: here"[..]));
    }
}
