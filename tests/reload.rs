//! HUP: everything that is equal stays, nothing is lost, and what is wrong changes nothing.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::{Server, wait_until};

const CONFIG: &str = r#"
[[input.tcp]]
listen = "127.0.0.1:0"
[[input.udp]]
listen = "127.0.0.1:0"
[metrics]
listen = "127.0.0.1:0"
[template]
line = "{message}"
[[output.file]]
name = "files"
path = "{dir}/logs/{app-name}.log"
format = "line"
[[route]]
to = ["files"]
"#;

/// Another output comes and goes, the format and the folder modes change: queues, sockets and connections must stay.
const CHANGED: &str = r#"
[[input.tcp]]
listen = "127.0.0.1:0"
timezone = "utc"
[[input.udp]]
listen = "127.0.0.1:0"
[[input.udp]]
name = "another"
listen = "127.0.0.1:0"
[metrics]
listen = "127.0.0.1:0"
[template]
line = "{message}"
[[output.discard]]
name = "nowhere"
[[output.file]]
name = "files"
path = "{dir}/logs/{app-name}.log"
format = "line"
dir-mode = "0755"
max-open = 3
[[route]]
select = "mail.*"
to = ["nowhere"]
[[route]]
to = ["files"]
"#;

const CONNECTIONS: usize = 4;
const EACH: usize = 250_000;

/// A tenth of the messages is sent with each reload at the least.
fn load(mut stream: TcpStream, connection: usize, hups: &AtomicUsize) {
    let mut buffer = Vec::with_capacity(1 << 16);
    for i in 0..EACH {
        if i % (EACH / 10) == 0 {
            wait_until("the next reload", || hups.load(Ordering::Relaxed) >= i / (EACH / 10));
        }
        writeln!(buffer, "<14>1 - host app{connection} - - - {i}").expect("memory");
        if buffer.len() > 60_000 || i + 1 == EACH {
            stream.write_all(&buffer).expect("the connection stays");
            buffer.clear();
        }
    }
    stream.shutdown(std::net::Shutdown::Write).expect("still open");
    // The server closes when it has everything.
    stream.read_to_end(&mut Vec::new()).expect("closed in order");
}

#[test]
fn a_million_messages_arrive_exactly_once_while_hup_is_sent_every_100_ms() {
    let server = Server::start(CONFIG);
    let address = server.address("tcp");
    let (done, hups) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..CONNECTIONS)
            .map(|i| {
                scope.spawn({
                    let hups = &hups;
                    move || load(TcpStream::connect(address).expect("connected"), i, hups)
                })
            })
            .collect();
        let reloader = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                server.configure(if hups.load(Ordering::Relaxed) % 2 == 0 { CHANGED } else { CONFIG });
                server.hup();
                hups.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        senders.into_iter().for_each(|sender| sender.join().expect("no panic"));
        done.store(true, Ordering::Relaxed);
        reloader.join().expect("no panic");
    });
    assert!(server.metric("penstock_reloads_total{result=\"applied\"}") >= 3);
    assert_eq!(server.metric("penstock_reloads_total{result=\"refused\"}"), 0);
    assert_eq!(server.metric("penstock_received_messages_total{input=\"tcp\",kind=\"tcp\"}"), (CONNECTIONS * EACH) as u64);
    for connection in 0..CONNECTIONS {
        let file = format!("logs/app{connection}.log");
        wait_until("the last message", || server.read(&file).ends_with(&format!("\n{}\n", EACH - 1)));
        let text = server.read(&file);
        assert!(text.lines().eq((0..EACH).map(|i| i.to_string())), "{file}: every message once, and in order");
    }
    let log = server.stop();
    assert!(log.iter().any(|line| line.contains("everything is delivered")), "{log:?}");
}

#[test]
fn a_wrong_configuration_changes_nothing() {
    let server = Server::start(CONFIG);
    let mut stream = TcpStream::connect(server.address("tcp")).expect("connected");
    writeln!(stream, "<14>1 - h app - - - before").expect("sent");
    server.lines("logs/app.log", 1);
    server.configure(&CONFIG.replace("to = [\"files\"]", "to = [\"fils\"]"));
    server.hup();
    server.wait_for_log("did you mean `files`?");
    server.wait_for_log("the old one stays in force");
    writeln!(stream, "<14>1 - h app - - - after").expect("the connection stays");
    assert_eq!(server.lines("logs/app.log", 2), ["before", "after"]);
    assert_eq!(server.metric("penstock_reloads_total{result=\"refused\"}"), 1);
}

#[test]
fn files_are_opened_anew_for_logrotate() {
    let server = Server::start(CONFIG);
    let mut stream = TcpStream::connect(server.address("tcp")).expect("connected");
    writeln!(stream, "<14>1 - h app - - - one").expect("sent");
    server.lines("logs/app.log", 1);
    std::fs::rename(server.path("logs/app.log"), server.path("logs/app.log.1")).expect("renamed");
    server.hup();
    server.wait_for_log("reloaded");
    // Reopening follows the reload: whatever comes until then is in the old file, and nothing is lost.
    wait_until("the new file", || {
        writeln!(stream, "<14>1 - h app - - - two").expect("sent");
        server.read("logs/app.log").contains("two")
    });
    assert!(server.read("logs/app.log.1").starts_with("one\n"));
}

#[test]
fn an_input_that_changes_its_kind_takes_over_the_port() {
    let port = common::free_port();
    let config = |kind: &str| {
        CONFIG.replace(
            "[[input.tcp]]\nlisten = \"127.0.0.1:0\"",
            &format!("[[input.tcp]]\nname = \"{kind}\"\nlisten = \"127.0.0.1:{port}\""),
        )
    };
    let server = Server::start(&config("first"));
    server.configure(&config("second"));
    server.hup();
    server.wait_for_log("input `second`: listening on tcp");
    server.wait_for_log("reloaded");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    writeln!(stream, "<14>1 - h app - - - x").expect("sent");
    server.lines("logs/app.log", 1);
    assert_eq!(server.metric("penstock_received_messages_total{input=\"second\",kind=\"tcp\"}"), 1);
}

#[test]
fn an_output_that_is_replaced_keeps_its_queue() {
    let port = common::free_port();
    let config = |target: u16| {
        format!(
            "{CONFIG}\n[[output.forward]]\nname = \"up\"\nto = [\"tcp://127.0.0.1:{target}\"]\nformat = \"line\"\nframing = \"newline\"\n[[route]]\nto = [\"up\"]\n"
        )
    };
    let server = Server::start(&config(port));
    let mut stream = TcpStream::connect(server.address("tcp")).expect("connected");
    writeln!(stream, "<14>1 - h app - - - kept").expect("sent");
    server.wait_for_log("output `up`: delivery failed");
    let upstream = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    server.configure(&config(upstream.local_addr().expect("an address").port()));
    server.hup();
    let (mut connection, _) = upstream.accept().expect("it comes to the new target");
    let mut text = [0; 5];
    connection.read_exact(&mut text).expect("the record");
    assert_eq!(&text, b"kept\n");
}
