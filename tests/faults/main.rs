//! What an administrator's night is made of, at random moments while messages flow and the configuration is reloaded every
//! 100 ms. What was accepted must arrive. The time for each fault is `PENSTOCK_FAULTS_SECONDS`; with
//! `PENSTOCK_FAULTS_SUBJECT=rsyslogd` the list runs against rsyslogd, for the comparison: nothing is asserted then.

#[path = "../common/mod.rs"]
mod common;
mod network;
#[path = "../peers/mod.rs"]
mod peers;
mod rig;
mod sender;
mod subject;
mod upstream;

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::proxy::Proxy;
use common::{Server, has};
use network::Namespace;
use peers::certificates::Ca;
use rig::{Destination, Rig, command, pause, random};
use subject::{Input, Keep, Subject, is_rsyslogd};
use upstream::{Manner, Upstream};

fn killed(keep: Keep, what: &str) {
    let mut rig = Rig::new().keep(keep);
    rig.night(|rig| {
        pause(1..250);
        rig.behave(if random(0..2) == 0 { Manner::Good } else { Upstream::any_bad_manner() });
        rig.restart("KILL", |_| {});
    });
    rig.morning(what);
}

#[test]
fn kill_while_messages_flow() {
    killed(Keep::Overflow, "SIGKILL");
}

#[test]
fn kill_while_everything_goes_to_disk_first() {
    killed(Keep::Always, "SIGKILL, everything through the disk");
}

#[test]
fn kill_while_everything_is_synced() {
    killed(Keep::Synced, "SIGKILL, everything synced");
}

#[test]
fn stop_and_start_with_a_backlog() {
    let mut rig = Rig::new();
    rig.night(|rig| {
        rig.behave(if random(0..3) == 0 { Manner::Good } else { Upstream::any_bad_manner() });
        pause(1..250);
        rig.restart("TERM", |_| {});
    });
    rig.morning("SIGTERM with a backlog");
}

#[test]
fn an_upstream_with_all_bad_manners() {
    let mut rig = Rig::new();
    rig.night(|rig| {
        rig.behave(Upstream::any_bad_manner());
        pause(10..400);
        rig.behave(Manner::Good);
        pause(10..400);
    });
    rig.morning("upstream refuses, resets, never reads, never opens, acknowledges nothing, closes within a frame");
}

#[test]
fn an_upstream_that_alternates() {
    let mut rig = Rig::new();
    rig.behave(Manner::Alternates);
    rig.night(|_| pause(10..100));
    rig.morning("upstream resets connections after 20 and 1000 messages in turn");
}

/// A server that writes what it gets into its `out`.
fn last(input: &str) -> String {
    format!(
        "{input}\n[template]\nline = \"{{message}}\"\n[[output.file]]\nname = \"file\"\npath = \"{{dir}}/out\"\nformat = \"line\"\n\
         [[route]]\nto = [\"file\"]\n"
    )
}

#[test]
fn an_upstream_whose_tls_handshake_is_never_over() {
    if !has("openssl") {
        return;
    }
    let ca = certificates();
    let folder = ca.folder().display();
    let last = Server::start(&last(&format!(
        "[[input.relp]]\nlisten = \"127.0.0.1:0\"\ncertificate = \"{folder}/localhost.pem\"\nkey = \"{folder}/localhost.key\""
    )));
    let proxy = Proxy::to(last.address("relp"));
    let mut rig = Rig::with_server(last, &format!("relps://localhost:{}", proxy.port));
    rig.plan.certificates = ca.folder().to_owned();
    rig.night(|_| {
        proxy.stall(true);
        pause(10..900);
        proxy.stall(false);
        pause(10..400);
    });
    rig.morning("upstream by TLS never finishes its handshake, and is cut off");
}

#[test]
fn an_upstream_that_is_stopped_and_continued() {
    let last = Server::start(&last("[[input.relp]]\nlisten = \"127.0.0.1:0\""));
    let url = format!("relp://{}", last.address("relp"));
    let mut rig = Rig::with_server(last, &url);
    rig.night(|rig| {
        let last = rig.last.as_ref().expect("it runs");
        last.signal("STOP");
        pause(10..700);
        last.signal("CONT");
        pause(10..300);
    });
    rig.morning("upstream is stopped (SIGSTOP) and goes on");
}

/// A small file system below a folder.
struct Small(PathBuf);

impl Small {
    fn below(folder: &Path) -> Self {
        let path = folder.join("small");
        std::fs::create_dir(&path).expect("made");
        command(&format!("mount -t tmpfs -o size=32m none {}", path.display()));
        Self(path)
    }

    fn fill(&self) {
        std::fs::write(self.0.join("filler"), vec![0; 33 << 20]).expect_err("it is full");
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("removed");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn the_file_system_of_the_queues_is_full_for_a_while() {
    if !has("root") {
        return;
    }
    let mut rig = Rig::new();
    let small = Small::below(rig.folder.path());
    rig.plan.state.clone_from(&small.0);
    rig.plan.is_small = true;
    rig.night(|rig| {
        rig.behave(Upstream::any_bad_manner());
        small.fill();
        pause(50..300);
        rig.behave(Manner::Good);
        small.free();
        pause(50..300);
    });
    rig.morning("file system of the queues full, and free again");
}

#[test]
fn the_file_system_of_the_files_is_full_for_a_while() {
    if !has("root") {
        return;
    }
    let mut rig = Rig::new();
    let small = Small::below(rig.folder.path());
    rig.plan.files.clone_from(&small.0);
    rig.night(|_| {
        small.fill();
        pause(50..300);
        small.free();
        pause(50..300);
    });
    rig.morning("file system of the files full, and free again");
}

/// While nothing can be made in them: root may do everything but this.
#[test]
fn folders_in_which_nothing_can_be_made_for_a_while() {
    if !has("root") || !has("chattr") {
        return;
    }
    let mut rig = Rig::new().keep(Keep::Always);
    let files = rig.folder.path().join("files");
    std::fs::create_dir(&files).expect("made");
    rig.plan.files = files;
    rig.night(|rig| {
        // After the next reload there is no file to open.
        let _ = std::fs::rename(rig.plan.out(), rig.plan.out().with_extension(rig.rounds.to_string()));
        let places = [rig.plan.files.display(), rig.plan.queues().display()].map(|path| path.to_string());
        places.iter().for_each(|place| command(&format!("chattr +i {place}")));
        rig.behave(Upstream::any_bad_manner());
        pause(50..400);
        rig.behave(Manner::Good);
        places.iter().for_each(|place| command(&format!("chattr -i {place}")));
        pause(50..400);
    });
    rig.morning("nothing can be made in the folders (chattr +i), files renamed, and back");
}

/// Any octet of the queue at rest, or a whole segment. One octet costs one message at most.
#[test]
fn a_queue_that_is_damaged_while_the_server_is_down() {
    let mut rig = Rig::new().keep(Keep::Always);
    rig.night(|rig| {
        rig.behave(Manner::Refuses);
        pause(50..400);
        rig.restart("TERM", |rig| damage(&rig.plan.queues()));
        rig.behave(Manner::Good);
        let subject = rig.subject.as_ref().expect("it runs");
        subject.wait_for_queue();
        rig.excused += subject.said_missing().max(1);
    });
    rig.morning("an octet changed in the queue at rest, or a segment deleted");
}

fn damage(folder: &Path) {
    let mut files: Vec<_> = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    let is_queue = |path: &PathBuf| path.extension().is_some_and(|it| it != "damaged") || path.ends_with("cursor");
    files.retain(|path| path.is_file() && is_queue(path) && std::fs::metadata(path).is_ok_and(|it| it.len() > 0));
    files.sort();
    if files.len() > 3 && random(0..3) == 0 {
        std::fs::remove_file(&files[random(0..files.len() as u64 - 2) as usize]).expect("removed");
    } else if !files.is_empty() {
        let file = &files[random(0..files.len() as u64) as usize];
        let mut bytes = std::fs::read(file).expect("read");
        let at = random(0..bytes.len() as u64) as usize;
        bytes[at] ^= random(1..256) as u8;
        std::fs::write(file, bytes).expect("written");
    }
}

#[test]
fn descriptors_run_out_and_come_back() {
    if !has("prlimit") {
        return;
    }
    let mut rig = Rig::new();
    rig.night(|rig| {
        let limit = |limit: u32| command(&format!("prlimit --pid {} --nofile={limit}:1024", rig.pid()));
        limit(20);
        rig.behave(Manner::Resets);
        let (here, soon) = (([127, 0, 0, 1], rig.plan.port).into(), Duration::from_millis(100));
        let idle: Vec<_> = (0..50).map_while(|_| TcpStream::connect_timeout(&here, soon).ok()).collect();
        pause(50..400);
        drop(idle);
        limit(1024);
        rig.behave(Manner::Good);
        pause(50..400);
    });
    rig.morning("descriptors run out, and come back");
}

/// An upstream by name: its look-up needs a thread.
#[test]
fn threads_run_out_and_come_back() {
    if !has("prlimit") || !has("root") {
        return;
    }
    let mut rig = Rig::new();
    // Root has as many as it likes.
    let user = 40_000 + std::process::id() % 20_000;
    let own = move |path: &Path| command(&format!("chown -R {user} {}", path.display()));
    own(rig.folder.path());
    rig.plan.upstream = rig.plan.upstream.map(|url| url.replace("127.0.0.1", "localhost"));
    rig.plan.prepare = Box::new(move |command, folder| {
        own(folder);
        command.uid(user).gid(user);
    });
    rig.night(|rig| {
        let limit = |limit: u32| {
            let mut prlimit = Command::new("prlimit");
            prlimit.args(["--pid", &rig.pid().to_string(), &format!("--nproc={limit}:1024")]).uid(user).gid(user);
            assert!(prlimit.status().expect("prlimit runs").success());
        };
        limit(1);
        rig.behave(Manner::Resets);
        pause(50..400);
        limit(1024);
        rig.behave(Manner::Good);
        pause(50..400);
    });
    rig.morning("threads run out, and come back");
}

#[test]
fn the_clock_is_set_back_and_forth() {
    let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
    if !has("faketime") || !Path::new(library).exists() {
        return;
    }
    let mut rig = Rig::new();
    let clock = rig.folder.path().join("clock");
    let set = |offset: &str| {
        // As a whole: nobody reads half of it.
        std::fs::write(clock.with_extension("new"), offset).and_then(|()| std::fs::rename(clock.with_extension("new"), &clock))
    };
    set("+0").expect("written");
    let path = clock.clone();
    rig.plan.prepare = Box::new(move |command, _| {
        command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", &path);
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
    });
    rig.night(|rig| {
        set(["-3600", "+86400", "-31536000", "+0"][random(0..4) as usize]).expect("written");
        rig.behave(if random(0..2) == 0 { Manner::Good } else { Upstream::any_bad_manner() });
        pause(10..200);
    });
    rig.morning("the clock is set back and forth by an hour, a day, a year");
}

/// By plain TCP: what the other side's kernel had not acknowledged goes again, and its process reads all that the kernel has.
fn by_cable(mut net: Namespace, what: &str) {
    let listen = format!("{}:5514", net.theirs);
    let last = net.server(&last(&format!("[[input.tcp]]\nlisten = \"{listen}\"")));
    let mut rig = Rig::with_server(last, &format!("tcp://{listen}"));
    rig.night(|_| {
        pause(50..400);
        net.cable(false);
        pause(100..900);
        net.cable(true);
    });
    rig.morning(what);
}

#[test]
fn a_cable_that_is_pulled_loses_nothing_by_plain_tcp() {
    if has("root") && has("ip") {
        by_cable(Namespace::by_good_cable(), "the cable to an upstream by plain TCP is pulled");
    }
}

#[test]
fn a_cable_that_loses_and_delays_packets_and_is_cut() {
    if has("root") && has("ip") && has("python3") {
        by_cable(
            Namespace::by_bad_cable(5, 5),
            "5 % of the packets lost, the others delayed by 5 to 10 ms, and cut now and then",
        );
    }
}

/// What had come of a message when its connection ended is a message.
#[test]
fn ten_thousand_connections_dropped_in_the_middle_of_a_frame() {
    let mut rig = Rig::new();
    (rig.plan.input, rig.plan.upstream) = (Input::Tcp, None);
    let subject = Subject::start(&rig.plan);
    let count = 10_000;
    for number in 0..count {
        let mut stream = TcpStream::connect(("127.0.0.1", rig.plan.port)).expect("connected");
        let (whole, half) = (2 * number, 2 * number + 1);
        stream.write_all(format!("<14>1 - h a - - - {whole}\n<14>1 - h a - - - {half}").as_bytes()).expect("sent");
    }
    by_itself(&rig, subject, "10 000 connections that end within a frame", 2 * count);
}

fn certificates() -> Ca {
    let ca = Ca::new("the test's CA");
    ca.server("localhost");
    ca
}

/// A server that sends session tickets has its sender's kernel reset the connection, and drop what has not gone.
#[test]
fn tls_senders_that_close_at_once_without_reading_or_a_word() {
    if !has("openssl") || !has("python3") {
        return;
    }
    let mut rig = Rig::new();
    let ca = certificates();
    (rig.plan.input, rig.plan.upstream, rig.plan.certificates) = (Input::Tls, None, ca.folder().to_owned());
    let subject = Subject::start(&rig.plan);
    let (senders, each) = (8, 125_000);
    let running: Vec<_> = (0..senders)
        .map(|sender| {
            let mut command = Command::new("python3");
            command.arg(peers::script("tls_sender.py")).args([&format!("localhost:{}", rig.plan.port), "1.3", &each.to_string()]);
            command.args(["ca.pem", "localhost.pem", "localhost.key"].map(|name| ca.path(name)));
            command.arg((sender * each).to_string()).spawn().expect("python3 runs")
        })
        .collect();
    running.into_iter().for_each(|mut sender| assert!(sender.wait().expect("it ends").success() || is_rsyslogd()));
    by_itself(&rig, subject, "a million messages from TLS senders that close without close_notify", senders * each);
}

/// All of them arrive in the file, once.
fn by_itself(rig: &Rig, subject: Subject, what: &str, sent: usize) {
    let (missing, doubled) = Destination::File(rig.plan.out()).settled(sent, 0);
    println!("| {what} | {} | | {sent} | | | {missing} | {doubled} |", subject::name());
    assert!((missing, doubled) == (0, 0) || is_rsyslogd(), "{what}: {missing} missing, {doubled} doubled");
    subject.end("TERM");
}
