//! One comparison of a condition.

use std::cmp::Ordering;
use std::collections::HashSet;

use ipnet::IpNet;
use memchr::memmem;
use regex::bytes::Regex;

use crate::message::Message;
use crate::template::{Field, Value, Workspace};

#[derive(Clone, Debug)]
pub(super) struct Test {
    pub left: Value,
    pub matcher: Matcher,
    /// As it stood in the configuration.
    pub source: Box<str>,
}

#[derive(Clone, Debug)]
pub(super) enum Matcher {
    Contains(Box<memmem::Finder<'static>>),
    /// True for the orderings of the value, where it is a number, to this one.
    Decimal(Compare, f64),
    EndsWith(Box<[u8]>),
    Equals(Box<[u8]>),
    In(HashSet<Box<[u8]>, foldhash::fast::RandomState>),
    Matches(Regex),
    Networks(Vec<IpNet>),
    /// True for the orderings of the value to the number.
    Number(Compare, u32),
    NumberIn(Vec<u32>),
    StartsWith(Box<[u8]>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    NotEqual,
}

impl Compare {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::NotEqual => ordering.is_ne(),
        }
    }
}

impl Test {
    pub(super) fn holds(&self, message: &Message<'_>, workspace: &mut Workspace) -> bool {
        match &self.matcher {
            Matcher::Networks(networks) => {
                message.origin.peer.is_some_and(|peer| networks.iter().any(|network| network.contains(&peer)))
            }
            Matcher::Number(compare, number) => compare.holds(self.number(message).cmp(number)),
            Matcher::NumberIn(numbers) => numbers.contains(&self.number(message)),
            _ => self.text_holds(self.left.of(message, workspace)),
        }
    }

    pub(super) fn explain(&self, message: &Message<'_>) -> String {
        let mut workspace = Workspace::default();
        let verdict = if self.holds(message, &mut workspace) { "yes" } else { "no" };
        let value = String::from_utf8_lossy(self.left.of(message, &mut workspace)).escape_debug().to_string();
        format!("{}: {verdict}, it is \"{value}\"", self.source)
    }

    fn text_holds(&self, text: &[u8]) -> bool {
        match &self.matcher {
            Matcher::Contains(finder) => finder.find(text).is_some(),
            Matcher::Decimal(compare, number) => {
                let value = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok());
                value.and_then(|value| value.partial_cmp(number)).is_some_and(|ordering| compare.holds(ordering))
            }
            Matcher::EndsWith(end) => text.ends_with(end),
            Matcher::Equals(other) => text == &**other,
            Matcher::In(texts) => texts.contains(text),
            Matcher::Matches(regex) => regex.is_match(text),
            Matcher::StartsWith(start) => text.starts_with(start),
            Matcher::Networks(_) | Matcher::Number(..) | Matcher::NumberIn(_) => false,
        }
    }

    fn number(&self, message: &Message<'_>) -> u32 {
        let priority = message.fields.priority;
        match self.left.field {
            Field::Facility => u32::from(priority.facility().0),
            Field::Pri => u32::from(priority.value()),
            Field::Severity => u32::from(priority.severity().0),
            _ => u32::from(message.fields.version),
        }
    }
}
