//! Templates: text with `{field}`s, compiled once and rendered into a record's bytes.
//!
//! `{field}`, `{field|filter}`, `{timestamp:%Y-%m-%d}`; `{{` and `}}` are braces. What a peer sent is escaped where it
//! stands in a line and confined where it stands in a path, so that nobody can forge a line or leave a folder.

mod clock;
mod compile;
mod field;
mod filter;
mod format;
mod json;
mod structured;
mod text;
mod value;

use crate::message::Message;

pub use compile::{CompileError, must_not_panic};
pub(crate) use compile::{did_you_mean, pattern, quoted, value};
pub use field::{Field, SdPath, number};
pub use filter::{Lookup, Lookups};
pub use format::{Format, header_field};
pub use json::string as json_string;
pub use text::{Escaping, is_plain};
pub use value::{Value, Workspace};

use clock::Clock;
use field::Moment;
use filter::Filter;

/// Longest name of a file (`NAME_MAX`), in bytes.
const NAME_MAX: usize = 255;

#[derive(Clone, Debug)]
pub struct Template {
    parts: Vec<Part>,
    escaping: Escaping,
    /// Of a path: no name in it is longer.
    longest_name: usize,
}

#[derive(Clone, Debug)]
enum Part {
    Field(Value),
    Literal(Box<[u8]>),
    Moment { moment: Moment, filters: Vec<Filter> },
}

/// What rendering needs again and again; one for each reader thread.
#[derive(Debug, Default)]
pub struct Scratch {
    clock: Clock,
    workspace: Workspace,
}

impl Template {
    /// Compiles `text`; the offset of an error is in bytes from its beginning.
    pub fn compile(text: &str, escaping: Escaping) -> Result<Self, CompileError> {
        Self::with_lookups(text, escaping, &Lookups::default())
    }

    /// The same, where filters may name tables of the configuration.
    pub fn with_lookups(text: &str, escaping: Escaping, lookups: &Lookups) -> Result<Self, CompileError> {
        compile::compile(text, lookups).map(|parts| Self { parts, escaping, longest_name: NAME_MAX })
    }

    /// Appends the message's rendering to `out`.
    pub fn render(&self, message: &Message<'_>, scratch: &mut Scratch, out: &mut Vec<u8>) {
        let start = out.len();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text),
                Part::Field(Value { field, filters }) if filters.is_empty() => self.plain(field, message, out),
                Part::Field(Value { field, filters }) => {
                    let value = scratch.workspace.filtered(filters, |value| field.append(message, value));
                    self.filtered(filters, field.nil(), value, out);
                }
                Part::Moment { moment, filters } if filters.is_empty() => moment.append(message, &mut scratch.clock, out),
                Part::Moment { moment, filters } => {
                    let Scratch { clock, workspace } = scratch;
                    let value = workspace.filtered(filters, |value| moment.append(message, clock, value));
                    self.filtered(filters, b"-", value, out);
                }
            }
        }
        if self.escaping == Escaping::Path && out.len() - start > self.longest_name {
            shorten_names(self.longest_name, out, start);
        }
    }

    /// A path whose names leave so many bytes for what will stand behind them.
    pub fn with_room(self, bytes: usize) -> Self {
        Self { longest_name: NAME_MAX - bytes, ..self }
    }

    /// The text before the first field: what a path is confined to.
    pub fn literal_prefix(&self) -> &[u8] {
        match self.parts.first() {
            Some(Part::Literal(text)) => text,
            _ => b"",
        }
    }

    /// A regular expression of all that a path can be. The first field that is the severity as it is becomes the group
    /// `severity`.
    pub fn pattern(&self) -> String {
        let mut has_severity = false;
        let mut pattern = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => pattern.push_str(&regex::escape(&String::from_utf8_lossy(text))),
                Part::Field(value) if value.field == Field::Severity && value.is_plain() && !has_severity => {
                    has_severity = true;
                    pattern.push_str("(?P<severity>[^/]+)");
                }
                Part::Field(_) => pattern.push_str("[^/]+"),
                Part::Moment { moment, .. } => {
                    pattern.push_str("[^/]+");
                    (0..moment.slashes()).for_each(|_| pattern.push_str("/[^/]+"));
                }
            }
        }
        pattern
    }

    /// Whether the paths of two messages could be one by both. False is certain.
    pub fn may_meet(&self, other: &Self) -> bool {
        let (own, others) = (self.shape(), other.shape());
        let (own, others): (Vec<_>, Vec<_>) = (own.split('/').collect(), others.split('/').collect());
        let may_be_one = |(a, b): (&&str, &&str)| match (a.split_once('\0'), b.split_once('\0')) {
            (None, None) => a == b,
            _ => {
                let (start, end) = (
                    |name: &str| name.split('\0').next().map_or(0, str::len),
                    |name: &str| name.rsplit('\0').next().map_or(0, str::len),
                );
                let (first, last) = (start(a).min(start(b)), end(a).min(end(b)));
                a.as_bytes()[..first] == b.as_bytes()[..first] && a.as_bytes()[a.len() - last..] == b.as_bytes()[b.len() - last..]
            }
        };
        own.len() == others.len() && own.iter().zip(&others).all(may_be_one)
    }

    /// With a NUL for each field.
    fn shape(&self) -> String {
        let texts = self.parts.iter().map(|part| match part {
            Part::Literal(text) => String::from_utf8_lossy(text).into_owned(),
            Part::Field(_) => "\0".to_owned(),
            Part::Moment { moment, .. } => format!("\0{}", "/\0".repeat(moment.slashes())),
        });
        texts.collect()
    }

    /// The text behind the last field.
    pub fn literal_suffix(&self) -> &[u8] {
        match self.parts.last() {
            Some(Part::Literal(text)) => text,
            _ => b"",
        }
    }

    /// How many folders stand in a path.
    pub fn slashes(&self) -> usize {
        let counts = self.parts.iter().map(|part| match part {
            Part::Literal(text) => text.iter().filter(|byte| **byte == b'/').count(),
            Part::Moment { moment, .. } => moment.slashes(),
            Part::Field(_) => 0,
        });
        counts.sum()
    }

    pub fn is_constant(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Literal(_)))
    }

    fn plain(&self, field: &Field, message: &Message<'_>, out: &mut Vec<u8>) {
        if let Some(bytes) = field.borrowed(message) {
            let bytes = if bytes.is_empty() { field.nil() } else { bytes };
            match self.escaping {
                Escaping::Line if field.is_printable(message) => out.extend_from_slice(bytes),
                escaping => escaping.append(bytes, out),
            }
            return;
        }
        let start = out.len();
        field.append(message, out);
        if out.len() == start {
            out.extend_from_slice(field.nil());
        }
        self.escaping.in_place(start, out);
    }

    fn filtered(&self, filters: &[Filter], nil: &[u8], value: &[u8], out: &mut Vec<u8>) {
        // What stands for an absent value may be nothing, where that is said.
        let says_default = || filters.iter().any(|filter| matches!(filter, Filter::Default(_)));
        let value = if value.is_empty() && !says_default() { nil } else { value };
        match filters.last() {
            Some(Filter::Json | Filter::JsonText) if self.escaping != Escaping::Path => out.extend_from_slice(value),
            _ => self.escaping.append(value, out),
        }
    }
}

/// Cuts every component of a path to what a file system takes; a short extension (`.log`) stays.
fn shorten_names(longest: usize, out: &mut Vec<u8>, start: usize) {
    const LONGEST_EXTENSION: usize = 16;
    let path = out.split_off(start);
    for (i, name) in path.split(|b| *b == b'/').enumerate() {
        if i > 0 {
            out.push(b'/');
        }
        let dot = name.iter().rposition(|b| *b == b'.').filter(|dot| name.len() - dot <= LONGEST_EXTENSION);
        let (stem, extension) = name.split_at(dot.unwrap_or(name.len()));
        out.extend_from_slice(&stem[..stem.len().min(longest - extension.len())]);
        out.extend_from_slice(extension);
    }
}

#[cfg(test)]
mod tests;
