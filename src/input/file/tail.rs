//! The files behind an input's patterns, and how far each has been read.
//!
//! A file is known by device and inode, whatever it is called, and by its first octets: a number is given to another file soon. One that has got
//! another name is read to its end, until nothing has come for a while; one that is shorter than what was read of it, or begins otherwise,
//! begins anew. Files are looked at four times a second: that works on every file system, also over a network.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::Sender;

use super::{From, Source};
use crate::metrics::Limited;
use crate::sys::reason;

const LOOK: Duration = Duration::from_millis(250);
/// Patterns are expanded again.
const SCAN: Duration = Duration::from_secs(1);
/// A renamed file may still be written to for so long after the last octet: its program has not reopened it yet.
const RENAMED: Duration = Duration::from_secs(10);
/// A message of several lines is complete when nothing has followed for so long.
const COMPLETE: Duration = Duration::from_secs(1);
/// Read of one file before the next one has its turn.
const READ_BYTES: usize = 256 << 10;
/// First octets by which a file is known again.
const KNOWN_BY: usize = 64;

/// Messages of one file.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) path: Box<str>,
    pub(super) lines: Vec<Vec<u8>>,
    /// Of all files, when these have been taken.
    pub(super) position: String,
}

/// What is kept of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// Everything before it has been taken.
    offset: u64,
    begin: Vec<u8>,
}

struct Open {
    place: Place,
    file: File,
    /// Behind `place.offset`: read, and not taken.
    buffer: Vec<u8>,
    /// The rest of a line that was too long goes to nobody.
    skip: bool,
    renamed: bool,
    /// It has another name, and nothing has come for a while.
    done: bool,
    last: Instant,
}

pub(super) struct Tail {
    source: Source,
    /// Of the former process, and not found yet.
    kept: Vec<Place>,
    files: Vec<Open>,
    is_first: bool,
    scanned: Option<Instant>,
    log: Limited,
}

impl Tail {
    pub(super) fn new(source: Source, position: &str) -> Self {
        let kept: Vec<Place> = serde_json::from_str(position).unwrap_or_default();
        Self { source, kept, files: Vec::new(), is_first: position.is_empty(), scanned: None, log: Limited::default() }
    }

    /// Until nobody takes anything any more.
    pub(super) fn run(&mut self, to: &Sender<Piece>) {
        while !to.is_closed() {
            if self.scanned.is_none_or(|last| last.elapsed() >= SCAN) {
                self.scan();
                self.scanned = Some(Instant::now());
            }
            let mut more = false;
            for i in 0..self.files.len() {
                let lines = self.files[i].read(&self.source, &mut more);
                if lines.is_empty() {
                    continue;
                }
                let path = self.files[i].place.path.to_string_lossy().into_owned().into();
                if to.blocking_send(Piece { path, lines, position: self.position() }).is_err() {
                    return;
                }
            }
            self.files.retain(|open| !open.done);
            if !more {
                std::thread::sleep(LOOK);
            }
        }
    }

    fn position(&self) -> String {
        let places: Vec<_> = self.files.iter().map(|open| &open.place).chain(&self.kept).collect();
        serde_json::to_string(&places).unwrap_or_default()
    }

    /// Opens what is new, and finds out what has another name now.
    fn scan(&mut self) {
        let mut found = Vec::new();
        let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
        for pattern in &self.source.patterns {
            found.extend(glob::glob_with(pattern, options).into_iter().flatten().flatten());
        }
        let identity = |path: &Path| fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|data| (data.dev(), data.ino()));
        for open in &mut self.files {
            let now = fs::metadata(&open.place.path).map(|data| (data.dev(), data.ino()));
            open.renamed = match now {
                Ok(id) => id != (open.place.device, open.place.inode),
                Err(error) if error.kind() == io::ErrorKind::NotFound => true,
                Err(_) => open.renamed,
            };
        }
        for path in found {
            let Some(id) = identity(&path) else { continue };
            match self.files.iter_mut().find(|open| (open.place.device, open.place.inode) == id) {
                // It has been renamed to another name that is wanted.
                Some(open) if open.renamed => (open.place.path, open.renamed) = (path, false),
                Some(_) => {}
                None => self.open(&path, false),
            }
        }
        self.find_renamed();
        self.is_first = false;
    }

    /// What was renamed while nobody read is in the same folder; a folder that cannot be read is looked at again.
    fn find_renamed(&mut self) {
        for place in self.kept.clone() {
            let Some(Ok(entries)) = place.path.parent().map(fs::read_dir) else { continue };
            let same =
                |path: &PathBuf| fs::metadata(path).is_ok_and(|data| (data.dev(), data.ino()) == (place.device, place.inode));
            match entries.flatten().map(|entry| entry.path()).find(same) {
                Some(path) => self.open(&path, path != place.path),
                None => self.kept.retain(|other| *other != place),
            }
        }
    }

    fn open(&mut self, path: &Path, renamed: bool) {
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
        let (data, file) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let shown = path.display();
                return crate::warn_limited!(self.log, "{shown}: cannot be read: {}; it is tried again", reason(&error));
            }
        };
        let id = (data.dev(), data.ino());
        let kept = self.kept.iter().position(|place| (place.device, place.inode) == id);
        let known = match kept.map(|at| begins_with(&file, &self.kept[at].begin).map(|same| (at, same))) {
            // It is looked at again.
            Some(Err(_)) => return,
            Some(Ok((at, same))) => Some(self.kept.remove(at)).filter(|place| same && place.offset <= data.len()),
            None => None,
        };
        let offset = match &known {
            Some(place) => place.offset,
            None if self.is_first && self.source.from == From::End => data.len(),
            None => 0,
        };
        let begin = known.map(|place| place.begin).unwrap_or_default();
        let place = Place { path: path.to_owned(), device: id.0, inode: id.1, offset, begin };
        let mut open = Open { place, file, buffer: Vec::new(), skip: false, renamed, done: false, last: Instant::now() };
        open.know_begin();
        self.files.push(open);
    }
}

fn begins_with(file: &File, begin: &[u8]) -> io::Result<bool> {
    let mut found = [0; KNOWN_BY];
    let count = file.read_at(&mut found, 0)?;
    Ok(found[..count].starts_with(begin))
}

impl Open {
    /// The messages that are complete. What cannot be read now is not another file for that.
    fn read(&mut self, source: &Source, more: &mut bool) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        let look = self.file.metadata().and_then(|data| Ok((data.len(), begins_with(&self.file, &self.place.begin)?)));
        let Ok((length, same)) = look else { return lines };
        if length < self.read_to() || !same {
            // It was truncated, or written anew.
            lines.extend(self.rest(source));
            (self.place.offset, self.skip) = (0, false);
            self.place.begin.clear();
        }
        if length != self.read_to() {
            *more |= self.fill();
        }
        let quiet = self.last.elapsed();
        self.split(source, quiet > COMPLETE, &mut lines);
        if self.renamed && quiet > RENAMED && length == self.read_to() {
            lines.extend(self.rest(source));
            self.done = true;
        }
        lines
    }

    fn read_to(&self) -> u64 {
        self.place.offset + self.buffer.len() as u64
    }

    /// True: there is more.
    fn fill(&mut self) -> bool {
        let (from, held) = (self.read_to(), self.buffer.len());
        self.buffer.resize(held + READ_BYTES, 0);
        let read = self.file.read_at(&mut self.buffer[held..], from);
        let count = *read.as_ref().unwrap_or(&0);
        self.buffer.truncate(held + count);
        match read {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                tracing::debug!("{}: cannot be read: {}", self.place.path.display(), reason(&error));
            }
            Ok(1..) => self.last = Instant::now(),
            _ => {}
        }
        self.know_begin();
        count == READ_BYTES
    }

    fn know_begin(&mut self) {
        let mut begin = [0; KNOWN_BY];
        if let (true, Ok(count)) = (self.place.begin.len() < KNOWN_BY, self.file.read_at(&mut begin, 0)) {
            self.place.begin = begin[..count].to_vec();
        }
    }

    /// Takes what is complete from the buffer.
    fn split(&mut self, source: &Source, quiet: bool, lines: &mut Vec<Vec<u8>>) {
        let unit = Unit::of(source);
        let (mut begin, mut at) = (0, 0);
        while let Some(end) = unit.line_end(&self.buffer, at) {
            match &source.start {
                None => {
                    self.message(unit, begin..end, source, lines);
                    begin = end;
                }
                Some(start) if at > begin && start.is_match(source.decoded(&self.buffer[at..end]).as_bytes()) => {
                    self.message(unit, begin..at, source, lines);
                    begin = at;
                }
                Some(_) => {}
            }
            at = end;
        }
        let is_too_long = self.buffer.len() - begin > source.max_message;
        if (source.start.is_some() && quiet && at > begin) || (is_too_long && at > begin) {
            self.message(unit, begin..at, source, lines);
            begin = at;
        }
        if self.buffer.len() - begin > source.max_message {
            // Its end has not come: what there is is a message, and the rest of the line is none.
            let end = self.buffer.len() - self.buffer.len() % unit.0;
            self.message(unit, begin..end, source, lines);
            self.skip = true;
            begin = end;
        }
        self.buffer.drain(..begin);
        self.place.offset += begin as u64;
    }

    fn message(&mut self, unit: Unit, range: std::ops::Range<usize>, source: &Source, lines: &mut Vec<Vec<u8>>) {
        let ends_line = unit.ends_line(&self.buffer[range.clone()]);
        if std::mem::replace(&mut self.skip, false) {
            self.skip = !ends_line;
            return;
        }
        let line = unit.trimmed(&self.buffer[range]);
        if !line.is_empty() {
            // One octet more than is kept, so that it is known to be cut.
            lines.push(line[..line.len().min(source.max_message + 1)].to_vec());
        }
    }

    /// What has no end and will get none.
    fn rest(&mut self, source: &Source) -> Option<Vec<u8>> {
        let unit = Unit::of(source);
        let line = unit.trimmed(&self.buffer).to_vec();
        self.place.offset += self.buffer.len() as u64;
        self.buffer.clear();
        (!line.is_empty() && !self.skip).then_some(line)
    }
}

/// Octets of one unit of the encoding, and whether the first of them is the low one.
#[derive(Clone, Copy)]
struct Unit(usize, bool);

impl Unit {
    fn of(source: &Source) -> Self {
        if source.encoding == encoding_rs::UTF_16LE {
            Self(2, true)
        } else if source.encoding == encoding_rs::UTF_16BE {
            Self(2, false)
        } else {
            Self(1, true)
        }
    }

    fn is(self, unit: &[u8], octet: u8) -> bool {
        match self {
            Self(1, _) => unit == [octet],
            Self(_, true) => unit == [octet, 0],
            Self(_, false) => unit == [0, octet],
        }
    }

    /// Behind the next line feed.
    fn line_end(self, buffer: &[u8], from: usize) -> Option<usize> {
        if self.0 == 1 {
            return memchr::memchr(b'\n', &buffer[from..]).map(|at| from + at + 1);
        }
        let at = buffer[from..].chunks_exact(self.0).position(|unit| self.is(unit, b'\n'))?;
        Some(from + (at + 1) * self.0)
    }

    fn ends_line(self, text: &[u8]) -> bool {
        text.len() >= self.0 && self.is(&text[text.len() - self.0..], b'\n')
    }

    /// Without the line end.
    fn trimmed(self, mut text: &[u8]) -> &[u8] {
        for octet in [b'\n', b'\r'] {
            if text.len() >= self.0 && self.is(&text[text.len() - self.0..], octet) {
                text = &text[..text.len() - self.0];
            }
        }
        text
    }
}
