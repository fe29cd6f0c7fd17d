//! rsyslogd before and behind penstock, by every transport: each message arrives once, with its text, host and tag.

mod common;
mod peers;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use common::{Server, has};
use peers::certificates::Ca;
use peers::rsyslogd::{Rsyslogd, free_udp_port};
use peers::{assert_each_once, wait_for_udp};

const COUNT: usize = 2000;
/// So many at a time go by UDP; they fit into the smallest receive buffer there is.
const ROUND: usize = 100;

/// Message `number`, octet-counted and in RFC 5424.
fn sent(number: usize) -> String {
    let message = format!(
        "<{}>1 2026-11-20T21:14:26.5+01:00 host-{} app-{} {number} - - {}",
        pri(number),
        number % 7,
        number % 5,
        text(number)
    );
    format!("{} {message}", message.len())
}

/// Facilities `kern` to `ftp`, all severities.
fn pri(number: usize) -> usize {
    number % 96
}

fn text(number: usize) -> String {
    format!("message {number}: grüße, \"quotes\" [and] <13> 100% {}", "x".repeat(number % 300))
}

/// As both servers write it.
fn seen(number: usize) -> String {
    format!("{} host-{} app-{} {number} {}", pri(number), number % 7, number % 5, text(number))
}

fn all_seen() -> Vec<String> {
    (0..COUNT).map(seen).collect()
}

/// Sends messages from `first` on over one connection.
fn send(to: SocketAddr, first: usize, count: usize) {
    let all: String = (first..first + count).map(sent).collect();
    TcpStream::connect(to).and_then(|mut stream| stream.write_all(all.as_bytes())).expect("sent");
}

fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

const PENSTOCK: &str = r#"
[template]
seen = "{pri} {hostname} {app-name} {proc-id} {message}"
[[route]]
to = ["out"]
"#;

const PENSTOCK_OUT: &str = r#"
[[output.file]]
name = "out"
path = "{dir}/out"
format = "seen"
"#;

/// Listens on the port that it writes to `{dir}/port`.
const RSYSLOGD_IN: &str = r#"
module(load="imtcp")
input(type="imtcp" port="0" address="127.0.0.1" listenPortFileName="{dir}/port")
"#;

/// Writes what it receives.
const RSYSLOGD_OUT: &str = r#"
template(name="seen" type="string" string="%pri% %hostname% %programname% %procid%%msg:::sp-if-no-1st-sp%%msg%\n")
*.* action(type="omfile" file="{dir}/out" template="seen")
"#;

/// rsyslogd → penstock by an action with these parameters.
fn from_rsyslogd(penstock_input: &str, input: &str, action: &str, global: &str, round: usize) {
    if !has("rsyslogd") {
        return;
    }
    let penstock = Server::start(&format!("{penstock_input}{PENSTOCK}{PENSTOCK_OUT}"));
    let port = penstock.address(input).port();
    let action = format!("*.* action(type=\"omfwd\" target=\"127.0.0.1\" port=\"{port}\" {action})");
    let rsyslogd = Rsyslogd::start(&format!("{global}{RSYSLOGD_IN}{action}\n"));
    let to = local(rsyslogd.port("port"));
    for first in (0..COUNT).step_by(round) {
        send(to, first, round);
        penstock.lines("out", first + round);
    }
    // What it might send twice has come after that.
    rsyslogd.stop("");
    assert_each_once(&penstock.lines("out", COUNT), &all_seen());
}

#[test]
fn from_rsyslogd_by_udp() {
    let action = "protocol=\"udp\"";
    from_rsyslogd("[[input.udp]]\nlisten = \"127.0.0.1:0\"\n", "udp", action, "", ROUND);
}

#[test]
fn from_rsyslogd_by_tcp_in_lines() {
    let action = "protocol=\"tcp\"";
    from_rsyslogd("[[input.tcp]]\nlisten = \"127.0.0.1:0\"\n", "tcp", action, "", COUNT);
}

#[test]
fn from_rsyslogd_by_tcp_octet_counted() {
    let action = "protocol=\"tcp\" tcp_framing=\"octet-counted\" template=\"RSYSLOG_SyslogProtocol23Format\"";
    from_rsyslogd("[[input.tcp]]\nlisten = \"127.0.0.1:0\"\n", "tcp", action, "", COUNT);
}

/// A counted frame may hold line feeds; in a file they are escaped.
#[test]
fn a_message_of_several_lines_stays_one_from_rsyslogd_and_to_it() {
    if !has("rsyslogd") {
        return;
    }
    let global = "global(parser.escapeControlCharactersOnReceive=\"off\")\n";
    let last = Server::start(&format!("[[input.tcp]]\nlisten = \"127.0.0.1:0\"\n{PENSTOCK}{PENSTOCK_OUT}"));
    let to_last = format!("target=\"127.0.0.1\" port=\"{}\" protocol=\"tcp\"", last.address("tcp").port());
    let action = format!(
        "*.* action(type=\"omfwd\" {to_last} tcp_framing=\"octet-counted\" template=\"RSYSLOG_SyslogProtocol23Format\")\n"
    );
    let rsyslogd = Rsyslogd::start(&format!("{global}{RSYSLOGD_IN}{action}"));
    let to_rsyslogd = format!("to = [\"tcp://127.0.0.1:{}\"]\n", rsyslogd.port("port"));
    let first = Server::start(&format!(
        "[[input.tcp]]\nlisten = \"127.0.0.1:0\"\n{PENSTOCK}[[output.forward]]\nname = \"out\"\n{to_rsyslogd}"
    ));
    let message = "<11>1 2026-11-20T21:14:26Z web app 1 - - boom\nTraceback:\n  <13>line\r\n\tlast";
    let stream = TcpStream::connect(first.address("tcp"));
    let frames = format!("{} {message}", message.len()).repeat(3);
    stream.and_then(|mut stream| stream.write_all(frames.as_bytes())).expect("sent");
    let expected = "11 web app 1 boom#012Traceback:#012  <13>line#015#012#011last";
    assert_eq!(last.lines("out", 3), [expected; 3]);
}

fn tls_input(ca: &Ca) -> String {
    let folder = ca.folder().display();
    format!(
        r#"
        [[input.tls]]
        listen = "127.0.0.1:0"
        certificate = "{folder}/penstock.example.pem"
        key = "{folder}/penstock.example.key"
        client-ca = "{folder}/ca.pem"
        peers = ["rsyslog.example"]
        "#
    )
}

/// Both have a certificate, and ask for the other's.
fn two_servers() -> Ca {
    let ca = Ca::new("the test's CA");
    ca.server("penstock.example");
    ca.server("rsyslog.example");
    ca
}

fn rsyslogd_certificate(ca: &Ca, driver: &str) -> String {
    let folder = ca.folder().display();
    format!(
        "global(defaultNetstreamDriver=\"{driver}\" defaultNetstreamDriverCAFile=\"{folder}/ca.pem\" \
         defaultNetstreamDriverCertFile=\"{folder}/rsyslog.example.pem\" defaultNetstreamDriverKeyFile=\"{folder}/rsyslog.example.key\")\n"
    )
}

fn from_rsyslogd_by_tls(driver: &str) {
    if !has("rsyslogd") || !has("openssl") {
        return;
    }
    let ca = two_servers();
    let action = format!(
        "protocol=\"tcp\" tcp_framing=\"octet-counted\" template=\"RSYSLOG_SyslogProtocol23Format\" streamDriver=\"{driver}\" \
         streamDriverMode=\"1\" streamDriverAuthMode=\"x509/name\" streamDriverPermittedPeers=\"penstock.example\""
    );
    // Its own listener stays plain: the driver is the action's.
    let global = rsyslogd_certificate(&ca, "ptcp");
    from_rsyslogd(&tls_input(&ca), "tls", &action, &global, COUNT);
}

#[test]
fn from_rsyslogd_by_tls_with_gnutls() {
    from_rsyslogd_by_tls("gtls");
}

#[test]
fn from_rsyslogd_by_tls_with_openssl() {
    from_rsyslogd_by_tls("ossl");
}

/// penstock → rsyslogd.
fn to_rsyslogd(rsyslogd: Rsyslogd, forward: &str, round: usize) {
    let input = "[[input.tcp]]\nlisten = \"127.0.0.1:0\"\n";
    let penstock = Server::start(&format!("{input}{PENSTOCK}[[output.forward]]\nname = \"out\"\n{forward}"));
    for first in (0..COUNT).step_by(round) {
        send(penstock.address("tcp"), first, round);
        rsyslogd.lines("out", first + round);
    }
    penstock.stop();
    let files = rsyslogd.stop("");
    assert_each_once(&files["out"].lines().collect::<Vec<_>>(), &all_seen());
}

#[test]
fn to_rsyslogd_by_udp() {
    if !has("rsyslogd") {
        return;
    }
    let port = free_udp_port();
    let input = format!("module(load=\"imudp\")\ninput(type=\"imudp\" port=\"{port}\" address=\"127.0.0.1\")\n");
    let rsyslogd = Rsyslogd::start(&format!("{input}{RSYSLOGD_OUT}"));
    wait_for_udp(port);
    to_rsyslogd(rsyslogd, &format!("to = [\"udp://127.0.0.1:{port}\"]\n"), ROUND);
}

fn to_rsyslogd_by_tcp(options: &str) {
    if !has("rsyslogd") {
        return;
    }
    let rsyslogd = Rsyslogd::start(&format!("{RSYSLOGD_IN}{RSYSLOGD_OUT}"));
    let port = rsyslogd.port("port");
    to_rsyslogd(rsyslogd, &format!("to = [\"tcp://127.0.0.1:{port}\"]\n{options}"), COUNT);
}

#[test]
fn to_rsyslogd_by_tcp_octet_counted() {
    to_rsyslogd_by_tcp("");
}

#[test]
fn to_rsyslogd_by_tcp_in_lines() {
    to_rsyslogd_by_tcp("framing = \"newline\"\n");
}

#[test]
fn to_rsyslogd_by_tcp_in_bsd_format() {
    to_rsyslogd_by_tcp("framing = \"newline\"\nformat = \"rfc3164\"\n");
}

fn to_rsyslogd_by_tls(driver: &str) {
    if !has("rsyslogd") || !has("openssl") {
        return;
    }
    let ca = two_servers();
    let input = format!(
        r#"
        module(load="imtcp" streamDriver.name="{driver}" streamDriver.mode="1" streamDriver.authMode="x509/name"
               permittedPeer=["penstock.example"])
        input(type="imtcp" port="0" address="127.0.0.1" listenPortFileName="{{dir}}/port")
        "#
    );
    let rsyslogd = Rsyslogd::start(&format!("{}{input}{RSYSLOGD_OUT}", rsyslogd_certificate(&ca, driver)));
    let (port, folder) = (rsyslogd.port("port"), ca.folder().display());
    let forward = format!(
        r#"
        to = ["tls://localhost:{port}"]
        ca = "{folder}/ca.pem"
        certificate = "{folder}/penstock.example.pem"
        key = "{folder}/penstock.example.key"
        peers = ["rsyslog.example"]
        "#
    );
    to_rsyslogd(rsyslogd, &forward, COUNT);
}

#[test]
fn to_rsyslogd_by_tls_with_gnutls() {
    to_rsyslogd_by_tls("gtls");
}

#[test]
fn to_rsyslogd_by_tls_with_openssl() {
    to_rsyslogd_by_tls("ossl");
}
