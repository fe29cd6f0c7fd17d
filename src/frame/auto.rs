//! The framing that is found for each frame; the table in [`super`] is its specification.

use memchr::{memchr, memchr2, memchr2_iter};

use super::counted::Count;
use super::{Discard, Event, Framer, Step};

/// Nine digits, a blank, `<191>`.
const COUNT_AND_PRI: usize = 15;

/// What follows a line feed.
enum After {
    /// A line that begins with no `<PRI>`: it goes on.
    Continuation,
    /// A `<PRI>` or a count: a new message.
    Message,
    /// The bytes end before it can be said.
    Unknown,
}

impl Framer {
    pub(super) fn auto(&mut self, bytes: &[u8], event: Event) -> Step {
        // Cisco ASA puts a blank before the frame; before anything else it is the beginning of a text.
        let blanks = leading_blanks(bytes);
        match bytes.get(blanks) {
            _ if blanks > BLANKS => {}
            Some(b'<') if blanks > 0 => return shifted(self.text(&bytes[blanks..], event), blanks),
            Some(b'1'..=b'9') => {
                if let Some(step) = self.counted(bytes, event) {
                    return step;
                }
            }
            None if event == Event::More && blanks <= BLANKS => return Step::Wait,
            _ => {}
        }
        self.text(bytes, event)
    }

    fn text(&mut self, bytes: &[u8], event: Event) -> Step {
        if self.nul {
            return self.delimited(bytes, event);
        }
        match bytes {
            [b'<', ..] if begins_with_pri(bytes) => self.message(bytes, event),
            [b'<', ..] if event == Event::More && could_begin_with_pri(bytes) => Step::Wait,
            _ => self.line(bytes, event),
        }
    }

    /// A line of text; in a stream of counted frames it also ends where a count begins, so that one wrong count costs
    /// no more than it must.
    fn line(&mut self, bytes: &[u8], event: Event) -> Step {
        let mut end = None;
        for at in memchr2_iter(b'\n', 0, bytes) {
            match bytes[at] {
                b'\n' => end = Some(at),
                _ => match self.nul_ends(bytes, at, event) {
                    Some(true) => end = Some(at),
                    Some(false) => continue,
                    None if at <= self.max => return Step::Wait,
                    None => break,
                },
            }
            break;
        }
        let limit = end.unwrap_or(bytes.len());
        if self.counted
            && let Some(count) = next_count(&bytes[..limit]).filter(|count| (1..=self.max).contains(count))
        {
            return Step::Frame { start: 0, end: count, next: count };
        }
        match end {
            Some(end) if end <= self.max => {
                self.nul |= bytes[end] == 0;
                Step::Frame { start: 0, end, next: end + 1 }
            }
            None if bytes.len() <= self.max => self.unfinished(bytes, event),
            // A count may begin within the limit and end behind it.
            None if self.counted && event == Event::More && bytes.len() <= self.max + COUNT_AND_PRI => Step::Wait,
            _ => Step::Overlong { start: 0, discard: Discard::Rest },
        }
    }

    /// A `<PRI>` line and the lines without one that follow it.
    fn message(&mut self, bytes: &[u8], event: Event) -> Step {
        let mut from = 0;
        // The end of the last whole line that fits.
        let mut lines_end = None;
        while let Some(found) = memchr2(b'\n', 0, &bytes[from..]) {
            let at = from + found;
            if at > self.max {
                break;
            }
            from = at + 1;
            if bytes[at] == 0 {
                match self.nul_ends(bytes, at, event) {
                    Some(true) => {
                        self.nul = true;
                        return Step::Frame { start: 0, end: at, next: at + 1 };
                    }
                    Some(false) => continue,
                    None => return Step::Wait,
                }
            }
            match self.after_line(&bytes[from..], event) {
                After::Message => {
                    self.lines = if lines_end.is_none() { self.lines.saturating_add(1) } else { 0 };
                    return Step::Frame { start: 0, end: at, next: from };
                }
                After::Unknown if event == Event::More => return Step::Wait,
                After::Unknown => return Step::Frame { start: 0, end: at, next: from },
                After::Continuation => {
                    self.lines = 0;
                    lines_end = Some(at);
                }
            }
        }
        match (lines_end, event) {
            (Some(end), Event::Pause) => Step::Frame { start: 0, end, next: end + 1 },
            _ if bytes.len() > self.max => self.too_long(lines_end),
            _ => self.unfinished(bytes, event),
        }
    }

    /// Lines are only joined as far as they fit: no line is lost for having followed another.
    fn too_long(&self, lines_end: Option<usize>) -> Step {
        match lines_end {
            Some(end) => Step::Frame { start: 0, end, next: end + 1 },
            None => Step::Overlong { start: 0, discard: Discard::Rest },
        }
    }

    /// A NUL ends a message if `<` or nothing follows; None: it cannot be said yet.
    fn nul_ends(&self, bytes: &[u8], at: usize, event: Event) -> Option<bool> {
        match bytes.get(at + 1) {
            Some(next) => Some(*next == b'<'),
            None if event == Event::More => None,
            None => Some(true),
        }
    }

    fn after_line(&mut self, rest: &[u8], event: Event) -> After {
        let blanks = leading_blanks(rest);
        let rest = &rest[blanks..];
        match rest.first() {
            _ if blanks > BLANKS => After::Continuation,
            None => After::Unknown,
            Some(b'<') if begins_with_pri(rest) => After::Message,
            Some(b'<') if event == Event::More && could_begin_with_pri(rest) => After::Unknown,
            Some(b'1'..=b'9') => {
                let errors = self.errors;
                let count = self.count(rest);
                self.errors = errors;
                match count {
                    Count::Is { .. } => After::Message,
                    Count::Unknown if event == Event::More => After::Unknown,
                    Count::IsNot | Count::Unknown => After::Continuation,
                }
            }
            // An empty line that a NUL follows is the end of one message, not the middle.
            Some(0) if rest.len() == 1 && event == Event::More => After::Unknown,
            Some(_) => After::Continuation,
        }
    }
}

/// So many blanks before a frame are swallowed; more are a text, and nothing waits for their end.
pub(super) const BLANKS: usize = 16;

/// At most one more than [`BLANKS`].
pub(super) fn leading_blanks(bytes: &[u8]) -> usize {
    bytes.iter().take(BLANKS + 1).take_while(|b| **b == b' ').count()
}

fn shifted(step: Step, by: usize) -> Step {
    match step {
        Step::Frame { start, end, next } => Step::Frame { start: start + by, end: end + by, next: next + by },
        Step::Overlong { start, discard } => Step::Overlong { start: start + by, discard },
        Step::Wait => Step::Wait,
    }
}

/// `<`, one to three digits, `>`; whether the value is a priority is the parser's business.
pub(super) fn begins_with_pri(bytes: &[u8]) -> bool {
    let digits = pri_digits(bytes);
    (1..=3).contains(&digits) && bytes.get(digits + 1) == Some(&b'>')
}

/// The bytes may be the beginning of a `<PRI>`.
fn could_begin_with_pri(bytes: &[u8]) -> bool {
    pri_digits(bytes) + 1 == bytes.len() && bytes.len() <= 4
}

fn pri_digits(bytes: &[u8]) -> usize {
    bytes.iter().skip(1).take(4).take_while(|b| b.is_ascii_digit()).count()
}

/// Where `digits SP <PRI>` begins.
fn next_count(text: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(found) = memchr(b'<', &text[from..]) {
        let at = from + found;
        from = at + 1;
        let Some(before) = text[..at].strip_suffix(b" ") else { continue };
        let digits = before.iter().rev().take(9).take_while(|b| b.is_ascii_digit()).count();
        if digits > 0 && begins_with_pri(&text[at..]) {
            return Some(before.len() - digits);
        }
    }
    None
}
