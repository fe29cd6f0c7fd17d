//! One dead, slow or hanging destination never delays another, and what was accepted arrives when it returns.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;

use common::{Server, free_port, has, listen, send_numbers as send, wait_until};

/// One input, files that must not wait, and a forward that is in trouble.
fn config(forward: &str) -> String {
    format!(
        r#"
[[input.tcp]]
listen = "127.0.0.1:0"
[metrics]
listen = "127.0.0.1:0"
[template]
line = "{{message}}"
[[output.file]]
name = "files"
path = "{{dir}}/logs/all.log"
format = "line"
[[output.forward]]
name = "up"
format = "line"
{forward}
[[route]]
to = ["files", "up"]
"#
    )
}

const COUNT: usize = 20_000;

fn numbers(from: usize, count: usize) -> Vec<String> {
    (from..from + count).map(|i| i.to_string()).collect()
}

fn read_lines(stream: TcpStream, count: usize) -> Vec<String> {
    BufReader::new(stream).lines().take(count).map(|line| line.expect("a line")).collect()
}

#[test]
fn an_upstream_that_refuses_delays_no_file_and_gets_everything_later() {
    let port = free_port();
    let server = Server::start(&config(&format!("to = [\"tcp://127.0.0.1:{port}\"]\nframing = \"newline\"")));
    send(server.address("tcp"), 0, COUNT);
    assert_eq!(server.lines("logs/all.log", COUNT), numbers(0, COUNT));
    let line = server.wait_for_log("output `up`: delivery failed");
    assert!(line.contains(&format!("tcp://127.0.0.1:{port}: Connection refused")), "{line}");
    assert_eq!(server.metric("penstock_output_failing{output=\"up\",kind=\"forward\"}"), 1);
    let upstream = listen(port);
    let (stream, _) = upstream.accept().expect("it comes");
    assert_eq!(read_lines(stream, COUNT), numbers(0, COUNT));
    server.wait_for_log("output `up`: delivers again");
}

#[test]
fn an_upstream_that_never_reads_delays_no_file() {
    let upstream = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = upstream.local_addr().expect("an address");
    let forward = format!("to = [\"tcp://{address}\"]\ntimeout = \"500ms\"");
    let server = Server::start(&config(&forward));
    // More than the kernel's buffers hold, so that writing comes to a stop.
    let (count, text) = (20_000, "x".repeat(1000));
    let mut stream = TcpStream::connect(server.address("tcp")).expect("connected");
    for _ in 0..count {
        writeln!(stream, "<14>1 - h a - - - {text}").expect("sent");
    }
    let connections: Vec<_> = (0..2).map(|_| upstream.accept().expect("it comes again and again")).collect();
    wait_until("all lines", || server.read("logs/all.log").len() == count * 1001);
    server.wait_for_log("it did not read what was sent within 0.5 s");
    drop(connections);
}

#[test]
fn an_upstream_that_never_finishes_the_handshake_delays_no_file() {
    let upstream = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = upstream.local_addr().expect("an address");
    let fingerprint = vec!["AB"; 32].join(":");
    let forward = format!("to = [\"tls://{address}\"]\npeers = [\"sha-256:{fingerprint}\"]\ntimeout = \"300ms\"");
    let server = Server::start(&config(&forward));
    send(server.address("tcp"), 0, COUNT);
    assert_eq!(server.lines("logs/all.log", COUNT).len(), COUNT);
    let _silent = upstream.accept().expect("it comes");
    server.wait_for_log("the TLS handshake was not over within 0.3 s");
}

#[test]
fn fail_over_takes_the_next_and_comes_back_to_the_first() {
    let (first, second) = (free_port(), TcpListener::bind("127.0.0.1:0").expect("a port"));
    let second_address = second.local_addr().expect("an address");
    let forward = format!("to = [\"tcp://127.0.0.1:{first}\", \"tcp://{second_address}\"]\nframing = \"newline\"");
    let server = Server::start(&config(&forward));
    send(server.address("tcp"), 0, 10);
    let (stream, _) = second.accept().expect("the second takes over");
    assert_eq!(read_lines(stream.try_clone().expect("a handle"), 10), numbers(0, 10));
    let first = TcpListener::bind(("127.0.0.1", first)).expect("still free");
    first.set_nonblocking(true).expect("an option");
    let mut sent = 10;
    let mut back = None;
    wait_until("the first has returned", || {
        send(server.address("tcp"), sent, 1);
        sent += 1;
        back = first.accept().ok();
        back.is_some()
    });
    let (stream_of_first, _) = back.expect("accepted");
    stream_of_first.set_nonblocking(false).expect("an option");
    send(server.address("tcp"), sent, 10);
    // What went to the second until then, and the rest: together everything, once.
    let mut of_second = String::new();
    let mut of_first = BufReader::new(stream_of_first).lines().map(|line| line.expect("a line"));
    let mut got: Vec<String> = Vec::new();
    while got.last().map(String::as_str) != Some(&(sent + 9).to_string()) {
        got.push(of_first.next().expect("another line"));
    }
    BufReader::new(stream).read_to_string(&mut of_second).expect("closed when it was not needed any more");
    let all: Vec<_> = of_second.lines().map(str::to_owned).chain(got).collect();
    assert_eq!(all, numbers(10, sent));
}

/// For a load balancer on the way: every hundred messages another connection, and none lost or doubled between them.
#[test]
fn a_connection_is_made_anew_after_some_messages() {
    let upstream = TcpListener::bind("127.0.0.1:0").expect("a port");
    let forward =
        format!("to = [\"tcp://{}\"]\nframing = \"newline\"\nrebind-messages = 100", upstream.local_addr().expect("an address"));
    let server = Server::start(&config(&forward));
    let readers = std::thread::spawn(move || {
        let (mut lines, mut connections) = (Vec::new(), 0);
        while lines.len() < 1_000 {
            let (stream, _) = upstream.accept().expect("it comes");
            lines.extend(BufReader::new(stream).lines().map(|line| line.expect("a line")).take(1_000 - lines.len()));
            connections += 1;
        }
        (lines, connections)
    });
    for first in (0..1_000).step_by(50) {
        send(server.address("tcp"), first, 50);
        server.lines("logs/all.log", first + 50);
    }
    let (lines, connections) = readers.join().expect("no panic");
    assert_eq!(lines, numbers(0, 1_000));
    assert!((5..=20).contains(&connections), "{connections} connections");
}

#[test]
fn round_robin_uses_all_targets() {
    let upstreams: Vec<_> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    let targets: Vec<_> = upstreams.iter().map(|up| format!("\"tcp://{}\"", up.local_addr().expect("an address"))).collect();
    let forward = format!("to = [{}]\nframing = \"newline\"\nbalance = \"round-robin\"", targets.join(", "));
    let server = Server::start(&config(&forward));
    let address = server.address("tcp");
    let readers: Vec<_> = upstreams
        .into_iter()
        .map(|upstream| std::thread::spawn(move || BufReader::new(upstream.accept().expect("its turn").0).lines().next()))
        .collect();
    let mut sent = 0;
    wait_until("both have a message", || {
        send(address, sent, 1);
        sent += 1;
        readers.iter().all(|reader| reader.is_finished())
    });
}

#[test]
fn datagrams_go_on_whole_to_65507_bytes() {
    let upstream = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let forward = format!("to = [\"udp://{}\"]", upstream.local_addr().expect("an address"));
    let server = Server::start(&config(&forward).replace("[[input.tcp]]", "[[input.tcp]]\nmax-message = \"1MiB\""));
    let mut stream = TcpStream::connect(server.address("tcp")).expect("connected");
    for length in [0, 1, 65_507, 70_000] {
        writeln!(stream, "<14>1 - h a - - - {}", "x".repeat(length)).expect("sent");
    }
    let mut bytes = vec![0; 70_000];
    for length in [0, 1, 65_507, 65_507] {
        assert_eq!(upstream.recv(&mut bytes).expect("a datagram"), length);
    }
}

#[test]
fn a_full_queue_drops_the_newest_and_sheds_the_less_severe_and_counts_both() {
    let forward = format!(
        "to = [\"tcp://127.0.0.1:{}\"]\nqueue = {{ disk = false, size = \"256KiB\", when-full = \"drop-newest\", shed = \"info\", shed-above = \"50%\" }}",
        free_port()
    );
    let server = Server::start(&config(&forward));
    send(server.address("tcp"), 0, COUNT);
    server.lines("logs/all.log", COUNT);
    let mut stream = TcpStream::connect(server.address("tcp")).expect("connected");
    let dropped = |reason: &str| {
        server.metric(&format!("penstock_dropped_messages_total{{output=\"up\",kind=\"forward\",reason=\"{reason}\"}}"))
    };
    let queued = || server.metric("penstock_queued_messages_total{output=\"up\",kind=\"forward\"}");
    assert_eq!(queued() + dropped("full") + dropped("shed"), COUNT as u64);
    assert!(dropped("shed") > 0);
    for _ in 0..5_000 {
        writeln!(stream, "<11>1 - h a - - - {}", "severe".repeat(20)).expect("sent");
    }
    wait_until("the severe fill it up", || dropped("full") > 0);
}

/// A file system of 1 MiB that is full, and then is not.
#[test]
fn a_full_disk_loses_nothing_and_stops_no_other_output() {
    if !has("root") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let small = folder.path().join("small");
    std::fs::create_dir(&small).expect("a folder");
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&small).status().expect("mount runs");
    assert!(mount.success());
    let _unmount = Unmount(small.clone());
    std::fs::write(small.join("filler"), vec![b'x'; 700 << 10]).expect("it fits");
    let server = Server::start(&format!(
        r#"
[[input.tcp]]
listen = "127.0.0.1:0"
[template]
line = "{{message}}"
[[output.file]]
name = "small"
path = "{}/{{app-name}}.log"
format = "line"
[[output.file]]
name = "other"
path = "{{dir}}/other.log"
format = "line"
[[route]]
to = ["small", "other"]
"#,
        small.display()
    ));
    let count = 120_000;
    send(server.address("tcp"), 0, count);
    wait_until("the other output has everything", || server.read("other.log").matches('\n').count() == count);
    server.wait_for_log("No space left on device");
    std::fs::remove_file(small.join("filler")).expect("removed");
    let file = small.join("a.log");
    wait_until("the small disk has everything", || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.ends_with(&format!("\n{}\n", count - 1)))
    });
    let text = std::fs::read_to_string(&file).expect("a file");
    assert!(text.lines().eq(numbers(0, count)), "every message once, whole and in order");
    server.stop();
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_stop_delivers_what_is_queued_and_says_what_it_could_not() {
    let server = Server::start(
        &config(&format!("to = [\"tcp://127.0.0.1:{}\"]\nqueue = {{ disk = false }}", free_port()))
            .replace("[metrics]", "[server]\ngrace = \"200ms\"\n[metrics]"),
    );
    send(server.address("tcp"), 0, 100);
    let files = server.path("logs/all.log");
    server.wait_for_log("output `up`: delivery failed");
    server.lines("logs/all.log", 100);
    let log = server.stop();
    assert!(log.iter().any(|line| line.contains("output `up`: 100 messages could not be delivered")), "{log:?}");
    drop(files);
}

/// More hosts than files may be open.
#[test]
fn the_least_used_file_is_closed_for_another() {
    let server = Server::start(
        r#"
[[input.tcp]]
listen = "127.0.0.1:0"
[template]
line = "{message}"
[[output.file]]
name = "files"
path = "{dir}/logs/{hostname}/{app-name}.log"
format = "line"
max-open = 5
[[route]]
to = ["files"]
"#,
    );
    let mut stream = TcpStream::connect(server.address("tcp")).expect("connected");
    for i in 0..10_000 {
        writeln!(stream, "<14>1 - host{} a - - - {i}", i % 100).expect("sent");
    }
    let whole = |files: &std::collections::HashMap<String, String>| {
        files.values().map(|text| text.matches('\n').count()).sum::<usize>() == 10_000
    };
    wait_until("all lines", || whole(&server.files("logs")));
    let files = server.files("logs");
    assert_eq!(files.len(), 100);
    assert!(files["host7/a.log"].lines().eq((0..100).map(|i| (i * 100 + 7).to_string())));
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("a folder").count();
    assert!(open < 60, "{open} descriptors are open");
}

/// The sender of what is blocked waits, and only it: others on the same thread, a reload and a stop go on.
#[test]
fn a_queue_that_blocks_holds_up_its_own_senders_only() {
    let server = Server::start(&format!(
        r#"
[server]
threads = 1
grace = "300ms"
[[input.tcp]]
listen = "127.0.0.1:0"
[metrics]
listen = "127.0.0.1:0"
[[output.file]]
name = "files"
path = "{{dir}}/all.log"
[[output.forward]]
name = "up"
to = ["tcp://127.0.0.1:{}"]
queue = {{ size = "1MiB", when-full = "block" }}
[[route]]
where = 'app-name == "up"'
to = ["up"]
final = true
[[route]]
to = ["files"]
"#,
        free_port()
    ));
    let mut blocked = TcpStream::connect(server.address("tcp")).expect("connected");
    blocked.set_write_timeout(Some(std::time::Duration::from_millis(300))).expect("an option");
    let line = format!("<14>1 - h up - - - {}\n", "x".repeat(1000));
    while blocked.write_all(line.as_bytes()).is_ok() {}
    send(server.address("tcp"), 0, 10);
    server.lines("all.log", 10);
    server.hup();
    server.wait_for_log("reloaded");
    send(server.address("tcp"), 10, 10);
    server.lines("all.log", 20);
    assert_eq!(server.metric("penstock_dropped_messages_total{output=\"up\",kind=\"forward\",reason=\"full\"}"), 0);
    let log = server.stop();
    assert!(log.iter().any(|line| line.contains("output `up`") && line.contains("are lost")), "{log:?}");
}

/// One file on a disk that is full, another on one that is not, in the same output.
#[test]
fn a_file_that_cannot_be_written_keeps_no_other_of_its_output_waiting() {
    if !has("root") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let full = folder.path().join("full");
    std::fs::create_dir(&full).expect("a folder");
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4k", "tmpfs"]).arg(&full).status().expect("mount runs");
    assert!(mount.success());
    let _unmount = Unmount(full.clone());
    std::fs::write(full.join("filler"), vec![b'x'; 4096]).expect("it fits");
    let server = Server::start(&format!(
        "[[input.tcp]]\nlisten = \"127.0.0.1:0\"\n[[output.file]]\nname = \"files\"\npath = \"{}/{{hostname}}/{{app-name}}.log\"\n[[route]]\nto = [\"files\"]\n",
        folder.path().display()
    ));
    let mut stream = TcpStream::connect(server.address("tcp")).expect("connected");
    writeln!(stream, "<14>1 - full a - - - x").expect("sent");
    server.wait_for_log("No space left on device");
    writeln!(stream, "<14>1 - good a - - - y").expect("sent");
    wait_until("the neighbour is written", || folder.path().join("good/a.log").exists());
    std::fs::remove_file(full.join("filler")).expect("removed");
    wait_until("the full one is written", || std::fs::read_to_string(full.join("a.log")).is_ok_and(|text| text.ends_with("x\n")));
}

#[test]
fn lines_go_to_the_standard_output() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("stdout");
    let file = std::fs::File::create(&path).expect("a file");
    let config = "[[input.tcp]]\nlisten = \"127.0.0.1:0\"\n[[output.stdout]]\nname = \"out\"\nformat = \"raw\"\n[[route]]\nto = [\"out\"]\n";
    let server = Server::start_with(config, |command| {
        command.stdout(file);
    });
    send(server.address("tcp"), 0, 2);
    wait_until("two lines", || {
        std::fs::read_to_string(&path).is_ok_and(|text| text == "<14>1 - h a - - - 0\n<14>1 - h a - - - 1\n")
    });
    server.stop();
}
