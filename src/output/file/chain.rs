//! Evidence of tampering: beside each file its chain, which notes every line and seals them from time to time.
//!
//! A chain is text. It begins with `penstock-chain-1 KEY OCTETS AFTER NAME`: whose seals these are, what stood in the file
//! before the first noted line, the last seal of the file before this one, and what this one is called while it is written.
//! For each line follow the first four octets of its SHA-256, in hexadecimal. A seal is `seal LINES OCTETS HASH TIME
//! SIGNATURE`: so many lines since the beginning, so long is the file to there; the SHA-256 of the hash before it (of the first line,
//! for the first seal) and of all lines' SHA-256 since then; and the Ed25519 signature (RFC 8032) of everything before it. A `resume` is a
//! seal of lines that a server found when it came back, and did not write itself.
//!
//! Lines are written first, then noted, and synced before they are sealed. So a crash leaves lines that are not noted, or
//! notes that are not sealed, and never a seal of lines that are not there: that is tampering.

use std::ffi::{CStr, CString};
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{self, Context, SHA256};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use chrono::{SecondsFormat, Utc};
use toml::Spanned;

use super::names::{self, CHAIN, Closing, with};
use crate::config::{OutputScope, Period};
use crate::metrics::Limited;
use crate::net::tls::signing_key;
use crate::sys::file::Folder;
use crate::sys::reason;
use crate::warn_limited;

pub(super) const MAGIC: &str = "penstock-chain-1";
/// Octets of a line's hash that are noted: enough to find the line; what proves anything is the seal.
pub(super) const NOTED: usize = 4;
const EVERY: Duration = Duration::from_secs(10);
/// Each seal waits for the disk.
const SHORTEST: Duration = Duration::from_millis(100);

/// `seal = { … }`, as written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SealConfig {
    /// PEM: an Ed25519 key in PKCS#8.
    key: Spanned<PathBuf>,
    every: Option<Spanned<Period>>,
}

/// As run.
pub(super) struct Seal {
    pair: Ed25519KeyPair,
    id: String,
    path: PathBuf,
    pub every: Duration,
    log: Limited,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) {:?}", self.path.display(), self.id, self.every)
    }
}

impl Seal {
    pub(super) fn of(config: &SealConfig, scope: &mut OutputScope<'_, '_>) -> Option<Arc<Self>> {
        if let Some(every) = config.every.as_ref().filter(|every| every.as_ref().0 < SHORTEST) {
            scope.scope.error(every.span(), "files are sealed ten times a second at most");
        }
        let der = signing_key(&config.key).map_err(|(span, what)| scope.scope.error(span, what)).ok()?;
        let path = config.key.as_ref();
        let seal = Self::with_key(&der, path.clone(), config.every.as_ref().map_or(EVERY, |every| every.as_ref().0));
        if seal.is_none() {
            let what = format!("{} is no Ed25519 key (`openssl genpkey -algorithm ed25519`)", path.display());
            scope.scope.error(config.key.span(), what);
        }
        seal.map(Arc::new)
    }

    /// None: not an Ed25519 key.
    pub(super) fn with_key(pkcs8: &[u8], path: PathBuf, every: Duration) -> Option<Self> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).ok()?;
        let id = key_id(pair.public_key().as_ref());
        Some(Self { pair, id, path, every, log: Limited::default() })
    }
}

/// How a chain names the key of its seals.
pub(super) fn key_id(public: &[u8]) -> String {
    hex(&digest::digest(&SHA256, public).as_ref()[..8])
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file's chain, open for writing.
pub(super) struct Chain {
    file: File,
    seal: Arc<Seal>,
    /// Of whole lines.
    lines: u64,
    octets: u64,
    /// The line that has begun.
    line: (Context, u64),
    segment: Context,
    /// The hash of the last seal.
    last: String,
    sealed: u64,
    /// Notes that are not in the file yet.
    notes: Vec<u8>,
}

/// Where a chain has come to.
struct Reached {
    lines: u64,
    octets: u64,
    hash: Vec<u8>,
    has_seal: bool,
    /// Something stands behind its last seal.
    has_more: bool,
    /// Its last line has no end.
    is_cut: bool,
}

impl Chain {
    /// Opens a file's chain, and seals what it does not know yet; or begins one behind the seal `after`, which is looked up
    /// where it is not known.
    pub(super) fn open(place: &Place<'_>, log: &File, mode: u32, seal: Arc<Seal>, after: Option<&str>) -> io::Result<Self> {
        let path = with(place.name.to_bytes(), CHAIN)?;
        let mut file = place.folder.create(&path, mode)?;
        if file.metadata()?.len() > 0 {
            let other = match key_of(&mut file)? == seal.id {
                true => place.left_behind(&mut file, log)?,
                false => Some(place.aside()?),
            };
            if let Some(other) = other {
                Self::rename(place.folder, place.name, &other)?;
                file = place.folder.create(&path, mode)?;
            }
        }
        let is_new = file.metadata()?.len() == 0;
        if is_new {
            let after = after.map(str::to_owned).or_else(|| place.last_before()).unwrap_or_else(|| "-".to_owned());
            let octets = log.metadata()?.len();
            file.write_all(format!("{MAGIC} {} {octets} {after} {}\n", seal.id, shown(place.name.to_bytes())).as_bytes())?;
        }
        let Reached { lines, octets, hash, has_seal, has_more, is_cut } = reached(&mut file)?;
        if is_cut {
            // By a crash: what comes next is a line of its own.
            file.write_all(b"\n")?;
        }
        let mut chain = Self {
            file,
            seal,
            lines,
            octets,
            line: (Context::new(&SHA256), 0),
            segment: segment(&hash),
            last: hex(&hash),
            sealed: lines,
            notes: Vec::new(),
        };
        let mut found = log.try_clone()?;
        found.seek(SeekFrom::Start(octets))?;
        let is_longer = chain.take_in(found)?;
        // What was begun is ended, and counts for nothing.
        chain.notes.clear();
        if is_longer || has_more {
            chain.write_seal("resume", log)?;
        } else if !has_seal {
            // From its first moment on it is somebody's who has the key.
            chain.write_seal("seal", log)?;
        }
        Ok(chain)
    }

    /// Bytes that were appended to the file.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (line, octets) = &mut self.line;
            *octets += part.len() as u64;
            let hash = match part.ends_with(b"\n") {
                true if *octets == part.len() as u64 => digest::digest(&SHA256, part),
                is_whole => {
                    line.update(part);
                    if !is_whole {
                        return;
                    }
                    std::mem::replace(line, Context::new(&SHA256)).finish()
                }
            };
            self.octets += std::mem::take(octets);
            self.lines += 1;
            self.segment.update(hash.as_ref());
            note(&hash.as_ref()[..NOTED], &mut self.notes);
        }
    }

    /// Notes go to the chain.
    pub(super) fn flush(&mut self) {
        if let Err(error) = self.try_flush() {
            // They stay, and go with the next.
            warn_limited!(self.seal.log, "a chain cannot be written: {}", reason(&error));
        }
    }

    pub(super) fn is_to_be_sealed(&self) -> bool {
        self.lines > self.sealed
    }

    /// Everything up to here is sealed.
    pub(super) fn seal(&mut self, log: &File) -> io::Result<()> {
        if self.is_to_be_sealed() { self.write_seal("seal", log) } else { Ok(()) }
    }

    /// The hash of the last seal.
    pub(super) fn last(&self) -> &str {
        &self.last
    }

    /// A chain follows its file to another name.
    pub(super) fn rename(folder: &Folder, from: &CStr, to: &CStr) -> io::Result<()> {
        match folder.rename(&with(from.to_bytes(), CHAIN)?, &with(to.to_bytes(), CHAIN)?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn take_in(&mut self, found: File) -> io::Result<bool> {
        let before = self.octets;
        let mut found = BufReader::with_capacity(64 << 10, found);
        loop {
            let block = found.fill_buf()?;
            let count = block.len();
            if count == 0 {
                return Ok(self.octets > before);
            }
            self.add(block);
            found.consume(count);
            // Its lines were noted when they were written, or never.
            self.notes.clear();
        }
    }

    fn try_flush(&mut self) -> io::Result<()> {
        while !self.notes.is_empty() {
            let count = self.file.write(&self.notes)?;
            self.notes.drain(..count);
        }
        Ok(())
    }

    fn write_seal(&mut self, kind: &str, log: &File) -> io::Result<()> {
        let has_lines = self.lines > 0;
        if has_lines {
            log.sync_data()?;
        }
        let hash = self.segment.clone().finish();
        let time = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let text = format!("{kind} {} {} {} {time}", self.lines, self.octets, hex(hash.as_ref()));
        let signature = self.seal.pair.sign(format!("{MAGIC} {text}").as_bytes());
        // Behind the notes of its lines; what cannot be written now goes with the next ones.
        self.notes.extend_from_slice(format!("{text} {}\n", hex(signature.as_ref())).as_bytes());
        (self.segment, self.last, self.sealed) = (segment(hash.as_ref()), hex(hash.as_ref()), self.lines);
        self.try_flush()?;
        if has_lines { self.file.sync_data() } else { Ok(()) }
    }
}

fn note(start: &[u8], notes: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in start {
        notes.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    notes.push(b'\n');
}

/// The hash that the next seal will have begins with the one before.
pub(super) fn segment(last: &[u8]) -> Context {
    let mut context = Context::new(&SHA256);
    context.update(last);
    context
}

/// A line of a chain with a seal, in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sealed {
    /// Of lines that a server found when it came back.
    pub is_resumed: bool,
    pub lines: u64,
    pub octets: u64,
    pub hash: Vec<u8>,
    pub time: String,
    /// What is signed, and the signature.
    pub text: String,
    pub signature: Vec<u8>,
}

pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

impl Sealed {
    /// A whole line, with its end.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (text, signature) = line.strip_suffix('\n')?.rsplit_once(' ')?;
        let parts: Vec<&str> = text.split(' ').collect();
        let [kind, lines, octets, hash, time] = parts[..] else { return None };
        let (hash, signature) = (unhex(hash)?, unhex(signature)?);
        let is_whole = matches!(kind, "seal" | "resume") && hash.len() == SHA256.output_len();
        is_whole.then_some(Self {
            is_resumed: kind == "resume",
            lines: lines.parse().ok()?,
            octets: octets.parse().ok()?,
            hash,
            time: time.to_owned(),
            text: text.to_owned(),
            signature,
        })
    }
}

/// Reads a chain from its end to its last seal, or to its beginning where it has none.
fn reached(file: &mut File) -> io::Result<Reached> {
    let size = file.metadata()?.len();
    let mut window = 64 << 10;
    loop {
        let start = size.saturating_sub(window);
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        file.take(size - start).read_to_end(&mut text)?;
        let is_cut = !text.ends_with(b"\n");
        let mut end = text.len();
        for line in text.split_inclusive(|byte| *byte == b'\n').rev() {
            let has_more = end < text.len();
            end -= line.len();
            // The first one may be cut.
            if let Some(sealed) = std::str::from_utf8(line).ok().filter(|_| start == 0 || end > 0).and_then(Sealed::parse) {
                return Ok(Reached {
                    lines: sealed.lines,
                    octets: sealed.octets,
                    hash: sealed.hash,
                    has_seal: true,
                    has_more,
                    is_cut,
                });
            }
        }
        if start == 0 {
            let first = text.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
            let octets = std::str::from_utf8(first).ok().and_then(|line| line.split(' ').nth(2)?.parse().ok());
            let octets = octets.ok_or_else(|| io::Error::other("this is not a chain"))?;
            let hash = digest::digest(&SHA256, first).as_ref().to_vec();
            return Ok(Reached { lines: 0, octets, hash, has_seal: false, has_more: text.len() > first.len(), is_cut });
        }
        window *= 4;
    }
}

/// Whose seals a chain has.
fn key_of(chain: &mut File) -> io::Result<String> {
    let mut first = String::new();
    chain.rewind()?;
    BufReader::new(&mut *chain).take(LONGEST_HEADER).read_line(&mut first)?;
    Ok(first.split(' ').nth(1).unwrap_or_default().to_owned())
}

const LONGEST_HEADER: u64 = 64 << 10;

/// A name as a chain has it: one line, whatever its octets.
pub(super) fn shown(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}

/// Where a file is.
pub(super) struct Place<'p> {
    pub folder: &'p Folder,
    pub base: &'p Path,
    pub name: &'p CStr,
}

impl Place<'_> {
    /// Files that had this name before, those with a chain, and those without.
    fn closed(&self, has_chain: bool) -> Option<(Closing, Vec<u8>)> {
        let path = self.base.join(std::ffi::OsStr::from_bytes(self.name.to_bytes()));
        let prefix = [path.file_name()?.as_bytes(), b"-"].concat();
        let names: Vec<_> = std::fs::read_dir(path.parent()?).ok()?.flatten().map(|entry| entry.file_name()).collect();
        let closed = names.iter().filter_map(|name| {
            let rest = name.as_bytes().strip_prefix(&*prefix)?;
            let plain = if has_chain { rest.strip_suffix(CHAIN.as_bytes())? } else { rest };
            Some((names::closed(plain)?, [self.name.to_bytes(), b"-", plain].concat()))
        });
        closed.max()
    }

    /// The last seal of the file that had this name before.
    fn last_before(&self) -> Option<String> {
        let (_, name) = self.closed(true)?;
        let mut file = self.folder.read(&with(&name, CHAIN).ok()?).ok()?;
        reached(&mut file).ok().map(|reached| hex(&reached.hash))
    }

    /// A server has ended between giving its file the last name and giving its chain the same: it gets it now. What else is
    /// missing of a file, its chain tells.
    fn left_behind(&self, chain: &mut File, log: &File) -> io::Result<Option<CString>> {
        let octets = reached(chain)?.octets;
        if octets <= log.metadata()?.len() {
            return Ok(None);
        }
        let Some((_, own)) = self.closed(false) else { return Ok(None) };
        let own = with(&own, "")?;
        let has_chain = self.folder.has(&with(own.to_bytes(), CHAIN)?)?;
        Ok(Some(own).filter(|_| !has_chain).filter(|own| {
            let size = self.folder.read(own).and_then(|file| file.metadata()).map(|data| data.len());
            size.is_ok_and(|size| size >= octets)
        }))
    }

    /// The name under which a chain of another key stays.
    fn aside(&self) -> io::Result<CString> {
        let (last, _) = names::last(self.name, Utc::now(), None, |name| self.folder.has(&with(name.to_bytes(), CHAIN)?))?;
        let (name, shown) = (self.name.to_string_lossy(), last.to_string_lossy());
        tracing::warn!("the chain of {name} is sealed with another key: it stays as {shown}{CHAIN}, and a new one begins");
        Ok(last)
    }
}
