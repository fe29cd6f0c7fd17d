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
/// of which only the lead byte is looked for here). Branch-free, so that the compiler makes vectors of it.
pub fn is_plain(bytes: &[u8]) -> bool {
    !bytes.iter().fold(false, |found, b| found | (*b < 0x20) | (*b == 0x7F) | (*b == 0xC2))
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
