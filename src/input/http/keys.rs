//! Idempotency keys: a POST that is sent again because its answer was lost arrives once.
//!
//! The header is that of the IETF's draft "The Idempotency-Key HTTP Header Field". Keys are remembered in memory, so many
//! of them and for so long: a server that is killed forgets them, and what is sent again then comes twice.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::HeaderMap;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::answer::Answer;
use super::auth::Identity;
use crate::queue::Acceptance;

const HEADER: &str = "idempotency-key";
const LONGEST: usize = 255;
/// Of one input; the oldest are forgotten first.
const MOST: usize = 100_000;
const KEPT: Duration = Duration::from_secs(24 * 3600);

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
}

#[derive(Debug)]
struct Taken {
    print: u128,
    accepted: usize,
    /// None while the request is being read.
    acceptance: Option<Acceptance>,
}

/// What is known of a key that came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// With another body.
    Other,
    /// So many messages were taken, and every output has them.
    Safe(usize),
    /// Not every output has what it came with.
    Waiting,
}

/// A key that is being used; it is forgotten with this, unless something was taken.
pub(super) struct Reserved<'k> {
    keys: &'k Keys,
    key: Key,
}

impl Keys {
    /// The key is this request's, if it is nobody else's.
    pub(super) fn reserve(&self, key: Key, print: u128) -> Result<Reserved<'_>, Seen> {
        let mut inner = self.lock();
        inner.forget();
        match inner.known.get(&key) {
            None => {
                inner.known.insert(key, Taken { print, accepted: 0, acceptance: None });
                inner.order.push_back((Instant::now(), key));
                Ok(Reserved { keys: self, key })
            }
            Some(taken) if taken.print != print => Err(Seen::Other),
            Some(taken) if taken.acceptance.as_ref().is_some_and(Acceptance::is_given) => Err(Seen::Safe(taken.accepted)),
            Some(_) => Err(Seen::Waiting),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reserved<'_> {
    /// So many messages were taken, and are safe when that is given.
    pub(super) fn keep(self, accepted: usize, acceptance: Acceptance) {
        if let Some(taken) = self.keys.lock().known.get_mut(&self.key) {
            (taken.accepted, taken.acceptance) = (accepted, Some(acceptance));
        }
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut inner = self.keys.lock();
        if inner.known.get(&self.key).is_some_and(|taken| taken.acceptance.is_none()) {
            inner.known.remove(&self.key);
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
