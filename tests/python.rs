//! Every network handler of CPython's standard library, over every transport, from every interpreter that is there: each record
//! once, whole, in the right file, with its severity, app name, process and time.

mod common;
mod peers;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Server, has, wait_until};
use peers::certificates::Ca;
use peers::{pythons, run, script};
use serde_json::Value;

const INPUTS: &str = r#"
[[input.python]]
listen = "127.0.0.1:0"
[[input.python]]
name = "python-tls"
listen = "127.0.0.1:0"
certificate = "{ca}/server.pem"
key = "{ca}/server.key"
[[input.python]]
name = "datagram"
kind = "datagram"
listen = "127.0.0.1:0"
[[input.python]]
name = "unix"
listen = "{dir}/python"
[[input.python]]
name = "unix-datagram"
kind = "datagram"
listen = "{dir}/datagram"
[[input.http]]
listen = "127.0.0.1:0"
paths = ["/log"]
passwords = "{dir}/passwords"
plaintext-credentials = true
[[input.http]]
name = "https"
listen = "127.0.0.1:0"
paths = ["/log"]
passwords = "{dir}/passwords"
certificate = "{ca}/server.pem"
key = "{ca}/server.key"
[[input.udp]]
listen = "127.0.0.1:0"
[[input.tcp]]
listen = "127.0.0.1:0"
[metrics]
listen = "127.0.0.1:0"
[[output.file]]
name = "json"
path = "{dir}/logs/{input}/{app-name}.json"
format = "json"
[[output.file]]
name = "lines"
path = "{dir}/lines/{app-name}.log"
format = "rfc5424"
[[route]]
to = ["json", "lines"]
"#;

fn server(ca: &Path) -> Server {
    let config = INPUTS.replace("{ca}", &ca.display().to_string());
    let folder = tempfile::tempdir().expect("a folder");
    let passwords = folder.path().join("passwords");
    std::fs::write(&passwords, "# one a line\napp:pass:word\n").expect("written");
    Server::start(&config.replace("{dir}/passwords", &passwords.display().to_string()))
}

/// The handler in the script, and the input that it logs to.
const HANDLERS: [(&str, &str); 10] = [
    ("socket", "python"),
    ("socket", "unix"),
    ("socket-tls", "python-tls"),
    ("datagram", "datagram"),
    ("datagram", "unix-datagram"),
    ("http-get", "http"),
    ("http-post", "http"),
    ("https-post", "https"),
    ("syslog-udp", "udp"),
    ("syslog-tcp", "tcp"),
];

fn address(server: &Server, input: &str) -> String {
    match input {
        "unix" => server.path("python").display().to_string(),
        "unix-datagram" => server.path("datagram").display().to_string(),
        "https" | "python-tls" => format!("localhost:{}", server.address(input).port()),
        _ => server.address(input).to_string(),
    }
}

/// The records of an input's file, by the number in their text.
fn written(server: &Server, input: &str) -> Vec<Value> {
    let text = server.read(&format!("logs/{input}/shop.orders.json"));
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn micros(stamp: &Value) -> i64 {
    let stamp = stamp.as_str().expect("a time");
    chrono::DateTime::parse_from_rfc3339(stamp).expect("RFC 3339").timestamp_micros()
}

/// What a record became is what the script says.
fn assert_right(record: &Value, expected: &Value, what: &str) {
    for key in ["app_name", "proc_id", "severity", "message"] {
        // A text that was the whole of JSON is an object.
        let is_nested = key == "message" && record["message"].is_null() && record["json"].is_object();
        assert!(is_nested || record[key] == expected[key], "{what}: {key}: {record}\n{expected}");
    }
    if let Some(created) = expected["created"].as_f64() {
        let expected = (created * 1e6).round() as i64;
        assert!((micros(&record["timestamp"]) - expected).abs() <= 1, "{what}: {record}\n{expected}");
    }
    let late = micros(&record["received"]) - chrono::Utc::now().timestamp_micros();
    assert!(late.abs() < 3600 * 1_000_000, "{what}: {record}");
    match &expected["user"] {
        Value::Null => {}
        // A form has nothing but texts.
        Value::Object(user) if what.contains("http") => {
            let text = record["json"]["user"].as_str().expect("a text");
            assert!(text.contains(&format!("'id': {}", user["id"])), "{what}: {text}");
        }
        user => assert_eq!(record["json"]["user"], *user, "{what}"),
    }
}

#[test]
fn every_handler_is_right_from_every_interpreter() {
    if !has("python3") || !has("openssl") {
        return;
    }
    let ca = Ca::new("Python CA");
    ca.server("server");
    let folder = ca.path("ca.pem").parent().expect("a folder").to_owned();
    let server = server(&folder);
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for python in pythons() {
        for (handler, input) in HANDLERS {
            let what = format!("{} {handler} to {input}", python.display());
            let mut command = Command::new(&python);
            command.arg(script("handlers.py")).args([handler, &address(&server, input)]).arg(ca.path("ca.pem"));
            let printed = run(&mut command, b"");
            let expected: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            assert!(expected.len() >= 60, "{what}");
            let before = seen.entry(input).or_default();
            wait_until(&format!("{} records: {what}", expected.len()), || {
                written(&server, input).len() >= *before + expected.len()
            });
            let records = written(&server, input);
            assert_eq!(records.len(), *before + expected.len(), "{what}");
            // Datagrams and requests one after the other; nothing has overtaken anything.
            for (record, expected) in records[*before..].iter().zip(&expected) {
                assert_right(record, expected, &what);
            }
            *before = records.len();
        }
    }
    for (_, input) in HANDLERS {
        let kind = match input {
            "unix" | "unix-datagram" | "datagram" | "python-tls" => "python",
            "https" => "http",
            input => input,
        };
        let foreign = server.metric(&format!("penstock_foreign_records_total{{input=\"{input}\",kind=\"{kind}\"}}"));
        assert_eq!(foreign, 0, "{input}: everything was understood");
    }
    let total: usize = seen.values().sum();
    let lines = server.lines("lines/shop.orders.log", total);
    assert!(lines.iter().any(|line| line.contains("[python@32473 number=\"1\" user=\"{\\\"id\\\":1,")), "{}", lines[0]);
    server.stop();
}

/// This reader of JSON takes the last digit of a fraction as it likes.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => one.len() == other.len() && one.iter().zip(other).all(|(a, b)| is_same(a, b)),
        (Value::Number(one), Value::Number(other)) if one.is_f64() && other.is_f64() => {
            let (one, other) = (one.as_f64().expect("a float"), other.as_f64().expect("a float"));
            (one - other).abs() <= 1e-15 * one.abs()
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len() && one.iter().all(|(key, value)| other.get(key).is_some_and(|other| is_same(value, other)))
        }
        (one, other) => one == other,
    }
}

/// The decoder against CPython's own `pickle`: generated records in every protocol.
#[test]
fn pickles_are_read_as_python_reads_them() {
    if !has("python3") {
        return;
    }
    for python in pythons() {
        let printed = run(Command::new(&python).arg(script("handlers.py")).arg("pickles"), b"");
        let lines: Vec<_> = printed.lines().collect();
        assert!(lines.len() >= 200 * 5 * 2, "{}", python.display());
        for pair in lines.chunks(2) {
            let expected: Value = serde_json::from_str(&pair[0].replace("NaN", "null")).expect("JSON");
            let octets = |i| u8::from_str_radix(&pair[1][i..i + 2], 16).expect("hexadecimal");
            let bytes: Vec<u8> = (0..pair[1].len()).step_by(2).map(octets).collect();
            let pickle = penstock::translate::pickle::read(&bytes).expect("a pickle");
            assert!(pickle.is_whole && pickle.foreign == 0, "{}: {}", python.display(), pair[1]);
            let mut json = Vec::new();
            pickle.heap.json(&pickle.value, 1 << 20, &mut json);
            let read: Value = serde_json::from_slice(&json).expect("JSON");
            let (read, expected) = (read.as_object().expect("a dict"), expected.as_object().expect("a dict"));
            assert_eq!(read.len(), expected.len(), "{}: {}", python.display(), pair[1]);
            for (key, value) in expected {
                let own = read.get(key).unwrap_or_else(|| panic!("{key} of {}", pair[1]));
                assert!(is_same(own, value), "{} {key}: {own} is not {value}: {}", python.display(), pair[1]);
            }
        }
    }
}

const PLAIN: &str = r#"
[[input.python]]
listen = "127.0.0.1:0"
max-message = "64KiB"
[[input.python]]
name = "datagram"
kind = "datagram"
listen = "127.0.0.1:0"
[metrics]
listen = "127.0.0.1:0"
[[output.file]]
name = "all"
path = "{dir}/all.log"
format = "json"
[[route]]
to = ["all"]
"#;

/// `{'name': 'app', 'msg': TEXT}` with its length, in protocol 1.
fn record(text: &str) -> Vec<u8> {
    let mut pickle = b"}q\x00(X\x04\x00\x00\x00nameX\x03\x00\x00\x00appX\x03\x00\x00\x00msgX".to_vec();
    pickle.extend_from_slice(&(text.len() as u32).to_le_bytes());
    pickle.extend_from_slice(text.as_bytes());
    pickle.extend_from_slice(b"u.");
    framed(&pickle)
}

fn framed(pickle: &[u8]) -> Vec<u8> {
    [&(pickle.len() as u32).to_be_bytes()[..], pickle].concat()
}

fn messages(server: &Server, count: usize) -> Vec<String> {
    let message = |line: String| {
        let record: Value = serde_json::from_str(&line).expect("JSON");
        record["message"].as_str().unwrap_or_default().to_owned()
    };
    server.lines("all.log", count).into_iter().map(message).collect()
}

fn sent(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.write_all(bytes).expect("sent");
    stream.shutdown(std::net::Shutdown::Write).expect("open");
    stream.read_to_end(&mut Vec::new()).expect("closed in order");
}

/// Nesting, memo bombs, huge lengths, imports and calls: what they claim is neither done nor allocated, and what comes beside
/// them arrives.
#[test]
fn attack_frames_do_no_harm() {
    let server = Server::start(PLAIN);
    let marker = server.path("harm");
    let command = format!("touch {}", marker.display());
    let long = |bytes: &[u8]| framed(bytes);
    let mut bomb = b"]q\x00".to_vec();
    for level in 1..100_u8 {
        bomb.extend_from_slice(&[b']', b'q', level, b'(']);
        (0..20).for_each(|_| bomb.extend_from_slice(&[b'h', level - 1]));
        bomb.push(b'e');
    }
    bomb.push(b'.');
    let attacks = [
        long(format!("cos\nsystem\n(S'{command}'\ntR.").as_bytes()),
        long(format!("(S'{command}'\nios\nsystem\n.").as_bytes()),
        long(b"\x80\x04"),
        long(format!("}}(S'msg'\ncos\nsystem\n(S'{command}'\ntRu.").as_bytes()),
        long(&b"(".repeat(60_000)),
        long(&[&b"]".repeat(30_000)[..], &b"a".repeat(29_999), b"."].concat()),
        long(&bomb),
        long(b"\x80\x05\x8d\xff\xff\xff\xff\xff\xff\xff\x7f"),
        long(b"}(X\xff\xff\xff\xffu."),
        long(b"\x8b\xff\xff\xff\x7f."),
        long(b"Nr\xff\xff\xff\xff."),
        long(b"."),
        long(b"u"),
        vec![0, 0, 0, 0],
    ];
    let empty = 1;
    for (i, attack) in attacks.iter().enumerate() {
        sent(server.address("python"), &[&record(&format!("before {i}"))[..], attack, &record(&format!("behind {i}"))].concat());
    }
    let arrived = messages(&server, 3 * attacks.len() - empty);
    for i in 0..attacks.len() {
        assert!(arrived.contains(&format!("before {i}")) && arrived.contains(&format!("behind {i}")), "{i}");
    }
    assert!(!marker.exists(), "nothing was executed");
    assert!(arrived.iter().any(|text| text.starts_with("os.system(")), "it is shown instead: {arrived:?}");
    let foreign = server.metric("penstock_foreign_records_total{input=\"python\",kind=\"python\"}");
    assert_eq!(foreign as usize, attacks.len() - empty);
    let peak = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let peak = peak.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux has it").trim().to_owned();
    let kib: usize = peak.trim_end_matches(" kB").parse().expect("a number");
    assert!(kib < 200 << 10, "{kib} KiB");
    server.stop();
}

/// A frame that claims four gigabytes is cut to `max-message`; the rest is passed over, and the next record is whole.
#[test]
fn an_overlong_record_is_cut_and_the_next_is_intact() {
    let server = Server::start(PLAIN);
    let text = "y".repeat(200_000);
    sent(server.address("python"), &[record("first"), record(&text), record("last")].concat());
    let arrived = messages(&server, 3);
    assert_eq!((&*arrived[0], &*arrived[2]), ("first", "last"));
    assert!(arrived[1].len() > 60_000 && text.starts_with(&arrived[1]), "{}", arrived[1].len());
    sent(server.address("python"), &record("broken off")[..40]);
    assert_eq!(messages(&server, 4)[3], "br");
    server.stop();
}

#[test]
fn who_sends_syslog_instead_is_heard_all_the_same() {
    let server = Server::start(PLAIN);
    sent(server.address("python"), b"<14>one\n<14>two\n");
    sent(server.address("python"), b"<78>(root) CMD (run)\n");
    sent(server.address("python"), &[&record("a record")[..], b"then text\n"].concat());
    let datagram = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    datagram.send_to(b"<14>three\0", server.address("datagram")).expect("sent");
    let mut arrived = messages(&server, 6);
    arrived.sort();
    assert_eq!(arrived, ["(root) CMD (run)", "a record", "one", "then text", "three", "two"]);
    server.wait_for_log("sends no pickled records");
    server.stop();
    let server = Server::start(PLAIN);
    let mut hello = TcpStream::connect(server.address("python")).expect("connected");
    hello.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00]).expect("sent");
    let _ = hello.read_to_end(&mut Vec::new());
    server.wait_for_log("speaks TLS (a ClientHello) to a plain TCP port");
    assert_eq!(server.read("all.log"), "", "nothing of it is a message");
    server.stop();
}

/// The application notices nothing of a restart: its connection goes on, in the middle of a record.
#[test]
fn a_connection_outlives_the_server() {
    let first = Server::start(PLAIN);
    let mut stream = TcpStream::connect(first.address("python")).expect("connected");
    let whole = record("in two pieces");
    stream.write_all(&[&record("before")[..], &whole[..20]].concat()).expect("sent");
    assert_eq!(messages(&first, 1), ["before"]);
    let config: PathBuf = first.path("penstock.toml");
    let second = peers::Running::start(Command::new(common::PENSTOCK).args(["run", "--takeover", "--config"]).arg(&config));
    first.wait_for_log("stopped");
    stream.write_all(&[&whole[20..], &record("behind")[..]].concat()).expect("sent");
    assert_eq!(messages(&first, 3), ["before", "in two pieces", "behind"]);
    drop(second);
}
