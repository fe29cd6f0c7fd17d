use std::ffi::CString;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use super::super::chain::{Chain, Place, Seal};
use super::*;
use crate::sys::file::Folder;

/// A file with its chain, as a server writes them.
struct Log {
    folder: tempfile::TempDir,
    seal: Arc<Seal>,
    key: SealKey,
}

impl Log {
    fn new() -> Self {
        let pair = Ed25519KeyPair::generate().expect("a key");
        let seal = Seal::with_key(pair.to_pkcs8().expect("a key").as_ref(), PathBuf::new(), Duration::ZERO);
        let key = SealKey(pair.public_key().as_ref().to_vec());
        Self { folder: tempfile::tempdir().expect("a folder"), seal: Arc::new(seal.expect("a key")), key }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("x.log")
    }

    fn open(&self, name: &str) -> (File, Chain) {
        let (folder, name) = (Folder::open(self.folder.path()).expect("a folder"), CString::new(name).expect("a name"));
        let log = folder.create(&name, 0o640).expect("a file");
        crate::sys::file::end_line(&log).expect("a file");
        let place = Place { folder: &folder, base: self.folder.path(), name: &name };
        let chain = Chain::open(&place, &log, 0o640, self.seal.clone(), None).expect("a chain");
        (log, chain)
    }

    /// Appends lines, so many between two seals; whether the last are sealed.
    fn write(&self, lines: std::ops::Range<usize>, between: usize, is_sealed: bool) {
        use std::io::Write;
        let (mut log, mut chain) = self.open("x.log");
        for number in lines.clone() {
            // In pieces, as a full disk would have it.
            let line = line(number);
            for piece in line.as_bytes().chunks(5) {
                log.write_all(piece).expect("written");
                chain.add(piece);
            }
            if (number + 1 - lines.start).is_multiple_of(between) {
                chain.seal(&log).expect("sealed");
            }
        }
        chain.flush();
        if is_sealed {
            chain.seal(&log).expect("sealed");
        }
    }

    fn verdict(&self) -> Verdict {
        verify(&self.path(), &self.key).expect("a verdict")
    }

    /// What is found when the lines have become others.
    fn after(&self, change: impl FnOnce(&mut Vec<String>)) -> String {
        let before = fs::read_to_string(self.path()).expect("a file");
        let mut lines: Vec<String> = before.split_inclusive('\n').map(str::to_owned).collect();
        change(&mut lines);
        fs::write(self.path(), lines.concat()).expect("written");
        let verdict = self.verdict();
        fs::write(self.path(), before).expect("written");
        verdict.finding.unwrap_or_default()
    }

    fn chain(&self, change: impl FnOnce(&mut String)) -> Verdict {
        let path = chain_of(&self.path());
        let before = fs::read_to_string(&path).expect("a chain");
        let mut text = before.clone();
        change(&mut text);
        fs::write(&path, text).expect("written");
        let verdict = self.verdict();
        fs::write(&path, before).expect("written");
        verdict
    }
}

fn line(number: usize) -> String {
    format!("line {number} {}\n", "x".repeat(number % 7))
}

fn good(verdict: &Verdict, sealed: u64) {
    assert_eq!((&verdict.finding, verdict.sealed, verdict.unsealed), (&None, sealed, 0), "{verdict:?}");
}

#[test]
fn the_first_line_that_is_not_as_it_was_is_named() {
    let log = Log::new();
    log.write(0..100, 10, true);
    good(&log.verdict(), 100);
    assert!(log.verdict().until.is_some() && log.verdict().remarks.is_empty());
    for (at, what, change) in [
        (36, "was changed", (|lines| lines[36] = "another\n".to_owned()) as fn(&mut Vec<String>)),
        (36, "was changed", |lines| lines[36] = lines[36].to_uppercase()),
        (36, "was removed", |lines| drop(lines.remove(36))),
        (36, "was put in", |lines| lines.insert(36, "put in\n".to_owned())),
        (36, "was moved", |lines| lines.swap(36, 38)),
        (36, "was moved", |lines| lines.swap(36, 37)),
        (0, "was changed", |lines| lines[0].insert(0, ' ')),
        (99, "the last one, was removed", |lines| lines.truncate(99)),
        // A seal's own place: the first line behind it.
        (40, "was removed", |lines| drop(lines.remove(40))),
    ] {
        let found = log.after(change);
        assert!(found.starts_with(&format!("line {}", at + 1)) && found.ends_with(what), "{at} {what}: {found}");
    }
    assert_eq!(log.after(|lines| lines.truncate(50)), "lines 51 to 60 were removed");
    assert_eq!(log.after(|lines| lines.truncate(55)), "lines 56 to 60 were removed");
    assert_eq!(log.after(|lines| lines.clear()), "lines 1 to 10 were removed");
    assert_eq!(log.after(|_| ()), "");
}

#[test]
fn who_changes_the_chain_too_is_found_by_the_seal() {
    let log = Log::new();
    log.write(0..30, 10, true);
    // The line and its note: the seal tells which segment.
    let forged = "line 12 forged\n";
    let note = &hex(digest::digest(&SHA256, forged.as_bytes()).as_ref())[..2 * NOTED];
    let old = &hex(digest::digest(&SHA256, line(12).as_bytes()).as_ref())[..2 * NOTED];
    let text = fs::read_to_string(log.path()).expect("a file");
    fs::write(log.path(), text.replace(&line(12), forged)).expect("written");
    let verdict = log.chain(|chain| *chain = chain.replace(old, note));
    assert_eq!(
        verdict.finding.as_deref(),
        Some("one of the lines 11 to 20 was changed, removed or moved, and the chain with it")
    );
    fs::write(log.path(), text).expect("written");
    // Only a note: the lines are proved all the same.
    let verdict = log.chain(|chain| *chain = chain.replace(old, note));
    good(&verdict, 30);
    assert_eq!(verdict.remarks.len(), 1);
    // A seal that says something else, or is somebody else's.
    let verdict = log.chain(|chain| *chain = chain.replacen("seal 10 ", "seal 11 ", 1));
    assert_eq!(verdict.finding.as_deref(), Some("the seal of lines 1 to 11 is not of this key"));
    let other = Log::new();
    assert!(verify(&log.path(), &other.key).expect_err("no verdict").to_string().contains("another key"));
    // Without its last seal a file ends like one of a crash.
    let verdict = log.chain(|chain| chain.truncate(chain.rfind("seal").expect("a seal")));
    assert_eq!((verdict.finding, verdict.sealed, verdict.unsealed), (None, 20, 10));
    // The beginning is sealed, too.
    let verdict = log.chain(|chain| *chain = chain.replacen(" - ", &format!(" {} ", "0".repeat(64)), 1));
    assert_eq!(verdict.finding.as_deref(), Some("the beginning of the chain was changed"));
}

/// A crash at any octet of the file and the chain behind the last seal is no tampering, and the next server goes on.
#[test]
fn a_crash_is_told_from_tampering() {
    let log = Log::new();
    log.write(0..10, 10, true);
    log.write(10..14, 100, false);
    let (text, chain) = (fs::read(log.path()).expect("a file"), fs::read(chain_of(&log.path())).expect("a chain"));
    let sealed = (0..10).map(line).collect::<String>().len();
    let notes = chain.len() - 4 * (2 * NOTED + 1);
    assert_eq!(log.verdict().unsealed, 4);
    for cut in sealed..=text.len() {
        for chain_cut in (notes..=chain.len()).step_by(7) {
            fs::write(log.path(), &text[..cut]).expect("written");
            fs::write(chain_of(&log.path()), &chain[..chain_cut]).expect("written");
            assert_eq!(log.verdict().finding, None, "{cut} {chain_cut}");
            log.write(20..22, 100, true);
            let verdict = log.verdict();
            assert_eq!((&verdict.finding, verdict.unsealed), (&None, 0), "{cut} {chain_cut} {verdict:?}");
            let lines = fs::read_to_string(log.path()).expect("a file").lines().count() as u64;
            assert_eq!(verdict.sealed, lines, "{cut} {chain_cut}");
        }
    }
    // What was noted before the crash and changed before the server came back.
    fs::write(log.path(), [&text[..sealed], b"forged\nlines\n"].concat()).expect("written");
    fs::write(chain_of(&log.path()), &chain).expect("written");
    assert_eq!(log.verdict().finding.as_deref(), Some("line 11 was changed, before it was sealed"));
    log.write(20..22, 100, true);
    assert_eq!(log.verdict().finding.as_deref(), Some("line 11 was changed, before it was sealed"));
    // What was sealed is gone: no crash does that.
    fs::write(log.path(), &text[..sealed - 3]).expect("written");
    fs::write(chain_of(&log.path()), &chain).expect("written");
    assert_eq!(log.verdict().finding.as_deref(), Some("line 10, the last one, was removed"));
}

#[test]
fn a_chain_that_begins_later_says_what_it_does_not_cover() {
    let log = Log::new();
    fs::write(log.path(), "old\nolder\n").expect("written");
    log.write(0..5, 10, true);
    let verdict = log.verdict();
    good(&verdict, 5);
    assert_eq!(verdict.before, 2);
    assert_eq!(log.after(|lines| lines[3] = "x\n".to_owned()), "line 4 was changed");
    assert!(log.after(|lines| drop(lines.remove(0))).contains("before the chain began"));
    fs::rename(log.path(), log.folder.path().join("y.log")).expect("renamed");
    fs::rename(chain_of(&log.path()), log.folder.path().join("y.log.chain")).expect("renamed");
    let verdict = verify(&log.folder.path().join("y.log"), &log.key).expect("a verdict");
    assert_eq!(verdict.finding.as_deref(), Some("the chain is that of another file: x.log"));
}

/// No octet of what is sealed can change unnoticed, and none of a chain can do harm.
#[test]
fn every_octet_counts() {
    let log = Log::new();
    log.write(0..12, 5, true);
    let text = fs::read(log.path()).expect("a file");
    for at in 0..text.len() {
        let mut other = text.clone();
        other[at] ^= 1;
        fs::write(log.path(), &other).expect("written");
        assert!(log.verdict().finding.is_some(), "{at}");
    }
    fs::write(log.path(), &text).expect("written");
    let chain = fs::read(chain_of(&log.path())).expect("a chain");
    for at in 0..chain.len() {
        for mask in [1, 0x80] {
            let mut other = chain.clone();
            other[at] ^= mask;
            fs::write(chain_of(&log.path()), &other).expect("written");
            // An error, a remark or a finding; the last seal's own text is all that may be lost without one.
            let verdict = verify(&log.path(), &log.key);
            assert!(
                !verdict.is_ok_and(|verdict| verdict.sealed == 12 && verdict.remarks.is_empty() && verdict.finding.is_none()),
                "{at}"
            );
        }
    }
}

/// A file gets its last name as it does in a server.
fn close(log: &Log, stamp: &str, with_chain: bool) -> PathBuf {
    let last = log.folder.path().join(format!("x.log-{stamp}"));
    fs::rename(log.path(), &last).expect("renamed");
    if with_chain {
        fs::rename(chain_of(&log.path()), chain_of(&last)).expect("renamed");
    }
    last
}

#[test]
fn a_chain_cannot_be_begun_or_cut_without_the_key() {
    let log = Log::new();
    log.write(0..20, 10, true);
    let text = fs::read_to_string(log.path()).expect("a file");
    // A header is easily written: whose it is says its first seal.
    let header =
        |chain: &str| chain.split_inclusive('\n').next().unwrap_or_default().replacen(" 0 ", &format!(" {} ", text.len()), 1);
    let verdict = log.chain(|chain| *chain = header(chain));
    assert_eq!(verdict.finding.as_deref(), Some("the chain has no seal"));
    // A file that was closed was sealed before.
    let last = close(&log, "20261121T000000Z", true);
    let verdict = || verify(&last, &log.key).expect("a verdict");
    good(&verdict(), 20);
    let chain = fs::read_to_string(chain_of(&last)).expect("a chain");
    fs::write(chain_of(&last), &chain[..chain.rfind("seal").expect("a seal")]).expect("written");
    assert!(verdict().finding.is_some_and(|what| what.contains("before line 11")));
    fs::write(chain_of(&last), &chain).expect("written");
    for more in ["one more\n", "without an end"] {
        fs::write(&last, text.clone() + more).expect("written");
        assert!(verdict().finding.is_some_and(|what| what.contains("before line 21")), "{more}");
    }
}

#[test]
fn a_chain_that_could_not_follow_its_file_does_it_later() {
    let log = Log::new();
    log.write(0..20, 10, true);
    let last = close(&log, "20261121T000000Z", false);
    log.write(20..25, 10, true);
    good(&verify(&last, &log.key).expect("a verdict"), 20);
    let (before, after) = (verify(&last, &log.key).expect("a verdict"), log.verdict());
    good(&after, 5);
    assert_eq!(after.after.as_deref(), Some(&*before.last));
    // Gone is not closed.
    fs::write(log.path(), "").expect("written");
    log.write(30..33, 10, true);
    assert!(log.verdict().finding.is_some());
}

#[test]
fn another_key_begins_another_chain() {
    let (mut log, other) = (Log::new(), Log::new());
    log.write(0..20, 10, true);
    let (seal, key) = (log.seal.clone(), SealKey(log.key.0.clone()));
    (log.seal, log.key) = (other.seal.clone(), SealKey(other.key.0.clone()));
    log.write(20..25, 10, true);
    let verdict = log.verdict();
    assert_eq!((&verdict.finding, verdict.before, verdict.sealed), (&None, 20, 5), "{verdict:?}");
    (log.seal, log.key) = (seal, key);
    assert!(verify(&log.path(), &log.key).is_err(), "it is not that of the old one");
}
