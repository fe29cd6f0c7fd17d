//! Which routes a message can take at all: found out once for all of them, so that two hundred cost little more than one.
//!
//! Two tables. By priority: the routes whose selector takes it. By text: conditions name texts that a field must be or
//! contain ([`super::condition::Guard`]); those of one field are looked up together, by a hash of the field or by one
//! pass of Aho and Corasick's automaton over it. What remains is evaluated route by route, in order.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use super::Route;
use super::condition::{Guard, Kind};
use crate::message::{Message, Priority};
use crate::template::Field;

/// A condition of its own is evaluated as fast as so few are looked up.
const WORTH_IT: usize = 4;
/// Up to so many bytes of texts the automaton is dense, and twice as fast: a state for each byte, some 256 bytes of memory
/// for each state.
const DENSE: usize = 4 << 10;

/// A bit for each route.
type Bits = Box<[u64]>;

/// What a look-up leaves; one for each reader thread.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    routes: Vec<u64>,
    /// Those whose text was found in the group in hand.
    found: Vec<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    /// One row of bits for each priority.
    by_priority: Vec<u64>,
    groups: Vec<Group>,
    words: usize,
}

/// The routes that ask the same of the same field.
#[derive(Debug)]
struct Group {
    field: Field,
    members: Bits,
    texts: Texts,
}

#[derive(Debug)]
enum Texts {
    Equal(HashMap<Box<[u8]>, Bits, foldhash::fast::RandomState>),
    Contained { automaton: AhoCorasick, routes: Vec<Bits> },
}

impl Index {
    pub(super) fn new(routes: &[Route]) -> Self {
        let words = routes.len().div_ceil(64);
        let mut by_priority = Vec::with_capacity(words * (usize::from(Priority::MAX) + 1));
        for priority in (0..=Priority::MAX).filter_map(|value| Priority::new(value.into())) {
            let takes = |route: &Route| route.selector.as_ref().is_none_or(|selector| selector.takes(priority));
            by_priority.extend(bits(words, (0..routes.len()).filter(|i| takes(&routes[*i]))));
        }
        let guards = routes.iter().enumerate().filter_map(|(i, route)| Some((i, route.condition.as_ref()?.guard()?)));
        Self { by_priority, groups: groups(guards.collect(), words), words }
    }

    /// Leaves the routes that may take the message.
    pub(super) fn look_up(&self, message: &Message<'_>, candidates: &mut Candidates) {
        let row = usize::from(message.fields.priority.value()) * self.words;
        candidates.routes.clear();
        candidates.routes.extend_from_slice(&self.by_priority[row..row + self.words]);
        for group in &self.groups {
            if candidates.routes.iter().zip(&group.members).any(|(candidates, members)| candidates & members != 0) {
                group.look_up(message, candidates);
            }
        }
    }
}

impl Candidates {
    /// The first route from `from` on.
    pub(super) fn next(&self, from: usize) -> Option<usize> {
        let mut word = from / 64;
        let mut bits = self.routes.get(word)? & (u64::MAX << (from % 64));
        while bits == 0 {
            word += 1;
            bits = *self.routes.get(word)?;
        }
        Some(64 * word + bits.trailing_zeros() as usize)
    }
}

impl Group {
    /// Of the members only those stay whose text is there.
    fn look_up(&self, message: &Message<'_>, candidates: &mut Candidates) {
        let text = self.field.borrowed(message).unwrap_or_default();
        let found = &mut candidates.found;
        found.clear();
        found.resize(self.members.len(), 0);
        let mut add = |routes: &Bits| found.iter_mut().zip(routes).for_each(|(found, routes)| *found |= routes);
        match &self.texts {
            Texts::Equal(routes) => routes.get(text).into_iter().for_each(add),
            Texts::Contained { automaton, routes } => {
                automaton.find_overlapping_iter(text).for_each(|found| add(&routes[found.pattern().as_usize()]));
            }
        }
        for ((candidates, members), found) in candidates.routes.iter_mut().zip(&self.members).zip(found) {
            *candidates &= !members | *found;
        }
    }
}

/// Routes by number, with their guards.
type Guards = Vec<(usize, Guard)>;

fn groups(guards: Guards, words: usize) -> Vec<Group> {
    let mut kinds: Vec<Guards> = Vec::new();
    for (route, guard) in guards {
        match kinds.iter_mut().find(|kind| kind[0].1.field == guard.field && kind[0].1.kind == guard.kind) {
            Some(kind) => kind.push((route, guard)),
            None => kinds.push(vec![(route, guard)]),
        }
    }
    kinds.iter().filter(|guards| guards.len() >= WORTH_IT).filter_map(|guards| group(guards, words)).collect()
}

fn group(guards: &Guards, words: usize) -> Option<Group> {
    let mut by_text: HashMap<Box<[u8]>, Bits, foldhash::fast::RandomState> = HashMap::default();
    for (route, guard) in guards {
        for text in &guard.texts {
            by_text.entry(text.clone()).or_insert_with(|| bits(words, [])).set(*route);
        }
    }
    let members = bits(words, guards.iter().map(|(route, _)| *route));
    let Guard { field, kind, .. } = &guards[0].1;
    let texts = match kind {
        Kind::Equals => Texts::Equal(by_text),
        Kind::Contains => contained(by_text)?,
    };
    Some(Group { field: field.clone(), members, texts })
}

/// None: more texts than an automaton takes; each condition is evaluated then.
fn contained(by_text: HashMap<Box<[u8]>, Bits, foldhash::fast::RandomState>) -> Option<Texts> {
    let size: usize = by_text.keys().map(|text| text.len()).sum();
    let kind = (size <= DENSE).then_some(AhoCorasickKind::DFA);
    let (texts, routes): (Vec<_>, Vec<_>) = by_text.into_iter().unzip();
    let automaton = AhoCorasick::builder().kind(kind).build(texts).ok()?;
    Some(Texts::Contained { automaton, routes })
}

trait Set {
    fn set(&mut self, bit: usize);
}

impl Set for Bits {
    fn set(&mut self, bit: usize) {
        self[bit / 64] |= 1 << (bit % 64);
    }
}

fn bits(words: usize, set: impl IntoIterator<Item = usize>) -> Bits {
    let mut bits: Bits = vec![0; words].into();
    set.into_iter().for_each(|bit| bits.set(bit));
    bits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::{Origin, Received, Zone};
    use crate::parse::{Options, parse};
    use crate::route::{Condition, Selector};

    const CONDITIONS: [&str; 14] = [
        r#"app-name == "a""#,
        r#"app-name == "b" and severity <= err"#,
        r#"app-name in ["b", "c"]"#,
        r#"app-name != "a""#,
        r#"app-name == "c" or app-name == "d""#,
        r#"app-name == "" or message contains "ab""#,
        r#"message contains "ab""#,
        r#"message contains "bab""#,
        r#"message startswith "ba" or message endswith "cc""#,
        r#"message matches "b[ac]b+c""#,
        r#"message matches "(?i)BAC""#,
        r#"message matches "(ca|cb)+a?""#,
        r#"not message contains "cc""#,
        r#"hostname == "h""#,
    ];

    /// More than one word of bits, every condition with and without a selector.
    fn routes() -> Vec<Route> {
        let selectors = [None, Some("mail.err"), Some("*.info;mail.none"), Some("user.=debug"), Some("*.*")];
        let route = |(condition, selector): (&&str, &Option<&str>)| Route {
            selector: selector.map(|text| Selector::compile(text).expect(text)),
            condition: Some(Condition::compile(condition).expect(condition)),
            to: Box::new([]),
            is_final: false,
        };
        CONDITIONS.iter().flat_map(|condition| selectors.iter().map(move |selector| (condition, selector))).map(route).collect()
    }

    fn with_message<T>(raw: &str, use_it: impl FnOnce(&Message<'_>) -> T) -> T {
        let origin = Origin::new("in".into(), None, "here", Zone::Local);
        let fields = parse(raw.as_bytes(), &Options::default());
        use_it(&Message { raw: raw.as_bytes(), fields, origin: &origin, received: &Received::now(), truncated: false, json: b"" })
    }

    fn looked_up(index: &Index, message: &Message<'_>) -> Vec<usize> {
        let mut candidates = Candidates::default();
        index.look_up(message, &mut candidates);
        let mut from = 0;
        std::iter::from_fn(|| candidates.next(from).inspect(|found| from = found + 1)).collect()
    }

    proptest! {
        #[test]
        fn no_route_that_takes_a_message_is_missed(priority in 0..192u8, app in "[a-e]?", text in "[abcC]{0,12}") {
            let routes = routes();
            let raw = format!("<{priority}>1 - h {} - - - {text}", if app.is_empty() { "-" } else { &app });
            with_message(&raw, |message| {
                let candidates = looked_up(&Index::new(&routes), message);
                for (i, route) in routes.iter().enumerate().filter(|(_, route)| route.takes(message, &mut crate::template::Workspace::default())) {
                    assert!(candidates.contains(&i), "{raw}: {:?}", route.condition);
                }
            });
        }
    }

    #[test]
    fn only_those_remain_whose_text_is_there() {
        let routes: Vec<_> = (0..200)
            .map(|i| Route {
                selector: None,
                condition: Condition::compile(&format!("message contains \"[{i}]\" and app-name != \"x\"")).ok(),
                to: Box::new([]),
                is_final: false,
            })
            .collect();
        let index = Index::new(&routes);
        assert_eq!(with_message("<14>1 - h a - - - [7] and [150]", |message| looked_up(&index, message)), [7, 150]);
        assert!(with_message("<14>1 - h a - - - nothing", |message| looked_up(&index, message)).is_empty());
    }
}
