//! Idempotency keys: a POST that is sent again because its answer was lost arrives once.
//!
//! The header is that of the IETF's draft "The Idempotency-Key HTTP Header Field". Keys are remembered, so many of them and for so
//! long, and written to a file of the state folder when what they came with is safe, so that a restart or a kill does not forget
//! them. The file is a row of [`Record`]s; a torn one at its end is passed over, and what is too old goes when it is opened.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hyper::HeaderMap;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::answer::Answer;
use super::auth::Identity;
use crate::input::Shared;
use crate::queue::Acceptance;

const HEADER: &str = "idempotency-key";
const LONGEST: usize = 255;
/// Of one input; the oldest are forgotten first.
const MOST: usize = 100_000;
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Octets of a record: key, print, number and second, each the highest octet first.
const RECORD: usize = 16 + 16 + 8 + 8;

pub(super) type Key = u128;

/// Of the key, for this client.
pub(super) fn of(headers: &HeaderMap, who: &Identity) -> Result<Option<Key>, Answer> {
    let Some(value) = headers.get(HEADER) else { return Ok(None) };
    let value = value.as_bytes();
    if value.is_empty() || value.len() > LONGEST {
        return Err(Answer::bad("Idempotency-Key: 1 to 255 characters are expected".to_owned()));
    }
    let mut hash = Xxh3::new();
    hash.update(who);
    hash.update(value);
    Ok(Some(hash.digest128()))
}

/// What a body is recognized by.
pub(super) fn print(body: &[u8]) -> u128 {
    xxh3_128(body)
}

#[derive(Debug, Default)]
pub struct Keys(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<Key, Taken>,
    /// In the order in which they came.
    order: VecDeque<(Instant, Key)>,
    /// Where they are written; None where that is not possible.
    file: Option<File>,
    /// In the file.
    written: usize,
}

#[derive(Debug)]
struct Taken {
    print: u128,
    accepted: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The request is on its way in.
    Coming,
    Safe,
    Taken(Acceptance),
}

/// What is known of a key that came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// With another body.
    Other,
    /// So many messages were taken, and every output has them.
    Safe(Key, usize),
    /// Not every output has what it came with.
    Waiting,
}

/// A key that is being used; it is forgotten with this, unless something was taken.
pub(super) struct Reserved {
    shared: Arc<Shared>,
    key: Key,
}

/// The key is this request's, if it is nobody else's.
pub(super) fn reserve(shared: &Arc<Shared>, key: Key, print: u128) -> Result<Reserved, Seen> {
    shared.keys.reserve(key, print)?;
    Ok(Reserved { shared: shared.clone(), key })
}

impl Keys {
    /// Reads what a former process has written, and goes on in a new file.
    pub(in crate::input) fn open(&self, path: &Path) -> io::Result<()> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut inner = self.lock();
        let now = (Instant::now(), seconds());
        let live: Vec<_> = bytes.as_chunks::<RECORD>().0.iter().map(Record::read).collect();
        let live = live.iter().skip(live.len().saturating_sub(MOST)).filter(|record| now.1 < record.second + KEPT.as_secs());
        let mut kept = Vec::new();
        for record in live {
            let age = Duration::from_secs(now.1.saturating_sub(record.second));
            inner.order.push_back((now.0.checked_sub(age).unwrap_or(now.0), record.key));
            let taken = Taken { print: record.print, accepted: record.accepted as usize, state: State::Safe };
            inner.known.insert(record.key, taken);
            record.write(&mut kept);
        }
        inner.written = kept.len() / RECORD;
        inner.file = Some(replace(path, &kept)?);
        Ok(())
    }

    fn reserve(&self, key: Key, print: u128) -> Result<(), Seen> {
        let mut inner = self.lock();
        inner.forget();
        match inner.known.get(&key) {
            None => {
                inner.known.insert(key, Taken { print, accepted: 0, state: State::Coming });
                Ok(())
            }
            Some(taken) if taken.print != print => Err(Seen::Other),
            Some(taken) if taken.is_safe() => Err(Seen::Safe(key, taken.accepted)),
            Some(_) => Err(Seen::Waiting),
        }
    }

    /// What the key came with is safe: writes that down. The file is given up where it cannot be written.
    pub(super) fn note(&self, key: Key) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let (Some(taken), Some(file)) = (inner.known.get_mut(&key), &mut inner.file) else { return };
        if matches!(std::mem::replace(&mut taken.state, State::Safe), State::Safe) {
            return;
        }
        let mut bytes = Vec::with_capacity(RECORD);
        Record { key, print: taken.print, accepted: taken.accepted as u64, second: seconds() }.write(&mut bytes);
        inner.written += 1;
        // As many again as are remembered: from here on it would only grow. It begins anew with the next start.
        if inner.written > 10 * MOST || file.write_all(&bytes).is_err() {
            inner.file = None;
        }
    }

    /// At a stop: what has become safe while nobody waited for it.
    pub(in crate::input) fn settle(&self) {
        let given: Vec<_> = self.lock().known.iter().filter(|(_, taken)| taken.is_safe()).map(|(key, _)| *key).collect();
        given.into_iter().for_each(|key| self.note(key));
    }

    /// So many messages were taken, and are safe when that is given.
    fn keep(&self, key: Key, accepted: usize, acceptance: Acceptance) {
        let mut inner = self.lock();
        if let Some(taken) = inner.known.get_mut(&key) {
            (taken.accepted, taken.state) = (accepted, State::Taken(acceptance));
            inner.order.push_back((Instant::now(), key));
        }
    }

    /// A request that is on its way in no more.
    fn release(&self, key: Key) {
        let mut inner = self.lock();
        if inner.known.get(&key).is_some_and(|taken| matches!(taken.state, State::Coming)) {
            inner.known.remove(&key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reserved {
    pub(super) fn keep(self, accepted: usize, acceptance: Acceptance) -> Key {
        self.shared.keys.keep(self.key, accepted, acceptance);
        self.key
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.shared.keys.release(self.key);
    }
}

impl Taken {
    fn is_safe(&self) -> bool {
        match &self.state {
            State::Coming => false,
            State::Safe => true,
            State::Taken(acceptance) => acceptance.is_given(),
        }
    }
}

impl Inner {
    fn forget(&mut self) {
        while let Some((since, key)) = self.order.front().copied()
            && (self.order.len() > MOST || since.elapsed() > KEPT)
        {
            self.order.pop_front();
            self.known.remove(&key);
        }
    }
}

/// One key in the file.
struct Record {
    key: Key,
    print: u128,
    accepted: u64,
    /// Since 1970.
    second: u64,
}

impl Record {
    fn read(bytes: &[u8; RECORD]) -> Self {
        let number = |at: usize| bytes[at..at + 8].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        let wide = |at: usize| u128::from(number(at)) << 64 | u128::from(number(at + 8));
        Self { key: wide(0), print: wide(16), accepted: number(32), second: number(40) }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key.to_be_bytes());
        out.extend_from_slice(&self.print.to_be_bytes());
        out.extend_from_slice(&self.accepted.to_be_bytes());
        out.extend_from_slice(&self.second.to_be_bytes());
    }
}

fn seconds() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}

/// A new file in the place of the old one, to be appended to.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let new = path.with_extension("new");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    std::fs::rename(&new, path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;

    use super::*;
    use crate::queue::Receipt;

    fn take(keys: &Keys, key: Key, accepted: usize) -> Arc<Receipt> {
        let (receipt, acceptance) = Receipt::new(Arc::new(Notify::new()));
        keys.reserve(key, 7).expect("new");
        keys.keep(key, accepted, acceptance);
        receipt
    }

    #[test]
    fn what_was_safe_is_known_to_the_next_process() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys/http.in");
        let keys = Keys::default();
        keys.open(&path).expect("written");
        drop(take(&keys, 1, 3));
        keys.note(1);
        let waits = take(&keys, 2, 1);
        assert_eq!(keys.reserve(2, 7).err(), Some(Seen::Waiting));
        drop(waits);
        assert_eq!(keys.reserve(2, 7).err(), Some(Seen::Safe(2, 1)));
        keys.reserve(3, 7).expect("new");
        keys.release(3);
        let mut torn = std::fs::read(&path).expect("written");
        assert_eq!(torn.len(), RECORD);
        torn.extend_from_slice(&[9; 20]);
        let mut old = Vec::new();
        Record { key: 8, print: 7, accepted: 1, second: seconds() - KEPT.as_secs() - 1 }.write(&mut old);
        std::fs::write(&path, [old, torn].concat()).expect("written");
        let next = Keys::default();
        next.open(&path).expect("read");
        assert_eq!((next.reserve(1, 7).err(), next.reserve(1, 8).err()), (Some(Seen::Safe(1, 3)), Some(Seen::Other)));
        assert!(next.reserve(2, 7).is_ok() && next.reserve(3, 7).is_ok() && next.reserve(8, 7).is_ok());
        assert_eq!(std::fs::read(&path).expect("written").len(), RECORD);
    }
}
