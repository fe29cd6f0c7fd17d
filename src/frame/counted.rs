//! `MSG-LEN SP SYSLOG-MSG` (RFC 6587, section 3.4.1), from peers that may not mean what they count.

use super::auto::{BLANKS, leading_blanks};
use super::{Discard, Event, Framer, Framing, Step};

/// Counts have at most nine digits; more is a number in a text (CVE-2022-24903 was a count nobody bounded).
const DIGITS: usize = 9;
/// A count beyond this is not believed, whatever `max-message` is: swallowing so much of a stream that merely begins
/// with a number would lose it.
const BELIEVED: usize = 1 << 20;

/// What stands where a count may stand.
pub(super) enum Count {
    /// `digits SP`, and where the message begins.
    Is {
        octets: usize,
        start: usize,
    },
    IsNot,
    /// The bytes end before it can be said.
    Unknown,
}

impl Framer {
    /// None where no count stands.
    pub(super) fn counted(&mut self, bytes: &[u8], event: Event) -> Option<Step> {
        let blanks = leading_blanks(bytes);
        if blanks > BLANKS {
            return None;
        }
        let (octets, start) = match self.count(&bytes[blanks..]) {
            Count::Is { octets, start } => (octets, blanks + start),
            Count::IsNot => return None,
            Count::Unknown if event == Event::End => return None,
            Count::Unknown => return Some(Step::Wait),
        };
        if octets > BELIEVED.max(16 * self.max) {
            self.errors.miscounted += 1;
            return None;
        }
        self.counted = true;
        let here = bytes.len() - start;
        if octets > self.max && here > self.max {
            return Some(Step::Overlong { start, discard: Discard::Bytes(octets - self.max) });
        }
        if here >= octets && octets <= self.max {
            return Some(Step::Frame { start, end: start + octets, next: start + octets });
        }
        match event {
            Event::End => Some(Step::Frame { start, end: bytes.len(), next: bytes.len() }),
            Event::More | Event::Pause => Some(Step::Wait),
        }
    }

    /// In a stream that has not shown a counted frame the message's `<` must follow, or any text that begins with a
    /// number would be taken for one.
    pub(super) fn count(&mut self, bytes: &[u8]) -> Count {
        let digits = bytes.iter().take(DIGITS + 1).take_while(|b| b.is_ascii_digit()).count();
        if digits == bytes.len() && digits <= DIGITS && bytes.first() != Some(&b'0') {
            return Count::Unknown;
        }
        if digits == 0 || digits > DIGITS || bytes[0] == b'0' || bytes[digits] != b' ' {
            self.errors.miscounted += u64::from(digits > 0 && (self.counted || self.framing == Framing::OctetCounted));
            return Count::IsNot;
        }
        let octets = bytes[..digits].iter().fold(0, |value, digit| value * 10 + usize::from(digit - b'0'));
        match bytes.get(digits + 1) {
            _ if octets == 0 => Count::IsNot,
            Some(b'<') => Count::Is { octets, start: digits + 1 },
            Some(_) if self.counted || self.framing == Framing::OctetCounted => Count::Is { octets, start: digits + 1 },
            Some(_) => Count::IsNot,
            None => Count::Unknown,
        }
    }
}
