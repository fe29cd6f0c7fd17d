//! RELP: what is acknowledged is safe, and what is not acknowledged comes again, whatever breaks.

mod common;
mod peers;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::proxy::Proxy;
use common::{Server, free_port, has, listen, wait_until};
use peers::certificates::Ca;
use peers::is_listening;
use peers::rsyslogd::Rsyslogd;

const FILE: &str = r#"
[template]
line = "{message}"
[[output.file]]
name = "file"
path = "{dir}/out"
format = "line"
"#;

const RELP: &str = "[[input.relp]]\nlisten = \"127.0.0.1:0\"\n";
const TCP: &str = "[[input.tcp]]\nlisten = \"127.0.0.1:0\"\n";
const TO_FILE: &str = "[[route]]\nto = [\"file\"]\n";

/// A client that does as it is told.
struct Client(TcpStream, BufReader<TcpStream>);

impl Client {
    fn open(address: SocketAddr, offers: &str) -> (Self, String) {
        let stream = TcpStream::connect(address).expect("connected");
        let mut client = Self(stream.try_clone().expect("a handle"), BufReader::new(stream));
        client.send(&format!("1 open {} {offers}\n", offers.len()));
        let mut answer = client.line();
        for _ in 0..3 {
            answer += &client.line();
        }
        (client, answer)
    }

    fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).expect("sent");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).expect("an answer");
        line
    }

    /// Nothing has come.
    fn is_waiting(&mut self) -> bool {
        self.0.set_read_timeout(Some(Duration::from_millis(100))).expect("an option");
        let nothing = self.1.fill_buf().is_err();
        self.0.set_read_timeout(None).expect("an option");
        nothing
    }
}

fn syslog(number: usize, text: &str) -> String {
    let message = format!("<14>1 - h a - - - {text}");
    format!("{number} syslog {} {message}\n", message.len())
}

#[test]
fn commands_are_answered_as_the_protocol_says() {
    let server = Server::start(&format!("{RELP}max-message = \"480B\"\n{FILE}{TO_FILE}"));
    let (mut client, answer) = Client::open(server.address("relp"), "relp_version=0\nrelp_software=x\ncommands=syslog");
    assert!(answer.starts_with("1 rsp ") && answer.contains(" 200 OK\nrelp_version=0\nrelp_software=penstock,"), "{answer}");
    assert!(answer.ends_with("commands=syslog\n"), "{answer}");
    client.send(&syslog(2, "two\nlines"));
    assert_eq!(client.line(), "2 rsp 6 200 OK\n");
    // Longer than max-message, then one that is not.
    client.send(&(syslog(3, &"x".repeat(200_000)) + &syslog(4, "after")));
    assert_eq!((client.line(), client.line()), ("3 rsp 6 200 OK\n".to_owned(), "4 rsp 6 200 OK\n".to_owned()));
    client.send("5 nonsense 0\n");
    assert_eq!(client.line(), "5 rsp 19 500 no such command\n");
    client.send("6 close 0\n");
    assert_eq!((client.line(), client.line()), ("6 rsp 0\n".to_owned(), "0 serverclose 0\n".to_owned()));
    assert_eq!(client.line(), "", "it closes");
    let lines = server.lines("out", 3);
    assert_eq!((lines[0].as_str(), lines[2].as_str()), ("two#012lines", "after"));
    assert!((400..480).contains(&lines[1].len()), "cut to max-message: {}", lines[1].len());
    let (_, answer) = Client::open(server.address("relp"), "relp_version=1\ncommands=syslog");
    assert!(answer.contains("relp_version=1\n"), "{answer}");
    let mut stranger = TcpStream::connect(server.address("relp")).expect("connected");
    stranger.write_all(b"<14>no RELP\n").expect("sent");
    stranger.read_to_end(&mut Vec::new()).expect("closed");
    server.wait_for_log("input `relp`: 127.0.0.1 does not speak RELP: no number stands where one is expected");
}

/// The file has the message at once; the acknowledgement waits for the upstream, which has no disk to fall back on.
#[test]
fn an_acknowledgement_waits_for_the_slowest_output_and_nothing_else_does() {
    let port = free_port();
    let up = |queue: &str| {
        format!(
            "[[output.forward]]\nname = \"up\"\nto = [\"tcp://127.0.0.1:{port}\"]\nformat = \"line\"\nqueue = {{ {queue} }}\n\
             [[route]]\nto = [\"file\", \"up\"]\n"
        )
    };
    let server = Server::start(&format!("{RELP}{FILE}{}", up("disk = false")));
    let (mut client, _) = Client::open(server.address("relp"), "relp_version=0\ncommands=syslog");
    client.send(&syslog(2, "one"));
    server.lines("out", 1);
    server.wait_for_log("output `up`: delivery failed");
    assert!(client.is_waiting());
    let upstream = listen(port);
    let _stream = upstream.accept().expect("it comes");
    assert_eq!(client.line(), "2 rsp 6 200 OK\n");

    // With a disk it is safe there.
    let server =
        Server::start(&format!("{RELP}{FILE}{}", up("mode = \"always\", sync = \"batch\"").replace(&port.to_string(), "1")));
    let (mut client, _) = Client::open(server.address("relp"), "relp_version=0\ncommands=syslog");
    client.send(&syslog(2, "one"));
    assert_eq!(client.line(), "2 rsp 6 200 OK\n");
}

#[test]
fn what_is_not_safe_at_a_stop_is_not_acknowledged() {
    let up =
        "[[output.forward]]\nname = \"up\"\nto = [\"tcp://127.0.0.1:1\"]\nqueue = { disk = false }\n[[route]]\nto = [\"up\"]\n";
    let server = Server::start(&format!("[server]\ngrace = \"3s\"\n{RELP}{up}"));
    let (mut client, _) = Client::open(server.address("relp"), "relp_version=0\ncommands=syslog");
    client.send(&syslog(2, "one"));
    server.wait_for_log("output `up`: delivery failed");
    server.stop();
    let mut rest = String::new();
    client.1.read_to_string(&mut rest).expect("closed");
    assert_eq!(rest, "0 serverclose 0\n");
}

/// A server's side of a session that has just been opened: for its answers, and for what comes.
fn opened(stream: TcpStream) -> (TcpStream, BufReader<TcpStream>) {
    let (mut answers, mut stream, mut line) = (stream.try_clone().expect("a handle"), BufReader::new(stream), String::new());
    (0..3).for_each(|_| assert!(stream.read_line(&mut line).is_ok_and(|count| count > 0)));
    answers.write_all(b"1 rsp 53 200 OK\nrelp_version=0\nrelp_software=x\ncommands=syslog\n").expect("sent");
    (answers, stream)
}

/// An upstream that acknowledges nothing: what is on its way and what stands behind it goes to the disk.
#[test]
fn a_full_window_keeps_no_sender_waiting() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let up =
        format!("[[output.forward]]\nname = \"up\"\nto = [\"relp://127.0.0.1:{port}\"]\nwindow = 10\n[[route]]\nto = [\"up\"]\n");
    let server = Server::start(&format!("{RELP}{up}"));
    let (mut client, _) = Client::open(server.address("relp"), "relp_version=0\ncommands=syslog");
    client.send(&syslog(2, "first"));
    let _session = opened(listener.accept().expect("it comes").0);
    assert_eq!(client.line(), "2 rsp 6 200 OK\n");
    for number in 3..100 {
        client.send(&syslog(number, "next"));
        assert_eq!(client.line(), format!("{number} rsp 6 200 OK\n"));
    }
    let log = server.stop();
    assert!(log.iter().any(|line| line.contains("stopped; 98 messages wait on disk for the next start")), "{log:?}");
}

/// Half of a chunk is on its way to the second upstream when the first one comes back. What each of them answers is
/// said of its own messages.
#[test]
fn a_chunk_on_its_way_to_one_upstream_is_not_the_others() {
    let (first_port, second) = (free_port(), TcpListener::bind("127.0.0.1:0").expect("a port"));
    let targets = format!("\"relp://127.0.0.1:{first_port}\", \"relp://{}\"", second.local_addr().expect("an address"));
    let server = Server::start(&format!(
        "{TCP}[template]\nline = \"{{message}}\"\n[[output.forward]]\nname = \"up\"\nto = [{targets}]\nformat = \"line\"\nwindow = 10\n\
         [[route]]\nto = [\"up\"]\n"
    ));
    send_lines(server.address("tcp"), 0..30);
    let (mut answers, mut second) = opened(second.accept().expect("it comes").0);
    let mut line = String::new();
    for number in 0..10 {
        line.clear();
        second.read_line(&mut line).expect("a message");
        assert!(line.ends_with(&format!(" {number}\n")), "{line}");
    }
    // It is tried in the background.
    let first = TcpListener::bind(("127.0.0.1", first_port)).expect("still free");
    let (mut first_answers, mut first) = opened(first.accept().expect("it comes").0);
    for number in 2..12 {
        answers.write_all(format!("{number} rsp 6 500 no\n").as_bytes()).expect("sent");
    }
    let mut takes =
        |stream: &mut BufReader<TcpStream>, answers: &mut TcpStream, first: usize, messages: std::ops::Range<usize>| {
            for (number, message) in (first..).zip(messages) {
                line.clear();
                stream.read_line(&mut line).expect("a message");
                assert!(line.ends_with(&format!(" {message}\n")), "{line}");
                answers.write_all(format!("{number} rsp 6 200 OK\n").as_bytes()).expect("sent");
            }
        };
    // The rest of the chunk stays where its beginning is; what comes then goes to the first.
    takes(&mut second, &mut answers, 12, 10..30);
    send_lines(server.address("tcp"), 30..40);
    takes(&mut first, &mut first_answers, 2, 30..40);
    let letters = server.lines("state/dead-letters/forward.up.jsonl", 10);
    for (number, letter) in letters.iter().enumerate() {
        assert!(letter.ends_with(&format!("\"message\":\"{number}\"}}")), "{letter}");
    }
    let log = server.stop();
    assert!(log.iter().any(|line| line.contains("everything is delivered")), "{log:?}");
}

/// An upstream that refuses every second message for good.
#[test]
fn what_an_upstream_refuses_is_kept_with_the_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let up = format!(
        "[[output.forward]]\nname = \"up\"\nto = [\"relp://{}\"]\nformat = \"line\"\n[[route]]\nto = [\"up\"]\n",
        listener.local_addr().expect("an address")
    );
    let server = Server::start(&format!("[metrics]\nlisten = \"127.0.0.1:0\"\n{TCP}[template]\nline = \"{{message}}\"\n{up}"));
    send_lines(server.address("tcp"), 0..4);
    let (stream, _) = listener.accept().expect("it comes");
    let ((mut answers, mut stream), mut line) = (opened(stream), String::new());
    for number in 2..6 {
        stream.read_line(&mut line).expect("a message");
        let answer = if number % 2 == 0 { "500 not \"that\"" } else { "200 OK" };
        writeln!(answers, "{number} rsp {} {answer}", answer.len()).expect("sent");
    }
    let letters = "state/dead-letters/forward.up.jsonl";
    for (letter, text) in server.lines(letters, 2).iter().zip(["0", "2"]) {
        let end = format!(
            "\"output\":\"up\",\"reason\":\"the upstream refuses it: 500 not \\\"that\\\"\",\"severity\":\"info\",\"message\":\"{text}\"}}"
        );
        assert!(letter.ends_with(&end), "{letter}");
    }
    let dropped = "penstock_dropped_messages_total{output=\"up\",kind=\"forward\",reason=\"rejected\"}";
    wait_until("they are counted", || server.metric(dropped) == 2);
    assert_eq!(server.metric("penstock_delivered_messages_total{output=\"up\",kind=\"forward\"}"), 2);
    server.wait_for_log(" messages are given up (the upstream refuses it: 500 not \"that\") and kept in ");
}

/// Its connections end before anything has come of them: that is a failure as any other, and the waits become longer.
#[test]
fn an_upstream_that_always_closes_is_not_asked_all_the_time() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let server = relay(listener.local_addr().expect("an address").port(), "");
    send_lines(server.address("tcp"), 0..4);
    let mut began = None;
    for _ in 0..6 {
        let (stream, _) = listener.accept().expect("it comes");
        let began = began.get_or_insert_with(Instant::now);
        assert!(began.elapsed() < Duration::from_secs(30));
        let (_, mut stream) = opened(stream);
        let mut line = String::new();
        stream.read_line(&mut line).expect("a message");
    }
    // 0.1, 0.2, 0.4, 0.8 and 1.6 s, a quarter less or more.
    let elapsed = began.expect("it came").elapsed();
    assert!(elapsed > Duration::from_secs(2), "{elapsed:?}");
    server.wait_for_log("its last connection ended before anything had arrived; it is tried again");
}

fn send_lines(address: SocketAddr, range: std::ops::Range<usize>) {
    let mut stream = TcpStream::connect(address).expect("connected");
    let text: String = range.map(|i| format!("<14>1 2026-11-20T21:14:26Z h a - - - {i}\n")).collect();
    stream.write_all(text.as_bytes()).expect("sent");
}

/// The different numbers that have arrived.
fn arrived(text: &str) -> BTreeSet<usize> {
    text.lines().filter_map(|line| line.trim().parse().ok()).collect()
}

/// Sends while the hop breaks the session again and again; everything arrives.
/// Each break may double `window` messages: what had arrived and was not acknowledged.
fn survives_breaks(proxy: &Proxy, to: SocketAddr, window: usize, out: impl Fn() -> String) {
    let (rounds, each) = (8, 2_000);
    let mut cut = 0;
    for round in 0..rounds {
        send_lines(to, round * each..(round + 1) * each);
        let before = arrived(&out()).len();
        wait_until("some arrive", || arrived(&out()).len() > before);
        wait_until("a session is broken", || {
            let broken = proxy.cut();
            cut += broken;
            broken > 0
        });
    }
    wait_until("all arrive", || arrived(&out()).len() == rounds * each);
    let total = out().lines().count();
    assert!(total <= rounds * each + cut * window, "{total} lines after {cut} breaks");
}

/// All to this port, by RELP.
fn relay(port: u16, options: &str) -> Server {
    let target = format!("to = [\"relp://127.0.0.1:{port}\"]");
    Server::start(&format!("{TCP}[[output.forward]]\nname = \"up\"\n{target}\n{options}[[route]]\nto = [\"up\"]\n"))
}

const COMPRESSED: &str = "compression = \"zstd\"\n";

fn sessions_break_between_two_penstocks(options: &str) {
    let last = Server::start(&format!("{RELP}{FILE}{TO_FILE}"));
    let proxy = Proxy::to(last.address("relp"));
    let first = relay(proxy.port, options);
    survives_breaks(&proxy, first.address("tcp"), 1024, || last.read("out"));
    let log = first.stop();
    assert!(log.iter().any(|line| line.contains("they go again")), "{log:?}");
}

const RSYSLOGD_OUT: &str = r#"
template(name="seen" type="string" string="%msg:::drop-last-lf%\n")
*.* action(type="omfile" file="{dir}/out" template="seen")
"#;

fn rsyslogd_with_relp(options: &str, global: &str) -> (Rsyslogd, u16) {
    let port = free_port();
    let input = format!("module(load=\"imrelp\")\ninput(type=\"imrelp\" port=\"{port}\" address=\"127.0.0.1\" {options})\n");
    let rsyslogd = Rsyslogd::start(&format!("{global}{input}{RSYSLOGD_OUT}"));
    wait_until("imrelp listens", || is_listening(port));
    (rsyslogd, port)
}

#[test]
fn a_session_that_breaks_loses_nothing_between_two_penstocks() {
    sessions_break_between_two_penstocks("");
}

#[test]
fn a_compressed_session_that_breaks_loses_nothing() {
    sessions_break_between_two_penstocks(COMPRESSED);
}

#[test]
fn what_is_compressed_is_a_third_at_most_on_its_way() {
    let mut octets = [0, 0];
    for (octets, options) in octets.iter_mut().zip(["", COMPRESSED]) {
        let last = Server::start(&format!("{RELP}{FILE}{TO_FILE}"));
        let proxy = Proxy::to(last.address("relp"));
        let first = relay(proxy.port, options);
        send_lines(first.address("tcp"), 0..5_000);
        last.lines("out", 5_000);
        *octets = proxy.passed();
        first.wait_for_log(if options.is_empty() { "connected to " } else { ", compressed" });
    }
    assert!(octets[1] * 3 < octets[0], "{octets:?}");
}

#[test]
fn a_compressed_stream_that_is_none_is_named() {
    let server = Server::start(&format!("{RELP}{FILE}{TO_FILE}"));
    let (mut client, _) = Client::open(server.address("relp"), "relp_version=0\ncommands=syslog\ncompression=zstd");
    assert_eq!(client.line(), "compression=zstd\n");
    client.send(&syslog(2, "plain"));
    assert_eq!(client.line(), "", "it closes");
    server.wait_for_log("input `relp`: 127.0.0.1 does not speak RELP: its compressed stream is broken; closed");
}

#[test]
fn rsyslogd_gets_it_as_it_is() {
    if !has("rsyslogd") {
        return;
    }
    let (rsyslogd, port) = rsyslogd_with_relp("", "");
    let first = relay(port, COMPRESSED);
    send_lines(first.address("tcp"), 0..1_000);
    wait_until("all arrive", || arrived(&rsyslogd.read("out")).len() == 1_000);
    first.wait_for_log("which takes nothing compressed: it goes as it is");
}

#[test]
fn to_rsyslogd_whose_sessions_break() {
    if !has("rsyslogd") {
        return;
    }
    let (rsyslogd, port) = rsyslogd_with_relp("", "");
    let proxy = Proxy::to(([127, 0, 0, 1], port).into());
    let penstock = relay(proxy.port, "");
    survives_breaks(&proxy, penstock.address("tcp"), 1024, || rsyslogd.read("out"));
}

fn from_rsyslogd(relp: &str, action: &str, breaks: bool) {
    let penstock = Server::start(&format!("{relp}{FILE}{TO_FILE}"));
    let proxy = Proxy::to(penstock.address("relp"));
    let rsyslogd = Rsyslogd::start(&format!(
        "module(load=\"imtcp\")\nmodule(load=\"omrelp\")\n\
         input(type=\"imtcp\" port=\"0\" address=\"127.0.0.1\" listenPortFileName=\"{{dir}}/port\")\n\
         *.* action(type=\"omrelp\" target=\"127.0.0.1\" port=\"{}\" template=\"RSYSLOG_SyslogProtocol23Format\"\n\
         action.resumeInterval=\"1\" action.resumeRetryCount=\"-1\" {action})\n",
        proxy.port
    ));
    let to = ([127, 0, 0, 1], rsyslogd.port("port")).into();
    if breaks {
        // rsyslog sends a whole batch again.
        survives_breaks(&proxy, to, 1_024 + 128, || penstock.read("out"));
    } else {
        send_lines(to, 0..1_000);
        wait_until("all arrive", || arrived(&penstock.read("out")).len() == 1_000);
        rsyslogd.stop("");
        penstock.lines("out", 1_000);
    }
}

#[test]
fn from_rsyslogd_whose_sessions_break() {
    if has("rsyslogd") {
        from_rsyslogd(RELP, "", true);
    }
}

/// Both have a certificate, and ask for the other's name.
fn two_servers() -> Ca {
    let ca = Ca::new("the test's CA");
    ca.server("penstock.example");
    ca.server("rsyslog.example");
    ca
}

#[test]
fn by_tls_from_rsyslogd_with_names() {
    if !has("rsyslogd") || !has("openssl") {
        return;
    }
    let ca = two_servers();
    let folder = ca.folder().display();
    let input = format!(
        "{RELP}certificate = \"{folder}/penstock.example.pem\"\nkey = \"{folder}/penstock.example.key\"\n\
         client-ca = \"{folder}/ca.pem\"\npeers = [\"rsyslog.example\"]\n"
    );
    let action = format!(
        "tls=\"on\" tls.authMode=\"name\" tls.permittedPeer=[\"penstock.example\"] tls.caCert=\"{folder}/ca.pem\" \
         tls.myCert=\"{folder}/rsyslog.example.pem\" tls.myPrivKey=\"{folder}/rsyslog.example.key\""
    );
    from_rsyslogd(&input, &action, false);
}

#[test]
fn by_tls_to_rsyslogd_with_names() {
    if !has("rsyslogd") || !has("openssl") {
        return;
    }
    let ca = two_servers();
    let folder = ca.folder().display();
    let (rsyslogd, port) = rsyslogd_with_relp(
        &format!(
            "tls=\"on\" tls.authMode=\"name\" tls.permittedPeer=[\"penstock.example\"] tls.caCert=\"{folder}/ca.pem\" \
             tls.myCert=\"{folder}/rsyslog.example.pem\" tls.myPrivKey=\"{folder}/rsyslog.example.key\""
        ),
        "",
    );
    let penstock = Server::start(&format!(
        "{TCP}[[output.forward]]\nname = \"up\"\nto = [\"relps://localhost:{port}\"]\nca = \"{folder}/ca.pem\"\n\
         certificate = \"{folder}/penstock.example.pem\"\nkey = \"{folder}/penstock.example.key\"\npeers = [\"rsyslog.example\"]\n\
         [[route]]\nto = [\"up\"]\n"
    ));
    send_lines(penstock.address("tcp"), 0..1_000);
    wait_until("all arrive", || arrived(&rsyslogd.read("out")).len() == 1_000);
    penstock.stop();
    assert_eq!(rsyslogd.read("out").lines().count(), 1_000);
}
