//! What a supervisor sees: readiness, reloads, the watchdog, sockets handed over, privileges given up, and the end.

mod common;

use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{PENSTOCK, Server, TempDir, free_port, has, wait_until};

const PLAIN: &str = r#"
[metrics]
listen = "127.0.0.1:0"
[[input.udp]]
listen = "127.0.0.1:0"
[[output.file]]
name = "all"
path = "{dir}/all.log"
format = "raw"
[[route]]
to = ["all"]
"#;

/// The supervisor's end of `NOTIFY_SOCKET`.
struct Supervisor {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Supervisor {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("bound");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket option");
        Self { socket, folder }
    }

    fn supervise(&self, command: &mut Command) {
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify"));
    }

    /// The next notification, as lines.
    fn hear(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).expect("a notification");
        String::from_utf8_lossy(&bytes[..length]).lines().map(str::to_owned).collect()
    }
}

fn send(server: &Server, input: &str, text: &str) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.send_to(text.as_bytes(), server.address(input)).expect("sent");
}

/// Runs a server that is expected not to start.
fn refused(config: &str) -> (Output, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("penstock.toml");
    std::fs::write(&path, config).expect("written");
    let output = Command::new(PENSTOCK).args(["run", "--config"]).arg(&path).stdin(Stdio::null()).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, text)
}

#[test]
fn the_supervisor_hears_of_start_reload_and_stop() {
    let supervisor = Supervisor::new();
    let server = Server::start_with(PLAIN, |command| supervisor.supervise(command));
    assert_eq!(supervisor.hear(), ["READY=1", "STATUS=1 inputs, 1 outputs"]);

    server.configure(&PLAIN.replace("[[route]]", "[[output.discard]]\nname = \"none\"\n[[route]]\nto = [\"none\"]\n[[route]]"));
    server.hup();
    let reloading = supervisor.hear();
    assert_eq!(reloading[0], "RELOADING=1");
    // systemd wants to know when, to tell this reload from an earlier one (sd_notify(3)).
    let when = reloading[1].strip_prefix("MONOTONIC_USEC=").and_then(|text| text.parse::<u64>().ok());
    assert!(when.is_some_and(|when| when > 0), "{reloading:?}");
    assert_eq!(supervisor.hear(), ["READY=1", "STATUS=1 inputs, 2 outputs"]);
    assert_eq!(server.metric("penstock_reloads_total{result=\"applied\"}"), 1);

    server.signal("TERM");
    assert_eq!(supervisor.hear()[0], "STOPPING=1");
}

#[test]
fn a_refused_reload_keeps_the_old_configuration_and_says_so() {
    let supervisor = Supervisor::new();
    let server = Server::start_with(PLAIN, |command| supervisor.supervise(command));
    supervisor.hear();
    for wrong in [PLAIN.replace("[\"all\"]", "[\"al\"]"), PLAIN.replace("listen", "lisen"), String::from("[[")] {
        let before = server.metric("penstock_reloads_total{result=\"refused\"}");
        server.configure(&wrong);
        server.hup();
        assert_eq!(supervisor.hear()[0], "RELOADING=1");
        let ready = supervisor.hear();
        assert_eq!(ready[0], "READY=1");
        assert!(ready[1].starts_with("STATUS=reload refused, the old configuration stays: "), "{ready:?}");
        assert!(ready[1].contains("penstock.toml:"), "it says where: {ready:?}");
        assert_eq!(server.metric("penstock_reloads_total{result=\"refused\"}"), before + 1);
    }
    assert_eq!(server.metric("penstock_reloads_total{result=\"applied\"}"), 0);
    server.wait_for_log("no output is called `al`: did you mean `all`?");
    send(&server, "udp", "<14>still here");
    assert_eq!(server.lines("all.log", 1), ["<14>still here"]);
    server.stop();
}

/// An address that cannot be had is found before anything old is touched.
#[test]
fn a_reload_to_a_taken_address_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let server = Server::start(PLAIN);
    server.configure(&format!("{PLAIN}[[input.tcp]]\nlisten = \"{address}\"\n"));
    server.hup();
    server.wait_for_log(&format!("input `tcp`: cannot listen on {address}: Address already in use"));
    server.wait_for_log("the old one stays in force");
    send(&server, "udp", "<14>still here");
    server.lines("all.log", 1);
    assert_eq!(server.metric("penstock_reloads_total{result=\"refused\"}"), 1);
    server.stop();
}

#[test]
fn the_watchdog_is_fed_more_often_than_asked() {
    let supervisor = Supervisor::new();
    let _server = Server::start_with(PLAIN, |command| {
        supervisor.supervise(command);
        command.env("WATCHDOG_USEC", "2000000");
    });
    supervisor.hear();
    for _ in 0..3 {
        let start = Instant::now();
        assert_eq!(supervisor.hear(), ["WATCHDOG=1"]);
        assert!(start.elapsed() < Duration::from_secs(2), "after {:?}", start.elapsed());
    }
}

#[test]
fn without_a_watchdog_nothing_is_sent() {
    let supervisor = Supervisor::new();
    let server = Server::start_with(PLAIN, |command| supervisor.supervise(command));
    assert_eq!(supervisor.hear()[0], "READY=1");
    server.signal("TERM");
    assert_eq!(supervisor.hear()[0], "STOPPING=1");
}

/// Starts the server by `systemd-socket-activate`, which waits for something to arrive: `knock` sends it.
fn activated(config: &str, options: &[String], knock: impl FnOnce() + Send + 'static) -> Server {
    Server::start_with(config, |command| {
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let mut activate = Command::new("systemd-socket-activate");
        activate.args(options).arg(PENSTOCK).args(arguments);
        activate.stderr(Stdio::piped()).stdout(Stdio::null()).stdin(Stdio::null());
        *command = activate;
        std::thread::spawn(knock);
    })
}

#[test]
fn a_datagram_socket_is_handed_over_by_name() {
    if !has("systemd-socket-activate") {
        return;
    }
    let port = free_port();
    let config = PLAIN.replace("listen = \"127.0.0.1:0\"\n[[output", "name = \"here\"\nlisten = \"127.0.0.9:0\"\n[[output");
    let options = ["--datagram".to_owned(), "--fdname=here".to_owned(), format!("--listen=127.0.0.1:{port}")];
    let server = activated(&config, &options, move || {
        wait_until("the socket is bound", || {
            std::fs::read_to_string("/proc/net/udp").is_ok_and(|sockets| sockets.contains(&format!("0100007F:{port:04X} ")))
        });
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.send_to(b"<14>what woke it", ("127.0.0.1", port)).expect("sent");
    });
    assert_eq!(server.address("here"), ([127, 0, 0, 1], port).into());
    assert_eq!(server.lines("all.log", 1), ["<14>what woke it"]);
    server.configure(&config.replace("format = \"raw\"", "format = \"rfc3164\""));
    server.hup();
    server.wait_for_log("reloaded");
    send(&server, "here", "<14>after the reload");
    assert!(server.lines("all.log", 2)[1].ends_with("after the reload"));
    server.stop();
}

#[test]
fn stream_sockets_are_handed_over_by_name_and_one_too_many_is_named() {
    if !has("systemd-socket-activate") {
        return;
    }
    let (first, second, spare) = (free_port(), free_port(), free_port());
    let inputs = "[[input.tcp]]\nname = \"two\"\nlisten = \"127.0.0.9:0\"\n[[input.tcp]]\nname = \"one\"\nlisten = \"127.0.0.9:0\"\n[[output.file]]";
    let config = PLAIN.replace("[[output.file]]", inputs).replace("{dir}/all.log", "{dir}/{input}.log");
    let listen = [first, second, spare].map(|port| format!("--listen=127.0.0.1:{port}"));
    let options = [&["--fdname=one:two:three".to_owned()][..], &listen].concat();
    let server = activated(&config, &options, move || {
        wait_until("somebody listens", || {
            TcpStream::connect(("127.0.0.1", second)).is_ok_and(|mut stream| stream.write_all(b"<14>woke it\n").is_ok())
        });
    });
    assert_eq!((server.address("one").port(), server.address("two").port()), (first, second));
    server.wait_for_log("systemd handed over a socket `three` that no input names");
    assert_eq!(server.lines("two.log", 1), ["<14>woke it"]);
    let mut stream = TcpStream::connect(server.address("one")).expect("connected");
    stream.write_all(b"<14>to the other\n").expect("sent");
    assert_eq!(server.lines("one.log", 1), ["<14>to the other"]);
    server.stop();
}

/// The numbers of a line of `/proc/PID/status`.
fn status(task: &Path, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(task.join("status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).expect("the kernel shows it");
    line.split_whitespace().map(str::to_owned).collect()
}

fn id_of_nobody(option: &str) -> String {
    let output = Command::new("id").args([option, "nobody"]).output().expect("id runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A port that an ordinary user cannot have; None where the system lets everybody have all.
fn privileged_port() -> Option<u16> {
    let first_free = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").ok()?.trim().parse::<u16>().ok()?;
    (1..first_free.min(1024))
        .rev()
        .find(|port| TcpListener::bind(("127.0.0.2", *port)).is_ok() && UdpSocket::bind(("127.0.0.2", *port)).is_ok())
}

#[test]
fn root_becomes_somebody_with_one_capability() {
    if !has("root") {
        return;
    }
    let Some(port) = privileged_port() else {
        eprintln!("no port is privileged here");
        return;
    };
    let config = PLAIN.replace("listen = \"127.0.0.1:0\"\n[[output", &format!("listen = \"127.0.0.2:{port}\"\n[[output"));
    let config = format!("[server]\nuser = \"nobody\"\nthreads = 2\n{config}");
    let server = Server::start_with(&config, |command| {
        let path = Path::new(command.get_args().last().expect("the configuration")).parent().expect("a folder");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).expect("our folder");
    });
    let tasks: Vec<_> =
        std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs").flatten().map(|entry| entry.path()).collect();
    assert!(tasks.len() >= 3, "the main thread and two readers: {tasks:?}");
    let (user, group) = (id_of_nobody("-u"), id_of_nobody("-g"));
    for task in &tasks {
        assert_eq!(status(task, "Uid"), [&user; 4].map(String::as_str));
        assert_eq!(status(task, "Gid"), [&group; 4].map(String::as_str));
        assert_eq!(status(task, "Groups"), [group.as_str()], "root's groups are gone");
        for (set, bits) in [("CapPrm", "400"), ("CapEff", "400"), ("CapInh", "0"), ("CapAmb", "0")] {
            assert_eq!(status(task, set)[0].trim_start_matches('0'), bits.trim_start_matches('0'), "{set}");
        }
    }
    send(&server, "udp", "<14>to a privileged port");
    server.lines("all.log", 1);

    // The same port by TCP: the capability is still there.
    server.configure(&format!("{config}[[input.tcp]]\nlisten = \"127.0.0.2:{port}\"\n"));
    server.hup();
    server.wait_for_log("reloaded");
    assert_eq!(server.address("tcp").port(), port);
    server.stop();
}

#[test]
fn a_second_signal_ends_at_once() {
    let dead = free_port();
    let config = format!(
        r#"
        [server]
        grace = "1h"
        [[input.udp]]
        listen = "127.0.0.1:0"
        [[output.forward]]
        name = "dead"
        to = ["tcp://127.0.0.1:{dead}"]
        [[route]]
        to = ["dead"]
        "#
    );
    let mut server = Server::start(&config);
    send(&server, "udp", "<14>to nobody");
    server.wait_for_log("refused");
    server.signal("TERM");
    server.wait_for_log("stopping");
    assert!(server.is_running(), "it waits for the upstream");
    let start = Instant::now();
    server.signal("TERM");
    let status = server.wait();
    assert!(start.elapsed() < Duration::from_secs(5), "after {:?}", start.elapsed());
    assert_eq!(status.code(), Some(0));
    server.wait_for_log("a second signal: stopping at once");
}

#[test]
fn a_unix_socket_left_behind_is_replaced_and_one_in_use_is_not() {
    let place = tempfile::tempdir().expect("a folder");
    for kind in ["datagram", "stream"] {
        let path = place.path().join(kind);
        let input = format!("[[input.unix]]\nlisten = \"{}\"\nkind = \"{kind}\"\n[[output.file]]", path.display());
        let config = PLAIN.replace("[[output.file]]", &input);
        let mut killed = Server::start(&config);
        killed.signal("KILL");
        killed.wait();
        assert!(path.exists(), "nobody has cleaned up");

        let server = Server::start(&config);
        if kind == "datagram" {
            UnixDatagram::unbound().and_then(|socket| socket.send_to(b"<14>hello", &path)).expect("sent");
        } else {
            let mut stream = std::os::unix::net::UnixStream::connect(&path).expect("connected");
            stream.write_all(b"<14>hello\n").expect("sent");
        }
        assert_eq!(server.lines("all.log", 1), ["<14>hello"]);

        let (output, text) = refused(&config.replace("{dir}", &place.path().display().to_string()));
        assert_eq!(output.status.code(), Some(69), "{text}");
        assert!(text.contains(&format!("input `unix`: cannot listen on {}: Address already in use", path.display())), "{text}");
        server.stop();
    }
}

#[test]
fn a_file_that_is_no_socket_is_not_replaced() {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("precious");
    std::fs::write(&path, "text").expect("written");
    let input = format!("[[input.unix]]\nlisten = \"{}\"\n[[output.file]]", path.display());
    let (output, text) = refused(&PLAIN.replace("[[output.file]]", &input).replace("{dir}", "/nonexistent"));
    assert_eq!(output.status.code(), Some(69), "{text}");
    assert_eq!(std::fs::read_to_string(&path).expect("it is there"), "text");
}

#[test]
fn two_servers_do_not_share_a_port() {
    let server = Server::start(&PLAIN.replace("[[output.file]]", "[[input.tcp]]\nlisten = \"127.0.0.1:0\"\n[[output.file]]"));
    for input in ["udp", "tcp"] {
        let address = server.address(input);
        let config = format!(
            "[[input.{input}]]\nlisten = \"{address}\"\n[[output.discard]]\nname = \"none\"\n[[route]]\nto = [\"none\"]\n"
        );
        let (output, text) = refused(&config);
        assert_eq!(output.status.code(), Some(69), "{text}");
        assert!(text.contains(&format!("input `{input}`: cannot listen on {address}: Address already in use")), "{text}");
    }
    server.stop();
}

#[test]
fn reloads_do_not_starve_the_watchdog() {
    let supervisor = Supervisor::new();
    let server = Server::start_with(PLAIN, |command| {
        supervisor.supervise(command);
        command.env("WATCHDOG_USEC", "2000000");
    });
    let (end, mut fed) = (Instant::now() + Duration::from_secs(6), 0);
    while Instant::now() < end {
        server.hup();
        std::thread::sleep(Duration::from_millis(500));
        // RELOADING=1, …, READY=1.
        loop {
            let heard = supervisor.hear();
            if heard[0] == "READY=1" {
                break;
            }
            fed += usize::from(heard[0] == "WATCHDOG=1");
        }
    }
    assert!(fed >= 2, "it was fed {fed} times in three times the time that it waits");
}
