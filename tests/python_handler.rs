//! The handler in `python/`: its own tests under every interpreter, and itself against a real server.

mod common;
mod peers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Server, free_port, has, wait_until};
use peers::certificates::Ca;
use peers::{Running, pythons, script};
use serde_json::Value;

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

#[test]
fn its_own_tests_pass_under_every_interpreter() {
    if !has("python3") || !has("openssl") {
        return;
    }
    let runs: Vec<_> = pythons()
        .into_iter()
        .map(|python| {
            let mut command = Command::new(&python);
            command.args(["-X", "dev", "-m", "unittest", "discover", "-q", "-s"]).arg(sources().join("tests"));
            command.arg("-t").arg(sources()).env("PYTHONPATH", sources().join("src"));
            command.env("PYTHONDONTWRITEBYTECODE", "1").stdout(Stdio::piped()).stderr(Stdio::piped());
            (python, command.spawn().expect("it runs"))
        })
        .collect();
    for (python, child) in runs {
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("\nOK"), "{}: {said}", python.display());
    }
}

#[test]
fn its_types_hold() {
    if !has("mypy") {
        return;
    }
    let cache = tempfile::tempdir().expect("a folder");
    let output = Command::new("mypy").args(["--strict", "--cache-dir"]).arg(cache.path()).arg(sources().join("src")).output();
    let output = output.expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

const OUTPUT: &str = r#"
[[output.file]]
name = "all"
path = "{out}"
format = "json"
[[route]]
to = ["all"]
"#;

/// An input on a port that stays the same, and the handler's URL and options for it.
fn transport(kind: &str, port: u16, ca: &Ca) -> (String, String, Vec<String>) {
    let file = |name: &str| ca.path(name).display().to_string();
    let tls = format!("certificate = \"{}\"\nkey = \"{}\"\n", file("server.pem"), file("server.key"));
    let with_ca = vec![format!("ca={}", file("ca.pem"))];
    let listen = format!("listen = \"127.0.0.1:{port}\"\n");
    match kind {
        "http" => (format!("[[input.http]]\n{listen}"), format!("http://127.0.0.1:{port}/logs"), Vec::new()),
        "https" => {
            let tokens = format!("tokens = \"{}\"\n", file("tokens"));
            let options = [with_ca, vec!["token=t0ken".to_owned()]].concat();
            (format!("[[input.http]]\n{listen}{tls}{tokens}"), format!("https://localhost:{port}/logs"), options)
        }
        "relp" => (format!("[[input.relp]]\n{listen}"), format!("relp://127.0.0.1:{port}"), Vec::new()),
        "relps" => (format!("[[input.relp]]\n{listen}{tls}"), format!("relps://localhost:{port}"), with_ca),
        "tls" => (format!("[[input.tls]]\n{listen}{tls}"), format!("tls://localhost:{port}"), with_ca),
        _ => (format!("[[input.tcp]]\n{listen}"), format!("tcp://127.0.0.1:{port}"), Vec::new()),
    }
}

/// How often each number came; what came is right.
fn arrived(out: &Path) -> BTreeMap<u64, usize> {
    let mut seen = BTreeMap::new();
    for line in std::fs::read_to_string(out).unwrap_or_default().lines() {
        // A kill may have cut one.
        let Ok(record) = serde_json::from_str::<Value>(line) else { continue };
        let number = record["structured_data"]["python@32473"]["number"].as_str().expect("a number").parse().expect("a number");
        let is_failure = number % 100 == 0;
        let text = record["message"].as_str().expect("a text");
        match is_failure {
            true => assert!(text.contains("\nTraceback") && text.ends_with("ValueError: café"), "{text}"),
            false => assert_eq!(text, format!("[{number}] grüße\nund mehr")),
        }
        assert_eq!(record["severity"], if is_failure { "err" } else { "warning" });
        assert_eq!(
            (&record["app_name"], &record["structured_data"]["python@32473"]["logger"]),
            (&"own".into(), &"shop.orders".into())
        );
        *seen.entry(number).or_insert(0) += 1;
    }
    seen
}

fn numbers(from: u64, to: u64) -> String {
    (from..to).map(|number| format!("{number}\n")).collect()
}

#[test]
fn every_transport_brings_each_record_once() {
    if !has("python3") || !has("openssl") {
        return;
    }
    let ca = Ca::new("Handler CA");
    ca.server("server");
    std::fs::write(ca.path("tokens"), "t0ken\n").expect("written");
    for kind in ["http", "https", "relp", "relps", "tls", "tcp"] {
        let (input, url, options) = transport(kind, free_port(), &ca);
        let server = Server::start(&format!("{input}{}", OUTPUT.replace("{out}", "{dir}/out")));
        let mut command = Command::new("python3");
        command.arg(script("own_handler.py")).arg(url).args(options).env("PYTHONPATH", sources().join("src"));
        let said = peers::run(&mut command, numbers(1, 3001).as_bytes());
        assert_eq!(said.trim(), r#"{"dropped": {}, "delivered": true}"#, "{kind}");
        let out = server.path("out");
        wait_until(&format!("{kind}: all have come"), || arrived(&out).len() == 3000);
        assert!(arrived(&out).values().all(|count| *count == 1), "{kind}");
        server.stop();
    }
}

/// By RELP and HTTP nothing is missing, whenever the server is killed.
#[test]
fn what_is_acknowledged_survives_kills_of_the_server() {
    if !has("python3") {
        return;
    }
    let ca = Ca::new("Handler CA");
    for kind in ["relp", "http"] {
        let (input, url, options) = transport(kind, free_port(), &ca);
        let folder = common::TempDir::new().expect("a folder");
        let out = folder.path().join("out");
        let config = format!("{input}{}", OUTPUT.replace("{out}", &out.display().to_string()));
        let said = folder.path().join("said");
        let mut command = Command::new("python3");
        command.arg(script("own_handler.py")).arg(url).args(options).env("PYTHONPATH", sources().join("src"));
        let mut handler = Running::start(command.stdout(std::fs::File::create(&said).expect("a file")));
        let mut sent = 1;
        for _ in 0..4 {
            let mut server = Server::start(&config);
            handler.write(&numbers(sent, sent + 1000));
            sent += 1000;
            let enough = arrived(&out).len() + 300;
            wait_until("some have come", || arrived(&out).len() >= enough.min(sent as usize - 1));
            server.signal("KILL");
            server.wait();
        }
        let server = Server::start(&config);
        drop(handler.close_stdin());
        assert!(handler.wait().success());
        assert_eq!(std::fs::read_to_string(&said).expect("said").trim(), r#"{"dropped": {}, "delivered": true}"#);
        let seen = arrived(&out);
        assert_eq!(seen.len() as u64, sent - 1, "{kind}");
        server.stop();
    }
}
