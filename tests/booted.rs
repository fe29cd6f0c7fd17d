//! The unit as shipped, under a systemd that has booted in a container of its own.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{PENSTOCK, TempDir, has};

const ROUNDS: usize = 10;

const CONFIG: &str = r#"
[[input.tcp]]
name = "tcp"
listen = "127.0.0.1:514"
[template]
line = "{message}"
[[output.file]]
name = "out"
path = "/var/log/penstock/out"
format = "line"
[[route]]
to = ["out"]
"#;

/// Python's handler over TCP, which never connects again: it logs until it is told to stop.
const SENDER: &str = r#"
import logging, logging.handlers, os, socket, time
handler = logging.handlers.SysLogHandler(("127.0.0.1", 514), socktype=socket.SOCK_STREAM)
handler.setFormatter(logging.Formatter("app: %(message)s"))
handler.handleError = lambda record: open("/test/broken", "w").write("the handler failed")
log = logging.getLogger()
log.addHandler(handler)
number = 0
while not os.path.exists("/test/stop"):
    log.warning("number %d", number)
    number += 1
    time.sleep(0.001)
open("/test/sent", "w").write(str(number))
handler.close()
"#;

/// Runs inside, as a service; whatever happens, the container ends.
const SCRIPT: &str = r#"#!/bin/sh
exec >/test/log 2>&1
trap 'systemctl --no-block poweroff' EXIT
systemctl start penstock || exit 1
python3 /test/sender.py &
sender=$!
for round in $(seq ROUNDS); do
    sleep 0.3
    # The fifth time the program on disk is another one.
    [ $round = 5 ] && cp /test/penstock /test/next && echo upgraded >>/test/next && mv /test/next /test/penstock
    systemctl restart penstock || exit 1
    systemctl show penstock -p MainPID
done
touch /test/stop
wait $sender
# What the last connection has sent is there when it has been closed.
for i in $(seq 100); do
    [ "$(wc -l </var/log/penstock/out)" = "$(cat /test/sent)" ] && break
    sleep 0.1
done
journalctl -u penstock --no-pager -o cat | tail -n 40
cp /var/log/penstock/out /test/out
touch /test/done
"#;

const SERVICE: &str = "[Unit]\nAfter=multi-user.target systemd-sysusers.service\n[Service]\nType=oneshot\nExecStart=/test/run\n";

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
}

#[test]
fn python_logs_through_ten_restarts_of_the_unit_without_losing_a_record() {
    if !has("root") || !has("systemd-nspawn") || !has("python3") {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let inside = |name: &str| folder.path().join(name);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::copy(PENSTOCK, inside("penstock")).expect("copied");
    write(&inside("sender.py"), SENDER);
    write(&inside("run"), &SCRIPT.replace("ROUNDS", &ROUNDS.to_string()));
    fs::set_permissions(inside("run"), fs::Permissions::from_mode(0o755)).expect("set");
    write(&inside("penstock.toml"), CONFIG);
    // Only the program's place differs from the unit as shipped.
    let unit = fs::read_to_string(root.join("systemd/penstock.service")).expect("a unit");
    assert!(unit.contains("ExecStart=/usr/sbin/penstock run"));
    write(&inside("penstock.service"), &unit.replace("ExecStart=/usr/sbin/penstock", "ExecStart=/test/penstock"));
    write(&inside("test.service"), SERVICE);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("set");
    let bind = |from: &Path, to: &str| format!("--bind={}:{to}", from.display());
    let output = Command::new("timeout")
        .args(["-k", "5", "120", "systemd-nspawn", "--quiet", "--directory=/", "--volatile=yes", "--register=no", "--keep-unit"])
        .args(["--link-journal=no", "--private-network", "--console=pipe"])
        .arg(format!("--machine=penstock-{}", std::process::id()))
        .arg(bind(folder.path(), "/test"))
        .arg(bind(&inside("penstock.service"), "/etc/systemd/system/penstock.service"))
        .arg(bind(&inside("test.service"), "/etc/systemd/system/test.service"))
        .arg(bind(&inside("penstock.toml"), "/etc/penstock/penstock.toml"))
        .arg(bind(&root.join("systemd/penstock.sysusers.conf"), "/etc/sysusers.d/penstock.conf"))
        .args([
            "--boot",
            "systemd.firstboot=no",
            "systemd.wants=test.service",
            "systemd.mask=systemd-networkd-wait-online.service",
        ])
        .stdin(Stdio::null())
        .output()
        .expect("systemd-nspawn runs");
    let said = || {
        let console = String::from_utf8_lossy(&output.stdout).into_owned();
        format!("{}\n{console}", fs::read_to_string(inside("log")).unwrap_or_default())
    };
    assert!(inside("done").exists(), "the script came to its end: {}", said());
    assert!(!inside("broken").exists(), "Python's handler noticed: {}", said());
    assert!(fs::read(inside("penstock")).expect("a program").ends_with(b"upgraded\n"), "{}", said());
    let sent: usize = fs::read_to_string(inside("sent")).expect("a count").parse().expect("a number");
    let out = fs::read_to_string(inside("out")).expect("a file");
    let expected: Vec<String> = (0..sent).map(|number| format!("app: number {number}")).collect();
    assert!(sent > 100 * ROUNDS, "{sent} records");
    assert!(out.lines().eq(expected.iter().map(String::as_str)), "{sent} sent, {} there: {}", out.lines().count(), said());
    let log = fs::read_to_string(inside("log")).expect("a log");
    let processes: std::collections::BTreeSet<_> = log.lines().filter(|line| line.starts_with("MainPID=")).collect();
    assert_eq!(processes.len(), ROUNDS, "each time another process: {log}");
}
