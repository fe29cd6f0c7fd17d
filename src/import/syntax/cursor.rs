//! A place in the text of a file, and the small things that are read there.

use std::rc::Rc;

use super::super::report::Origin;

pub(super) struct Cursor<'t> {
    text: &'t str,
    at: usize,
    file: Rc<str>,
}

/// How much of a statement stands in a report.
const SHOWN: usize = 100;

/// What is wrong where the cursor stands.
pub(super) type Wrong = String;

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str, file: &str) -> Self {
        Self { text, at: 0, file: file.into() }
    }

    pub(super) fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// What has been read since `start`.
    pub(super) fn since(&self, start: usize) -> &'t str {
        self.text[start..self.at].trim()
    }

    pub(super) fn advance(&mut self, octets: usize) {
        self.at += octets;
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// The statement that begins here, for the report.
    pub(super) fn origin(&self) -> Origin {
        let line = self.text[..self.at].matches('\n').count() + 1;
        let text: String = self.rest().lines().next().unwrap_or_default().trim().chars().take(SHOWN).collect();
        Origin { file: self.file.clone(), line, text: text.into() }
    }

    /// Blanks, line ends and comments.
    pub(super) fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest().trim_start();
            self.at = self.text.len() - rest.len();
            if rest.starts_with("\\\n") || rest.starts_with("\\\r\n") {
                self.at += 1;
            } else if rest.starts_with('#') {
                self.skip_line();
            } else if rest.starts_with("/*") {
                self.at += rest.find("*/").map_or(rest.len(), |end| end + 2);
            } else {
                return;
            }
        }
    }

    pub(super) fn skip_line(&mut self) {
        let rest = self.rest();
        self.at += rest.find('\n').unwrap_or(rest.len());
    }

    /// To the end of the line, and of those that a backslash at the end adds.
    pub(super) fn line(&mut self) -> String {
        let mut line = String::new();
        loop {
            let rest = self.rest();
            let end = rest.find('\n').unwrap_or(rest.len());
            self.at += (end + 1).min(rest.len());
            match rest[..end].trim_end().strip_suffix('\\') {
                Some(before) => {
                    line.push_str(before);
                    self.at += self.rest().len() - self.rest().trim_start_matches([' ', '\t']).len();
                }
                None => {
                    line.push_str(&rest[..end]);
                    return line.trim().to_owned();
                }
            }
        }
    }

    /// A word in any case, ending where a word ends.
    pub(super) fn keyword(&mut self, word: &str) -> bool {
        let rest = self.rest();
        let is = rest.get(..word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word));
        let ends =
            rest.get(word.len()..).is_some_and(|after| !after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'));
        if is && ends {
            self.at += word.len();
            self.skip_blanks();
        }
        is && ends
    }

    pub(super) fn symbol(&mut self, symbol: &str) -> bool {
        let is = self.rest().starts_with(symbol);
        if is {
            self.at += symbol.len();
            self.skip_blanks();
        }
        is
    }

    pub(super) fn expect(&mut self, symbol: &str) -> Result<(), Wrong> {
        if self.symbol(symbol) { Ok(()) } else { Err(format!("`{symbol}` is expected before `{}`", self.shown())) }
    }

    pub(super) fn shown(&self) -> String {
        self.rest().lines().next().unwrap_or_default().chars().take(30).collect()
    }

    pub(super) fn word(&mut self, is_part: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// `"…"` or `'…'` with its escapes.
    pub(super) fn string(&mut self) -> Result<String, Wrong> {
        let quote = self
            .peek()
            .filter(|c| matches!(c, '"' | '\''))
            .ok_or_else(|| format!("a text is expected before `{}`", self.shown()))?;
        self.at += 1;
        let mut text = Vec::new();
        loop {
            let mut chars = self.rest().chars();
            let Some(c) = chars.next() else {
                return Err("a text without its closing quote".to_owned());
            };
            self.at += c.len_utf8();
            if c == quote {
                self.skip_blanks();
                return String::from_utf8(text).map_err(|_| "a text that is no UTF-8".to_owned());
            }
            if c == '\\' {
                self.escape(&mut text);
            } else {
                text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
    }

    /// What stands behind a backslash; one that means nothing stays.
    fn escape(&mut self, text: &mut Vec<u8>) {
        let rest = self.rest();
        let number = |digits: &str, radix| u8::from_str_radix(digits, radix).ok();
        let (length, octet) = match rest.as_bytes() {
            [b'n', ..] => (1, Some(b'\n')),
            [b't', ..] => (1, Some(b'\t')),
            [b'r', ..] => (1, Some(b'\r')),
            [b'x', ..] if rest.len() > 2 && rest.is_char_boundary(3) => (3, number(&rest[1..3], 16)),
            [b'0'..=b'7', b'0'..=b'7', b'0'..=b'7', ..] => (3, number(&rest[..3], 8)),
            [octet @ (b'\\' | b'"' | b'\'' | b'$' | b'?'), ..] => (1, Some(*octet)),
            _ => (0, Some(b'\\')),
        };
        text.extend(octet);
        self.at += length;
    }
}
