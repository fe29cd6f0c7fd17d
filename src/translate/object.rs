//! Objects of JSON as loggers send them: which of their keys are the time, the severity, the host and so on.
//!
//! The names are those of structlog, python-json-logger, the Elastic Common Schema, pino, bunyan, winston, zap, logrus, zerolog,
//! GELF, OpenTelemetry and journald. The first of a line that is there counts.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::value::RawValue;

use super::frame::{Options, Record, Translated};
use super::timestamp;
use crate::message::{Facility, Severity};
use crate::parse::json;

const SD_ID: &str = "json@32473";

/// What a key can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    AppName,
    Exception,
    Facility,
    Hostname,
    Message,
    MsgId,
    ProcId,
    Severity,
    Timestamp,
}

const TARGETS: usize = 9;

#[rustfmt::skip]
const NAMES: [(Target, &[&str]); TARGETS] = [
    (Target::AppName, &["app_name", "app-name", "appname", "app", "application", "service.name", "service", "program",
        "SYSLOG_IDENTIFIER", "logger", "logger_name", "log.logger", "logger.name", "name"]),
    (Target::Exception, &["exception", "exc_text", "exc_info", "error.stack_trace", "stacktrace", "stack_trace", "stack", "err.stack",
        "stack_info", "@x"]),
    (Target::Facility, &["facility", "log.syslog.facility.name"]),
    (Target::Hostname, &["hostname", "host.name", "host.hostname", "host", "source_host", "_HOSTNAME"]),
    (Target::Message, &["message", "msg", "event", "@m", "short_message", "text", "body", "body.stringValue", "MESSAGE",
        "log", "@mt"]),
    (Target::MsgId, &["msg_id", "msg-id", "msgid"]),
    (Target::ProcId, &["proc_id", "proc-id", "procid", "pid", "process.pid", "process_id", "process", "_PID"]),
    (Target::Severity, &["severity", "level", "log.level", "levelname", "level_name", "lvl", "loglevel", "log_level", "@l",
        "severity_text", "severityText", "severity_number", "severityNumber", "levelno", "level_number", "level_value", "PRIORITY"]),
    (Target::Timestamp, &["timestamp", "@timestamp", "time", "ts", "@t", "datetime", "asctime", "created", "date", "timeUnixNano"]),
];

/// Keys whose values may be objects with such names.
const PARENTS: [&str; 9] = ["body", "err", "error", "host", "log", "logger", "process", "service", "syslog"];

/// By key: what it is, and before which others.
type Known = HashMap<&'static str, (Target, usize), foldhash::fast::RandomState>;

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let all =
        NAMES.iter().flat_map(|(target, names)| names.iter().enumerate().map(move |(rank, name)| (*name, (*target, rank + 1))));
    all.collect()
});

/// Keys of the configuration, which come before all others.
pub type Mapping = HashMap<Box<str>, Target>;

struct Entry<'o> {
    /// `host.name` for a key of an object in it.
    key: Cow<'o, str>,
    value: &'o RawValue,
    is: Option<(Target, usize)>,
}

/// An object that the reader of JSON has accepted.
pub fn from_object(object: &str, mapping: &Mapping, options: &Options, arena: &mut Vec<u8>) -> serde_json::Result<Translated> {
    let entries = entries(object, mapping)?;
    let mut best: [Option<&Entry<'_>>; TARGETS] = [None; TARGETS];
    for entry in &entries {
        let Some((target, rank)) = entry.is.filter(|_| entry.value.get() != "null") else { continue };
        // `exc_info: true` says only that there is one.
        if target == Target::Exception && !entry.value.get().starts_with('"') {
            continue;
        }
        let place = &mut best[target as usize];
        if place.is_none_or(|other| other.is.is_none_or(|(_, other)| rank <= other)) {
            *place = Some(entry);
        }
    }
    let mut compact = Vec::with_capacity(object.len());
    json::compact(object.as_bytes(), &mut compact);
    let text = |target: Target| best[target as usize].map(|entry| json::plain(entry.value)).unwrap_or_default();
    let facility = Facility::parse(&text(Target::Facility));
    let severity = best[Target::Severity as usize].and_then(|entry| severity(&entry.key, &json::plain(entry.value)));
    let timestamp = timestamp::of_text(&text(Target::Timestamp), options.zone);
    let is_told = |entry: &&Entry<'_>| {
        entry.is.is_some_and(|(target, _)| {
            let is_understood = match target {
                Target::Facility => facility.is_some(),
                Target::Severity => severity.is_some(),
                Target::Timestamp => timestamp.is_some(),
                _ => true,
            };
            is_understood && best[target as usize].is_some_and(|best| std::ptr::eq(best, *entry))
        })
    };
    let mut params = Params { all: Vec::new(), left: options.max_message };
    entries.iter().filter(|entry| !is_told(entry)).for_each(|entry| params.add(entry.key.clone(), entry.value, DEEPEST));
    let record = Record {
        facility,
        severity,
        timestamp,
        hostname: text(Target::Hostname),
        app_name: text(Target::AppName),
        proc_id: text(Target::ProcId),
        msg_id: text(Target::MsgId),
        sd_id: SD_ID,
        params: params.all,
        message: message(text(Target::Message), &text(Target::Exception), &compact),
        json: Cow::Owned(compact),
    };
    Ok(Translated { frame: record.append(options, arena), is_foreign: false })
}

/// The text and what was raised; the whole object where there is neither.
fn message<'o>(text: Cow<'o, str>, exception: &str, object: &[u8]) -> Cow<'o, [u8]> {
    if text.is_empty() && exception.is_empty() {
        return Cow::Owned(object.to_vec());
    }
    // Docker's lines have their line feed.
    let text = match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.strip_suffix('\n').unwrap_or(text)),
        owned => owned,
    };
    // Some loggers have it in the text already.
    if exception.is_empty() || text.contains(exception) {
        return match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
    }
    let between = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    Cow::Owned([&*text, between, exception].concat().into_bytes())
}

fn entries<'o>(object: &'o str, mapping: &Mapping) -> serde_json::Result<Vec<Entry<'o>>> {
    let is = |key: &str| mapping.get(key).map(|target| (*target, 0)).or_else(|| KNOWN.get(key).copied());
    let mut found = Vec::with_capacity(16);
    for (key, value) in json::entries(object)? {
        let is_object = value.get().starts_with('{');
        let has_mapped = || mapping.keys().any(|name| name.strip_prefix(&*key).is_some_and(|rest| rest.starts_with('.')));
        if is_object && (PARENTS.contains(&&*key) || has_mapped()) {
            for (inner, value) in json::entries(value.get())? {
                let key = format!("{key}.{inner}");
                found.push(Entry { is: is(&key), key: key.into(), value });
            }
        } else {
            // An object is nobody's name.
            found.push(Entry { is: is(&key).filter(|_| !is_object), key, value });
        }
    }
    Ok(found)
}

/// Objects in objects in parameters of structured data; deeper ones are shown as JSON.
const DEEPEST: usize = 4;
/// Of a parameter's name more is not shown (RFC 5424, section 6.3.3): it need not be put together.
const LONGEST_NAME: usize = 32;

/// What is not told otherwise, within bounds.
struct Params<'o> {
    all: Vec<(Cow<'o, str>, Cow<'o, str>)>,
    /// Octets of names and values.
    left: usize,
}

impl<'o> Params<'o> {
    fn add(&mut self, name: Cow<'o, str>, value: &'o RawValue, depth: usize) {
        if self.left == 0 || value.get() == "null" {
            return;
        }
        if value.get().starts_with('{')
            && depth > 0
            && let Ok(entries) = json::entries(value.get())
        {
            for (key, value) in entries {
                let name = if name.len() >= LONGEST_NAME { name.clone() } else { format!("{name}.{key}").into() };
                let end = name.floor_char_boundary(LONGEST_NAME);
                self.add(Cow::Owned(name[..end].to_owned()), value, depth - 1);
            }
            return;
        }
        let value = json::plain(value);
        self.left = self.left.saturating_sub(name.len().min(LONGEST_NAME) + value.len() + 1);
        if self.left > 0 {
            self.all.push((name, value));
        }
    }
}

/// A name in any case, or a number on the scale of those who use its key.
fn severity(key: &str, text: &str) -> Option<Severity> {
    if let Ok(number) = text.parse::<f64>() {
        return Some(Severity(match key {
            "levelno" | "level_number" => by([50.0, 40.0, 30.0, 25.0, 20.0], number),
            // OpenTelemetry, "Field: SeverityNumber".
            "severity_number" | "severityNumber" => by([21.0, 17.0, 13.0, 11.0, 9.0], number),
            // syslog's own, and that of GELF.
            _ if number < 8.0 => number.max(0.0) as u8,
            // pino and bunyan: 60 fatal, 50 error, 40 warn, 30 info.
            _ => by([60.0, 50.0, 40.0, 35.0, 30.0], number),
        }));
    }
    let name = text.trim().to_ascii_lowercase();
    Some(Severity(match &*name {
        "dpanic" | "fatal" | "panic" => 2,
        "severe" => 3,
        "information" | "success" => 6,
        "trace" | "verbose" | "fine" | "finer" | "finest" | "silly" => 7,
        name => return Severity::parse(name),
    }))
}

/// From where on a level is critical, an error, a warning, a notice, an information.
fn by(scale: [f64; 5], number: f64) -> u8 {
    scale.iter().position(|from| number >= *from).map_or(7, |at| at as u8 + 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Timestamp, Zone};
    use crate::parse::{Options as ParseOptions, parse};

    fn options() -> Options {
        Options { facility: Facility(1), zone: Zone::parse("utc").expect("a zone"), max_message: 1000 }
    }

    /// PRI, time, host, program, process, structured data and message.
    fn translated(object: &str, mapping: &Mapping) -> String {
        let mut arena = Vec::new();
        let frame = from_object(object, mapping, &options(), &mut arena).expect("an object").frame;
        let raw = frame.span.of(&arena);
        let fields = parse(raw, &ParseOptions::default());
        assert_ne!(fields.version, 0, "{}", String::from_utf8_lossy(raw));
        let time = if fields.timestamp == Timestamp::Absent { "-" } else { "T" };
        let text = String::from_utf8_lossy(raw).into_owned();
        let mut parts = text.splitn(3, ' ');
        let (pri, stamp) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        assert_eq!(stamp == "-", time == "-");
        format!("{} {stamp} {}", pri.trim_end_matches('1'), parts.next().unwrap_or_default())
    }

    #[test]
    fn the_names_of_common_loggers_are_known() {
        for (object, expected) in [
            // structlog
            (
                r#"{"user": "x", "event": "logged in", "level": "warning", "logger": "app.auth", "timestamp": "2026-11-21T10:00:00.5Z"}"#,
                r#"<12> 2026-11-21T10:00:00.500000+00:00 - app.auth - - [json@32473 user="x"] logged in"#,
            ),
            // python-json-logger
            (
                r#"{"asctime": "2026-11-21 10:00:00,123", "levelname": "ERROR", "name": "a", "message": "m", "exc_info": "Traceback"}"#,
                "<11> 2026-11-21T10:00:00.123000+00:00 - a - - - m\nTraceback",
            ),
            // Elastic Common Schema, nested and with dots
            (
                r#"{"@timestamp":"2026-11-21T10:00:00Z","log.level":"info","message":"m","service":{"name":"s","version":"1"},"host":{"name":"h"},"process":{"pid":7},"trace":{"id":"t"}}"#,
                r#"<14> 2026-11-21T10:00:00.000000+00:00 h s 7 - [json@32473 service.version="1" trace.id="t"] m"#,
            ),
            // pino
            (
                r#"{"level":50,"time":1795255200250,"pid":9,"hostname":"h","name":"p","msg":"m"}"#,
                "<11> 2026-11-21T10:00:00.250000+00:00 h p 9 - - m",
            ),
            // zap
            (
                r#"{"level":"dpanic","ts":1795255200.25,"logger":"z","caller":"a.go:1","msg":"m","n":1.5,"l":[1, 2]}"#,
                r#"<10> 2026-11-21T10:00:00.250000+00:00 - z - - [json@32473 caller="a.go:1" n="1.5" l="[1,2\]"] m"#,
            ),
            // logrus
            (
                r#"{"level":"fatal","msg":"m","time":"2026-11-21T12:00:00+02:00"}"#,
                "<10> 2026-11-21T12:00:00.000000+02:00 - - - - - m",
            ),
            // GELF
            (r#"{"version":"1.1","host":"h","short_message":"m","level":3}"#, r#"<11> - h - - - [json@32473 version="1.1"] m"#),
            // Nothing that is known.
            (r#"{"a":{"b":{"c":1}},"d":null}"#, r#"<13> - - - - - [json@32473 a.b.c="1"] {"a":{"b":{"c":1}},"d":null}"#),
            // What is not understood stays.
            (
                r#"{"time":"noon","level":"odd","facility":"none","msg":"m"}"#,
                r#"<13> - - - - - [json@32473 time="noon" level="odd" facility="none"] m"#,
            ),
            (
                r#"{"message":"a","msg":"b","facility":"local3","severity_number":17}"#,
                r#"<155> - - - - - [json@32473 msg="b"] a"#,
            ),
        ] {
            assert_eq!(translated(object, &Mapping::default()), expected, "{object}");
        }
    }

    /// A long key above very many others, and very many keys.
    #[test]
    fn parameters_are_bounded() {
        let many: String = (0..40_000).map(|i| format!("\"{i}\":1,")).collect();
        let object = format!("{{\"msg\":\"x\",\"{}\":{{{many}\"z\":1}},{many}\"z\":1}}", "k".repeat(300_000));
        let mut arena = Vec::new();
        let frame = from_object(&object, &Mapping::default(), &options(), &mut arena).expect("an object").frame;
        assert!(frame.span.len() < 3000 && frame.json.len() == object.len(), "{} {}", frame.span.len(), frame.json.len());
    }

    #[test]
    fn a_mapping_comes_first() {
        let mapping = Mapping::from([("body.text".into(), Target::Message), ("who".into(), Target::AppName)]);
        let object = r#"{"message":"other","body":{"text":"m","more":1},"who":"w","logger":"l"}"#;
        let expected = r#"<13> - - w - - [json@32473 message="other" body.more="1" logger="l"] m"#;
        assert_eq!(translated(object, &mapping), expected);
    }
}
