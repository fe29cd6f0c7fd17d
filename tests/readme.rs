//! The README is true: its commands and examples do what stands beside them.

mod common;

use std::process::Command;

use common::{Server, has};

const README: &str = include_str!("../README.md");

/// The first fenced block of a language that contains the text.
fn block(language: &str, containing: &str) -> String {
    let blocks = README.split("```").skip(1).step_by(2);
    let mut found =
        blocks.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).filter(|block| block.contains(containing));
    found.next().unwrap_or_else(|| panic!("no block of {language} with {containing}")).to_owned()
}

fn quickstart() -> Server {
    let config = include_str!("../conf/quickstart.toml");
    let config = config
        .replace("127.0.0.1:5514", "127.0.0.1:0")
        .replace("127.0.0.1:9514", "127.0.0.1:0")
        .replace("\"./logs/", "\"{dir}/logs/");
    Server::start(&config)
}

#[test]
fn the_python_snippet_gives_the_lines_that_are_shown() {
    if !has("python3") {
        return;
    }
    let server = quickstart();
    let snippet = block("python", "SysLogHandler").replace("5514", &server.address("tcp").port().to_string());
    let status =
        Command::new("python3").args(["-c", &snippet]).stderr(std::process::Stdio::null()).status().expect("python runs");
    assert!(status.success());
    let lines = server.lines("logs/127.0.0.1/python-app.log", 2);
    let shown = block("console", "python-app.log");
    let shown: Vec<_> = shown.lines().filter(|line| line.contains(" python-app[")).collect();
    for (line, shown) in lines.iter().zip(shown) {
        let text =
            |line: &str| line.split_once("]: ").map(|(_, text)| text.split("  File").next().unwrap_or_default().to_owned());
        assert_eq!(text(line), text(shown));
        assert!(text(line).is_some());
    }
}

#[test]
fn the_logger_line_gives_the_line_that_is_shown() {
    if !has("logger") {
        return;
    }
    let server = quickstart();
    let line = block("sh", "logger --server").replace("5514", &server.address("udp").port().to_string());
    assert!(Command::new("sh").args(["-c", &line]).status().expect("sh runs").success());
    let mut found = Vec::new();
    common::wait_until("the message", || {
        found = server.files("logs").into_iter().filter(|(name, _)| name.ends_with("/backup.log")).collect();
        found.iter().any(|(_, text)| text.ends_with("backup: it is done\n"))
    });
}

/// Every key and name is right; only the certificates are not there.
#[test]
fn the_example_is_a_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("penstock.toml");
    std::fs::write(&path, block("toml", "[[input.tls]]")).expect("written");
    let output = Command::new(common::PENSTOCK).args(["check", "--config"]).arg(&path).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let others: Vec<_> = text.lines().filter(|line| !line.contains("/etc/penstock/tls/")).collect();
    assert!(others.is_empty(), "{others:?}");
}
