//! rsyslog's configurations, unchanged: rsyslogd runs one, penstock runs what `penstock import rsyslog` makes of it, both get the same
//! messages, and both write the same files with the same octets.
//!
//! A case is a folder below `tests/import/cases`: `rsyslog.conf`, what is sent, and where the two differ a file `differs` that
//! says in which files, and why: `FILE: reason`. A difference that is not there any more fails, too. `refused` says why nothing at all can
//! be carried over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use regex::Regex;

mod common;

use common::{PENSTOCK, has};

/// So many run at a time: most of a run is waiting.
const AT_ONCE: usize = 6;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import")
}

fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<_> =
        std::fs::read_dir(folder().join("cases")).expect("cases").map(|entry| entry.expect("an entry").path()).collect();
    cases.sort();
    if let Ok(only) = std::env::var("PENSTOCK_IMPORT_CASE") {
        cases.retain(|case| name(case) == only);
    }
    cases
}

fn name(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

#[test]
fn imported_configurations_write_the_same_bytes() {
    if !has("root") || ["rsyslogd", "unshare", "python3", "openssl"].iter().any(|program| !has(program)) {
        return;
    }
    let work = tempfile::tempdir().expect("a folder");
    certificates(work.path());
    let (cases, next, problems) = (cases(), AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = compare(case, work.path());
                    if !found.is_empty() {
                        problems.lock().expect("no panic").insert(name(case), found);
                    }
                }
            });
        }
    });
    let problems = problems.into_inner().expect("no panic");
    let shown: Vec<_> = problems.iter().map(|(case, found)| format!("== {case}\n{}", found.join("\n"))).collect();
    assert!(problems.is_empty(), "{} of {} cases:\n{}", problems.len(), cases.len(), shown.join("\n"));
}

/// A CA and a certificate for both ends.
fn certificates(work: &Path) {
    let script = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca-key.pem -out ca.pem &&
        openssl req -newkey rsa:2048 -nodes -subj /CN=logs.example.com -keyout server-key.pem -out request &&
        printf 'subjectAltName=DNS:logs.example.com,DNS:localhost,IP:127.0.0.1\\n' >names &&
        openssl x509 -req -in request -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile names -out server-cert.pem";
    let made = Command::new("sh").args(["-c", script]).current_dir(work).output().expect("sh runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// What is wrong with the case.
fn compare(case: &Path, work: &Path) -> Vec<String> {
    let mut written = Vec::new();
    for server in ["rsyslogd", "penstock"] {
        let out = work.join(format!("{}-{server}", name(case)));
        std::fs::create_dir(&out).expect("a folder");
        let began = chrono::Local::now();
        let ran = Command::new(folder().join("rig/run"))
            .args([server.as_ref(), case.as_os_str(), out.as_os_str(), PENSTOCK.as_ref()])
            .env("PENSTOCK_TEST_PKI", work)
            .output()
            .expect("the rig runs");
        if !ran.status.success() {
            let said = std::fs::read_to_string(out.join("said")).unwrap_or_default();
            return vec![format!(
                "{server}: {}{}{said}",
                String::from_utf8_lossy(&ran.stdout),
                String::from_utf8_lossy(&ran.stderr)
            )];
        }
        written.push(files(&out, &Clock::between(began, chrono::Local::now())));
    }
    if case.join("refused").exists() {
        return Vec::new();
    }
    let (differs, named) = (differences(case), of_local_tags(case));
    let names: BTreeSet<_> = written.iter().flat_map(BTreeMap::keys).collect();
    let (mut problems, mut needed) = (Vec::new(), BTreeSet::new());
    for file in names {
        let [theirs, ours] = [0, 1].map(|of| written[of].get(file));
        let theirs = theirs.map(|text| named.iter().fold(text.clone(), |text, (theirs, ours)| text.replace(theirs, ours)));
        let theirs = theirs.as_ref();
        let same = theirs.map(|text| sorted(text)) == ours.map(|text| sorted(text));
        let named = differs.keys().find(|pattern| Regex::new(&format!("^{pattern}$")).expect("a pattern").is_match(file));
        match named {
            Some(pattern) if !same => drop(needed.insert(pattern)),
            None if !same => problems.push(shown(file, theirs, ours)),
            _ => {}
        }
    }
    let needless = differs.keys().filter(|pattern| !needed.contains(pattern));
    problems.extend(needless.map(|pattern| format!("`differs` names {pattern}, and nothing of that name differs")));
    problems
}

/// rsyslogd lets a tag on /dev/log run to the first blank: what stands behind its colon without one is a part of it.
fn of_local_tags(case: &Path) -> Vec<(String, String)> {
    let message = Regex::new(r"^log <\d+>(?:\w{3} [ \d]\d [\d:]{8} )?([\w./-]+(?:\[\d+\])?:)(\S+)").expect("a pattern");
    let text = std::fs::read_to_string(case.join("messages")).expect("messages");
    let found = text.lines().filter_map(|line| message.captures(line));
    found.map(|found| (format!(" {}{}", &found[1], &found[2]), format!(" {} {}", &found[1], &found[2]))).collect()
}

/// `FILE: reason`; the file may be a pattern.
fn differences(case: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(case.join("differs")).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| line.split_once(": ").map(|(file, why)| (file.to_owned(), why.to_owned())).expect("FILE: reason")).collect()
}

/// No order is promised between two inputs, and rsyslogd keeps none where two rules write one file.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

fn shown(file: &str, theirs: Option<&String>, ours: Option<&String>) -> String {
    let lines = |text: Option<&String>| text.map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    match (lines(theirs), lines(ours)) {
        (Some(theirs), Some(ours)) => {
            let only = |some: &[String], others: &[String], sign: &str| {
                let missing = some.iter().filter(|line| !others.contains(line)).take(4);
                missing.map(|line| format!("    {sign} {}", line.escape_debug())).collect::<Vec<_>>().join("\n")
            };
            format!("  {file}:\n{}\n{}", only(&theirs, &ours, "rsyslogd"), only(&ours, &theirs, "penstock"))
        }
        (Some(theirs), None) => format!("  {file}: only rsyslogd writes it, {} lines, {:?}", theirs.len(), theirs.first()),
        (_, ours) => format!("  {file}: only penstock writes it: {:?}", ours.and_then(|lines| lines.first().cloned())),
    }
}

/// Every file that was written, and what came out of pipes, terminals and sockets. What a server says of itself is left out, and the
/// time of receipt is replaced.
fn files(out: &Path, clock: &Clock) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![out.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            let file = path.strip_prefix(out).expect("below it").to_string_lossy().into_owned();
            let is_own = matches!(file.as_str(), "said" | "sent" | "report" | "penstock.toml" | "listening" | "logged-in");
            if path.is_dir() {
                folders.push(path);
            } else if !is_own {
                let text = String::from_utf8_lossy(&std::fs::read(&path).expect("a file")).into_owned();
                // Names by DNS come when they come: until then the address stands.
                let text = text.replace("localhost", "127.0.0.1");
                // Terminals get a return before or behind each line.
                let text = if file.starts_with("terminal") { text.replace('\r', "") } else { text };
                let lines = text.split_inclusive('\n').filter(|line| !line.contains("rsyslogd"));
                let text: String = lines.map(|line| clock.replaced(line)).collect();
                if !text.is_empty() {
                    *found.entry(clock.replaced(&file.replace("localhost", "127.0.0.1"))).or_insert_with(String::new) += &text;
                }
            }
        }
    }
    found
}

/// The time of a run, in which everything was received.
struct Clock {
    began: i64,
    ended: i64,
    patterns: Vec<(Regex, &'static str)>,
}

impl Clock {
    fn between(began: chrono::DateTime<chrono::Local>, ended: chrono::DateTime<chrono::Local>) -> Self {
        let pattern = |text: &str| Regex::new(text).expect("a pattern");
        let patterns = vec![
            (pattern(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:[+-]\d\d:\d\d|Z)"), "%+"),
            (pattern(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "%Y-%m-%d %H:%M:%S"),
            (pattern(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"), "%b %e %H:%M:%S"),
            (pattern(r"\b\d\d:\d\d:\d\d\b"), "%H:%M:%S"),
            (pattern(r"\b\d{14}\b"), "%Y%m%d%H%M%S"),
            (pattern(r"\b\d{10}\b"), "%s"),
        ];
        Self { began: began.timestamp(), ended: ended.timestamp(), patterns }
    }

    fn replaced(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (pattern, format) in &self.patterns {
            let replaced = pattern.replace_all(&text, |found: &regex::Captures<'_>| match self.is_now(&found[0], format) {
                true => "(NOW)".to_owned(),
                false => found[0].to_owned(),
            });
            text = replaced.into_owned();
        }
        text
    }

    fn is_now(&self, text: &str, format: &str) -> bool {
        use chrono::TimeZone;
        let year = chrono::Local::now().format("%Y ").to_string();
        let local = |text: &str, format: &str| {
            let naive = chrono::NaiveDateTime::parse_from_str(text, format).ok()?;
            chrono::Local.from_local_datetime(&naive).earliest().map(|time| time.timestamp())
        };
        let moment = match format {
            "%+" => chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp()),
            "%s" => text.parse().ok(),
            "%H:%M:%S" => local(&format!("{}{text}", chrono::Local::now().format("%Y-%m-%d ")), "%Y-%m-%d %H:%M:%S"),
            "%b %e %H:%M:%S" => local(&format!("{year}{text}"), "%Y %b %e %H:%M:%S"),
            format => local(text, format),
        };
        moment.is_some_and(|moment| (self.began..=self.ended).contains(&moment))
    }
}
