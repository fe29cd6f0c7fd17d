//! CPython's `SysLogHandler`: no time, no host, no frame but a NUL, and every message is right all the same.

mod common;
mod peers;

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use common::{Server, files, has, wait_until};
use peers::rsyslogd::Rsyslogd;
use peers::{Running, assert_each_once, pythons, run, script, this_host};

const INPUTS: &str = r#"
[[input.udp]]
listen = "127.0.0.1:0"
[[input.tcp]]
listen = "127.0.0.1:0"
[[input.unix]]
listen = "{dir}/datagram"
[[input.unix]]
kind = "stream"
listen = "{dir}/stream"
[metrics]
listen = "127.0.0.1:0"
[template]
seen = "{severity}\t{message|json}"
[[route]]
to = ["by-program"]
[[output.file]]
name = "by-program"
path = "{dir}/logs/{hostname}/{app-name|default:unknown}.log"
"#;

fn python(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg(script("python.py")).args(arguments);
    command
}

/// Where the input of a transport is, as the script wants it, and which host its messages are from.
fn place(server: &Server, transport: &str) -> (String, String) {
    match transport {
        "unix-datagram" => (server.path("datagram").display().to_string(), this_host()),
        "unix-stream" => (server.path("stream").display().to_string(), this_host()),
        _ => (server.address(transport).to_string(), "127.0.0.1".to_owned()),
    }
}

fn written(server: &Server) -> usize {
    server.files("logs").values().map(|text| text.matches('\n').count()).sum()
}

/// Waits for so many lines, stops the server, and returns what is in its files then.
fn finished(mut server: Server, lines: usize) -> HashMap<String, String> {
    wait_until(&format!("{lines} lines"), || written(&server) >= lines);
    server.signal("TERM");
    assert!(server.wait().success());
    files(&server.path("logs"))
}

/// What the script says must be there, file by file.
fn expected(printed: &str, host: &str) -> HashMap<String, Vec<String>> {
    let mut files: HashMap<String, Vec<String>> = HashMap::new();
    for line in printed.lines() {
        let (app, seen) = line.split_once('\t').expect("app, severity, text");
        files.entry(format!("{host}/{app}.log")).or_default().push(seen.to_owned());
    }
    files
}

fn every_text_arrives(transport: &str) {
    if !has("python3") {
        return;
    }
    for program in pythons() {
        let server = Server::start(&format!("{INPUTS}format = \"seen\"\n"));
        let (address, host) = place(&server, transport);
        let printed = run(&mut python(&program, &["texts", transport, &address]), b"");
        let found = finished(server, printed.lines().count());
        let mut expected = expected(&printed, &host);
        for (file, text) in found {
            let expected =
                expected.remove(&file).unwrap_or_else(|| panic!("{}: {file} should not be: {text}", program.display()));
            assert_each_once(&text.lines().collect::<Vec<_>>(), &expected);
        }
        assert!(expected.is_empty(), "{}: these are missing: {:?}", program.display(), expected.keys());
    }
}

#[test]
fn every_format_and_text_is_one_message_by_udp() {
    every_text_arrives("udp");
}

#[test]
fn every_format_and_text_is_one_message_by_tcp() {
    every_text_arrives("tcp");
}

#[test]
fn every_format_and_text_is_one_message_by_unix_datagram() {
    every_text_arrives("unix-datagram");
}

#[test]
fn every_format_and_text_is_one_message_by_unix_stream() {
    every_text_arrives("unix-stream");
}

/// The texts of the README's example as a line shows them, without what depends on the version of Python.
const README: [&str; 6] =
    ["user logged in", "python-app[123]: INFO formatted", "boom#012Traceback", "grüße aus Köln", "disk almost full", ""];

#[test]
fn the_six_messages_of_the_readme_are_six_lines_in_the_right_files() {
    if !has("python3") {
        return;
    }
    let server = Server::start(INPUTS);
    let (address, host) = place(&server, "tcp");
    run(&mut python(Path::new("python3"), &["readme", "tcp", &address]), b"");
    let files = finished(server, README.len());
    assert_eq!(files.len(), 2, "{files:?}");
    let texts = |file: &str| {
        let after_host = |line: &str| line.split_once(&format!(" {host} ")).expect("time, host, text").1.to_owned();
        files[file].lines().map(after_host).collect::<Vec<_>>()
    };
    assert_eq!(texts("127.0.0.1/python-app.log"), [README[1]]);
    let mut others = texts("127.0.0.1/unknown.log");
    assert!(others[1].starts_with(README[2]) && others[1].ends_with("#012ZeroDivisionError: division by zero"), "{}", others[1]);
    others.remove(1);
    assert_eq!(others, [README[0], README[3], README[4], README[5]]);
}

/// What the README says of rsyslog: not one of the same six messages is a line of its own under its sender's name.
#[test]
fn rsyslogd_gets_none_of_the_six_messages_right() {
    if !has("rsyslogd") || !has("python3") {
        return;
    }
    let server = Rsyslogd::start(
        r#"
        module(load="imtcp")
        input(type="imtcp" port="0" address="127.0.0.1" listenPortFileName="{dir}/port")
        template(name="file" type="string" string="{dir}/logs/%HOSTNAME%/%programname%.log")
        template(name="line" type="string" string="%msg:::sp-if-no-1st-sp%%msg%\n")
        *.* action(type="omfile" dynaFile="file" template="line")
        "#,
    );
    let address = format!("127.0.0.1:{}", server.port("port"));
    run(&mut python(Path::new("python3"), &["readme", "tcp", &address]), b"");
    wait_until("the last text arrives", || files(&server.path("logs")).values().any(|text| text.contains("disk almost full")));
    let files = server.stop("logs");
    for (file, text) in &files {
        let of_the_sender = file.starts_with("127.0.0.1/") || file.starts_with("localhost/");
        let right = |line: &&str| {
            README.iter().any(|text| line.trim_start() == *text || (text.starts_with("boom") && line.contains(text)))
        };
        assert!(!(of_the_sender && text.lines().any(|line| right(&line))), "{file}: {text}");
    }
    assert!(files.contains_key("user/logged.log"), "{files:?}");
}

/// Five processes of two threads, a connection for each thread.
fn flood(server: &Server, transport: &str) -> Vec<Running> {
    let (address, _) = place(server, transport);
    let start = |process: usize| {
        let names = [2 * process, 2 * process + 1].map(|number| format!("worker-{number}"));
        Running::start(&mut python(Path::new("python3"), &["flood", transport, &address, &names[0], &names[1]]))
    };
    (0..5).map(start).collect()
}

/// Each worker's 200 messages are in its own file, each once and in order.
fn assert_each_worker_has_all(files: &HashMap<String, String>, host: &str) {
    assert_eq!(files.len(), 10, "{:?}", files.keys());
    for worker in 0..10 {
        let expected: Vec<_> = (0..200).map(|number| format!("info\t\"worker-{worker}: message {number}\"")).collect();
        let found: Vec<_> = files[&format!("{host}/worker-{worker}.log")].lines().collect();
        assert_each_once(&found, &expected);
        let strays: Vec<_> = found.iter().zip(&expected).filter(|(found, expected)| found != expected).take(5).collect();
        assert!(strays.is_empty(), "out of order: {strays:?}");
    }
}

/// As fast as they can; the stream holds them back.
fn streams_lose_and_mix_nothing(transport: &str) {
    if !has("python3") {
        return;
    }
    let server = Server::start(&format!("{INPUTS}format = \"seen\"\n"));
    let mut processes = flood(&server, transport);
    for process in &mut processes {
        process.write(&"go\n".repeat(10));
        process.close_stdin();
    }
    processes.iter_mut().for_each(|process| assert!(process.wait().success()));
    let (_, host) = place(&server, transport);
    assert_each_worker_has_all(&finished(server, 2000), &host);
}

/// In rounds, each of which fits into the receive buffer of a system that allows no more than the usual 208 KiB.
fn datagrams_lose_and_mix_nothing(transport: &str) {
    if !has("python3") {
        return;
    }
    let server = Server::start(&format!("{INPUTS}format = \"seen\"\n"));
    let mut processes = flood(&server, transport);
    for round in 1..=10 {
        processes.iter_mut().for_each(|process| process.write("go\n"));
        wait_until(&format!("round {round}"), || written(&server) >= round * 200);
    }
    let (_, host) = place(&server, transport);
    assert_each_worker_has_all(&finished(server, 2000), &host);
}

#[test]
fn ten_loggers_at_a_time_lose_and_mix_nothing_by_tcp() {
    streams_lose_and_mix_nothing("tcp");
}

#[test]
fn ten_loggers_at_a_time_lose_and_mix_nothing_by_unix_stream() {
    streams_lose_and_mix_nothing("unix-stream");
}

#[test]
fn ten_loggers_at_a_time_lose_and_mix_nothing_by_udp() {
    datagrams_lose_and_mix_nothing("udp");
}

#[test]
fn ten_loggers_at_a_time_lose_and_mix_nothing_by_unix_datagram() {
    datagrams_lose_and_mix_nothing("unix-datagram");
}
