//! What was carried over, what with a difference, and what not: nothing is dropped silently.

use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;

/// Where a statement stands, and how it begins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    pub file: Rc<str>,
    pub line: usize,
    pub text: Rc<str>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.text)
    }
}

/// From the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Carried,
    Differs,
    Lost,
}

/// The lines of the report, in the order of the files.
#[derive(Debug, Default)]
pub struct Report {
    lines: BTreeSet<(Verdict, Origin, String)>,
}

impl Report {
    /// It is there, and does the same; `how` says where it went.
    pub fn carried(&mut self, origin: &Origin, how: impl Into<String>) {
        self.lines.insert((Verdict::Carried, origin.clone(), how.into()));
    }

    /// It is there; what is different about it.
    pub fn differs(&mut self, origin: &Origin, what: impl Into<String>) {
        self.lines.insert((Verdict::Differs, origin.clone(), what.into()));
    }

    /// It is not there: why, and what to do instead.
    pub fn lost(&mut self, origin: &Origin, why: impl Into<String>) {
        self.lines.insert((Verdict::Lost, origin.clone(), why.into()));
    }

    pub fn count(&self, verdict: Verdict) -> usize {
        self.lines.iter().filter(|(of, ..)| *of == verdict).count()
    }

    fn section(&self, verdict: Verdict, title: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.lines.iter().filter(|(of, ..)| *of == verdict).collect();
        if lines.is_empty() {
            return Ok(());
        }
        writeln!(f, "{title} ({}):", lines.len())?;
        for (_, origin, what) in lines {
            writeln!(f, "  {origin}\n      {what}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.section(Verdict::Carried, "carried over", f)?;
        self.section(Verdict::Differs, "carried over with a difference", f)?;
        self.section(Verdict::Lost, "not carried over", f)
    }
}
