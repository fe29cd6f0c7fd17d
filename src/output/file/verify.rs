//! A file against its chain: the first line that was changed, removed, moved or put in.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use toml::Spanned;

use super::chain::{MAGIC, NOTED, Sealed, hex, key_id, segment, shown, unhex};
use super::names::{self, CHAIN, Closing};
use crate::net::tls::{public_key, signing_key};

/// Whose seals are believed.
pub struct SealKey(Vec<u8>);

impl SealKey {
    /// From a PEM file with the public key, or with the private one.
    pub fn read(path: &Path) -> Result<Self, String> {
        const ED25519_SPKI: usize = 44;
        let spanned = Spanned::new(0..0, path.to_owned());
        let said = |(_, what)| what;
        if let Some(der) = public_key(&spanned).map_err(said)? {
            let key = der.get(12..).filter(|_| der.len() == ED25519_SPKI);
            return key.map(|key| Self(key.to_vec())).ok_or_else(|| format!("{} is no Ed25519 key", path.display()));
        }
        let der = signing_key(&spanned).map_err(said)?;
        let pair =
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| format!("{} is no Ed25519 key", path.display()))?;
        Ok(Self(pair.public_key().as_ref().to_vec()))
    }

    fn has_signed(&self, sealed: &Sealed) -> bool {
        let text = format!("{MAGIC} {}", sealed.text);
        UnparsedPublicKey::new(&ED25519, &self.0).verify(text.as_bytes(), &sealed.signature).is_ok()
    }
}

/// What a file and its chain say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Lines that stood there before the chain began.
    pub before: u64,
    /// Lines that are as they were written.
    pub sealed: u64,
    /// When the last of them was sealed.
    pub until: Option<String>,
    /// Lines behind the last seal, which nothing proves.
    pub unsealed: u64,
    /// What a crash does, and tampering with what was not sealed yet could have done.
    pub remarks: Vec<String>,
    /// Tampering: with which line it begins, counted from the file's first.
    pub finding: Option<String>,
    /// What the file is called while it is written.
    pub name: String,
    /// When it was closed; None while it is written.
    pub closed: Option<Closing>,
    /// The last seal of the file before it, and its own.
    pub after: Option<String>,
    pub last: String,
}

/// Compares a file, packed or not, with the chain beside it.
pub fn verify(path: &Path, key: &SealKey) -> io::Result<Verdict> {
    let chain = chain_of(path);
    let opened = File::open(&chain).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", chain.display())))?;
    let file = File::open(path)?;
    let log: Box<dyn Read> = match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Some("zst") => Box::new(zstd::Decoder::new(file)?),
        _ => Box::new(file),
    };
    let mut checked = Checked::new(BufReader::with_capacity(64 << 10, log), BufReader::new(opened), key);
    checked.run(path)?;
    Ok(checked.verdict)
}

/// As it was called before it was packed.
fn plain(path: &Path) -> PathBuf {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz" | "zst") => path.with_extension(""),
        _ => path.to_owned(),
    }
}

fn chain_of(path: &Path) -> PathBuf {
    let mut name = plain(path).into_os_string();
    name.push(CHAIN);
    name.into()
}

type Note = [u8; NOTED];

struct Checked<'k, L, C> {
    log: L,
    chain: C,
    key: &'k SealKey,
    verdict: Verdict,
    octets: u64,
    /// It has its last name: nothing comes behind its last seal.
    is_closed: bool,
    /// Something without a line's end stands at the end.
    has_rest: bool,
}

/// What stands in a chain up to a seal, or its end.
#[derive(Default)]
struct Part {
    notes: Vec<Note>,
    sealed: Option<Sealed>,
    /// A line that is neither: a crash has cut it.
    is_cut: bool,
}

impl<L: BufRead, C: BufRead> Checked<'_, L, C> {
    fn new<'k>(log: L, chain: C, key: &'k SealKey) -> Checked<'k, L, C> {
        Checked { log, chain, key, verdict: Verdict::default(), octets: 0, is_closed: false, has_rest: false }
    }

    fn run(&mut self, path: &Path) -> io::Result<()> {
        let mut hash = self.header(path)?;
        loop {
            let part = self.part()?;
            let Some(sealed) = &part.sealed else { return self.tail(&part) };
            let before = self.verdict.sealed;
            let expected = sealed.lines.saturating_sub(before);
            let mut context = segment(&hash);
            let mut lines = Vec::new();
            while (lines.len() as u64) < expected
                && let Some(line) = self.line()?
            {
                context.update(line.as_ref());
                lines.push(noted(&line));
            }
            let found = context.finish();
            if !self.key.has_signed(sealed) {
                let what =
                    format!("the seal of lines {} to {} is not of this key", self.number(0), self.number(expected.max(1) - 1));
                return self.found(what);
            }
            // Notes are only hints; those before a `resume` are of a server that crashed.
            if found.as_ref() != sealed.hash || self.octets != sealed.octets || (lines.len() as u64) < expected {
                let what = self.first(&part.notes, &lines, expected)?;
                return self.found(what);
            }
            if sealed.is_resumed {
                if let Some(what) = self.crashed(&part, &lines) {
                    return self.found(what);
                }
            } else if part.is_cut || part.notes != lines {
                self.verdict.remarks.push(format!(
                    "lines {} to {} are as they were written; what the chain notes of them was changed",
                    self.number(0),
                    self.number(expected.max(1) - 1)
                ));
            }
            (self.verdict.sealed, self.verdict.until) = (sealed.lines, Some(sealed.time.clone()));
            hash.clone_from(&sealed.hash);
            self.verdict.last = hex(&hash);
        }
    }

    /// The first line of the chain, and what stood in the file before it was begun.
    fn header(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let mut line = String::new();
        self.chain.read_line(&mut line)?;
        let parts: Vec<&str> = line.trim_end_matches('\n').splitn(5, ' ').collect();
        let [MAGIC, id, octets, after, name] = parts[..] else {
            return Err(io::Error::other("what stands beside it is not a chain"));
        };
        if id != key_id(&self.key.0) {
            return Err(io::Error::other(format!("it is sealed with another key ({id})")));
        }
        self.verdict.name = name.to_owned();
        self.verdict.after = Some(after.to_owned()).filter(|after| after != "-");
        let hash = digest::digest(&SHA256, line.as_bytes()).as_ref().to_vec();
        self.verdict.last = hex(&hash);
        let called = shown(plain(path).file_name().unwrap_or_default().as_bytes());
        self.is_closed = !name.ends_with(&called);
        match called.strip_prefix(name.rsplit('/').next().unwrap_or(name)) {
            Some(behind) => self.verdict.closed = behind.strip_prefix('-').and_then(|closed| names::closed(closed.as_bytes())),
            None => self.verdict.finding = Some(format!("the chain is that of another file: {name}")),
        }
        let octets: u64 = octets.parse().map_err(io::Error::other)?;
        while self.octets < octets && self.line()?.is_some() {
            self.verdict.before += 1;
        }
        if self.octets != octets {
            self.found(format!("what stood there before the chain began ({octets} octets) was changed or removed"))?;
        }
        Ok(hash)
    }

    /// The lines behind the last seal.
    fn tail(&mut self, part: &Part) -> io::Result<()> {
        let mut lines = Vec::new();
        while let Some(line) = self.line()? {
            lines.push(noted(&line));
        }
        if let Some(what) = self.crashed(part, &lines) {
            return self.found(what);
        }
        self.verdict.unsealed = lines.len() as u64;
        if self.verdict.until.is_none() {
            // It gets its first one with its first line.
            return self.found("the chain has no seal".to_owned());
        }
        if self.is_closed && (!lines.is_empty() || self.has_rest) {
            let first = self.number(0);
            return self.found(format!(
                "the file was closed, and so sealed, before line {first}: what follows was put in, or seals were cut off"
            ));
        }
        Ok(())
    }

    /// Lines that a server had not sealed when it ended. What it noted must agree as far as both go.
    fn crashed(&mut self, part: &Part, lines: &[Note]) -> Option<String> {
        let common = part.notes.len().min(lines.len());
        if let Some(at) = (0..common).find(|at| part.notes[*at] != lines[*at]) {
            if at + 1 == lines.len() {
                // The file system had kept half of it.
                let what = "was written differently, and not sealed yet: a power cut has cut it, or somebody changed it";
                self.verdict.remarks.push(format!("line {}, the last one, {what}", self.number(at as u64)));
                return None;
            }
            return Some(format!(
                "line {} {}, before it was sealed",
                self.number(at as u64),
                what_happened(&part.notes, lines, at)
            ));
        }
        if part.notes.len() > lines.len() {
            let missing = part.notes.len() - lines.len();
            self.verdict.remarks.push(format!(
                "behind line {} {missing} lines are missing that were written and not sealed yet: a power cut, or somebody removed them",
                self.number(lines.len() as u64) - 1
            ));
        }
        None
    }

    /// What is said of the first line that is not as it was sealed.
    fn first(&mut self, notes: &[Note], lines: &[Note], expected: u64) -> io::Result<String> {
        let at = (0..notes.len().min(lines.len())).find(|at| notes[*at] != lines[*at]);
        Ok(match at {
            Some(at) => format!("line {} {}", self.number(at as u64), what_happened(notes, lines, at)),
            None if (lines.len() as u64) < expected => {
                let (first, last) = (self.number(lines.len() as u64), self.number(expected - 1));
                if first == last {
                    format!("line {first}, the last one, was removed")
                } else {
                    format!("lines {first} to {last} were removed")
                }
            }
            None if expected == 0 => "the beginning of the chain was changed".to_owned(),
            None => {
                let (first, last) = (self.number(0), self.number(expected.max(1) - 1));
                format!("one of the lines {first} to {last} was changed, removed or moved, and the chain with it")
            }
        })
    }

    fn found(&mut self, what: String) -> io::Result<()> {
        self.verdict.finding.get_or_insert(what);
        Ok(())
    }

    /// Of a line behind the last seal that was good, counted from the file's first.
    fn number(&self, at: u64) -> u64 {
        self.verdict.before + self.verdict.sealed + at + 1
    }

    /// The hash of the file's next whole line.
    fn line(&mut self) -> io::Result<Option<digest::Digest>> {
        let mut line = Vec::new();
        let count = self.log.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            self.has_rest |= !line.is_empty();
            return Ok(None);
        }
        self.octets += count as u64;
        Ok(Some(digest::digest(&SHA256, &line)))
    }

    fn part(&mut self) -> io::Result<Part> {
        let mut part = Part::default();
        let mut line = String::new();
        loop {
            line.clear();
            if self.chain.read_line(&mut line)? == 0 {
                return Ok(part);
            }
            let note = line.strip_suffix('\n').and_then(unhex).and_then(|note| Note::try_from(note).ok());
            match (note, Sealed::parse(&line)) {
                (Some(note), _) => part.notes.push(note),
                (None, Some(sealed)) => {
                    part.sealed = Some(sealed);
                    return Ok(part);
                }
                (None, None) => part.is_cut = true,
            }
        }
    }
}

fn noted(line: &digest::Digest) -> Note {
    std::array::from_fn(|i| line.as_ref()[i])
}

/// From the notes and the lines there are, with the first of both that differ.
fn what_happened(notes: &[Note], lines: &[Note], at: usize) -> &'static str {
    let was_here_is_later = lines[at + 1..].contains(&notes[at]);
    let is_here_was_later = notes[at + 1..].contains(&lines[at]);
    match (was_here_is_later, is_here_was_later) {
        (true, true) => "was moved",
        (true, false) => "was put in",
        (false, true) => "was removed",
        (false, false) => "was changed",
    }
}

#[cfg(test)]
mod tests;
