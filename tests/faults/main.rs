//! What an administrator's night is made of, at random moments while messages flow. What was acknowledged to the sender
//! must arrive; the time for each fault is `PENSTOCK_FAULTS_SECONDS`.

#[path = "../common/mod.rs"]
mod common;
mod rig;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::{Server, TempDir, free_port, has, wait_until};
use rig::{Manner, Sender, Upstream, duration, random};

/// RELP in; every message to a file and to a RELP upstream with a queue on disk.
fn config(state: &Path, port: u16, upstream: u16, queue: &str) -> String {
    let state = state.display();
    format!(
        r#"
[server]
state-dir = "{state}"
grace = "500ms"
[metrics]
listen = "127.0.0.1:0"
[[input.relp]]
listen = "127.0.0.1:{port}"
[template]
line = "{{message}}"
[[output.file]]
name = "file"
path = "{state}/out"
format = "line"
[[output.forward]]
name = "up"
to = ["relp://127.0.0.1:{upstream}"]
timeout = "300ms"
queue = {{ {queue} }}
[[route]]
to = ["file", "up"]
"#
    )
}

/// A server on a state that outlives it, its sender, and its upstream.
struct Rig {
    state: TempDir,
    port: u16,
    upstream: Upstream,
    queue: &'static str,
}

impl Rig {
    fn new(queue: &'static str) -> Self {
        Self { state: TempDir::new().expect("a folder"), port: free_port(), upstream: Upstream::start(), queue }
    }

    fn config(&self) -> String {
        config(self.state.path(), self.port, self.upstream.port, self.queue)
    }

    fn start(&self) -> Server {
        Server::start(&self.config())
    }

    /// Everything that was acknowledged is in the file and with the upstream.
    fn check(&self, sender: Sender, server: Server, what: &str) {
        self.upstream.behave(Manner::Good);
        let accepted = sender.finish();
        wait_until("the upstream has everything", || self.upstream.has_all(accepted));
        server.stop();
        let out = std::fs::read_to_string(self.state.path().join("out")).expect("a file");
        let in_file: BTreeSet<usize> = out.lines().filter_map(|line| line.parse().ok()).collect();
        let (missing, doubled) = self.upstream.tally(accepted);
        let missing_in_file = (0..accepted).filter(|number| !in_file.contains(number)).count();
        println!(
            "{what}: {accepted} accepted; upstream: {missing} missing, {doubled} doubled; file: {missing_in_file} missing, {} doubled",
            out.lines().count() - in_file.len()
        );
        assert_eq!((missing, missing_in_file), (0, 0), "{what}");
        assert!(accepted > 100, "{what}: {accepted} messages only");
    }
}

fn killed(queue: &'static str) {
    let rig = Rig::new(queue);
    let mut server = rig.start();
    let sender = Sender::start(rig.port);
    let end = Instant::now() + duration();
    let mut kills = 0;
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(random(1..250)));
        rig.upstream.behave(if random(0..2) == 0 { Manner::Good } else { Upstream::any_bad_manner() });
        server.signal("KILL");
        server.wait();
        server = rig.start();
        kills += 1;
    }
    rig.check(sender, server, &format!("{kills} kills, {queue}"));
}

#[test]
fn kill_while_messages_flow() {
    killed("disk = true");
}

#[test]
fn kill_while_everything_goes_to_disk_first() {
    killed("mode = \"always\", segment = \"64KiB\"");
}

#[test]
fn kill_while_everything_is_synced() {
    killed("mode = \"always\", sync = \"batch\"");
}

#[test]
fn stop_and_start_with_a_backlog() {
    let rig = Rig::new("disk = true");
    let mut server = rig.start();
    let sender = Sender::start(rig.port);
    let end = Instant::now() + duration();
    let mut stops = 0;
    while Instant::now() < end {
        rig.upstream.behave(if random(0..3) == 0 { Manner::Good } else { Upstream::any_bad_manner() });
        std::thread::sleep(Duration::from_millis(random(1..250)));
        server.stop();
        server = rig.start();
        stops += 1;
    }
    rig.check(sender, server, &format!("{stops} stops"));
}

/// Reloads all the time, until it is dropped.
struct Reloads(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Reloads {
    fn of(pid: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(SeqCst) {
                let _ = Command::new("kill").args(["-HUP", &pid.to_string()]).status();
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Self(stop, Some(thread))
    }
}

impl Drop for Reloads {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
        let _ = self.1.take().map(std::thread::JoinHandle::join);
    }
}

#[test]
fn an_upstream_with_all_bad_manners_while_the_configuration_is_reloaded() {
    let rig = Rig::new("disk = true");
    let server = rig.start();
    let sender = Sender::start(rig.port);
    let reloads = Reloads::of(server.pid());
    let end = Instant::now() + duration();
    let mut changes = 0;
    while Instant::now() < end {
        rig.upstream.behave(Upstream::any_bad_manner());
        std::thread::sleep(Duration::from_millis(random(10..400)));
        rig.upstream.behave(Manner::Good);
        std::thread::sleep(Duration::from_millis(random(10..400)));
        changes += 1;
    }
    drop(reloads);
    rig.check(sender, server, &format!("{changes} changes of manners"));
}

/// An upstream process that is stopped and goes on.
#[test]
fn an_upstream_that_is_stopped_and_continued() {
    let state = TempDir::new().expect("a folder");
    let port = free_port();
    let last = Server::start(
        "[[input.relp]]\nlisten = \"127.0.0.1:0\"\n[template]\nline = \"{message}\"\n[[output.file]]\nname = \"file\"\n\
         path = \"{dir}/out\"\nformat = \"line\"\n[[route]]\nto = [\"file\"]\n",
    );
    let upstream = last.address("relp").port();
    let server = Server::start(&config(state.path(), port, upstream, "disk = true"));
    let sender = Sender::start(port);
    let end = Instant::now() + duration();
    while Instant::now() < end {
        last.signal("STOP");
        std::thread::sleep(Duration::from_millis(random(10..700)));
        last.signal("CONT");
        std::thread::sleep(Duration::from_millis(random(10..300)));
    }
    let accepted = sender.finish();
    let arrived = || last.read("out").lines().filter_map(|line| line.parse().ok()).collect::<BTreeSet<usize>>();
    wait_until("all arrive", || arrived().range(..accepted).count() == accepted);
    assert!(accepted > 100, "{accepted} messages only");
    println!("stopped and continued: {accepted} accepted, {} lines", last.read("out").lines().count());
    server.stop();
}

/// A small file system, read-only and back, full and back.
#[test]
fn a_state_folder_that_is_full_or_read_only_for_a_while() {
    if !has("root") {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let small = folder.path().join("small");
    std::fs::create_dir(&small).expect("made");
    let mount = |options: &str, more: &[&str]| {
        let status = Command::new("mount").args(more).args(["-o", options, "none"]).arg(&small).status();
        assert!(status.expect("mount runs").success());
    };
    mount("size=8m", &["-t", "tmpfs"]);
    let (port, upstream) = (free_port(), Upstream::start());
    let server = Server::start(&config(&small, port, upstream.port, "segment = \"256KiB\", size = \"4MiB\""));
    let sender = Sender::start(port);
    let end = Instant::now() + duration();
    let mut full = 0;
    while Instant::now() < end {
        upstream.behave(Upstream::any_bad_manner());
        std::fs::write(small.join("filler"), vec![0; 16 << 20]).expect_err("it is full");
        std::thread::sleep(Duration::from_millis(random(50..300)));
        upstream.behave(Manner::Good);
        std::fs::remove_file(small.join("filler")).expect("removed");
        std::thread::sleep(Duration::from_millis(random(50..300)));
        full += 1;
    }
    let accepted = sender.finish();
    wait_until("the upstream has everything", || upstream.has_all(accepted));
    assert!(accepted > 100, "{accepted} messages only");
    println!("{full} times full: {accepted} accepted, {:?} missing and doubled", upstream.tally(accepted));
    server.stop();
    let _ = Command::new("umount").arg("-l").arg(&small).status();
}

/// Ten thousand connections that end in the middle of a frame; what had come of it is a message.
#[test]
fn ten_thousand_connections_dropped_in_the_middle_of_a_frame() {
    let server = Server::start(
        "[[input.tcp]]\nlisten = \"127.0.0.1:0\"\n[template]\nline = \"{message}\"\n[[output.file]]\nname = \"file\"\n\
         path = \"{dir}/out\"\nformat = \"line\"\n[[route]]\nto = [\"file\"]\n",
    );
    let address = server.address("tcp");
    let count = 10_000;
    for number in 0..count {
        let mut stream = TcpStream::connect(address).expect("connected");
        stream.write_all(format!("<14>1 - h a - - - {number}\n<14>1 - h a - - - half").as_bytes()).expect("sent");
    }
    wait_until("all arrive", || server.read("out").lines().count() == 2 * count);
    let numbers: BTreeSet<usize> = server.read("out").lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(numbers.len(), count);
    server.stop();
}

/// As many descriptors as are needed for nothing: connections wait, and nothing that was accepted is lost.
#[test]
fn descriptors_run_out_and_come_back() {
    if !has("prlimit") {
        return;
    }
    let rig = Rig::new("disk = true");
    let server = rig.start();
    let sender = Sender::start(rig.port);
    wait_until("some are accepted", || sender.accepted() > 100);
    let limit = |limit: &str| {
        let status =
            Command::new("prlimit").args(["--pid", &server.pid().to_string(), &format!("--nofile={limit}:1024")]).status();
        assert!(status.expect("prlimit runs").success());
    };
    let end = Instant::now() + duration();
    while Instant::now() < end {
        limit("20");
        rig.upstream.behave(Manner::Resets);
        let idle: Vec<_> = (0..50).filter_map(|_| TcpStream::connect(("127.0.0.1", rig.port)).ok()).collect();
        std::thread::sleep(Duration::from_millis(random(50..400)));
        drop(idle);
        limit("1024");
        rig.upstream.behave(Manner::Good);
        std::thread::sleep(Duration::from_millis(random(50..400)));
    }
    rig.check(sender, server, "descriptors run out");
}

/// A network of its own in which the cable is pulled. By plain TCP: what the other side's kernel had not acknowledged goes
/// again, and its process reads all that the kernel has.
#[test]
fn a_cable_that_is_pulled_loses_nothing_by_plain_tcp() {
    if !has("root") || !has("ip") {
        return;
    }
    let net = Namespace::new();
    let state = TempDir::new().expect("a folder");
    let (port, last_port) = (free_port(), 5514);
    let last = net.server(&format!(
        "[[input.tcp]]\nlisten = \"{}:{last_port}\"\n[template]\nline = \"{{message}}\"\n[[output.file]]\nname = \"file\"\n\
         path = \"{{dir}}/out\"\nformat = \"line\"\n[[route]]\nto = [\"file\"]\n",
        net.theirs
    ));
    let text =
        config(state.path(), port, 1, "disk = true").replace("relp://127.0.0.1:1", &format!("tcp://{}:{last_port}", net.theirs));
    let server = Server::start(&text);
    let sender = Sender::start(port);
    let end = Instant::now() + duration();
    let mut pulled = 0;
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(random(50..400)));
        net.cable(false);
        std::thread::sleep(Duration::from_millis(random(100..900)));
        net.cable(true);
        pulled += 1;
    }
    let accepted = sender.finish();
    let arrived = || last.read("out").lines().filter_map(|line| line.parse().ok()).collect::<BTreeSet<usize>>();
    wait_until("all arrive", || arrived().range(..accepted).count() == accepted);
    assert!(accepted > 100, "{accepted} messages only");
    println!("{pulled} times pulled: {accepted} accepted, {} lines", last.read("out").lines().count());
    server.stop();
}

/// A namespace with one cable to us.
struct Namespace {
    name: String,
    /// Their end of the cable.
    cable: String,
    /// The address on the other end of the cable.
    theirs: String,
}

impl Namespace {
    fn new() -> Self {
        let id = std::process::id() % 100_000;
        // 198.18.0.0/15 is for tests of networks (RFC 2544).
        let (net, us, them) =
            (format!("198.18.{}.0", id % 256), format!("198.18.{}.1", id % 256), format!("198.18.{}.2", id % 256));
        let (name, ours, theirs) = (format!("penstock{id}"), format!("pa{id}"), format!("pb{id}"));
        for command in [
            // Nothing leaves this machine while the cable is out.
            format!("route add unreachable {net}/24 metric 4000"),
            format!("netns add {name}"),
            format!("link add {ours} type veth peer name {theirs} netns {name}"),
            format!("address add {us}/24 dev {ours}"),
            format!("link set {ours} up"),
            format!("-n {name} address add {them}/24 dev {theirs}"),
            format!("-n {name} link set {theirs} up"),
            format!("-n {name} link set lo up"),
        ] {
            ip(&command);
        }
        Self { name, cable: theirs, theirs: them }
    }

    /// On their side: our route to them stays.
    fn cable(&self, plugged: bool) {
        ip(&format!("-n {} link set {} {}", self.name, self.cable, if plugged { "up" } else { "down" }));
    }

    fn server(&self, config: &str) -> Server {
        Server::start_with(config, |command| {
            let mut inside = Command::new("ip");
            inside.args(["netns", "exec", &self.name]).arg(command.get_program()).args(command.get_args());
            inside.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            *command = inside;
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
        let _ = Command::new("ip")
            .args(["route", "del", "unreachable", &format!("{}0/24", &self.theirs[..self.theirs.len() - 1])])
            .status();
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip runs");
    assert!(status.success(), "ip {arguments}");
}
