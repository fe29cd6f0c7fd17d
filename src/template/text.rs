//! What makes a peer's bytes harmless where they end up.

/// Where a template's output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escaping {
    /// A line of a file or stream: control bytes become `#ooo` (octal), as rsyslog writes them.
    Line,
    /// Bytes that are framed by something else: a datagram, an octet-counted frame.
    Nothing,
    /// One component of a path: it can neither leave its folder nor hide in it.
    Path,
}

impl Escaping {
    pub(super) fn append(self, bytes: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(bytes);
        self.in_place(start, out);
    }

    /// What was appended from `start` on becomes harmless.
    pub(super) fn in_place(self, start: usize, out: &mut Vec<u8>) {
        match self {
            Self::Line if !is_plain(&out[start..]) => escape(start, out),
            Self::Line | Self::Nothing => {}
            Self::Path => confine(start, out),
        }
    }
}

/// No byte that a terminal or a reader of lines would act on: C0, DEL, and the C1 controls in UTF-8 (`C2 80`–`C2 9F`,
/// of which only the lead byte is looked for here). Long texts in blocks, of which the compiler makes vectors; short ones
/// in words. The last piece overlaps the one before it.
pub fn is_plain(bytes: &[u8]) -> bool {
    const BLOCK: usize = 32;
    const WORD: usize = 8;
    if let (true, Some(last)) = (bytes.len() >= 2 * BLOCK, bytes.last_chunk::<BLOCK>()) {
        let mut found = [0; BLOCK];
        bytes.as_chunks::<BLOCK>().0.iter().for_each(|block| look(block, &mut found));
        look(last, &mut found);
        return found == [0; BLOCK];
    }
    match bytes.last_chunk::<WORD>() {
        Some(last) => {
            let words = bytes.as_chunks::<WORD>().0.iter().chain([last]);
            words.fold(0, |found, word| found | acting(u64::from_le_bytes(*word))) == 0
        }
        None => !bytes.iter().any(|byte| acts(*byte)),
    }
}

fn look<const N: usize>(block: &[u8; N], found: &mut [u8; N]) {
    for i in 0..N {
        found[i] |= u8::from(acts(block[i]));
    }
}

fn acts(byte: u8) -> bool {
    (byte < 0x20) | (byte == 0x7F) | (byte == 0xC2)
}

/// Not 0 where one of the eight bytes acts: a borrow out of its high bit, as in strlen(3).
fn acting(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word;
    (below(word, 0x20) | below(word ^ (ONES * 0x7F), 1) | below(word ^ (ONES * 0xC2), 1)) & (ONES * 0x80)
}

/// The escaped bytes are written behind the others, and then take their place.
fn escape(start: usize, out: &mut Vec<u8>) {
    let end = out.len();
    let mut at = start;
    while at < end {
        match out[at] {
            0xC2 if matches!(out[at + 1..end].first(), Some(0x80..=0x9F)) => {
                octal(0xC2, out);
                octal(out[at + 1], out);
                at += 1;
            }
            byte @ (0..0x20 | 0x7F) => octal(byte, out),
            byte => out.push(byte),
        }
        at += 1;
    }
    out.drain(start..end);
}

fn octal(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'#', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)]);
}

/// Slashes, NUL and control bytes become `_`; so do a leading dot (`.`, `..`, hidden files) and an empty name.
fn confine(start: usize, out: &mut Vec<u8>) {
    if out.len() == start {
        return out.push(b'_');
    }
    out.truncate(start + super::NAME_MAX);
    for byte in &mut out[start..] {
        if *byte < 0x20 || *byte == b'/' || *byte == 0x7F {
            *byte = b'_';
        }
    }
    if out[start] == b'.' {
        out[start] = b'_';
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_acts_is_found_wherever_it_stands() {
        for length in 0..150 {
            let plain: Vec<u8> = [b'a', b' ', 0x80, 0xFF, 0xC1, 0xC3, b'~'].into_iter().cycle().take(length).collect();
            assert!(is_plain(&plain), "{length}");
            for at in 0..length {
                for byte in [0, 0x1F, 0x7F, 0xC2, b'\n'] {
                    let mut bytes = plain.clone();
                    bytes[at] = byte;
                    assert!(!is_plain(&bytes), "{byte} at {at} of {length}");
                }
            }
        }
    }
}
