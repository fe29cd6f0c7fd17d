//! A network namespace with a cable to it that can be pulled, or that is bad.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use crate::common::Server;
use crate::rig::command;

/// A namespace with one cable to us.
pub struct Namespace {
    name: String,
    /// The network, and the address on the other end of the cable.
    network: String,
    pub theirs: String,
    /// Their end of the cable.
    end: String,
    bad: Option<(Child, ChildStdin)>,
}

impl Namespace {
    fn new(cable: impl FnOnce(&str, &str, &str) -> Option<(Child, ChildStdin)>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = (std::process::id() % 10_000) * 10 + COUNT.fetch_add(1, SeqCst);
        // 198.18.0.0/15 is for tests of networks (RFC 2544).
        let network = format!("198.{}.{}", 18 + id / 256 % 2, id % 256);
        let (name, ours, end) = (format!("penstock{id}"), format!("pa{id}"), format!("pb{id}"));
        // Nothing leaves this machine while the cable is out.
        ip(&format!("route add unreachable {network}.0/24 metric 4000"));
        ip(&format!("netns add {name}"));
        let bad = cable(&name, &ours, &end);
        ip(&format!("address add {network}.1/24 dev {ours}"));
        ip(&format!("link set {ours} up"));
        ip(&format!("-n {name} address add {network}.2/24 dev {end}"));
        ip(&format!("-n {name} link set {end} up"));
        ip(&format!("-n {name} link set lo up"));
        Self { name, theirs: format!("{network}.2"), network, end, bad }
    }

    pub fn by_good_cable() -> Self {
        Self::new(|name, ours, theirs| {
            ip(&format!("link add {ours} type veth peer name {theirs} netns {name}"));
            None
        })
    }

    /// Loses so many per cent, and delays by so many milliseconds.
    pub fn by_bad_cable(loss: u32, delay: u32) -> Self {
        Self::new(|name, ours, theirs| {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/lossy.py");
            let mut between = Command::new("python3");
            between.arg(script).args([ours, theirs, &loss.to_string(), &delay.to_string()]);
            let mut child = between.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 runs");
            let mut said = String::new();
            let _ = BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut said);
            assert_eq!(said, "ready\n");
            ip(&format!("link set {theirs} netns {name}"));
            let orders = child.stdin.take().expect("it is piped");
            Some((child, orders))
        })
    }

    /// Our route to them stays in any case.
    pub fn cable(&mut self, plugged: bool) {
        match &mut self.bad {
            Some((_, orders)) => orders.write_all(if plugged { b"mend\n" } else { b"cut\n" }).expect("it reads"),
            None => ip(&format!("-n {} link set {} {}", self.name, self.end, if plugged { "up" } else { "down" })),
        }
    }

    pub fn server(&self, config: &str) -> Server {
        Server::start_with(config, |command| {
            let mut inside = Command::new("ip");
            inside.args(["netns", "exec", &self.name]).arg(command.get_program()).args(command.get_args());
            inside.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            *command = inside;
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.bad {
            let _ = child.kill();
            let _ = child.wait();
        }
        for arguments in [format!("netns del {}", self.name), format!("route del unreachable {}.0/24", self.network)] {
            let _ = Command::new("ip").args(arguments.split(' ')).status();
        }
    }
}

fn ip(arguments: &str) {
    command(&format!("ip {arguments}"));
}
