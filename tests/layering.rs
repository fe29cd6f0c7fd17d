//! Which part of the program may know which: the table is the architecture, and here it is held.
//!
//! Everything is read from the sources' `crate::` paths. The table is exact: a new dependency fails until it is written
//! down here, and so does a line of the table that nothing needs any more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex::Regex;

/// Folder → what it may use: a whole folder, or one item of it. `*` is everything.
const MAY_USE: [(&str, &[&str]); 16] = [
    ("cli", &["*"]),
    ("config", &["input", "message", "output", "route", "sys", "template"]),
    ("daemon", &["config", "input", "metrics", "output", "queue", "route", "sys"]),
    ("frame", &["message"]),
    ("import", &["message", "route::Selector", "sys", "template"]),
    (
        "input",
        &[
            "config",
            "frame",
            "message",
            "metrics",
            "net",
            "parse::Options",
            // Objects in the bodies of requests.
            "parse::json",
            "queue",
            "route",
            "sys",
            "template::json_string",
            "translate",
        ],
    ),
    ("message", &[]),
    ("metrics", &["message::Grammar", "queue::Queue"]),
    ("net", &["sys", "template::did_you_mean"]),
    (
        "output",
        &[
            "config",
            // RELP's frames are the same in both directions.
            "frame::relp",
            // Never the message itself: an output has records, which are bytes.
            "message::SEVERITIES",
            "message::Severity",
            "message::Span",
            "metrics",
            "net",
            "queue",
            "route",
            "sys",
            "template",
        ],
    ),
    ("parse", &["message"]),
    ("queue", &["message::Span", "metrics::DiskCounters", "metrics::QueueCounters", "sys::reason"]),
    ("route", &["message", "parse", "queue", "template"]),
    ("sys", &[]),
    ("template", &["message", "parse"]),
    ("translate", &["message", "parse", "template::header_field", "template::json_string", "template::number"]),
];

/// Beyond this a file is more than one thing.
const LONGEST_FILE: usize = 450;

struct Source {
    path: PathBuf,
    /// Below `src`; empty for `lib.rs` and `main.rs`.
    folder: String,
    /// Without whole-line comments.
    code: String,
    lines: usize,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut folders) = (Vec::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(source(&root, path));
            }
        }
    }
    assert!(found.len() > 50, "the sources were found");
    found
}

fn source(root: &Path, path: PathBuf) -> Source {
    let text = std::fs::read_to_string(&path).expect("a source");
    let below = path.strip_prefix(root).expect("below the root").to_owned();
    let folder = match below.components().count() {
        1 => String::new(),
        _ => below.components().next().expect("not empty").as_os_str().to_string_lossy().into_owned(),
    };
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    Source { path, folder, code, lines: text.lines().count() }
}

/// Every `folder::item` that the code names by way of `crate::`.
fn uses(code: &str) -> BTreeSet<String> {
    let path = Regex::new(r"\bcrate::(?:(\w+)(?:::(\w+|\{[^}]*\}))?|(\{[^}]*\}))").expect("a pattern");
    let words = |group: &str| -> Vec<String> {
        let inside = group.trim_matches(['{', '}']);
        inside
            .split(',')
            .map(|word| word.trim().split("::").next().unwrap_or("").to_owned())
            .filter(|word| !word.is_empty())
            .collect()
    };
    let mut found = BTreeSet::new();
    for captures in path.captures_iter(code) {
        match (captures.get(1), captures.get(2), captures.get(3)) {
            (Some(name), _, _) if name.as_str() == "warn_limited" => drop(found.insert("metrics::warn_limited".to_owned())),
            (Some(folder), Some(items), _) => {
                found.extend(words(items.as_str()).into_iter().map(|item| format!("{}::{item}", folder.as_str())));
            }
            (Some(folder), None, _) => drop(found.insert(folder.as_str().to_owned())),
            (None, _, group) => found.extend(words(group.map_or("", |group| group.as_str()))),
        }
    }
    found
}

fn allowing<'t>(table: &[&'t str], path: &str) -> Option<&'t str> {
    let folder = path.split("::").next().unwrap_or(path);
    table.iter().copied().find(|allowed| *allowed == "*" || *allowed == path || *allowed == folder)
}

#[test]
fn the_paths_of_the_code_are_found() {
    let code = "use crate::{input, output};\nuse crate::queue::{\n    self, Chunk,\n};\npub field: crate::config::Size, warn_limited: crate::warn_limited!()";
    let expected = ["config::Size", "input", "metrics::warn_limited", "output", "queue::Chunk", "queue::self"];
    assert_eq!(uses(code).into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn every_part_uses_what_it_may_and_nothing_else() {
    let table: BTreeMap<_, _> = MAY_USE.into_iter().collect();
    let mut wrong = Vec::new();
    let mut needed = BTreeSet::new();
    for source in sources().iter().filter(|source| !source.folder.is_empty()) {
        let Some((folder, allowed)) = table.get_key_value(source.folder.as_str()) else {
            wrong.push(format!("{}: `{}` is not in the table", source.path.display(), source.folder));
            continue;
        };
        for path in uses(&source.code).iter().filter(|path| path.split("::").next() != Some(folder)) {
            match allowing(allowed, path) {
                Some(allowed) => drop(needed.insert((*folder, allowed))),
                None => wrong.push(format!("{}: `{folder}` may not use `{path}`", source.path.display())),
            }
        }
    }
    for (folder, allowed) in &table {
        let unneeded = allowed.iter().filter(|allowed| **allowed != "*" && !needed.contains(&(*folder, **allowed)));
        wrong.extend(unneeded.map(|allowed| format!("the table lets `{folder}` use `{allowed}`, and it does not")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_output_cannot_name_a_message_and_an_input_no_output() {
    let message = Regex::new(r"\bMessage\b").expect("a pattern");
    let text = Regex::new(r#""(?:[^"\\]|\\.)*""#).expect("a pattern");
    for source in sources() {
        let path = source.path.display();
        match source.folder.as_str() {
            "input" => assert!(!uses(&source.code).iter().any(|used| used.starts_with("output")), "{path}"),
            "output" => assert!(!message.is_match(&text.replace_all(&source.code, "")), "{path}"),
            _ => {}
        }
    }
}

#[test]
fn unsafe_code_is_in_sys_alone() {
    let word = Regex::new(r"\bunsafe\b\s*(\{|fn\b|impl\b|extern\b|trait\b)").expect("a pattern");
    let found: BTreeSet<_> =
        sources().iter().filter(|source| word.is_match(&source.code)).map(|source| source.folder.clone()).collect();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["sys"]);
}

#[test]
fn no_file_is_long() {
    for source in sources() {
        assert!(source.lines <= LONGEST_FILE, "{} has {} lines", source.path.display(), source.lines);
    }
}
