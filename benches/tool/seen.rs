//! Which numbers have been seen: a bit for each, so that a million messages are counted in no time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use memchr::memmem::Finder;

/// Stands before the number of each message.
const MARK: &[u8] = b" seq=";

pub struct Seen {
    bits: Vec<AtomicU64>,
    count: u64,
    messages: AtomicU64,
    distinct: AtomicU64,
    mark: Finder<'static>,
}

impl Seen {
    /// For the numbers from 0 to below `count`.
    pub fn new(count: u64) -> Self {
        let bits = (0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self { bits, count, messages: AtomicU64::new(0), distinct: AtomicU64::new(0), mark: Finder::new(MARK) }
    }

    /// Takes whole messages.
    pub fn take(&self, text: &[u8]) {
        let (mut messages, mut distinct) = (0, 0);
        for at in self.mark.find_iter(text) {
            messages += 1;
            distinct += u64::from(self.is_new(number(&text[at + MARK.len()..])));
        }
        self.messages.fetch_add(messages, Relaxed);
        self.distinct.fetch_add(distinct, Relaxed);
    }

    pub fn report(&self, files: usize) -> String {
        let (messages, distinct) = (self.messages.load(Relaxed), self.distinct.load(Relaxed));
        let (missing, doubled) = (self.count - distinct, messages - distinct);
        format!("{{\"files\": {files}, \"messages\": {messages}, \"missing\": {missing}, \"doubled\": {doubled}}}")
    }

    fn is_new(&self, number: u64) -> bool {
        let bit = 1 << (number % 64);
        let word = usize::try_from(number / 64).ok().and_then(|word| self.bits.get(word));
        word.is_some_and(|word| word.fetch_or(bit, Relaxed) & bit == 0)
    }
}

fn number(text: &[u8]) -> u64 {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
}
