//! Where in which file something is wrong, what was expected, and what could have been meant.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use super::Source;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: PathBuf,
    /// Line and column, from 1, the column in characters; None where the file as a whole is meant.
    pub place: Option<(usize, usize)>,
    pub what: String,
}

/// All problems that were found, in the order of the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Errors(pub Vec<Problem>);

impl Problem {
    pub fn of_file(file: PathBuf, what: String) -> Self {
        Self { file, place: None, what }
    }

    pub fn at(source: &Source, span: Range<usize>, what: impl Into<String>) -> Self {
        let start = span.start.min(source.text.len());
        let before = &source.text[..source.text.floor_char_boundary(start)];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Self { file: source.path.clone(), place: Some((line, column)), what: what.into() }
    }

    /// What the TOML reader or serde said, with a suggestion for an unknown key.
    pub fn of_toml(source: &Source, error: &toml::de::Error) -> Self {
        let message = error.message().trim_end();
        Self::at(source, error.span().unwrap_or(0..0), suggestion(message).unwrap_or_else(|| message.replace('\n', ": ")))
    }
}

/// serde's ``unknown field `x`, expected one of `a`, `b` `` as penstock says it.
fn suggestion(message: &str) -> Option<String> {
    let what = if message.starts_with("unknown field") { "key" } else { "value" };
    let rest = message.strip_prefix("unknown field `").or_else(|| message.strip_prefix("unknown variant `"))?;
    let (wrong, expected) = rest.split_once("`, ")?;
    let known: Vec<_> = expected.split('`').skip(1).step_by(2).collect();
    if known.is_empty() {
        return Some(format!("unknown {what} `{wrong}`: none is expected here"));
    }
    Some(format!("unknown {what} `{wrong}`{}", crate::template::did_you_mean(wrong, known)))
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}", self.what)
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}
