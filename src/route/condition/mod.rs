//! `where`: `app-name contains "python-app" and severity <= warning`.
//!
//! Compiled once; evaluated without allocation. [`Condition::explain`] says for
//! each test what stood there, for `penstock explain`.

mod compile;
mod guard;
mod test;

use crate::message::Message;
use crate::template::{Lookups, Workspace};

pub use compile::must_not_panic;
pub(super) use guard::{Guard, Kind};
use test::Test;

pub use crate::template::CompileError;

#[derive(Clone, Debug)]
pub struct Condition(Node);

#[derive(Clone, Debug)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Test(Box<Test>),
}

impl Condition {
    /// The offset of an error is in bytes from the beginning of `text`.
    pub fn compile(text: &str) -> Result<Self, CompileError> {
        Self::with_lookups(text, &Lookups::default())
    }

    /// The same, where filters may name tables of the configuration.
    pub fn with_lookups(text: &str, lookups: &Lookups) -> Result<Self, CompileError> {
        compile::compile(text, lookups).map(Self)
    }

    pub fn holds(&self, message: &Message<'_>, workspace: &mut Workspace) -> bool {
        self.0.holds(message, workspace)
    }

    /// The tests that decided, with what stood in the message.
    pub fn explain(&self, message: &Message<'_>) -> String {
        let mut reasons = Vec::new();
        self.0.reasons(message, &mut reasons);
        reasons.join("; ")
    }
}

impl Node {
    fn holds(&self, message: &Message<'_>, workspace: &mut Workspace) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.holds(message, workspace)),
            Self::Any(nodes) => nodes.iter().any(|node| node.holds(message, workspace)),
            Self::Not(node) => !node.holds(message, workspace),
            Self::Test(test) => test.holds(message, workspace),
        }
    }

    /// Of `and` the first that failed, of `or` the first that held; else all of them.
    fn reasons(&self, message: &Message<'_>, reasons: &mut Vec<String>) {
        let decisive = |nodes: &[Self], verdict: bool| {
            nodes.iter().position(|node| node.holds(message, &mut Workspace::default()) == verdict)
        };
        match self {
            Self::All(nodes) | Self::Any(nodes) => {
                let all = match decisive(nodes, matches!(self, Self::Any(_))) {
                    Some(at) => &nodes[at..=at],
                    None => &nodes[..],
                };
                all.iter().for_each(|node| node.reasons(message, reasons));
            }
            Self::Not(node) => node.reasons(message, reasons),
            Self::Test(test) => reasons.push(test.explain(message)),
        }
    }
}

#[cfg(test)]
mod tests;
