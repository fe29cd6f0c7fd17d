//! The main file, and `conf.d/*.toml` beside it in the order of their names.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::{Config, Errors, Problem};
use crate::sys::reason;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub path: PathBuf,
    pub text: String,
}

/// Each file with what it says.
#[derive(Debug)]
pub struct Loaded {
    pub files: Vec<(Source, Config)>,
}

/// Reads the main file and those of `conf.d` beside it.
pub fn load(path: &Path) -> Result<Loaded, Errors> {
    let mut paths = vec![path.to_owned()];
    paths.extend(drop_ins(path)?);
    let (mut files, mut errors) = (Vec::new(), Errors::default());
    for path in paths {
        match read(&path) {
            Ok(file) => files.push(file),
            Err(problem) => errors.0.push(problem),
        }
    }
    if errors.0.is_empty() { Ok(Loaded { files }) } else { Err(errors) }
}

impl Loaded {
    /// A configuration that is no file, for tests and for fuzzing.
    pub fn of_text(text: &str) -> Result<Self, Errors> {
        let source = Source { path: "penstock.toml".into(), text: text.to_owned() };
        parse(source).map(|file| Self { files: vec![file] }).map_err(|problem| Errors(vec![problem]))
    }
}

fn drop_ins(main: &Path) -> Result<Vec<PathBuf>, Errors> {
    let folder = main.parent().unwrap_or(Path::new("")).join("conf.d");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Errors(vec![Problem::of_file(folder, format!("cannot be read: {}", reason(&error)))])),
    };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_drop_in(path)).collect();
    paths.sort();
    Ok(paths)
}

/// Not what an editor leaves behind.
fn is_drop_in(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    path.extension().is_some_and(|extension| extension == "toml") && !hidden
}

fn read(path: &Path) -> Result<(Source, Config), Problem> {
    let bytes =
        std::fs::read(path).map_err(|error| Problem::of_file(path.to_owned(), format!("cannot be read: {}", reason(&error))))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let source = Source { path: path.to_owned(), text: String::from_utf8_lossy(error.as_bytes()).into_owned() };
        Problem::at(&source, at..at, "not UTF-8, which TOML must be")
    })?;
    parse(Source { path: path.to_owned(), text })
}

fn parse(source: Source) -> Result<(Source, Config), Problem> {
    match toml::from_str(&source.text) {
        Ok(config) => Ok((source, config)),
        Err(error) => Err(Problem::of_toml(&source, &error)),
    }
}

impl Source {
    /// Where byte `offset` of the string value that stands at `span` is in the file.
    pub fn inside(&self, span: &Range<usize>, offset: usize) -> Range<usize> {
        let raw = &self.text[span.clone()];
        let quotes = if raw.starts_with("\"\"\"") || raw.starts_with("'''") { 3 } else { 1 };
        let mut at = quotes;
        if quotes == 3 {
            at += raw[at..]
                .strip_prefix('\r')
                .unwrap_or(&raw[at..])
                .strip_prefix('\n')
                .map_or(0, |rest| raw.len() - at - rest.len());
        }
        let escapes = raw.starts_with('"');
        let mut decoded = 0;
        while decoded < offset && at < raw.len() {
            let (length, width) = character(&raw[at..], escapes);
            decoded += width;
            at += length;
        }
        span.start + at..span.start + at
    }
}

/// How many bytes the next character takes in the file, and how many in the value.
fn character(raw: &str, escapes: bool) -> (usize, usize) {
    let width = |digits: usize| {
        let code = raw.get(2..2 + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        (2 + digits, code.and_then(char::from_u32).map_or(1, char::len_utf8))
    };
    match raw.as_bytes() {
        [b'\\', b'x', ..] if escapes => width(2),
        [b'\\', b'u', ..] if escapes => width(4),
        [b'\\', b'U', ..] if escapes => width(8),
        // A line that goes on: the blanks after it are not there.
        [b'\\', b' ' | b'\t' | b'\r' | b'\n', ..] if escapes => (raw.len() - raw[1..].trim_start().len(), 0),
        [b'\\', _, ..] if escapes => (2, 1),
        _ => {
            let length = raw.chars().next().map_or(1, char::len_utf8);
            (length, length)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the byte of the value is in the text of the file.
    fn found(raw: &str, offset: usize) -> usize {
        let source = Source { path: "x".into(), text: raw.to_owned() };
        source.inside(&(0..raw.len()), offset).start
    }

    #[test]
    fn a_place_in_a_value_is_a_place_in_the_file() {
        for (raw, offset, at) in [
            (r#"'a\b'"#, 3, 4),
            (r#""a\b""#, 2, 4),
            (r#""\u00e9x""#, 2, 7),
            (r#""\x41x""#, 1, 5),
            ("\"\"\"\nab\"\"\"", 1, 5),
            ("\"\"\"\r\nab\"\"\"", 1, 6),
            ("\"\"\"a\\\n  bc\"\"\"", 2, 9),
        ] {
            assert_eq!(found(raw, offset), at, "{raw}");
        }
    }
}
