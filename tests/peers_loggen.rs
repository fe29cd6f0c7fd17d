//! syslog-ng's load generator `loggen`: it knows how many it has sent, and so many arrive.
//!
//! It is `loggen` on the path, or what `peers/unpack-syslog-ng.sh` has unpacked and `PENSTOCK_LOGGEN` names.

mod common;
mod peers;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Server, has};
use peers::certificates::Ca;
use peers::{assert_each_once, try_run};

const CONFIG: &str = r#"
[[input.udp]]
listen = "127.0.0.1:0"
[[input.tcp]]
listen = "127.0.0.1:0"
[[input.unix]]
kind = "stream"
listen = "{dir}/stream"
[template]
seen = "{facility}.{severity} {hostname} {app-name} {proc-id} {message}"
[[route]]
to = ["out"]
[[output.file]]
name = "out"
path = "{dir}/out"
format = "seen"
"#;

/// Octets of a message, its line feed included.
const SIZE: usize = 300;

fn loggen() -> Option<Command> {
    let Some(program) = std::env::var_os("PENSTOCK_LOGGEN").map(PathBuf::from) else {
        return has("loggen").then(|| Command::new("loggen"));
    };
    let mut command = Command::new(&program);
    if let Some(prefix) = program.parent().and_then(Path::parent) {
        // It looks for its plug-ins below it.
        command.env("SYSLOGNG_PREFIX", prefix);
    }
    if let Some(libraries) = std::env::var_os("LOGGEN_LD_LIBRARY_PATH") {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    Some(command)
}

/// `number` from each of so many connections.
struct Load {
    number: usize,
    connections: usize,
    /// A second, of each connection.
    rate: usize,
}

const FAST: Load = Load { number: 2000, connections: 4, rate: 1_000_000 };
/// So slow that no receive buffer ever fills.
const SLOW: Load = Load { number: 400, connections: 1, rate: 1000 };

/// The numbers and threads are those that were sent, each once, and all of the text is there.
fn assert_all_arrive(server: &Server, load: &Load, options: &[&str], target: &[&str]) {
    let Some(mut command) = loggen() else { return };
    let numbers =
        [("--number", load.number), ("--active-connections", load.connections), ("--rate", load.rate), ("--size", SIZE)];
    for (option, number) in numbers {
        command.arg(format!("{option}={number}"));
    }
    let output = try_run(command.args(options).args(target), b"");
    let (count, said) = (load.number * load.connections, String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains(&format!("count={count},")), "{said}");
    let lines = server.lines("out", count);
    let expected: Vec<_> = (0..load.connections)
        .flat_map(|thread| (0..load.number).map(move |number| format!("seq: {number:010}, thread: {thread:04}")))
        .collect();
    let numbers: Vec<_> = lines.iter().map(|line| numbers_of(line)).collect();
    assert_each_once(&numbers, &expected);
    let length = lines[0].len();
    assert!(lines.iter().all(|line| line.len() == length && length > SIZE - 60), "{}", lines[0]);
}

/// `seq: …, thread: …` of a line that is right otherwise.
fn numbers_of(line: &str) -> &str {
    let text = line.strip_prefix("auth.info localhost prg00000 1234 ").unwrap_or_else(|| panic!("{line}"));
    let text = text.trim_start_matches('\u{feff}');
    let (numbers, rest) = text.split_once(", runid: ").unwrap_or_else(|| panic!("{line}"));
    assert!(rest.contains(", stamp: ") && rest.contains(" PADDPADDPADD"), "{line}");
    numbers
}

fn ip(server: &Server, input: &str) -> [String; 2] {
    let address = server.address(input);
    [address.ip().to_string(), address.port().to_string()]
}

/// In the BSD format, and in RFC 5424 framed and not.
const FORMATS: [&[&str]; 3] = [&[], &["--syslog-proto"], &["--syslog-proto", "--no-framing"]];

#[test]
fn by_tcp() {
    for format in FORMATS {
        let server = Server::start(CONFIG);
        let [host, port] = ip(&server, "tcp");
        assert_all_arrive(&server, &FAST, &[&["--inet", "--stream"], format].concat(), &[&host, &port]);
    }
}

#[test]
fn by_udp() {
    for format in [FORMATS[0], FORMATS[2]] {
        let server = Server::start(CONFIG);
        let [host, port] = ip(&server, "udp");
        assert_all_arrive(&server, &SLOW, &[&["--inet", "--dgram"], format].concat(), &[&host, &port]);
    }
}

#[test]
fn by_unix_stream() {
    for format in FORMATS {
        let server = Server::start(CONFIG);
        let path = server.path("stream").display().to_string();
        assert_all_arrive(&server, &FAST, &[&["--unix", "--stream"], format].concat(), &[&path]);
    }
}

#[test]
fn by_tls() {
    if !has("openssl") {
        return;
    }
    let ca = Ca::new("the test's CA");
    ca.server("penstock.example");
    let files = ["pem", "key"].map(|kind| ca.path(&format!("penstock.example.{kind}")).display().to_string());
    let input = format!("[[input.tls]]\nlisten = \"127.0.0.1:0\"\ncertificate = \"{}\"\nkey = \"{}\"\n", files[0], files[1]);
    for format in FORMATS {
        let server = Server::start(&format!("{input}{CONFIG}"));
        let [host, port] = ip(&server, "tls");
        assert_all_arrive(&server, &FAST, &[&["--use-ssl"], format].concat(), &[&host, &port]);
    }
}
