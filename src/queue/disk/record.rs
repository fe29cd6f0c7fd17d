//! A record on disk, and how the next whole one is found behind damage.
//!
//! | octets | what (little-endian) |
//! |---|---|
//! | 0–3 | [`MAGIC`] |
//! | 4–11 | XXH3-64 of all that follows, with the segment's seed |
//! | 12–19 | number in the queue |
//! | 20–23 | length of the address |
//! | 24–27 | length of the body |
//! | 28–31 | when it was accepted, in seconds since 1970 |
//! | 32 | severity |
//! | 33 | form |
//! | 34–35 | 16 bits of XXH3-64 of octets 12–33, with the seed: lengths that are damage are not followed |
//! | 36– | address, body |
//!
//! The seed is random and never leaves the server, so that no message can contain what would pass for a record.

use xxhash_rust::xxh3::xxh3_64_with_seed;

pub(super) const MAGIC: [u8; 4] = [0xf5, b'P', b'q', 0x1a];
pub(super) const HEAD: usize = 36;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored<'b> {
    pub(super) number: u64,
    pub(super) address: &'b [u8],
    pub(super) body: &'b [u8],
    pub(super) accepted: u32,
    pub(super) severity: u8,
    pub(super) form: u8,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    Whole(Outline),
    /// Whole or not cannot be said before so many bytes are there.
    Needs(usize),
    Damaged,
}

/// A whole record's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outline {
    pub(super) number: u64,
    /// Where the body begins.
    middle: usize,
    /// Its length.
    pub(super) end: usize,
    accepted: u32,
    severity: u8,
    form: u8,
}

impl Outline {
    pub(super) fn of<'b>(&self, bytes: &'b [u8]) -> Stored<'b> {
        let Self { number, middle, end, accepted, severity, form } = *self;
        Stored { number, address: &bytes[HEAD..middle], body: &bytes[middle..end], accepted, severity, form }
    }
}

impl Stored<'_> {
    pub(super) fn encode(&self, seed: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&(self.address.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.body.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.accepted.to_le_bytes());
        out.extend_from_slice(&[self.severity, self.form]);
        let check = xxh3_64_with_seed(&out[start + 12..], seed) as u16;
        out.extend_from_slice(&check.to_le_bytes());
        out.extend_from_slice(self.address);
        out.extend_from_slice(self.body);
        let hash = xxh3_64_with_seed(&out[start + 12..], seed);
        out[start + 4..start + 12].copy_from_slice(&hash.to_le_bytes());
    }
}

/// The record that begins with the first byte.
pub(super) fn decode(bytes: &[u8], seed: u64) -> Decoded {
    let known = bytes.len().min(MAGIC.len());
    if bytes[..known] != MAGIC[..known] {
        return Decoded::Damaged;
    }
    let Some((head, _)) = bytes.split_first_chunk::<HEAD>() else {
        return Decoded::Needs(HEAD);
    };
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| head[at + i]));
    let half = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| head[at + i]));
    if xxh3_64_with_seed(&head[12..34], seed) as u16 != u16::from_le_bytes([head[34], head[35]]) {
        return Decoded::Damaged;
    }
    let middle = HEAD + half(20) as usize;
    let end = middle + half(24) as usize;
    if bytes.len() < end {
        return Decoded::Needs(end);
    }
    if xxh3_64_with_seed(&bytes[12..end], seed) != word(4) {
        return Decoded::Damaged;
    }
    Decoded::Whole(Outline { number: word(12), middle, end, accepted: half(28), severity: head[32], form: head[33] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_is_damage_or_asks_for_more_and_another_seed_reads_nothing() {
        let record =
            Stored { number: 7, address: b"host/app.log", body: b"a message\n", accepted: 1_800_000_000, severity: 3, form: 2 };
        let mut bytes = Vec::new();
        record.encode(42, &mut bytes);
        let Decoded::Whole(outline) = decode(&bytes, 42) else { panic!("it is whole") };
        assert_eq!((outline.of(&bytes), outline.end), (record, bytes.len()));
        assert_eq!(decode(&bytes, 43), Decoded::Damaged);
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(decode(&changed, 42), Decoded::Whole(..)), "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert!(matches!(decode(&bytes[..end], 42), Decoded::Needs(_)), "{end} bytes");
        }
    }
}
