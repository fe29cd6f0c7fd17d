//! Queues on disk, from outside: what was accepted survives kills, stops, full disks and changed configurations.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{PENSTOCK, Server, TempDir, free_port, has, listen, send_numbers as send, wait_until};

/// One input, one upstream, and a state folder that outlives the server.
fn config(state: &Path, port: u16, framing: &str, queue: &str) -> String {
    format!(
        r#"
[server]
state-dir = "{}"
[[input.tcp]]
listen = "127.0.0.1:0"
[metrics]
listen = "127.0.0.1:0"
[template]
line = "{{message}}"
[[output.forward]]
name = "up"
to = ["tcp://127.0.0.1:{port}"]
format = "line"
framing = "{framing}"
queue = {{ {queue} }}
[[route]]
to = ["up"]
"#,
        state.display()
    )
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|i| i.to_string()).collect()
}

/// The lines that come to the port, over as many connections as it takes.
fn arriving(port: u16, count: usize) -> Vec<String> {
    let listener = listen(port);
    let mut lines = Vec::new();
    while lines.len() < count {
        let (stream, _) = listener.accept().expect("it comes");
        lines.extend(BufReader::new(stream).lines().map_while(Result::ok).take(count - lines.len()));
    }
    lines
}

fn on_disk(server: &Server) -> u64 {
    server.metric("penstock_queue_disk_messages{output=\"up\",kind=\"forward\"}")
}

fn queue(state: &Path, arguments: &[&str]) -> Output {
    Command::new(PENSTOCK).arg("queue").args(arguments).arg("--state-dir").arg(state).output().expect("penstock runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn text_lines(bytes: &[u8]) -> Vec<String> {
    text(bytes).lines().map(str::to_owned).collect()
}

const COUNT: usize = 20_000;

fn kill(server: &mut Server) {
    server.signal("KILL");
    server.wait();
}

#[test]
fn what_is_on_disk_survives_kills_and_arrives_once_and_in_order() {
    let (state, port) = (TempDir::new().expect("a folder"), free_port());
    let mut sent = 0;
    for options in ["", "mode = \"always\"", "mode = \"always\", sync = \"batch\"", "segment = \"64KiB\""] {
        let mut server = Server::start(&config(state.path(), port, "newline", options));
        send(server.address("tcp"), sent, COUNT);
        sent += COUNT;
        wait_until("everything is on disk", || on_disk(&server) == sent as u64);
        kill(&mut server);
    }
    let server = Server::start(&config(state.path(), port, "newline", ""));
    server.wait_for_log(&format!("output `up`: {sent} messages"));
    assert_eq!(arriving(port, sent), numbers(0..sent));
    wait_until("the disk is empty", || on_disk(&server) == 0);
    assert_eq!(server.metric("penstock_dropped_messages_total{output=\"up\",kind=\"forward\",reason=\"missing\"}"), 0);
}

#[test]
fn a_stop_leaves_the_backlog_and_the_next_start_delivers_it() {
    let (state, port) = (TempDir::new().expect("a folder"), free_port());
    let server = Server::start(&config(state.path(), port, "newline", ""));
    send(server.address("tcp"), 0, COUNT);
    let log = server.stop();
    assert!(log.iter().all(|line| !line.contains("lost")), "{log:?}");
    let listed = text(&queue(state.path(), &["list"]).stdout);
    assert!(listed.lines().nth(1).is_some_and(|line| line.starts_with("up ") && line.contains(" 20000 ")), "{listed}");
    let server = Server::start(&config(state.path(), port, "newline", ""));
    assert_eq!(arriving(port, COUNT), numbers(0..COUNT));
    wait_until("the disk is empty", || on_disk(&server) == 0);
    server.stop();
    assert!(text(&queue(state.path(), &["list"]).stdout).contains(" 0 "), "an empty queue");
}

/// An upstream that takes the connection and reads nothing: memory stays bounded, and everything comes when it reads.
#[test]
fn what_an_upstream_does_not_read_goes_to_the_disk() {
    let (state, upstream) = (TempDir::new().expect("a folder"), TcpListener::bind("127.0.0.1:0").expect("a port"));
    let port = upstream.local_addr().expect("an address").port();
    let server =
        Server::start(&config(state.path(), port, "newline", "").replace("to = [\"tcp", "timeout = \"1h\"\nto = [\"tcp"));
    let (count, padding) = (300_000, "x".repeat(300));
    let mut stream = TcpStream::connect(server.address("tcp")).expect("connected");
    let text: String = (0..count).map(|i| format!("<14>1 - h a - - - {i} {padding}\n")).collect();
    stream.write_all(text.as_bytes()).expect("sent");
    wait_until("most is on disk", || on_disk(&server) > count / 2);
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kib: u64 = peak.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number");
    assert!(kib < 100 << 10, "{kib} KiB");
    let (stream, _) = upstream.accept().expect("it comes");
    for (i, line) in BufReader::new(stream).lines().take(count as usize).enumerate() {
        let line = line.expect("a line");
        assert_eq!(line.split(' ').next(), Some(i.to_string().as_str()));
    }
}

#[test]
fn what_waits_takes_the_framing_of_the_new_configuration() {
    let (state, port) = (TempDir::new().expect("a folder"), free_port());
    let server = Server::start(&config(state.path(), port, "octet-counted", ""));
    send(server.address("tcp"), 0, 100);
    server.stop();
    let exported = text(&queue(state.path(), &["export", "up"]).stdout);
    assert!(exported.starts_with("1 01 11 2"), "octet for octet as it would be sent: {exported}");
    let server = Server::start(&config(state.path(), port, "newline", ""));
    send(server.address("tcp"), 100, 100);
    assert_eq!(arriving(port, 200), numbers(0..200));
}

#[test]
fn a_queue_whose_output_is_gone_is_named_shown_and_dropped() {
    let (state, port) = (TempDir::new().expect("a folder"), free_port());
    let with = config(state.path(), port, "newline", "");
    let server = Server::start(&with);
    send(server.address("tcp"), 0, 100);
    let in_use = queue(state.path(), &["drop", "up"]);
    assert_eq!(in_use.status.code(), Some(69), "{}", text(&in_use.stderr));
    server.stop();
    let without = with.replace("name = \"up\"", "name = \"other\"").replace("to = [\"up\"]", "to = [\"other\"]");
    let server = Server::start(&without);
    server.wait_for_log("the queue of forward output `up` is on disk, and the configuration has no such output");
    let shown = queue(state.path(), &["show", "up", "--first", "2"]);
    assert_eq!(text(&shown.stdout), "0 info  0\\n\n1 info  1\\n\n");
    let typo = queue(state.path(), &["show", "upp"]);
    assert!(text(&typo.stderr).contains("did you mean `up`?"), "{}", text(&typo.stderr));
    assert_eq!(typo.status.code(), Some(64));
    assert!(queue(state.path(), &["drop", "up"]).status.success());
    assert!(!text(&queue(state.path(), &["list"]).stdout).contains("up "));
}

#[test]
fn a_second_server_is_refused_the_queue() {
    let state = TempDir::new().expect("a folder");
    let config_text = config(state.path(), free_port(), "newline", "");
    let _first = Server::start(&config_text);
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("second.toml");
    std::fs::write(&path, config_text).expect("written");
    let second = Command::new(PENSTOCK).args(["run", "--config"]).arg(&path).output().expect("it ends");
    assert_eq!(second.status.code(), Some(73));
    assert!(text(&second.stderr).contains("another server uses it"), "{}", text(&second.stderr));
}

#[test]
fn above_a_mark_the_less_severe_are_not_put_on_disk() {
    let (state, port) = (TempDir::new().expect("a folder"), free_port());
    let options = "size = \"1MiB\", shed = \"info\", shed-above = \"20%\"";
    let server = Server::start(&config(state.path(), port, "newline", options));
    send(server.address("tcp"), 0, COUNT);
    let shed = || server.metric("penstock_dropped_messages_total{output=\"up\",kind=\"forward\",reason=\"shed\"}");
    wait_until("all are accounted for", || on_disk(&server) + shed() == COUNT as u64);
    let before = shed();
    send(server.address("tcp"), COUNT, 100);
    wait_until("what comes now is not taken", || shed() == before + 100);
    let mut stream = TcpStream::connect(server.address("tcp")).expect("connected");
    let before = on_disk(&server);
    writeln!(stream, "<11>1 - h a - - - severe").expect("sent");
    wait_until("the severe one is on disk", || on_disk(&server) == before + 1);
}

/// A file system of its own that is easily full; unmounted when dropped.
struct Tmpfs(PathBuf, TempDir);

impl Tmpfs {
    fn new(size: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("small");
        std::fs::create_dir(&path).expect("made");
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(&path).status();
        assert!(mounted.expect("mount runs").success());
        Self(path, folder)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = (Command::new("umount").arg("-l").arg(&self.0).status(), &self.1);
    }
}

/// The disk is full at a stop: what is lost is said, and nothing else.
#[test]
fn a_stop_with_a_full_disk_says_what_is_lost() {
    if !has("root") {
        return;
    }
    let (state, port) = (Tmpfs::new("4M"), free_port());
    let server = Server::start(&config(&state.0, port, "newline", "size = \"1GiB\", segment = \"1MiB\""));
    let (count, padding) = (40_000, "x".repeat(200));
    let mut stream = TcpStream::connect(server.address("tcp")).expect("connected");
    let text: String = (0..count).map(|i| format!("<14>1 - h a - - - {i} {padding}\n")).collect();
    stream.write_all(text.as_bytes()).expect("sent");
    server.wait_for_log("its queue on disk takes no more: No space left on device");
    let log = server.stop();
    let lost = log.iter().find(|line| line.contains("messages could not be delivered before the stop and are lost"));
    let lost = lost.unwrap_or_else(|| panic!("{log:?}")).split("`: ").nth(1).and_then(|rest| rest.split(' ').next());
    let lost: usize = lost.and_then(|number| number.parse().ok()).expect("a number");
    assert!(!log.iter().any(|line| line.contains("everything")), "{log:?}");
    let shown = queue(&state.0, &["export", "up"]);
    let kept = text_lines(&shown.stdout);
    assert_eq!((kept.len() + lost, kept.first().map(String::as_str)), (count, Some(format!("0 {padding}").as_str())));
}

/// The disk is full, then it is not: what fits in disk and memory is kept, the rest is dropped and counted, nothing that was
/// kept is lost or comes twice, and the process goes on.
#[test]
fn a_full_disk_stops_nothing_and_what_did_not_fit_is_counted() {
    if !has("root") {
        return;
    }
    let (state, port) = (Tmpfs::new("4M"), free_port());
    let server = Server::start(&config(&state.0, port, "newline", "size = \"1GiB\", segment = \"1MiB\""));
    let (count, padding) = (100_000, "x".repeat(200));
    let mut stream = TcpStream::connect(server.address("tcp")).expect("connected");
    for i in 0..count {
        writeln!(stream, "<14>1 - h a - - - {i} {padding}").expect("sent");
    }
    stream.shutdown(Shutdown::Write).expect("open");
    stream.read_to_end(&mut Vec::new()).expect("closed in order");
    server.wait_for_log("its queue on disk takes no more: No space left on device");
    let dropped = "penstock_dropped_messages_total{output=\"up\",kind=\"forward\",reason=\"full\"}";
    let queued = "penstock_queued_messages_total{output=\"up\",kind=\"forward\"}";
    wait_until("all are accounted for", || server.metric(dropped) + server.metric(queued) == count);
    let kept = server.metric(queued) as usize;
    assert!(server.metric(dropped) > 0 && kept > 20_000, "{kept} kept");
    let lines = arriving(port, kept);
    let got: Vec<usize> = lines.iter().map(|line| line.split(' ').next().expect("a number").parse().expect("a number")).collect();
    assert!(got.windows(2).all(|pair| pair[0] < pair[1]), "in order, and none twice");
    wait_until("the disk is empty", || on_disk(&server) == 0);
}

/// In memory, and on disk through a restart.
#[test]
fn what_is_not_delivered_before_its_deadline_is_kept_with_the_reason() {
    let (state, port) = (TempDir::new().expect("a folder"), free_port());
    let letters = state.path().join("dead-letters/forward.up.jsonl");
    let kept = || std::fs::read_to_string(&letters).unwrap_or_default();
    let server = Server::start(&config(state.path(), port, "newline", ""));
    send(server.address("tcp"), 0, 3);
    wait_until("they are on disk", || on_disk(&server) == 3);
    server.stop();
    assert_eq!(kept(), "");

    let server = Server::start(&config(state.path(), port, "newline", "deadline = \"1s\""));
    send(server.address("tcp"), 3, 3);
    wait_until("six letters", || kept().lines().count() == 6);
    for (number, letter) in kept().lines().enumerate() {
        let end = format!("\"reason\":\"not delivered within 1 s\",\"severity\":\"info\",\"message\":\"{number}\"}}");
        assert!(letter.ends_with(&end) && letter.contains("\"accepted\":\"20"), "{letter}");
    }
    let expired = "penstock_dropped_messages_total{output=\"up\",kind=\"forward\",reason=\"expired\"}";
    wait_until("they are counted", || server.metric(expired) == 6);
    wait_until("nothing waits", || {
        on_disk(&server) == 0 && server.metric("penstock_queue_bytes{output=\"up\",kind=\"forward\"}") == 0
    });
    // A reload without the deadline, into another file.
    server.configure(&config(state.path(), port, "newline", "dead-letters = \"{dir}/elsewhere\""));
    server.hup();
    server.wait_for_log("reloaded");
    send(server.address("tcp"), 6, 1);
    assert_eq!(arriving(port, 1), ["6"]);
    assert!(text(&queue(state.path(), &["list"]).stdout).contains("dead letters in "));
}
