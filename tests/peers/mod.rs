//! What the tests with real peers share: the peers' processes, and the count of what arrived.
#![allow(dead_code, reason = "every test program uses another part of this")]

pub mod certificates;
pub mod rsyslogd;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};

use crate::common::wait_until;

/// A peer that runs beside the test; killed when it is dropped.
pub struct Running(Child);

impl Running {
    /// Its standard input is a pipe; what it says goes to the test's own.
    pub fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    pub fn write(&mut self, text: &str) {
        let stdin = self.0.stdin.as_mut().expect("it is piped");
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).expect("it reads");
    }

    pub fn close_stdin(&mut self) -> Option<ChildStdin> {
        self.0.stdin.take()
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.0.id().to_string()]).status().expect("kill runs");
        assert!(status.success());
    }

    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the peer ends", || {
            status = self.0.try_wait().expect("it is our child");
            status.is_some()
        });
        status.expect("it ended")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a peer to its good end on this input; what it wrote.
pub fn run(command: &mut Command, input: &[u8]) -> String {
    let output = try_run(command, input);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {error}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The same, whatever its end.
pub fn try_run(command: &mut Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    // A peer that is refused reads no further.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic");
    output
}

/// A file of `tests/peers`.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

/// The interpreters to be tried: all of `PENSTOCK_PYTHONS`, or every version from 3.8 on that is found.
pub fn pythons() -> Vec<PathBuf> {
    if let Ok(named) = std::env::var("PENSTOCK_PYTHONS") {
        return named.split_whitespace().map(PathBuf::from).collect();
    }
    let managed = std::env::home_dir().unwrap_or_default().join(".pyenv/versions");
    let managed = std::fs::read_dir(managed).into_iter().flatten().flatten().map(|entry| entry.path().join("bin/python3"));
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let named =
        (8..20).flat_map(|minor| std::env::split_paths(&folders).map(move |folder| folder.join(format!("python3.{minor}"))));
    let mut found = std::collections::BTreeMap::new();
    for python in [PathBuf::from("python3")].into_iter().chain(managed).chain(named.collect::<Vec<_>>()) {
        // A shim of a version manager is there and does not run.
        let version = Command::new(&python).args(["-c", "import sys; print('%d %d' % sys.version_info[:2])"]).output();
        let version = version
            .ok()
            .filter(|output| output.status.success())
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let numbers: Vec<u32> = version.iter().flat_map(|text| text.split_whitespace()).flat_map(str::parse).collect();
        if let [3, minor] = numbers[..]
            && minor >= 8
        {
            found.entry(minor).or_insert(python);
        }
    }
    assert!(!found.is_empty(), "there is a python3");
    found.into_values().collect()
}

/// Stands for the peer of a unix socket.
pub fn this_host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").expect("Linux has it").trim().to_owned()
}

/// Each of the expected exactly once and nothing else, in whatever order.
pub fn assert_each_once<A: AsRef<str>, E: AsRef<str>>(arrived: &[A], expected: &[E]) {
    let mut arrived: Vec<_> = arrived.iter().map(AsRef::as_ref).collect();
    let mut expected: Vec<_> = expected.iter().map(AsRef::as_ref).collect();
    arrived.sort_unstable();
    expected.sort_unstable();
    if arrived == expected {
        return;
    }
    let missing: Vec<_> = expected.iter().filter(|text| arrived.binary_search(text).is_err()).collect();
    let strange: Vec<_> = arrived.iter().filter(|text| expected.binary_search(text).is_err()).collect();
    panic!(
        "{} arrived of {}; {} missing: {:?}; {} never sent: {:?}",
        arrived.len(),
        expected.len(),
        missing.len(),
        missing.iter().take(3).collect::<Vec<_>>(),
        strange.len(),
        strange.iter().take(3).collect::<Vec<_>>()
    );
}

/// Waits until somebody listens on the port.
pub fn wait_for_tcp(port: u16) {
    wait_until(&format!("somebody listens on TCP port {port}"), || is_listening(port));
}

pub fn is_listening(port: u16) -> bool {
    is_open("tcp", port, LISTENS)
}

/// Waits until somebody has bound the port.
pub fn wait_for_udp(port: u16) {
    wait_until(&format!("somebody receives on UDP port {port}"), || is_open("udp", port, BOUND));
}

/// The states of proc(5)'s tables: TCP_LISTEN, and TCP_CLOSE for a datagram socket without a peer.
const LISTENS: &str = "0A";
const BOUND: &str = "07";

/// Looks up the port among the IPv4 sockets of a protocol.
fn is_open(protocol: &str, port: u16, state: &str) -> bool {
    let sockets = std::fs::read_to_string(format!("/proc/net/{protocol}")).expect("Linux has it");
    let end = format!(":{port:04X}");
    sockets.lines().any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        matches!(fields[..], [_, local, _, found, ..] if local.ends_with(&end) && found == state)
    })
}
