//! A server on a state that outlives it, its sender, its destinations; and what is found in the morning.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::common::{Server, TempDir};
use crate::sender::Sender;
use crate::subject::{self, Keep, Plan, Subject, is_rsyslogd};
use crate::upstream::{Manner, Upstream};

/// Nothing has arrived for so long: nothing more will.
const SILENCE: Duration = Duration::from_secs(30);

/// How long each fault is repeated: `PENSTOCK_FAULTS_SECONDS`, or a few.
pub fn duration() -> Duration {
    let seconds = std::env::var("PENSTOCK_FAULTS_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(4))
}

pub fn random(range: std::ops::Range<u64>) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    range.start + RandomState::new().hash_one(Instant::now()) % (range.end - range.start)
}

/// Some milliseconds.
pub fn pause(range: std::ops::Range<u64>) {
    std::thread::sleep(Duration::from_millis(random(range)));
}

/// Runs a command of the system to its good end.
pub fn command(line: &str) {
    let mut words = line.split(' ');
    let program = words.next().expect("a program");
    let output = std::process::Command::new(program).args(words).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Where numbers arrive.
pub enum Destination {
    Upstream(Upstream),
    File(PathBuf),
}

impl Destination {
    /// How many of the numbers below this are missing, and how many have come more than once.
    pub fn tally(&self, count: usize) -> (usize, usize) {
        match self {
            Self::Upstream(upstream) => upstream.tally(count),
            Self::File(path) => tally(path, count),
        }
    }

    /// The same, when all have arrived but so many, or nothing more comes.
    pub fn settled(&self, count: usize, but: usize) -> (usize, usize) {
        let mut last = (usize::MAX, Instant::now());
        loop {
            let (missing, doubled) = self.tally(count);
            if missing <= but || (missing == last.0 && last.1.elapsed() > SILENCE) {
                return (missing, doubled);
            }
            if missing != last.0 {
                last = (missing, Instant::now());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Of the file, of those beside it that had its name, and of what took its messages when it could not be made.
fn tally(path: &Path, count: usize) -> (usize, usize) {
    let mut arrived = BTreeMap::new();
    let beside = path.parent().and_then(|folder| std::fs::read_dir(folder).ok()).expect("a folder");
    let files = beside.map(|entry| entry.expect("an entry").path()).filter(|file| {
        let stem = file.file_stem();
        stem == path.file_stem() || stem.is_some_and(|stem| stem == "penstock-redirected")
    });
    for file in files {
        // It may be in the middle of a line, or not there yet.
        let text = std::fs::read_to_string(file).unwrap_or_default();
        for number in text.lines().filter_map(|line| line.trim().rsplit(' ').next()?.parse::<usize>().ok()) {
            *arrived.entry(number).or_insert(0) += 1;
        }
    }
    (count - arrived.range(..count).count(), arrived.values().map(|times| times - 1).sum())
}

pub struct Rig {
    pub plan: Plan,
    pub subject: Option<Subject>,
    pub sender: Option<Sender>,
    pub upstream: Destination,
    pub rounds: usize,
    /// Messages of which it is known that they are lost.
    pub excused: usize,
    pub folder: TempDir,
    /// The upstream's server, where it is one.
    pub last: Option<Server>,
}

impl Rig {
    /// RELP in, a file and a RELP upstream out.
    pub fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let (mut plan, upstream) = (Plan::new(folder.path()), Upstream::start());
        plan.upstream = Some(format!("relp://127.0.0.1:{}", upstream.port));
        Self::between(folder, plan, Destination::Upstream(upstream), None)
    }

    /// The upstream is a server with a file `out`.
    pub fn with_server(last: Server, url: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let mut plan = Plan::new(folder.path());
        plan.upstream = Some(url.to_owned());
        let out = last.path("out");
        Self::between(folder, plan, Destination::File(out), Some(last))
    }

    fn between(folder: TempDir, plan: Plan, upstream: Destination, last: Option<Server>) -> Self {
        Self { plan, subject: None, sender: None, upstream, rounds: 0, excused: 0, folder, last }
    }

    pub fn keep(mut self, keep: Keep) -> Self {
        self.plan.keep = keep;
        self
    }

    pub fn behave(&self, manner: Manner) {
        if let Destination::Upstream(upstream) = &self.upstream {
            upstream.behave(manner);
        }
    }

    pub fn start(&mut self) {
        self.subject = Some(Subject::start(&self.plan));
        self.sender.get_or_insert_with(|| Sender::start(self.plan.port));
    }

    /// Ends the server with this signal and starts it anew.
    pub fn restart(&mut self, signal: &str, between: impl FnOnce(&Self)) {
        self.subject.take().expect("it runs").end(signal);
        between(self);
        self.start();
    }

    pub fn pid(&self) -> u32 {
        self.subject.as_ref().expect("it runs").pid()
    }

    /// Again and again while messages flow.
    pub fn night(&mut self, mut round: impl FnMut(&mut Self)) {
        if self.subject.is_none() {
            self.start();
        }
        let end = Instant::now() + duration();
        while Instant::now() < end {
            round(self);
            self.rounds += 1;
        }
    }

    /// Everything that was accepted is in the file and with the upstream.
    pub fn morning(mut self, what: &str) {
        self.behave(Manner::Good);
        let accepted = self.sender.take().expect("it runs").finish();
        let (missing, doubled) = self.upstream.settled(accepted, self.excused);
        let (missing_in_file, doubled_in_file) = Destination::File(self.plan.out()).settled(accepted, 0);
        println!(
            "| {what} | {} | {} | {accepted} | {missing} | {doubled} | {missing_in_file} | {doubled_in_file} |",
            subject::name(),
            self.rounds
        );
        assert!(accepted > 100 || is_rsyslogd(), "{what}: {accepted} messages only");
        assert!(
            (missing <= self.excused && missing_in_file == 0) || is_rsyslogd(),
            "{what}: {missing}, {missing_in_file} missing"
        );
        self.subject.take().expect("it runs").end("TERM");
        if let Some(last) = self.last.take() {
            last.stop();
        }
    }
}
