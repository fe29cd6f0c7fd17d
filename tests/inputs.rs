//! Who is let in, how much is taken, and what waiting costs.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use common::{Server, wait_until};

/// The input's table, and everything to one file.
fn config(input: &str) -> String {
    format!(
        r#"
{input}
[metrics]
listen = "127.0.0.1:0"
[template]
line = "{{hostname}} {{message}}"
[[output.file]]
name = "files"
path = "{{dir}}/all.log"
format = "line"
[[route]]
to = ["files"]
"#
    )
}

/// The peer closes, in order or not.
fn is_closed(mut stream: TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("an option");
    matches!(stream.read(&mut [0; 16]), Ok(0)) || stream.write_all(b"x").is_err()
}

#[test]
fn several_inputs_of_both_families_share_one_server() {
    let input = |kind: &str, name: &str, address: &str| format!("[[input.{kind}]]\nname = \"{name}\"\nlisten = \"{address}\"\n");
    let server = Server::start(&config(
        &[
            ("tcp", "t4", "127.0.0.1:0"),
            ("tcp", "t6", "[::1]:0"),
            ("udp", "u4", "127.0.0.1:0"),
            ("udp", "u6", "[::1]:0"),
            ("udp", "all", "[::]:0"),
        ]
        .map(|(kind, name, address)| input(kind, name, address))
        .concat(),
    ));
    for name in ["t4", "t6"] {
        writeln!(TcpStream::connect(server.address(name)).expect("connected"), "<14>{name}").expect("sent");
    }
    for (name, from) in [("u4", "127.0.0.1:0"), ("u6", "[::1]:0")] {
        let socket = UdpSocket::bind(from).expect("a socket");
        socket.send_to(format!("<14>{name}").as_bytes(), server.address(name)).expect("sent");
    }
    let v4 = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    v4.send_to(b"<14>mapped", ("127.0.0.1", server.address("all").port())).expect("sent");
    let mut lines = server.lines("all.log", 5);
    lines.sort();
    assert_eq!(lines, ["127.0.0.1 mapped", "127.0.0.1 t4", "127.0.0.1 u4", "::1 t6", "::1 u6"]);
}

#[test]
fn datagrams_of_65507_bytes_come_whole_and_nothing_is_taken_off_but_the_trailer() {
    let server = Server::start(&config("[[input.udp]]\nlisten = \"127.0.0.1:0\""));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let long = format!("<14>{}", "x".repeat(65_503));
    socket.send_to(long.as_bytes(), server.address("udp")).expect("sent");
    socket.send_to(b"<14>python\0", server.address("udp")).expect("sent");
    socket.send_to(b"", server.address("udp")).expect("sent");
    let lines = server.lines("all.log", 2);
    assert_eq!((lines[0].len(), lines[1].as_str()), ("127.0.0.1 ".len() + 65_503, "127.0.0.1 python"));
}

#[test]
fn peers_not_allowed_are_refused_counted_and_named() {
    let server = Server::start(&config(
        "[[input.udp]]\nlisten = \"127.0.0.1:0\"\nallow = [\"10.0.0.0/8\"]\n[[input.tcp]]\nlisten = \"127.0.0.1:0\"\nallow = [\"10.0.0.0/8\", \"127.0.0.2\"]",
    ));
    assert!(is_closed(TcpStream::connect(server.address("tcp")).expect("connected")));
    server.wait_for_log("input `tcp`: 127.0.0.1 was refused: not in `allow`");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.send_to(b"<14>x", server.address("udp")).expect("sent");
    server.wait_for_log("input `udp`: a datagram of 127.0.0.1 was refused");
    assert_eq!(server.metric("penstock_refused_total{input=\"tcp\",kind=\"tcp\",reason=\"allow\"}"), 1);
    let allowed = socket2_connect("127.0.0.2", server.address("tcp"));
    writeln!(&allowed, "<14>let in").expect("sent");
    assert_eq!(server.lines("all.log", 1), ["127.0.0.2 let in"]);
}

/// A connection from a loopback address of choice.
fn socket2_connect(from: &str, to: std::net::SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let from: std::net::SocketAddr = format!("{from}:0").parse().expect("an address");
    socket.bind(&from.into()).expect("loopback");
    socket.connect(&to.into()).expect("connected");
    socket.into()
}

#[test]
fn the_limit_on_connections_holds_and_is_free_again_when_one_closes() {
    let server = Server::start(&config("[[input.tcp]]\nlisten = \"127.0.0.1:0\"\nmax-connections = 2"));
    let address = server.address("tcp");
    let open = || server.metric("penstock_connections{input=\"tcp\",kind=\"tcp\"}");
    let held: Vec<_> = (0..2).map(|_| TcpStream::connect(address).expect("connected")).collect();
    wait_until("two are in", || open() == 2);
    assert!(is_closed(TcpStream::connect(address).expect("connected")));
    server.wait_for_log("2 connections are open (max-connections)");
    drop(held);
    wait_until("both are gone", || open() == 0);
    writeln!(TcpStream::connect(address).expect("connected"), "<14>again").expect("sent");
    server.lines("all.log", 1);
}

#[test]
fn a_silent_connection_is_closed_where_the_input_says_so_and_its_last_words_arrive() {
    let server = Server::start(&config("[[input.tcp]]\nlisten = \"127.0.0.1:0\"\nidle-timeout = \"200ms\""));
    let mut stream = TcpStream::connect(server.address("tcp")).expect("connected");
    write!(stream, "<14>without trailer").expect("sent");
    assert!(is_closed(stream));
    assert_eq!(server.lines("all.log", 1), ["127.0.0.1 without trailer"]);
}

#[test]
fn what_is_longer_than_allowed_is_cut_counted_and_said() {
    let server = Server::start(&config("[[input.tcp]]\nlisten = \"127.0.0.1:0\"\nmax-message = \"1KiB\""));
    let mut stream = TcpStream::connect(server.address("tcp")).expect("connected");
    writeln!(stream, "<14>{}\n<14>intact", "x".repeat(5000)).expect("sent");
    let lines = server.lines("all.log", 2);
    assert_eq!((lines[0].len(), lines[1].as_str()), ("127.0.0.1 ".len() + 1020, "127.0.0.1 intact"));
    server.wait_for_log("longer than max-message (1024 bytes) was cut");
    assert_eq!(server.metric("penstock_framing_errors_total{input=\"tcp\",kind=\"tcp\",error=\"truncated\"}"), 1);
}

#[test]
fn what_is_no_syslog_is_kept_and_counted() {
    let server = Server::start(&config("[[input.tcp]]\nlisten = \"127.0.0.1:0\""));
    writeln!(TcpStream::connect(server.address("tcp")).expect("connected"), "GET / HTTP/1.1").expect("sent");
    assert_eq!(server.lines("all.log", 1), ["127.0.0.1 GET / HTTP/1.1"]);
    assert_eq!(server.metric("penstock_parsed_messages_total{input=\"tcp\",kind=\"tcp\",grammar=\"text\"}"), 1);
}

/// The answer comes when it comes: no message waits for it, and later ones have the name.
#[test]
fn reverse_dns_names_the_peer_where_it_is_asked_for() {
    let server = Server::start(&config("[[input.udp]]\nlisten = \"127.0.0.1:0\"\nreverse-dns = true"));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    wait_until("a name instead of 127.0.0.1", || {
        socket.send_to(b"<14>x", server.address("udp")).expect("sent");
        server.read("all.log").lines().any(|line| line.ends_with(" x") && !line.starts_with("127.0.0.1"))
    });
}

/// A task and a socket each.
#[test]
fn thousands_of_idle_connections_cost_little() {
    let server = Server::start(&config("[[input.tcp]]\nlisten = \"127.0.0.1:0\""));
    let memory = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("a line");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number")
    };
    let before = memory();
    let address = server.address("tcp");
    let count = 2_000;
    let idle: Vec<_> = (0..count).map(|_| TcpStream::connect(address).expect("connected")).collect();
    wait_until("all are in", || server.metric("penstock_connections{input=\"tcp\",kind=\"tcp\"}") == count);
    let each = (memory().saturating_sub(before)) * 1024 / count as usize;
    assert!(each < 8192, "{each} bytes for an idle connection");
    let threads = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs").count();
    assert!(threads < 20, "{threads} threads");
    drop(idle);
}

#[test]
fn a_taken_port_is_said_and_is_exit_69() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("penstock.toml");
    let address = taken.local_addr().expect("an address");
    std::fs::write(&path, config(&format!("[[input.tcp]]\nlisten = \"{address}\"")).replace("{dir}", "/tmp")).expect("written");
    let output = std::process::Command::new(common::PENSTOCK).args(["run", "--config"]).arg(&path).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(69));
    assert!(text.contains(&format!("input `tcp`: cannot listen on {address}: Address already in use")), "{text}");
}

/// The stream has proven to be one of lines, and then a count stands over what looks like the end of a line.
#[test]
fn a_counted_frame_that_is_not_finished_holds_up_nobody() {
    let server = Server::start(&config("[server]\nthreads = 1\n[[input.tcp]]\nlisten = \"127.0.0.1:0\""));
    let mut stream = TcpStream::connect(server.address("tcp")).expect("connected");
    stream.write_all(&[&b"<13>a\n".repeat(40)[..], b"100 <13>x\n"].concat()).expect("sent");
    server.lines("all.log", 40);
    let mut other = TcpStream::connect(server.address("tcp")).expect("connected");
    writeln!(other, "<13>other\n").expect("sent");
    server.lines("all.log", 41);
    drop(stream);
    wait_until("the unfinished frame", || server.read("all.log").contains("127.0.0.1 x"));
}

#[test]
fn what_the_kernel_drops_is_counted() {
    let server =
        Server::start(&config("[server]\nthreads = 1\n[[input.udp]]\nlisten = \"127.0.0.1:0\"\nreceive-buffer = \"64KiB\""));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = server.address("udp");
    server.signal("STOP");
    let (count, text) = (5_000, format!("<14>{}", "x".repeat(1000)));
    for _ in 0..count {
        socket.send_to(text.as_bytes(), address).expect("sent");
    }
    server.signal("CONT");
    let metric = |name: &str| server.metric(&format!("penstock_{name}_total{{input=\"udp\",kind=\"udp\"}}"));
    wait_until("the kernel is asked what it dropped, though nothing follows", || metric("kernel_drops") > 0);
    let mut sent = count;
    wait_until("every datagram is accounted for", || {
        socket.send_to(b"<14>one more", address).expect("sent");
        sent += 1;
        metric("kernel_drops") + metric("received_messages") == sent
    });
}

/// A stop waits for nobody's next line, and forgets none.
#[test]
fn what_is_held_for_its_next_line_outlives_a_stop() {
    for round in 0..5 {
        let server = Server::start(&config("[[input.tcp]]\nlisten = \"127.0.0.1:0\"\njoin = \"python\"\njoin-within = \"1h\"\n"));
        let mut stream = TcpStream::connect(server.address("tcp")).expect("connected");
        stream.write_all(b"<11>1 - h a 7 - - first\n<11>1 - h a 7 - -   goes on\n<11>1 - h a 7 - - last").expect("sent");
        wait_until("two are held", || server.metric("penstock_received_messages_total{input=\"tcp\",kind=\"tcp\"}") == 2);
        let folder = server.path("all.log");
        let mut server = server;
        server.signal("TERM");
        assert!(server.wait().success());
        let text = std::fs::read_to_string(folder).expect("written");
        assert_eq!(text.lines().count(), 2, "{round}: {text}");
        assert!(text.contains("first#012  goes on\n") && text.ends_with("last\n"), "{round}: {text}");
    }
}
