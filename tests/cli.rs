//! The command line as a user meets it: messages and exit codes.

mod common;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use common::PENSTOCK;

fn penstock(arguments: &[&str]) -> Output {
    Command::new(PENSTOCK).args(arguments).stdin(Stdio::null()).output().expect("it runs")
}

fn config(text: &str) -> (common::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("penstock.toml");
    std::fs::write(&path, text).expect("written");
    let path = path.display().to_string();
    (folder, path)
}

const GOOD: &str = r#"
[[input.udp]]
listen = "127.0.0.1:0"
[[output.discard]]
name = "nowhere"
[[output.file]]
name = "files"
path = "/tmp/never/{hostname}.log"
[[route]]
select = "auth.*"
where = 'app-name == "sshd"'
to = ["files"]
final = true
[[route]]
to = ["nowhere"]
"#;

#[test]
fn wrong_usage_is_64_and_says_what_is_meant() {
    let output = penstock(&["chek"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("'check'"));
    assert_eq!(penstock(&["--help"]).status.code(), Some(0));
    assert_eq!(penstock(&["--version"]).status.code(), Some(0));
}

/// What the help, the manual page and the completions of some shells say of it.
#[test]
fn every_command_and_option_has_a_line_of_help() {
    let (mut open, mut seen) = (vec![penstock::cli::command()], 0);
    while let Some(command) = open.pop() {
        seen += 1;
        assert!(command.get_about().is_some(), "{}", command.get_name());
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
        }
        open.extend(command.get_subcommands().cloned());
    }
    assert!(seen >= 17, "{seen} commands were seen");
}

#[test]
fn a_wrong_configuration_is_78_with_its_place() {
    let (_folder, path) = config(&GOOD.replace("hostname}", "hostnam}").replace("[\"nowhere\"]", "[\"nowere\"]"));
    for command in ["check", "run", "explain"] {
        let output = penstock(&[command, "--config", &path]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{command}: {text}");
        assert!(text.contains(&format!("{path}:8:20: no field is called `hostnam`: did you mean `hostname`?")), "{text}");
        assert!(text.contains(&format!("{path}:15:7: no output is called `nowere`: did you mean `nowhere`?")), "{text}");
    }
    let output = penstock(&["check", "--config", "/nonexistent/penstock.toml"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/penstock.toml: cannot be read"));
}

#[test]
fn what_an_output_cannot_mean_is_an_error_at_its_place() {
    for (target, options, place, what) in [
        ("tcp://127.0.0.1:1", "compression = \"zstd\"", "6:15", "only RELP has it: `relp://` or `relps://` targets"),
        ("relp://127.0.0.1:1", "window = 0", "6:10", "at least one message must be on its way"),
        ("relp://127.0.0.1:1", "compression = \"gzip\"", "6:15", "unknown value `gzip`; there is zstd"),
        ("relp://127.0.0.1:1", "framing = \"newline\"", "6:11", "RELP has a framing of its own"),
        ("udp://127.0.0.1:1", "framing = \"newline\"", "6:11", "a datagram is its own frame"),
        (
            "tcp://127.0.0.1:1",
            "queue = { dead-letters = \"here\" }",
            "6:26",
            "`dead-letters` is a file: an absolute path is expected",
        ),
        ("tcp://127.0.0.1:1", "queue = { deadline = \"soon\" }", "6:22", "`soon`"),
    ] {
        let text = format!(
            "[[input.tcp]]\nlisten = \"127.0.0.1:0\"\n[[output.forward]]\nname = \"up\"\nto = [\"{target}\"]\n{options}\n\
             [[route]]\nto = [\"up\"]\n"
        );
        let (_folder, path) = config(&text);
        let output = penstock(&["check", "--config", &path]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{options}: {said}");
        assert!(said.contains(&format!("{path}:{place}: ")) && said.contains(what), "{options}: {said}");
    }
}

#[test]
fn what_rotation_cannot_mean_is_an_error_at_its_place() {
    let base = GOOD.replace("path = \"/tmp/never/{hostname}.log\"", "PATH");
    for (lines, expected) in [
        ("path = \"/l/{hostname}.log\"\nrotate = { keep = 3 }", "closes no file: say `size` or `every`"),
        ("path = \"/l/{hostname}\"\nrotate = { every = \"day\" }", "ends in an extension (`.log`)"),
        ("path = \"/l/x.log\"\nrotate = { size = 10 }", "a file has at least 4 KiB"),
        ("path = \"/l/x.log\"\nrotate = { every = \"dya\" }", "`day`"),
        (
            "path = \"/l/x.log\"\nrotate = { every = \"day\", severity = { debug = { keep = 1 } } }",
            "only where `path` has `{severity}`",
        ),
        ("path = \"/l/{severity}.log\"\nrotate = { every = \"day\", severity = { debgu = {} } }", "did you mean `debug`?"),
        ("path = \"/l/x.log\"\nseal = { key = \"/no/such/key\" }", "/no/such/key: No such file"),
        ("path = \"/l/x.log\"\nseal = { key = \"/dev/null\", every = \"1ms\" }", "ten times a second at most"),
        (
            "path = \"/l/x.log\"\nrotate = { every = \"day\" }\n[[output.file]]\nname = \"more\"\npath = \"/l/x.log\"",
            "`files` may write to the same file",
        ),
        (
            "path = \"/l/{hostname}/{app-name}.log\"\nrotate = { every = \"day\" }\n[[output.file]]\nname = \"more\"\npath = \"/l/{peer}/all.log\"",
            "`files` may write to the same file",
        ),
    ] {
        let (_folder, path) = config(&base.replace("PATH", lines));
        let output = penstock(&["check", "--config", &path]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(78) && text.contains(expected) && text.contains(&format!("{path}:")),
            "{lines}: {text}"
        );
    }
}

#[test]
fn every_file_of_conf_d_is_read_in_order() {
    let (folder, path) = config(GOOD);
    std::fs::create_dir(folder.path().join("conf.d")).expect("a folder");
    std::fs::write(folder.path().join("conf.d/10-more.toml"), "[[output.stdout]]\nname = \"out\"\n[[route]]\nto = [\"out\"]\n")
        .expect("written");
    std::fs::write(folder.path().join("conf.d/ignored.toml~"), "nonsense").expect("written");
    let output = penstock(&["check", "--config", &path]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("10-more.toml: good (1 inputs, 3 outputs, 3 routes)"), "{text}");
    std::fs::write(folder.path().join("conf.d/20-wrong.toml"), "[server]\nthread = 1\n").expect("written");
    let output = penstock(&["check", "--config", &path]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("20-wrong.toml:2:1: unknown key `thread`: did you mean `threads`?"));
}

#[test]
fn explain_shows_fields_routes_and_bytes() {
    let text = explained(GOOD, "<38>Sep 22 10:11:56 web1 sshd[12]: in\n<14>user \u{1b}logged in\n");
    for expected in [
        "grammar: rfc3164",
        "hostname: web1\n",
        ":9: yes: select takes auth.info; app-name == \"sshd\": yes, it is \"sshd\"",
        "to files: /tmp/never/web1.log",
        "bytes: \"Sep 22 10:11:56 web1 sshd[12]: in\\n\"",
        ":14: no: route",
        "grammar: headerless",
        "hostname: 192.0.2.9 (the peer)",
        ":9: no: select does not take user.info",
        "to nowhere: nowhere",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert!(!text.contains('\u{1b}'), "a message cannot act on the terminal");
}

#[test]
fn explain_shows_what_becomes_of_an_object() {
    let config = "[[input.http]]\nlisten = \"127.0.0.1:0\"\n[[output.file]]\nname = \"f\"\npath = \"/tmp/never/{app-name}.log\"\n\
                  [[route]]\nwhere = 'json.status >= 500'\nto = [\"f\"]\n";
    let text = explained(config, "{\"level\":\"error\",\"service\":\"api\",\"status\":503,\"msg\":\"failed\"}\n");
    for expected in [
        "message: {\"level\":",
        "pri: 11 (user.err)",
        "app-name: api\n",
        "structured-data: [json@32473 status=\"503\"]",
        "message: failed\n",
        "yes: json.status >= 500: yes, it is \"503\"",
        "to f: /tmp/never/api.log",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

/// What `explain` says of lines from 192.0.2.9.
fn explained(written: &str, raw: &str) -> String {
    let (_folder, path) = config(written);
    let mut child = Command::new(PENSTOCK)
        .args(["explain", "--config", &path, "--from", "192.0.2.9"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    child.stdin.take().expect("piped").write_all(raw.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_log_has_the_journals_priorities_under_systemd() {
    let config = "[[input.tcp]]\nlisten = \"127.0.0.1:0\"\n[[output.discard]]\nname = \"x\"\n[[route]]\nto = [\"x\"]\n";
    let server = common::Server::start_with(config, |command| {
        command.env("JOURNAL_STREAM", "8:1");
    });
    assert!(server.log().iter().all(|line| line.starts_with("<6>")), "{:?}", server.log());
    server.stop();
}

#[test]
fn unit_says_what_the_configuration_needs() {
    let (_folder, path) = config(&GOOD.replace("/tmp/never/{hostname}.log", "/var/log/penstock/{hostname}.log"));
    let output = penstock(&["unit", "--config", &path]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.ends_with("# Nothing.\n"), "{said}");
    let more = r#"
[[input.unix]]
listen = "/run/systemd/journal/syslog"
[[input.kmsg]]
[[output.file]]
name = "syslog"
path = "/var/log/syslog"
group = "adm"
[[output.file]]
name = "tree"
path = "/srv/all logs/{hostname}.log"
[[output.users]]
name = "all"
to = ["*"]
"#;
    let (_folder, path) =
        config(&format!("{GOOD}{more}").replace("/tmp/never/{hostname}.log", "/var/log/penstock/{hostname}.log"));
    let output = penstock(&["unit", "--config", &path]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = said.lines().skip(2).collect();
    assert_eq!(
        lines,
        [
            "#$ [ -e /var/log/syslog ] || install -m 640 /dev/null /var/log/syslog; chown penstock:adm /var/log/syslog",
            "#$ install -d '/srv/all logs'; chgrp penstock '/srv/all logs'; chmod g+w '/srv/all logs'",
            "[Unit]",
            "Requires=syslog.socket",
            "[Service]",
            "ReadWritePaths=\"/srv/all logs\"",
            "ReadWritePaths=\"/var/log\"",
            "SupplementaryGroups=adm tty",
            "AmbientCapabilities=CAP_SYSLOG",
            "CapabilityBoundingSet=CAP_SYSLOG",
            "ProtectKernelLogs=no",
            "ProcSubset=all",
            "ProtectProc=default",
            "PrivateDevices=no",
            "DevicePolicy=closed",
            "DeviceAllow=/dev/kmsg r",
            "DeviceAllow=char-pts rw",
            "DeviceAllow=char-tty rw",
            "DeviceAllow=char-ttyS rw",
            "[Install]",
            "Alias=syslog.service",
        ],
        "{said}"
    );
}

#[test]
fn import_says_what_became_of_each_statement() {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (folder.path().join("rsyslog.conf"), folder.path().join("penstock.toml"));
    let text = "module(load=\"imudp\")\ninput(type=\"imudp\" port=\"10514\")\nauth.* -/var/log/auth.log\n*.* :ommysql:localhost,db,user,pw\n\
                $RepeatedMsgReduction on\n*.err @@relay.example.com\n";
    std::fs::write(&from, text).expect("written");
    let arguments = ["import", "rsyslog", &from.display().to_string(), "--output", &to.display().to_string()].map(str::to_owned);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let output = penstock(&arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    for expected in [
        "carried over (4):",
        "rsyslog.conf:3: -/var/log/auth.log\n      output `auth`",
        "carried over with a difference (2):",
        "rsyslog.conf:5: $RepeatedMsgReduction on\n      repetitions are counted for each sender",
        "not carried over (1):",
        "rsyslog.conf:4: :ommysql:localhost,db,user,pw\n      there is no counterpart to the output `ommysql`",
    ] {
        assert!(said.contains(expected), "{expected:?} in\n{said}");
    }
    let toml = std::fs::read_to_string(&to).expect("it is there");
    assert!(toml.contains("rsyslog.conf:3: -/var/log/auth.log\n[[route]]\nselect = \"auth.*\"\nto = [\"auth\"]"), "{toml}");
    assert!(toml.contains("to = [\"tcp://relay.example.com:514\"]"), "{toml}");
    let checked = penstock(&["check", "--config", &to.display().to_string()]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    assert_eq!(penstock(&arguments).status.code(), Some(73), "what is there is not overwritten");
    let missing = penstock(&["import", "rsyslog", "/nonexistent/rsyslog.conf"]);
    assert_eq!(missing.status.code(), Some(73));
    assert_eq!(String::from_utf8_lossy(&missing.stderr), "/nonexistent/rsyslog.conf: No such file or directory\n");
}
