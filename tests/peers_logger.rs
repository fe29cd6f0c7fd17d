//! util-linux's `logger` in all its modes: host, app name, process, severity and structured data are what it was told.

mod common;
mod peers;

use std::process::Command;

use common::{Server, has};
use peers::{assert_each_once, run, this_host};

const CONFIG: &str = r#"
[[input.udp]]
listen = "127.0.0.1:0"
[[input.tcp]]
listen = "127.0.0.1:0"
[[input.unix]]
listen = "{dir}/datagram"
[[input.unix]]
kind = "stream"
listen = "{dir}/stream"
[template]
seen = "{facility}.{severity} {hostname} {app-name} {proc-id} {msg-id} {structured-data} {message|json}"
[[route]]
to = ["out"]
[[output.file]]
name = "out"
path = "{dir}/out"
format = "seen"
"#;

const NETWORK: [&str; 2] = ["udp", "tcp"];
const LOCAL: [&str; 2] = ["datagram", "stream"];

fn logger(server: &Server, transport: &str, options: &[&str]) -> Command {
    let mut command = Command::new("logger");
    if LOCAL.contains(&transport) {
        // A datagram socket may be full for a moment: logger says so then, and does not drop what it cannot send.
        command.arg("--socket-errors=on").arg("-u").arg(server.path(transport));
    } else {
        let port = server.address(transport).port().to_string();
        command.args([&format!("--{transport}"), "-n", "127.0.0.1", "-P", &port]);
    }
    command.args(options);
    command
}

/// Every call goes over each of the transports; `HOST` is this host's name.
fn assert_arrive(transports: &[&str], calls: &[(&[&str], &str, &[&str])]) {
    if !has("logger") {
        return;
    }
    for transport in transports {
        let server = Server::start(CONFIG);
        let mut expected = Vec::new();
        for (options, stdin, lines) in calls {
            run(&mut logger(&server, transport, options), stdin.as_bytes());
            expected.extend(lines.iter().map(|line| line.replace("HOST", &this_host())));
        }
        assert_each_once(&server.lines("out", expected.len()), &expected);
    }
}

const LINES: &str = "one\ntwo: 2\n\n <13>four\n";

#[test]
fn rfc3164() {
    assert_arrive(
        &NETWORK,
        &[
            (&["--rfc3164", "-t", "app", "hello"], "", &["user.notice HOST app - - - \"hello\""]),
            (&["--rfc3164", "-t", "app", "-p", "local3.err", "--id=12", "hello"], "", &["local3.err HOST app 12 - - \"hello\""]),
            (
                &["--rfc3164", "-t", "lines", "-p", "mail.debug"],
                LINES,
                &[
                    "mail.debug HOST lines - - - \"one\"",
                    "mail.debug HOST lines - - - \"two: 2\"",
                    "mail.debug HOST lines - - - \"\"",
                    "mail.debug HOST lines - - - \" <13>four\"",
                ],
            ),
        ],
    );
}

#[test]
fn rfc5424() {
    let sd = &[
        "--rfc5424=notq",
        "--sd-id",
        "ex@1",
        "--sd-param",
        "a=\"b c\"",
        "--sd-param",
        "d=\"\\]\"",
        "--msgid",
        "M1",
        "-t",
        "app",
        "--id=77",
        "-p",
        "auth.alert",
        "hello",
    ];
    assert_arrive(
        &NETWORK,
        &[
            (&["--rfc5424=notq", "-t", "app", "hello"], "", &["user.notice HOST app - - - \"hello\""]),
            (&["--rfc5424=notime,notq,nohost", "-t", "app", "hello"], "", &["user.notice 127.0.0.1 app - - - \"hello\""]),
            (sd, "", &["auth.alert HOST app 77 M1 [ex@1 a=\"b c\" d=\"\\]\"] \"hello\""]),
            (
                &["--rfc5424=notq", "-t", "lines", "--prio-prefix"],
                "<11>one\n<30>two\nthree\n",
                &[
                    "user.err HOST lines - - - \"one\"",
                    "daemon.info HOST lines - - - \"two\"",
                    "daemon.info HOST lines - - - \"three\"",
                ],
            ),
        ],
    );
}

/// Counted frames have nothing between them, not even around the empty one.
#[test]
fn octet_counted() {
    assert_arrive(
        &["tcp"],
        &[
            (&["--octet-count", "--rfc3164", "-t", "app", "hello"], "", &["user.notice HOST app - - - \"hello\""]),
            (
                &["--octet-count", "--rfc5424=notq", "-t", "lines", "--id=5"],
                LINES,
                &[
                    "user.notice HOST lines 5 - - \"one\"",
                    "user.notice HOST lines 5 - - \"two: 2\"",
                    "user.notice HOST lines 5 - - \"\"",
                    "user.notice HOST lines 5 - - \" <13>four\"",
                ],
            ),
        ],
    );
}

/// Without a host, as to `/dev/log`.
#[test]
fn local_sockets() {
    assert_arrive(
        &LOCAL,
        &[
            (&["-t", "app", "hello"], "", &["user.notice HOST app - - - \"hello\""]),
            (&["-t", "app", "--id=12", "-p", "cron.crit", "hello: there"], "", &["cron.crit HOST app 12 - - \"hello: there\""]),
            (&["-t", "app", "--rfc5424=notq", "--msgid", "M1", "hello"], "", &["user.notice HOST app - M1 - \"hello\""]),
            (&["-t", "lines"], "one\ntwo\n", &["user.notice HOST lines - - - \"one\"", "user.notice HOST lines - - - \"two\""]),
        ],
    );
}

/// What it adds of its own: its process, its user for the tag, and how good its clock is.
#[test]
fn defaults() {
    if !has("logger") {
        return;
    }
    let server = Server::start(&CONFIG.replace("format = \"seen\"", "format = \"json\""));
    let port = server.address("udp").port();
    let script = format!("id -un; echo $$; exec logger --udp -n 127.0.0.1 -P {port} -i hello");
    let printed = run(Command::new("sh").args(["-c", &script]), b"");
    let (user, process) = printed.trim().split_once('\n').expect("two lines");
    let line = &server.lines("out", 1)[0];
    let host = this_host();
    let names = format!("\"hostname\":\"{host}\",\"app_name\":\"{user}\",\"proc_id\":\"{process}\"");
    let expected = format!("\"facility\":\"user\",\"severity\":\"notice\",{names}");
    assert!(line.contains(&expected), "{expected} in {line}");
    assert!(line.contains("\"structured_data\":{\"timeQuality\":{\"tzKnown\":\"1\",\"isSynced\":\""), "{line}");
    assert!(line.contains("},\"message\":\"hello\",\"peer\":\"127.0.0.1\",\"input\":\"udp\"}"), "{line}");
}
