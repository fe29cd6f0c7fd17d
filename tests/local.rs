//! What is of this host: true senders, the kernel's messages, the journal; pipes, programs and terminals as outputs.

mod common;

use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Server, has, send_numbers, wait_until};

const COUNT: usize = 5000;

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|i| i.to_string()).collect()
}

/// One input and two outputs of which one is in trouble.
fn config(output: &str) -> String {
    format!(
        r#"
[server]
state-dir = "{{dir}}/state"
[[input.tcp]]
listen = "127.0.0.1:0"
[metrics]
listen = "127.0.0.1:0"
[template]
line = "{{message}}"
[[output.file]]
name = "files"
path = "{{dir}}/all.log"
format = "line"
{output}
format = "line"
[[route]]
to = ["files", "out"]
"#
    )
}

#[test]
fn the_kernel_says_who_has_sent() {
    let server = Server::start(
        r#"
[[input.unix]]
listen = "{dir}/datagrams"
[[input.unix]]
listen = "{dir}/stream"
kind = "stream"
[template]
line = "{sender-pid} {sender-uid} {sender-program} forged={forged} {message}"
[[output.file]]
name = "files"
path = "{dir}/{input}.log"
format = "line"
[[output.file]]
name = "forged"
path = "{dir}/forged.log"
format = "line"
[[route]]
where = 'forged == "true"'
to = ["forged"]
[[route]]
to = ["files"]
"#,
    );
    let (pid, uid) = (std::process::id(), Command::new("id").arg("-u").output().expect("id runs").stdout);
    let uid = String::from_utf8_lossy(&uid).trim().to_owned();
    let program = std::fs::read_to_string("/proc/self/comm").expect("a name");
    let expected = |forged: &str, text: &str| format!("{pid} {uid} {} forged={forged} {text}", program.trim());
    let socket = UnixDatagram::unbound().expect("a socket");
    for text in [format!("<13>Nov 21 10:14:15 app[{pid}]: true"), "<13>Nov 21 10:14:15 app[1]: not mine".to_owned()] {
        socket.send_to(text.as_bytes(), server.path("datagrams")).expect("sent");
    }
    let mut stream = UnixStream::connect(server.path("stream")).expect("connected");
    stream.write_all(b"<13>Nov 21 10:14:15 app: by stream\n").expect("sent");
    drop(stream);
    assert_eq!(server.lines("unix-2.log", 1), [expected("", "by stream")]);
    assert_eq!(server.lines("forged.log", 1), [expected("true", "not mine")]);
    // It goes to both files: its route is not final.
    assert_eq!(server.lines("unix.log", 2), [expected("", "true"), expected("true", "not mine")]);
}

/// Whoever may write to the socket may also send descriptors, which nobody would close.
#[test]
fn descriptors_that_come_with_a_message_are_not_kept() {
    use sendfd::SendWithFd;
    use std::os::fd::AsRawFd;
    let server = Server::start(
        r#"
[[input.unix]]
listen = "{dir}/log"
[template]
line = "{message}"
[[output.file]]
name = "files"
path = "{dir}/all.log"
format = "line"
[[route]]
to = ["files"]
"#,
    );
    let open = || std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("a folder").count();
    let socket = UnixDatagram::unbound().expect("a socket");
    socket.connect(server.path("log")).expect("connected");
    socket.send(b"<13>first").expect("sent");
    server.lines("all.log", 1);
    let before = open();
    for _ in 0..20 {
        socket.send_with_fd(b"<13>more", &[socket.as_raw_fd(); 4]).expect("sent");
    }
    server.lines("all.log", 21);
    assert!(open() <= before + 1, "{} descriptors, before {before}", open());
}

#[test]
fn a_pipe_that_nobody_reads_delays_no_file_and_gives_everything_later() {
    if !has("mkfifo") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("it runs").success());
    let output = format!("[[output.pipe]]\nname = \"out\"\npath = \"{}\"", pipe.display());
    let server = Server::start(&config(&output));
    // More than a pipe holds.
    send_numbers(server.address("tcp"), 0, COUNT * 4);
    assert_eq!(server.lines("all.log", COUNT * 4), numbers(COUNT * 4));
    let expected: String = numbers(COUNT * 4).iter().map(|number| format!("{number}\n")).collect();
    let mut read = vec![0; expected.len()];
    std::fs::File::open(&pipe).and_then(|mut pipe| pipe.read_exact(&mut read)).expect("read");
    assert!(read == expected.as_bytes(), "every line, once and in order");
    server.stop();
}

/// It acknowledges each line; it is killed in the middle of them.
#[test]
fn a_program_that_is_killed_is_started_again_and_misses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (script, taken) = (folder.path().join("script"), folder.path().join("taken"));
    let text = "echo $$ >\"$0.pid\"; echo OK; while read -r line; do echo \"$line\" >>\"$1\"; echo OK; done";
    std::fs::write(&script, text).expect("written");
    let output = format!(
        "[[output.program]]\nname = \"out\"\nacknowledge = true\ncommand = [\"/bin/sh\", \"{}\", \"{}\"]",
        script.display(),
        taken.display()
    );
    let server = Server::start(&config(&output));
    let lines = || std::fs::read_to_string(&taken).unwrap_or_default();
    send_numbers(server.address("tcp"), 0, COUNT);
    for least in [100, 1000] {
        wait_until("it takes some", || lines().lines().count() > least);
        let pid = std::fs::read_to_string(script.with_extension("pid")).expect("its number");
        assert!(Command::new("kill").args(["-KILL", pid.trim()]).status().expect("kill runs").success());
        wait_until("it is another", || {
            std::fs::read_to_string(script.with_extension("pid")).is_ok_and(|now| now != pid && !now.is_empty())
        });
    }
    wait_until("it has all", || lines().lines().last() == Some(&(COUNT - 1).to_string()));
    // One that it had written when it was killed, and had not acknowledged, comes again.
    let mut all: Vec<_> = lines().lines().map(str::to_owned).collect();
    assert!(all.len() <= COUNT + 2, "{}", all.len());
    all.dedup();
    assert_eq!(all, numbers(COUNT));
    assert!(server.log().iter().any(|line| line.contains("output `out`: delivery failed")), "{:?}", server.log());
    server.stop();
}

#[test]
fn a_program_that_cannot_be_started_is_named() {
    let server = Server::start(&config("[[output.program]]\nname = \"out\"\ncommand = [\"/nonexistent/program\"]"));
    send_numbers(server.address("tcp"), 0, 10);
    let line = server.wait_for_log("output `out`: delivery failed");
    assert!(line.contains("/nonexistent/program: No such file or directory"), "{line}");
    assert_eq!(server.lines("all.log", 10), numbers(10));
}

const KERNEL: &str = r#"
[server]
state-dir = "{dir}/state"
[[input.kmsg]]
[template]
line = "{facility}.{severity} {app-name} {message}"
[[output.file]]
name = "files"
path = "{dir}/all.log"
format = "line"
[[route]]
to = ["files"]
"#;

/// The position is kept: after a restart nothing comes again, and what was written meanwhile is there.
#[test]
fn the_kernels_messages_are_read_once() {
    if !has("root") || !has("/dev/kmsg") {
        return;
    }
    let token = format!("penstock-test-{}", std::process::id());
    let say = |text: &str| std::fs::write("/dev/kmsg", format!("<12>{token}: {text}\n")).expect("written");
    let server = Server::start(KERNEL);
    let mine = |server: &Server| {
        let text = server.read("all.log");
        let lines = text.lines().filter(|line| line.contains(&token)).map(str::to_owned);
        lines.collect::<Vec<_>>()
    };
    say("first");
    wait_until("it is read", || mine(&server).len() == 1);
    assert_eq!(mine(&server), [format!("user.warning {token} first")]);
    let folder = server.path("");
    let kept = tempfile::tempdir().expect("a folder");
    server.signal("TERM");
    wait_until("the position is written", || folder.join("state/positions/kmsg.kmsg").exists() && !server.is_running());
    std::fs::create_dir_all(kept.path().join("state/positions")).expect("made");
    std::fs::copy(folder.join("state/positions/kmsg.kmsg"), kept.path().join("state/positions/kmsg.kmsg")).expect("copied");
    drop(server);
    say("second");
    let server = Server::start(&KERNEL.replace("{dir}/state", &kept.path().join("state").display().to_string()));
    wait_until("it goes on", || mine(&server).len() == 1);
    assert_eq!(mine(&server), [format!("user.warning {token} second")]);
    server.stop();
}

const REMOTE: &str = "/usr/lib/systemd/systemd-journal-remote";

/// Appends entries to a journal of the test's own.
fn append(journal: &Path, numbers: std::ops::Range<usize>) {
    let mut child = Command::new(REMOTE)
        .arg("-o")
        .arg(journal)
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    let mut input = child.stdin.take().expect("it is piped");
    for number in numbers {
        let micros = 1_795_256_055_000_000u64 + number as u64;
        let machine = "4b2f3b0d8a0e4d63a3b3b8a9a6d0c001";
        writeln!(
            input,
            "__REALTIME_TIMESTAMP={micros}\n__MONOTONIC_TIMESTAMP={number}\n_BOOT_ID={machine}\n_MACHINE_ID={machine}\nPRIORITY=3\n\
             SYSLOG_FACILITY=4\nSYSLOG_IDENTIFIER=sshd\n_PID=77\n_UID=0\n_GID=0\n_SYSTEMD_UNIT=ssh.service\nMESSAGE={number}\n"
        )
        .expect("written");
    }
    drop(input);
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn the_journal_is_read_once_and_followed() {
    if !has("journalctl") || !has(REMOTE) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("journal");
    std::fs::create_dir(&journal).expect("made");
    let file = journal.join("test.journal");
    append(&file, 0..500);
    let config = |state: &Path| {
        format!(
            r#"
[server]
state-dir = "{}"
[[input.journal]]
directory = "{}"
from = "beginning"
[template]
line = "{{facility}}.{{severity}} {{app-name}} {{proc-id}} {{sender-pid}} {{sender-unit}} {{message}}"
[[output.file]]
name = "files"
path = "{{dir}}/all.log"
format = "line"
[[route]]
to = ["files"]
"#,
            state.display(),
            journal.display()
        )
    };
    let state = folder.path().join("state");
    let expected = |numbers: std::ops::Range<usize>| {
        numbers.map(|number| format!("auth.err sshd 77 77 ssh.service {number}")).collect::<Vec<_>>()
    };
    let server = Server::start(&config(&state));
    assert_eq!(server.lines("all.log", 500), expected(0..500));
    append(&file, 500..600);
    assert_eq!(server.lines("all.log", 600), expected(0..600));
    server.stop();
    append(&file, 600..700);
    let server = Server::start(&config(&state));
    assert_eq!(server.lines("all.log", 100), expected(600..700));
    server.stop();
}

const FILES: &str = r#"
[server]
state-dir = "{dir}/state"
[[input.file]]
path = ["{dir}/in/*.log"]
app-name = "app"
facility = "local3"
severity = "info"
max-message = "1KiB"
[template]
line = "{facility}.{severity} {app-name} {message}"
[[output.file]]
name = "files"
path = "{dir}/all.log"
format = "line"
control-characters = "keep"
[[route]]
to = ["files"]
"#;

fn append_lines(path: &Path, numbers: std::ops::Range<usize>) {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("opened");
    numbers.for_each(|number| writeln!(file, "{number}").expect("written"));
}

fn shown(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("local3.info app {number}")).collect()
}

#[test]
fn files_are_followed_through_their_rotation() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = FILES.replace("{dir}/state", &format!("{}/state", folder.path().display()));
    let config = config.replace("{dir}/in", &format!("{}/in", folder.path().display()));
    let path = folder.path().join("in/a.log");
    std::fs::create_dir(path.parent().expect("it has one")).expect("made");
    append_lines(&path, 0..100);
    let server = Server::start(&config);
    assert_eq!(server.lines("all.log", 100), shown(0..100));
    // By another name, and a new file; its program goes on with the old one for a while.
    std::fs::rename(&path, path.with_extension("log.1")).expect("renamed");
    append_lines(&path.with_extension("log.1"), 100..150);
    wait_until("the old one is read", || server.read("all.log").lines().count() == 150);
    append_lines(&path, 150..200);
    wait_until("the new one is read", || server.read("all.log").lines().count() == 200);
    // copytruncate
    std::fs::copy(&path, path.with_extension("log.2")).expect("copied");
    std::fs::File::create(&path).expect("truncated");
    append_lines(&path, 200..210);
    assert_eq!(server.lines("all.log", 210), shown(0..210));
    server.stop();
    // While nobody reads: more, another name, a new file.
    append_lines(&path, 210..220);
    std::fs::rename(&path, path.with_extension("log.3")).expect("renamed");
    append_lines(&path, 220..230);
    let server = Server::start(&config);
    let mut lines = server.lines("all.log", 20);
    lines.sort();
    assert_eq!(lines, shown(210..230));
    server.stop();
}

#[test]
fn a_message_of_many_lines_begins_where_the_pattern_says() {
    let config = FILES.replace("app-name =", "start = '^[0-9]{4}-'\napp-name =");
    let server = Server::start(&config);
    std::fs::create_dir(server.path("in")).expect("made");
    let text =
        "2026-11-21 one\n2026-11-21 boom\nTraceback (most recent call last):\n  File \"x\"\nZeroDivisionError\n2026-11-21 last\n";
    std::fs::write(server.path("in/a.log"), text).expect("written");
    let expected = text.replace("2026", "local3.info app 2026");
    wait_until("all three are there", || server.read("all.log") == expected);
    std::fs::write(server.path("in/b.log"), format!("2026-11-21 {}\n", "x".repeat(5000))).expect("written");
    wait_until("it is cut", || server.read("all.log").len() > expected.len());
    assert!(server.read("all.log").lines().last().is_some_and(|line| line.len() < 1100), "{}", server.read("all.log"));
}

#[test]
fn files_may_have_another_encoding() {
    let config = FILES.replace("app-name =", "encoding = \"utf-16le\"\napp-name =");
    let server = Server::start(&config);
    std::fs::create_dir(server.path("in")).expect("made");
    let text = "\u{FEFF}Grüße, Ċ and 日本\r\ntwo\r\n";
    let octets: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(server.path("in/a.log"), octets).expect("written");
    assert_eq!(server.lines("all.log", 2), ["local3.info app Grüße, Ċ and 日本", "local3.info app two"]);
}
