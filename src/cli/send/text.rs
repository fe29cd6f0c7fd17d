//! The texts of the messages: one from the arguments, repeated and numbered, or those of stdin as they stand.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use memchr::memmem;

/// What is read of stdin at once.
const BUFFER: usize = 64 << 10;
const NUMBER: &[u8] = b"{seq}";

pub(super) struct Texts {
    source: Source,
    /// A shorter text is padded to this size.
    size: usize,
}

enum Source {
    Read {
        reader: BufReader<Box<dyn Read>>,
        delimiter: u8,
        /// A file never has to be waited for.
        is_file: bool,
    },
    /// The parts between the places where the number stands.
    Repeated(Vec<Vec<u8>>),
}

impl Texts {
    pub(super) fn stdin(delimiter: u8) -> Self {
        Self { source: Source::Read { reader: reader(Box::new(io::stdin())), delimiter, is_file: stdin_is_file() }, size: 0 }
    }

    /// With `numbered`, a text without a place for the number has it at its end.
    pub(super) fn repeated(words: &[OsString], numbered: bool) -> Self {
        let words: Vec<_> = words.iter().map(|word| word.as_bytes()).collect();
        let mut text = words.join(&b' ');
        if numbered && memmem::find(&text, NUMBER).is_none() {
            text.extend_from_slice(b" seq={seq}");
        }
        let ends = memmem::find_iter(&text, NUMBER).chain([text.len()]);
        let mut start = 0;
        let parts = ends.map(|end| text[std::mem::replace(&mut start, end + NUMBER.len())..end].to_vec());
        Self { source: Source::Repeated(parts.collect()), size: 0 }
    }

    pub(super) fn padded(self, size: usize) -> Self {
        Self { size, ..self }
    }

    /// Makes `text` the next one, the `number`th; false where there is none.
    pub(super) fn next(&mut self, number: u64, text: &mut Vec<u8>) -> io::Result<bool> {
        text.clear();
        match &mut self.source {
            Source::Read { reader, delimiter, .. } => {
                if reader.read_until(*delimiter, text)? == 0 {
                    return Ok(false);
                }
                text.pop_if(|last| last == delimiter);
            }
            Source::Repeated(parts) => {
                for (i, part) in parts.iter().enumerate() {
                    if i > 0 {
                        write!(text, "{number}")?;
                    }
                    text.extend_from_slice(part);
                }
            }
        }
        self.pad(text);
        Ok(true)
    }

    /// The next text may have to be waited for.
    pub(super) fn would_wait(&self) -> bool {
        match &self.source {
            Source::Read { reader, delimiter, is_file } => !is_file && memchr::memchr(*delimiter, reader.buffer()).is_none(),
            Source::Repeated(_) => false,
        }
    }

    fn pad(&self, text: &mut Vec<u8>) {
        if text.len() < self.size {
            text.push(b' ');
            text.resize(self.size, b'x');
        }
    }
}

fn reader(from: Box<dyn Read>) -> BufReader<Box<dyn Read>> {
    BufReader::with_capacity(BUFFER, from)
}

fn stdin_is_file() -> bool {
    let copy = io::stdin().as_fd().try_clone_to_owned();
    copy.and_then(|fd| File::from(fd).metadata()).is_ok_and(|metadata| metadata.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut texts: Texts, count: u64) -> Vec<String> {
        let mut text = Vec::new();
        let mut found = Vec::new();
        while found.len() < count as usize && texts.next(found.len() as u64 + 1, &mut text).expect("no error") {
            found.push(String::from_utf8_lossy(&text).into_owned());
        }
        found
    }

    fn read(bytes: &'static [u8], delimiter: u8, is_file: bool) -> Texts {
        Texts { source: Source::Read { reader: reader(Box::new(bytes)), delimiter, is_file }, size: 0 }
    }

    fn repeated(words: &[&str], numbered: bool) -> Texts {
        let words: Vec<_> = words.iter().map(OsString::from).collect();
        Texts::repeated(&words, numbered)
    }

    #[test]
    fn a_repeated_text_is_numbered() {
        assert_eq!(all(repeated(&["a", "b"], true), 2), ["a b seq=1", "a b seq=2"]);
        assert_eq!(all(repeated(&["a", "b"], false), 1), ["a b"]);
        assert_eq!(all(repeated(&["{seq} of", "x{seq}"], true), 2), ["1 of x1", "2 of x2"]);
        assert_eq!(all(repeated(&["a{seq}"], false), 1), ["a1"]);
    }

    #[test]
    fn a_text_is_padded_to_its_size() {
        assert_eq!(all(repeated(&["ab"], true).padded(12), 1), ["ab seq=1 xxx"]);
        assert_eq!(all(repeated(&["abcdef"], false).padded(3), 1), ["abcdef"]);
    }

    #[test]
    fn each_line_is_a_text() {
        let read = |bytes: &'static [u8], delimiter| all(read(bytes, delimiter, false), 9);
        assert_eq!(read(b"a\n\n{seq}\nc", b'\n'), ["a", "", "{seq}", "c"]);
        assert_eq!(read(b"a\nb\0c\0", 0), ["a\nb", "c"]);
        assert_eq!(read(b"", b'\n'), [""; 0]);
    }

    #[test]
    fn only_what_is_not_there_is_waited_for() {
        let waits = |is_file| {
            let (mut texts, mut text) = (read(b"a\nb\nc", b'\n', is_file), Vec::new());
            let mut waits = Vec::new();
            while texts.next(1, &mut text).expect("no error") {
                waits.push(texts.would_wait());
            }
            waits
        };
        assert_eq!(waits(false), [false, true, true]);
        assert_eq!(waits(true), [false; 3]);
    }
}
