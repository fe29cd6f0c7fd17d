//! What was translated, as TOML with a comment for each statement that it comes from.

use std::fmt::Write as _;
use std::path::Path;

use super::report::Origin;

/// `[[output.file]]` and the like.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub heading: String,
    pub origins: Vec<Origin>,
    /// Keys with their values in TOML.
    pub entries: Vec<(String, String)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Route {
    pub origins: Vec<Origin>,
    pub select: Option<String>,
    pub condition: Option<String>,
    pub to: Vec<String>,
    pub is_final: bool,
}

/// A template's name, its text, and where it was written.
pub(super) type Named = (String, String, Option<Origin>);

#[derive(Debug)]
pub(super) struct Translated {
    pub inputs: Vec<Table>,
    pub lookups: Vec<Table>,
    pub templates: Vec<Named>,
    pub outputs: Vec<Table>,
    pub routes: Vec<Route>,
    pub metrics: Option<Origin>,
}

impl Table {
    pub(super) fn new(heading: &str) -> Self {
        Self { heading: heading.to_owned(), ..Self::default() }
    }

    pub(super) fn set(&mut self, key: &str, value: impl Into<String>) {
        self.entries.push((key.to_owned(), value.into()));
    }

    pub(super) fn entry(&mut self, key: &str) -> Option<&mut String> {
        self.entries.iter_mut().find(|(name, _)| name == key).map(|(_, value)| value)
    }
}

impl Route {
    pub(super) fn to(output: String) -> Self {
        Self { to: vec![output], ..Self::default() }
    }
}

/// A string of TOML: literal where it has quotes or backslashes and can be, or with escapes.
pub(super) fn string(text: &str) -> String {
    let is_plain = text.chars().all(|c| !c.is_control());
    if is_plain && text.contains(['"', '\\']) && !text.contains('\'') {
        return format!("'{text}'");
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => drop(write!(out, "\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

pub(super) fn strings<'t>(texts: impl IntoIterator<Item = &'t str>) -> String {
    format!("[{}]", texts.into_iter().map(string).collect::<Vec<_>>().join(", "))
}

/// The whole file.
pub(super) fn toml(from: &Path, translated: &Translated) -> String {
    let mut out =
        format!("# Made by `penstock import rsyslog {}`. What it could not carry over it has said on stderr.\n", from.display());
    translated.inputs.iter().chain(&translated.lookups).for_each(|input| table(input, &mut out));
    if let Some(origin) = &translated.metrics {
        let metrics = Table {
            origins: vec![origin.clone()],
            entries: vec![("listen".to_owned(), string("127.0.0.1:9514"))],
            ..Table::new("[metrics]")
        };
        table(&metrics, &mut out);
    }
    if !translated.templates.is_empty() {
        out.push_str("\n[template]\n");
        for (name, text, origin) in &translated.templates {
            comments(origin, &mut out);
            let _ = writeln!(out, "{} = {}", string(name), string(text));
        }
    }
    translated.outputs.iter().for_each(|output| table(output, &mut out));
    for route in &translated.routes {
        let mut written = Table { origins: route.origins.clone(), ..Table::new("[[route]]") };
        for (key, value) in [("select", &route.select), ("where", &route.condition)] {
            if let Some(value) = value {
                written.set(key, string(value));
            }
        }
        written.set("to", strings(route.to.iter().map(String::as_str)));
        if route.is_final {
            written.set("final", "true");
        }
        table(&written, &mut out);
    }
    out
}

fn comments<'o>(origins: impl IntoIterator<Item = &'o Origin>, out: &mut String) {
    for origin in origins {
        let _ = writeln!(out, "# {}", origin.to_string().replace(char::is_control, " "));
    }
}

fn table(table: &Table, out: &mut String) {
    out.push('\n');
    comments(&table.origins, out);
    let _ = writeln!(out, "{}", table.heading);
    for (key, value) in &table.entries {
        let _ = writeln!(out, "{key} = {value}");
    }
}
