//! Files for years: closed by size and time, packed, removed when they are too many, and sealed; no line lost or doubled.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use common::{PENSTOCK, Server, TempDir, has, send_numbers as send, wait_until};

fn config(rotate: &str) -> String {
    format!(
        r#"
[[input.tcp]]
listen = "127.0.0.1:0"
[template]
line = "{{message}} {}"
[[output.file]]
name = "files"
path = "{{dir}}/logs/{{app-name}}.log"
format = "line"
{rotate}
[[route]]
to = ["files"]
"#,
        "x".repeat(100)
    )
}

/// A file's text, unpacked.
fn text(path: &Path) -> String {
    let file = fs::File::open(path).expect("a file");
    let mut text = String::new();
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz") => flate2::read::GzDecoder::new(file).read_to_string(&mut text),
        Some("zst") => zstd::Decoder::new(file).expect("zstd").read_to_string(&mut text),
        _ => fs::File::read_to_string(&mut { file }, &mut text),
    }
    .expect("text");
    text
}

/// The files of a folder by name, without chains.
fn listed(folder: &Path) -> BTreeMap<String, u64> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.metadata().ok()?.len())));
    named.filter(|(name, _)| !name.ends_with(".chain")).collect()
}

/// The files of a name in the order in which they were closed, and the one that is written.
fn in_order(folder: &Path, name: &str) -> Vec<PathBuf> {
    let there = listed(folder);
    let mut files: Vec<(bool, String, usize, PathBuf)> = there
        .keys()
        .filter(|file| file.starts_with(name) && !file.ends_with(".partial"))
        // A server that ended between the two: the packed one is whole.
        .filter(|file| ![".gz", ".zst"].iter().any(|ending| there.contains_key(&format!("{file}{ending}"))))
        .map(|file| {
            let closed = file[name.len()..].split('.').next().unwrap_or_default().to_owned();
            let (stamp, number) = closed.split_once("Z-").unwrap_or((closed.trim_end_matches('Z'), "1"));
            (file == name, stamp.to_owned(), number.parse().expect("a number"), folder.join(file))
        })
        .collect();
    files.sort();
    files.into_iter().map(|(_, _, _, file)| file).collect()
}

/// The first words of all lines of a name.
fn numbers(folder: &Path, name: &str) -> Vec<usize> {
    let lines = in_order(folder, name).iter().map(|file| text(file)).collect::<String>();
    lines.lines().map(|line| line.split(' ').next().and_then(|word| word.parse().ok()).expect("a number")).collect()
}

/// While messages come, files are closed, packed, opened anew, the configuration changes and the server is restarted.
#[test]
fn no_line_is_lost_or_doubled_whatever_happens_to_its_file() {
    const ROUNDS: usize = 12;
    const COUNT: usize = 4000;
    let kinds =
        ["gzip", "zstd", "none"].map(|packing| config(&format!("rotate = {{ size = \"64KiB\", compress = \"{packing}\" }}")));
    let mut server = Server::start(&kinds[0]);
    let logs = TempDir::new().expect("a folder");
    // Every server has its own folder; the files stay in one.
    let moved = |config: &str| config.replace("{dir}/logs", &logs.path().display().to_string());
    server.configure(&moved(&kinds[0]));
    server.hup();
    server.wait_for_log("reloaded");
    for round in 0..ROUNDS {
        let address = server.address("tcp");
        let sender = std::thread::spawn(move || send(address, round * COUNT, COUNT));
        match round % 4 {
            0 => {
                server.configure(&moved(&kinds[round / 4]));
                server.hup();
            }
            1 => server.signal("USR1"),
            2 => server.hup(),
            _ => {}
        }
        sender.join().expect("sent");
        if round % 4 == 3 {
            server.stop();
            server = Server::start(&moved(&kinds[round / 4]));
        }
    }
    server.stop();
    let files = listed(logs.path());
    let found = numbers(logs.path(), "a.log");
    assert_eq!(found.len(), ROUNDS * COUNT, "{files:?}");
    for round in 0..ROUNDS {
        // The beginning of one connection may come before the end of another.
        let own = round * COUNT..(round + 1) * COUNT;
        let of_round: Vec<usize> = found.iter().copied().filter(|number| own.contains(number)).collect();
        let wrong = of_round.iter().zip(own.clone()).position(|(found, expected)| *found != expected);
        assert!(of_round.iter().copied().eq(own), "round {round}: wrong from {wrong:?}: {files:?}");
    }
    assert!(files.iter().filter(|(name, _)| !name.contains(".log-2") || !name.contains('.')).count() <= 1, "{files:?}");
    assert!(files.iter().all(|(name, size)| *size <= 64 << 10 || name.ends_with(".partial")), "{files:?}");
    assert!(files.len() > ROUNDS * COUNT * 100 / (64 << 10), "{} files", files.len());
}

/// What a kill leaves of a packing is thrown away, and done again.
#[test]
fn a_kill_while_files_are_packed_costs_no_line() {
    let logs = TempDir::new().expect("a folder");
    let folder = logs.path().to_owned();
    let config = config("rotate = { size = \"1MiB\", compress = \"gzip\" }").replace("{dir}/logs", &folder.display().to_string());
    let body: String = (0..30_000).map(|number| format!("{number} {}\n", "x".repeat(number % 500))).collect();
    let name = "a.log-20260101T000000Z";
    fs::write(folder.join(name), &body).expect("written");
    let mut seen = 0;
    for _ in 0..40 {
        let server = Server::start(&config);
        wait_until("packing", || listed(&folder).keys().any(|name| name.ends_with(".gz") || name.ends_with(".partial")));
        seen += usize::from(listed(&folder).keys().any(|name| name.ends_with(".partial")));
        server.signal("KILL");
        drop(server);
        let files = listed(&folder);
        let whole = if files.contains_key(name) { name.to_owned() } else { format!("{name}.gz") };
        assert!(text(&folder.join(&whole)) == body, "{files:?}");
        if seen >= 3 && files.contains_key(name) {
            break;
        }
        fs::write(folder.join(name), &body).expect("written");
        let _ = fs::remove_file(folder.join(format!("{name}.gz")));
    }
    assert!(seen > 0, "no kill came while a file was packed");
    // As if it had ended between the two: the packed file is whole, and the other one still there.
    let server = Server::start(&config);
    let packed = format!("{name}.gz");
    wait_until("it is packed", || listed(&folder).keys().eq([&packed]));
    server.stop();
    fs::write(folder.join(name), &body).expect("written");
    let server = Server::start(&config);
    wait_until("only the packed one is left", || listed(&folder).keys().eq([&packed]));
    server.stop();
    assert!(text(&folder.join(&packed)) == body);
}

fn old(folder: &Path, name: &str, size: usize) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    fs::write(&path, vec![b'x'; size]).expect("written");
}

#[test]
fn what_is_kept_is_counted_by_number_age_and_size_and_nobody_elses_file_is_touched() {
    let logs = TempDir::new().expect("a folder");
    let folder = logs.path();
    let stamp = |days: i64| (chrono::Utc::now() - chrono::TimeDelta::days(days)).format("%Y%m%dT%H%M%SZ").to_string();
    for severity in ["err", "debug"] {
        for days in 1..=9 {
            old(folder, &format!("web1/{severity}.log-{}.gz", stamp(days)), 1000);
        }
    }
    let foreign =
        ["web1/err.log.1", "web1/notes-20200101T000000Z", "other/deep/er/err.log-20200101T000000Z", "x.log-20200101T000000Z"];
    foreign.iter().for_each(|name| old(folder, name, 1000));
    old(folder, "web2/err.log-20200101T000000Z.gz.partial", 1000);
    let config = |rotate: &str| {
        format!(
            "[[input.tcp]]\nlisten = \"127.0.0.1:0\"\n[[output.file]]\nname = \"files\"\npath = \"{}/{{hostname}}/{{severity}}.log\"\n\
             rotate = {{ every = \"day\", {rotate} }}\n[[route]]\nto = [\"files\"]\n",
            folder.display()
        )
    };
    let kept = |severity: &str| {
        let files = listed(&folder.join("web1"));
        (1..=9).filter(|days| files.contains_key(&format!("{severity}.log-{}.gz", stamp(*days))[..])).count()
    };
    // The seconds go on: names are looked up by their day.
    let by_day = |severity: &str| {
        let start = format!("{severity}.log-20");
        listed(&folder.join("web1")).keys().filter(|name| name.starts_with(&start)).count()
    };
    assert!(kept("err") <= 9);
    let server = Server::start(&config("keep-for = \"155h\", severity = { debug = { keep = 2 } }"));
    wait_until("two of debug and six of err", || (by_day("err"), by_day("debug")) == (6, 2));
    server.configure(&config("keep = 5, severity = { debug = { keep-for = \"36h\" } }"));
    server.hup();
    wait_until("five of err and one of debug", || (by_day("err"), by_day("debug")) == (5, 1));
    // The oldest of all go first, whose ever they are.
    old(folder, &format!("web3/err.log-{}.zst", stamp(30)), 500);
    server.configure(&config("keep-total = \"4000B\""));
    server.hup();
    wait_until("four are left", || by_day("err") + by_day("debug") == 4 && listed(&folder.join("web3")).is_empty());
    assert_eq!(by_day("debug"), 1, "it is one of the youngest");
    assert!(listed(&folder.join("web2")).is_empty(), "what was never packed");
    assert!(foreign.iter().all(|name| folder.join(name).exists()));
    server.stop();
}

/// In the nights in which the clocks change, midnight is where the wall says.
#[test]
fn a_day_ends_at_midnight_of_this_place() {
    if !has("faketime") {
        return;
    }
    for (zone, before, closed) in [
        ("Europe/Berlin", "2026-03-28 23:59:57", "20260328T230000Z"),
        ("Europe/Berlin", "2026-03-29 23:59:57", "20260329T220000Z"),
        ("Europe/Berlin", "2026-10-25 23:59:57", "20261025T230000Z"),
    ] {
        let server = Server::start_with(&config("rotate = { every = \"day\" }"), |command| {
            let program = command.get_program().to_owned();
            let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
            let mut faked = Command::new("faketime");
            faked.arg(before).arg(program).args(arguments).env("TZ", zone).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            faked.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
            *command = faked;
        });
        send(server.address("tcp"), 0, 10);
        // Nothing more comes: the day ends all the same.
        wait_until("the day ends", || server.files("logs").keys().any(|name| name.contains(".log-")));
        send(server.address("tcp"), 10, 10);
        wait_until("the next day's file", || server.read("logs/a.log").lines().count() == 10);
        let files = server.files("logs");
        let name = files.keys().find(|name| name.contains(".log-")).expect("a closed file");
        let second = name.rsplit_once('-').map(|(_, stamp)| stamp.to_owned()).expect("a stamp");
        assert_eq!((&second[..14], files.len()), (&closed[..14], 2), "{zone} {before}: {files:?}");
        assert_eq!(files[name].lines().count(), 10);
    }
}

/// chattr(1): what is append-only is appended to; and with `immutable` the server makes it so.
#[test]
fn append_only_and_immutable_files() {
    if !has("root") || !has("chattr") {
        return;
    }
    let chattr = |arguments: &[&str], path: &Path| {
        assert!(Command::new("chattr").args(arguments).arg(path).status().expect("chattr runs").success());
    };
    let flags = |path: &Path| {
        let out = Command::new("lsattr").arg(path).output().expect("lsattr runs");
        String::from_utf8_lossy(&out.stdout).split(' ').next().unwrap_or_default().to_owned()
    };
    let server = Server::start(&config("rotate = { size = \"4KiB\" }"));
    let logs = server.path("logs");
    fs::create_dir_all(&logs).expect("made");
    fs::write(logs.join("a.log"), "").expect("written");
    chattr(&["+a"], &logs.join("a.log"));
    send(server.address("tcp"), 0, 100);
    let lines = server.lines("logs/a.log", 100);
    let said = server.wait_for_log("cannot be rotated and is written on");
    chattr(&["-a"], &logs.join("a.log"));
    assert!(lines.iter().enumerate().all(|(i, line)| line.starts_with(&format!("{i} "))), "{said}");
    server.stop();

    let server = Server::start(&config("rotate = { size = \"4KiB\", compress = \"zstd\", keep = 3, immutable = true }"));
    let logs = server.path("logs");
    send(server.address("tcp"), 0, 30);
    server.lines("logs/a.log", 30);
    assert!(flags(&logs.join("a.log")).contains('a'));
    send(server.address("tcp"), 30, 270);
    wait_until("three closed files that nobody can change", || {
        let files: Vec<_> = listed(&logs).into_keys().filter(|name| name != "a.log").collect();
        files.len() == 3 && files.iter().all(|name| name.ends_with(".zst") && flags(&logs.join(name)).contains('i'))
    });
    let numbers = numbers(&logs, "a.log");
    assert!(numbers.len() < 300 && numbers.iter().rev().copied().eq((0..300).rev().take(numbers.len())), "{numbers:?}");
    for name in listed(&logs).into_keys() {
        chattr(&["-ai"], &logs.join(name));
    }
    server.stop();
}

fn verify(key: &Path, files: &[&Path]) -> (i32, String) {
    let out = Command::new(PENSTOCK).arg("verify").arg("--key").arg(key).args(files).output().expect("it runs");
    (out.status.code().unwrap_or(-1), String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Rotated, packed, restarted and killed: what was not touched is good, and what was is named.
#[test]
fn a_sealed_file_proves_that_nobody_has_changed_it() {
    if !has("openssl") {
        return;
    }
    let keys = TempDir::new().expect("a folder");
    let (key, public) = (keys.path().join("seal.key"), keys.path().join("seal.pub"));
    let openssl = |arguments: &[&str]| {
        assert!(Command::new("openssl").args(arguments).output().expect("openssl runs").status.success());
    };
    let (key_text, public_text) = (key.display().to_string(), public.display().to_string());
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", &key_text]);
    openssl(&["pkey", "-in", &key_text, "-pubout", "-out", &public_text]);
    let logs = TempDir::new().expect("a folder");
    let folder = logs.path();
    let sealed = config(&format!(
        "rotate = {{ size = \"64KiB\", compress = \"zstd\" }}\nseal = {{ key = \"{key_text}\", every = \"1s\" }}"
    ))
    .replace("{dir}/logs", &folder.display().to_string());
    let server = Server::start(&sealed);
    send(server.address("tcp"), 0, 2000);
    server.stop();
    // What a kill leaves is no tampering, and the next server goes on.
    let server = Server::start(&sealed);
    send(server.address("tcp"), 2000, 100);
    let live = folder.join("a.log");
    wait_until("the lines", || numbers(folder, "a.log").len() == 2100);
    server.signal("KILL");
    drop(server);
    let (code, said) = verify(&public, &[&live]);
    assert!(code == 0 && said.contains(": good: "), "{said}");
    let server = Server::start(&sealed);
    send(server.address("tcp"), 2100, 2000);
    wait_until("packed", || listed(folder).keys().filter(|name| name.ends_with("Z")).count() == 0);
    server.stop();
    assert_eq!(numbers(folder, "a.log"), (0..4100).collect::<Vec<_>>());
    let files = in_order(folder, "a.log");
    assert!(files.len() > 5, "{files:?}");
    let all: Vec<&Path> = files.iter().map(|path| path.as_path()).collect();
    for key in [&key, &public] {
        let (code, said) = verify(key, &all);
        assert_eq!((code, said.matches(": good: ").count()), (0, all.len()), "{said}");
        assert!(!said.contains("not sealed"), "{said}");
    }
    // One of the files is taken away, with its chain.
    let missing: Vec<&Path> = all.iter().copied().enumerate().filter(|(i, _)| *i != 3).map(|(_, path)| path).collect();
    let (code, said) = verify(&public, &missing);
    assert!(code == 65 && said.contains("one that stood between them is missing"), "{said}");
    let (code, said) = verify(&public, &all[1..]);
    assert_eq!(code, 0, "the oldest need not be there: {said}");
    // One line of a packed file is another.
    let text = text(&files[2]).replacen(" xxx", " xyx", 1);
    let mut encoder = zstd::Encoder::new(fs::File::create(&files[2]).expect("a file"), 3).expect("zstd");
    encoder.write_all(text.as_bytes()).expect("written");
    encoder.finish().expect("written");
    let (code, said) = verify(&public, &[&files[2]]);
    assert!(code == 65 && said.contains("NOT as it was written: line 1 was changed"), "{said}");
    // Another key has sealed nothing here.
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", &key_text]);
    let (code, said) = verify(&key, &[&live]);
    assert!(code == 65 && said.contains("sealed with another key"), "{said}");
}

/// Files made and written long before are of another day.
#[test]
fn a_quiet_files_day_ends_too() {
    let logs = TempDir::new().expect("a folder");
    let path = logs.path().join("quiet.log");
    fs::write(&path, "1\n").expect("written");
    let then = SystemTime::now() - Duration::from_secs(3 * 86400);
    fs::File::options().write(true).open(&path).expect("a file").set_modified(then).expect("set");
    let config =
        config("rotate = { every = \"day\", compress = \"gzip\" }").replace("{dir}/logs", &logs.path().display().to_string());
    let server = Server::start(&config);
    wait_until("it is closed and packed", || {
        let files = listed(logs.path());
        files.len() == 1 && files.keys().all(|name| name.ends_with("Z.gz"))
    });
    let (name, _) = listed(logs.path()).pop_first().expect("a file");
    assert_eq!(text(&logs.path().join(name)), "1\n");
    server.stop();
}

/// With nothing to do the server does nothing.
#[test]
fn a_quiet_server_sleeps() {
    if !has("openssl") {
        return;
    }
    let keys = TempDir::new().expect("a folder");
    let key = keys.path().join("seal.key");
    let made =
        Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&key).output().expect("openssl runs");
    assert!(made.status.success());
    let seal = format!("seal = {{ key = \"{}\" }}", key.display());
    for options in [seal.clone(), format!("{seal}\nrotate = {{ every = \"hour\", keep = 1 }}")] {
        let server = Server::start(&config(&options));
        send(server.address("tcp"), 0, 10);
        server.lines("logs/a.log", 10);
        // Threads that come and go count from their beginning.
        let wakes = || {
            let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs").flatten();
            let statuses = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
            let count = |status: String| {
                let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"))?.to_owned();
                line.rsplit('\t').next()?.parse::<u64>().ok()
            };
            statuses.filter_map(count).sum::<u64>()
        };
        let before = wakes();
        std::thread::sleep(Duration::from_millis(500));
        assert!(wakes() < before + 50, "{} times in half a second", wakes() - before);
        server.stop();
    }
}
