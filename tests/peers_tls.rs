//! TLS as OpenSSL speaks it: who is let in, who is refused with which words, and nothing lost on either way out.

mod common;
mod peers;

use std::process::{Command, Stdio};

use common::{PENSTOCK, Server, free_port, has};
use peers::certificates::Ca;
use peers::{Running, assert_each_once, run, script, try_run, wait_for_tcp};

const VERSIONS: [&str; 2] = ["-tls1_2", "-tls1_3"];
const MESSAGE: &str = "<14>Nov 20 21:14:26 host app: hello\n";

/// `{ca}` is the folder of the test's CA, `{options}` what the input asks of its clients.
const CONFIG: &str = r#"
[[input.tls]]
listen = "127.0.0.1:0"
certificate = "{ca}/penstock.example.pem"
key = "{ca}/penstock.example.key"
{options}
[template]
seen = "{hostname} {app-name} {message}"
[[route]]
to = ["out"]
[[output.file]]
name = "out"
path = "{dir}/out"
format = "seen"
"#;

fn start(ca: &Ca, options: &str) -> Server {
    let folder = ca.folder().display().to_string();
    Server::start(&CONFIG.replace("{options}", options).replace("{ca}", &folder))
}

/// Has signed the server; clients are up to the test.
fn ca() -> Ca {
    let ca = Ca::new("the test's CA");
    ca.server("penstock.example");
    ca
}

/// Sends its standard input and closes; believes the server only if `ca` has signed it.
fn s_client(address: &str, ca: &Ca, options: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-quiet", "-no_ign_eof", "-verify_return_error", "-connect", address, "-CAfile"])
        .arg(ca.path("ca.pem"));
    command.args(options);
    command
}

/// The same with a certificate that `signer` has made.
fn s_client_as(name: &str, signer: &Ca, address: &str, ca: &Ca, options: &[&str]) -> Command {
    let mut command = s_client(address, ca, options);
    command.arg("-cert").arg(signer.path(&format!("{name}.pem"))).arg("-key").arg(signer.path(&format!("{name}.key")));
    command
}

#[test]
fn both_versions_of_tls_carry_every_message() {
    if !has("openssl") {
        return;
    }
    let ca = ca();
    ca.client("client.example");
    for options in [&["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"][..], &["-tls1_3"]] {
        let server = start(&ca, "client-ca = \"{ca}/ca.pem\"\npeers = [\"client.example\"]");
        let lines: String = (0..1000).map(|number| format!("<14>Nov 20 21:14:26 host app: message {number}\n")).collect();
        let address = server.address("tls").to_string();
        run(&mut s_client_as("client.example", &ca, &address, &ca, options), lines.as_bytes());
        let expected: Vec<_> = (0..1000).map(|number| format!("host app message {number}")).collect();
        assert_eq!(server.lines("out", 1000), expected, "{options:?}");
    }
}

/// A client that is refused gets nothing in, and the log says who it was and why, in both versions of TLS.
fn assert_refused(ca: &Ca, options: &str, client: impl Fn(&str, &[&str]) -> Command, reasons: &[&str]) {
    for version in VERSIONS {
        let server = start(ca, options);
        let address = server.address("tls").to_string();
        try_run(&mut client(&address, &[version]), MESSAGE.as_bytes());
        let line = server.wait_for_log("was refused");
        assert!(line.contains("input `tls`: 127.0.0.1 was refused: "), "{line}");
        for reason in reasons {
            assert!(line.contains(reason), "{version}: {reason} in {line}");
        }
        assert_eq!(server.read("out"), "", "{version}");
    }
}

/// How the log names a certificate.
fn shown(ca: &Ca, name: &str) -> String {
    format!("it showed subject \"CN={name}\", names [{name}], {}", ca.fingerprint(name))
}

#[test]
fn a_client_without_certificate_is_refused() {
    if !has("openssl") {
        return;
    }
    let ca = ca();
    let client = |address: &str, options: &[&str]| s_client(address, &ca, options);
    assert_refused(
        &ca,
        "client-ca = \"{ca}/ca.pem\"",
        client,
        &["it showed no certificate, and one is required (client-ca, peers)"],
    );
    let any = format!("peers = [\"{}\"]", ca.fingerprint("penstock.example"));
    assert_refused(&ca, &any, client, &["it showed no certificate, and one is required (client-ca, peers)"]);
}

#[test]
fn a_client_of_another_ca_is_refused() {
    if !has("openssl") {
        return;
    }
    let (ca, other) = (ca(), Ca::new("another CA"));
    other.client("client.example");
    let client = |address: &str, options: &[&str]| s_client_as("client.example", &other, address, &ca, options);
    let reasons = ["no CA expected here has signed its certificate", &shown(&other, "client.example")];
    assert_refused(&ca, "client-ca = \"{ca}/ca.pem\"\npeers = [\"client.example\"]", client, &reasons);
}

#[test]
fn a_client_of_another_name_is_refused() {
    if !has("openssl") {
        return;
    }
    let ca = ca();
    ca.client("stranger.example");
    let client = |address: &str, options: &[&str]| s_client_as("stranger.example", &ca, address, &ca, options);
    let reasons = ["not one of the peers expected: client.example, *.inner.example", &shown(&ca, "stranger.example")];
    assert_refused(&ca, "client-ca = \"{ca}/ca.pem\"\npeers = [\"client.example\", \"*.inner.example\"]", client, &reasons);
}

#[test]
fn a_client_of_another_fingerprint_is_refused() {
    if !has("openssl") {
        return;
    }
    let ca = ca();
    ca.client("client.example");
    ca.client("renewed.example");
    let expected = ca.fingerprint("client.example");
    let client = |address: &str, options: &[&str]| s_client_as("renewed.example", &ca, address, &ca, options);
    let reasons = [&format!("not one of the peers expected: {expected}"), &shown(&ca, "renewed.example")[..]];
    assert_refused(&ca, &format!("peers = [\"{expected}\"]"), client, &reasons);
}

#[test]
fn a_revoked_client_is_refused_and_no_other() {
    if !has("openssl") {
        return;
    }
    let ca = ca();
    ca.client("client.example");
    ca.client("good.example");
    ca.revoke("client.example");
    let options = "client-ca = \"{ca}/ca.pem\"\ncrl = \"{ca}/crl.pem\"";
    let client = |address: &str, options: &[&str]| s_client_as("client.example", &ca, address, &ca, options);
    assert_refused(&ca, options, client, &["its certificate is revoked (crl)", &shown(&ca, "client.example")]);
    let server = start(&ca, options);
    run(&mut s_client_as("good.example", &ca, &server.address("tls").to_string(), &ca, &[]), MESSAGE.as_bytes());
    assert_eq!(server.lines("out", 1), ["host app hello"]);
}

/// `check` refuses the file at the place of `crl`, and names it.
fn assert_no_revocation_list(ca: &Ca, file: &str) {
    let folder = ca.folder().display().to_string();
    let options = format!("client-ca = \"{folder}/ca.pem\"\ncrl = \"{folder}/{file}\"");
    let path = ca.path("penstock.toml");
    let config = CONFIG.replace("{options}", &options).replace("{ca}", &folder).replace("{dir}", &folder);
    std::fs::write(&path, config).expect("written");
    let output = try_run(Command::new(PENSTOCK).args(["check", "--config"]).arg(&path), b"");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{file}: {text}");
    assert!(text.contains("penstock.toml:7:7: ") && text.contains(&format!("{folder}/{file}")), "{file}: {text}");
}

#[test]
fn a_revocation_list_of_version_1_is_an_error_at_its_place() {
    if !has("openssl") {
        return;
    }
    let ca = ca();
    ca.old_revocation_list();
    assert_no_revocation_list(&ca, "old.pem");
}

/// Where nothing is revoked by mistake, everybody gets in.
#[test]
fn a_file_without_a_revocation_list_is_an_error_at_its_place() {
    if !has("openssl") {
        return;
    }
    assert_no_revocation_list(&ca(), "ca.pem");
}

#[test]
fn a_client_whose_certificate_has_expired_is_refused() {
    if !has("openssl") {
        return;
    }
    let ca = ca();
    ca.expired_client("client.example");
    let client = |address: &str, options: &[&str]| s_client_as("client.example", &ca, address, &ca, options);
    let reasons = ["its certificate has expired", &shown(&ca, "client.example")];
    assert_refused(&ca, "client-ca = \"{ca}/ca.pem\"", client, &reasons);
}

/// RFC 5425, section 4.2.2: the two ends may do without a CA.
#[test]
fn the_right_fingerprint_needs_no_ca() {
    if !has("openssl") {
        return;
    }
    let (ca, other) = (ca(), Ca::new("another CA"));
    other.client("client.example");
    for version in VERSIONS {
        let server = start(&ca, &format!("peers = [\"{}\"]", other.fingerprint("client.example")));
        let address = server.address("tls").to_string();
        run(&mut s_client_as("client.example", &other, &address, &ca, &[version]), MESSAGE.as_bytes());
        assert_eq!(server.lines("out", 1), ["host app hello"], "{version}");
    }
}

#[test]
fn plain_text_to_a_tls_port_is_named() {
    if !has("openssl") || !has("logger") {
        return;
    }
    let server = start(&ca(), "");
    let port = server.address("tls").port().to_string();
    try_run(Command::new("logger").args(["--tcp", "-n", "127.0.0.1", "-P", &port, "hello"]), b"");
    server.wait_for_log("input `tls`: 127.0.0.1 was refused: it speaks plain text to a TLS port");
    assert_eq!(server.read("out"), "");
}

#[test]
fn tls_to_a_plain_port_is_named_and_is_no_message() {
    if !has("openssl") {
        return;
    }
    let ca = ca();
    let (_, rest) = CONFIG.split_once("{options}").expect("it has");
    let server = Server::start(&format!("[[input.tcp]]\nlisten = \"127.0.0.1:0\"\n{rest}"));
    try_run(&mut s_client(&server.address("tcp").to_string(), &ca, &[]), MESSAGE.as_bytes());
    server.wait_for_log("input `tcp`: 127.0.0.1 speaks TLS (a ClientHello) to a plain TCP port; closed");
    assert_eq!(server.read("out"), "");
}

/// The subject of the server's certificate, as OpenSSL prints it.
fn server_subject(address: &str, ca: &Ca) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", address, "-CAfile"]).arg(ca.path("ca.pem"));
    let text = run(&mut command, b"");
    let line = text.lines().find(|line| line.starts_with("subject=")).unwrap_or_else(|| panic!("no subject in {text}"));
    line.replace(' ', "")
}

#[test]
fn a_reload_takes_the_new_certificate_and_keeps_the_connections() {
    if !has("openssl") {
        return;
    }
    let ca = ca();
    ca.server("renewed.example");
    let server = start(&ca, "");
    let address = server.address("tls").to_string();
    let mut open = s_client(&address, &ca, &["-ign_eof"]);
    let mut open = Running::start(open.stdout(Stdio::null()).stderr(Stdio::null()));
    open.write(MESSAGE);
    server.lines("out", 1);
    assert_eq!(server_subject(&address, &ca), "subject=CN=penstock.example");
    for kind in ["pem", "key"] {
        let [new, live] = ["renewed", "penstock"].map(|name| ca.path(&format!("{name}.example.{kind}")));
        std::fs::copy(new, live).expect("copied");
    }
    server.hup();
    server.wait_for_log("reloaded ");
    assert_eq!(server_subject(&address, &ca), "subject=CN=renewed.example");
    open.write(&MESSAGE.replace("hello", "still here"));
    assert_eq!(server.lines("out", 2), ["host app hello", "host app still here"]);
}

/// A server that sends session tickets gets a reset for its trouble, and the messages on their way are gone.
#[test]
fn a_sender_that_closes_at_once_without_reading_loses_nothing() {
    if !has("openssl") || !has("python3") {
        return;
    }
    let ca = ca();
    ca.client("client.example");
    let expected: Vec<_> = (0..20_000).map(|number| format!("host app message {number}")).collect();
    for version in ["1.2", "1.3"] {
        let server = start(&ca, "client-ca = \"{ca}/ca.pem\"");
        let mut sender = Command::new("python3");
        sender.arg(script("tls_sender.py")).args([&server.address("tls").to_string(), version, "20000"]);
        sender.args(["ca.pem", "client.example.pem", "client.example.key"].map(|name| ca.path(name)));
        run(&mut sender, b"");
        assert_each_once(&server.lines("out", 20_000), &expected);
    }
}

/// penstock sends to a server with this certificate: nothing goes out, and the log says what is wrong with whom.
fn assert_server_refused(signer: &Ca, name: &str, options: &str, ca: &Ca, reasons: &[&str]) {
    let port = free_port();
    let mut command = Command::new("openssl");
    command.args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}")]);
    command.arg("-cert").arg(signer.path(&format!("{name}.pem"))).arg("-key").arg(signer.path(&format!("{name}.key")));
    let received = tempfile::NamedTempFile::new().expect("a file");
    let _server = Running::start(command.stdout(received.reopen().expect("opened")).stderr(Stdio::null()));
    wait_for_tcp(port);
    let folder = ca.folder().display();
    let penstock = Server::start(&format!(
        "[[input.udp]]\nlisten = \"127.0.0.1:0\"\n[[route]]\nto = [\"out\"]\n[[output.forward]]\nname = \"out\"\n\
         to = [\"tls://localhost:{port}\"]\nca = \"{folder}/ca.pem\"\n{options}"
    ));
    let sender = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
    sender.send_to(MESSAGE.as_bytes(), penstock.address("udp")).expect("sent");
    let line = penstock.wait_for_log(&format!("tls://localhost:{port}: "));
    for reason in reasons {
        assert!(line.contains("output `out`") && line.contains(reason), "{reason} in {line}");
    }
    assert_eq!(std::fs::read(received.path()).expect("read"), b"");
}

#[test]
fn a_server_of_another_ca_gets_nothing() {
    if !has("openssl") {
        return;
    }
    let (ca, other) = (ca(), Ca::new("another CA"));
    other.server("relay.example");
    let subject = format!(
        "subject \"CN=relay.example\", names [relay.example, localhost, 127.0.0.1], {}",
        other.fingerprint("relay.example")
    );
    assert_server_refused(&other, "relay.example", "", &ca, &["no CA expected here has signed its certificate", &subject]);
}

#[test]
fn a_server_of_another_name_gets_nothing() {
    if !has("openssl") {
        return;
    }
    let ca = ca();
    ca.client("relay.example");
    let subject = format!("subject \"CN=relay.example\", names [relay.example], {}", ca.fingerprint("relay.example"));
    assert_server_refused(&ca, "relay.example", "", &ca, &["its certificate is not for `localhost`", &subject]);
    let peers = "peers = [\"other.example\"]\n";
    assert_server_refused(
        &ca,
        "penstock.example",
        peers,
        &ca,
        &["not one of the peers expected: other.example", "subject \"CN=penstock.example\""],
    );
}

#[test]
fn a_server_whose_certificate_has_expired_gets_nothing() {
    if !has("openssl") {
        return;
    }
    let ca = ca();
    ca.expired_client("localhost");
    assert_server_refused(&ca, "localhost", "", &ca, &["its certificate has expired", "subject \"CN=localhost\""]);
}
