//! Open connections go from one process to the next, and their senders notice nothing.

mod common;

use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{PENSTOCK, Server, TempDir, free_port, wait_until};
use sendfd::RecvWithFd;

/// `{state}` is where both processes have their state.
fn config(state: &TempDir, port: u16) -> String {
    format!(
        r#"
[server]
state-dir = "{}"
[[input.tcp]]
listen = "127.0.0.1:{port}"
[[input.udp]]
listen = "127.0.0.1:{port}"
[[input.unix]]
kind = "stream"
listen = "{}/socket"
[template]
line = "{{message}}"
[[output.file]]
name = "out"
path = "{}/out"
format = "line"
[[route]]
to = ["out"]
"#,
        state.path().display(),
        state.path().display(),
        state.path().display()
    )
}

fn lines(state: &TempDir) -> Vec<String> {
    std::fs::read_to_string(state.path().join("out")).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn message(number: usize) -> String {
    format!("<14>1 - h a - - - {number}\n")
}

/// A sender that never connects again, as Python's handler, goes on through ten processes; each change comes in the middle
/// of a message.
#[test]
fn a_connection_goes_on_through_ten_takeovers_in_the_middle_of_messages() {
    let (state, port) = (TempDir::new().expect("a folder"), free_port());
    let config = config(&state, port);
    let mut server = Server::start(&config);
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    let mut unix = UnixStream::connect(state.path().join("socket")).expect("connected");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut sent = 0;
    for round in 0..10 {
        let (first, second) = (message(sent), message(sent + 1));
        let (head, tail) = first.split_at(round % 15 + 3);
        tcp.write_all(head.as_bytes()).expect("sent");
        unix.write_all(&second.as_bytes()[..5]).expect("sent");
        let next = Server::start_with(&config, |command| {
            command.arg("--takeover");
        });
        let status = server.wait();
        assert!(status.success(), "{status}: {:?}", server.log());
        server = next;
        if round > 0 {
            // In the first round they may not have been accepted yet; then the listening socket has them.
            server.wait_for_log("2 open connections were taken over");
        }
        tcp.write_all(tail.as_bytes()).expect("the connection is open");
        unix.write_all(&second.as_bytes()[5..]).expect("the connection is open");
        udp.send_to(message(sent + 2).as_bytes(), ("127.0.0.1", port)).expect("sent");
        sent += 3;
        wait_until("all have arrived", || lines(&state).len() == sent);
    }
    let mut numbers: Vec<usize> = lines(&state).iter().map(|line| line.parse().expect("a number")).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..sent).collect::<Vec<_>>());
}

/// Whoever cleans /run up takes a socket's name away: the next process binds it anew, and those that are connected go on.
#[test]
fn a_socket_whose_name_is_gone_is_bound_anew() {
    let (state, port) = (TempDir::new().expect("a folder"), free_port());
    let config = config(&state, port);
    let mut first = Server::start(&config);
    let socket = state.path().join("socket");
    let mut connected = UnixStream::connect(&socket).expect("connected");
    connected.write_all(message(0).as_bytes()).expect("sent");
    wait_until("it has arrived", || lines(&state).len() == 1);
    std::fs::remove_file(&socket).expect("it is there");
    let _next = Server::start_with(&config, |command| {
        command.arg("--takeover");
    });
    assert!(first.wait().success());
    connected.write_all(message(1).as_bytes()).expect("the connection is open");
    let mut new = UnixStream::connect(&socket).expect("it is there again");
    new.write_all(message(2).as_bytes()).expect("sent");
    wait_until("all have arrived", || lines(&state).len() == 3);
}

#[test]
fn nobody_to_take_over_from_is_no_reason_not_to_start() {
    let (state, port) = (TempDir::new().expect("a folder"), free_port());
    let server = Server::start_with(&config(&state, port), |command| {
        command.arg("--takeover");
    });
    server.wait_for_log("no server runs that could be taken over");
}

/// What systemd does with `FDSTORE=1`: it keeps the descriptors and gives them to the next process.
struct Manager {
    socket: UnixDatagram,
    folder: TempDir,
    stored: Vec<(String, OwnedFd)>,
}

impl Manager {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("bound");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("an option");
        Self { socket, folder, stored: Vec::new() }
    }

    /// Hears one notification.
    fn hear(&mut self) -> String {
        use std::os::fd::FromRawFd;
        let (mut bytes, mut fds) = ([0; 4096], [-1; 256]);
        let (length, count) = self.socket.recv_with_fd(&mut bytes, &mut fds).expect("a notification");
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("").to_owned();
        // SAFETY: they have just been received, and nobody else knows them.
        let received = fds[..count].iter().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) });
        let received: Vec<_> = received.collect();
        if text.contains("FDSTORE=1") {
            assert!(text.contains("FDPOLL=0"), "{text}");
            self.stored.extend(received.into_iter().map(|fd| (name.clone(), fd)));
        } else if text.contains("FDSTOREREMOVE=1") {
            self.stored.retain(|(other, _)| *other != name);
        }
        text
    }

    /// Starts the server with what is stored, in the reverse order.
    fn start(&self, config: &str) -> Server {
        let fds: Vec<_> = self.stored.iter().rev().map(|(_, fd)| fd.as_raw_fd()).collect();
        let names: Vec<_> = self.stored.iter().rev().map(|(name, _)| name.as_str()).collect();
        let (count, names) = (fds.len(), names.join(":"));
        let notify = self.folder.path().join("notify");
        Server::start_with(config, |command| {
            command.arg("--keep-descriptors").env("NOTIFY_SOCKET", notify);
            if count > 0 {
                command.env("LISTEN_FDS", count.to_string()).env("LISTEN_FDNAMES", names);
                pass(command, fds);
            }
        })
    }
}

/// The descriptors become 3, 4, … in the child, and LISTEN_PID its own.
fn pass(command: &mut Command, fds: Vec<i32>) {
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_owned()).collect();
    let mut shell = Command::new("sh");
    shell.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\""]).arg(PENSTOCK).args(arguments);
    for (key, value) in command.get_envs() {
        shell.env(key, value.unwrap_or_default());
    }
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: dup2 is all that is done, which is safe after a fork.
    unsafe {
        shell.pre_exec(move || {
            for (i, fd) in fds.iter().enumerate() {
                let high = libc_dup(*fd, 100 + i as i32);
                assert!(high >= 0);
            }
            for i in 0..fds.len() as i32 {
                assert!(libc_dup(100 + i, 3 + i) >= 0);
            }
            Ok(())
        })
    };
    *command = shell;
}

fn libc_dup(from: i32, to: i32) -> i32 {
    // SAFETY: plain call.
    unsafe { libc::dup2(from, to) }
}

#[test]
fn the_supervisor_keeps_connections_through_restarts_and_gets_none_back() {
    let (state, port) = (TempDir::new().expect("a folder"), free_port());
    let config = config(&state, port);
    let mut manager = Manager::new();
    let mut server = manager.start(&config);
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    tcp.write_all(b"<14>1 - h a - - - begins\n").expect("sent");
    wait_until("it has arrived", || lines(&state).len() == 1);
    for round in 0..5 {
        let message = message(round);
        let (head, tail) = message.split_at(10);
        tcp.write_all(head.as_bytes()).expect("sent");
        server.signal("TERM");
        server.wait();
        // TCP, UDP for each thread, the unix socket, and the connection.
        while manager.stored.iter().filter(|(name, _)| name == "s").count() < 3 {
            manager.hear();
        }
        assert_eq!(manager.stored.iter().filter(|(name, _)| name == "c").count(), 1);
        // While nobody runs, the kernel takes it.
        tcp.write_all(tail.as_bytes()).expect("the connection is open");
        server = manager.start(&config);
        wait_until("all have arrived", || lines(&state).len() == round + 2);
        while !manager.stored.is_empty() {
            manager.hear();
        }
    }
    assert_eq!(lines(&state), ["begins", "0", "1", "2", "3", "4"]);
}

/// The unit was stopped, and with it the connection: what had come is a message all the same.
#[test]
fn what_came_of_a_message_is_delivered_by_the_next_start_when_its_connection_is_gone() {
    let (state, port) = (TempDir::new().expect("a folder"), free_port());
    let config = config(&state, port);
    let mut manager = Manager::new();
    let mut server = manager.start(&config);
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    tcp.write_all(b"<14>1 - h a - - - whole\n<14>1 - h a - - - unfinish").expect("sent");
    wait_until("the first has arrived", || lines(&state).len() == 1);
    server.signal("TERM");
    server.wait();
    while manager.stored.iter().filter(|(name, _)| name == "s").count() < 3 {
        manager.hear();
    }
    manager.stored.clear();
    let _server = manager.start(&config);
    wait_until("the rest has arrived", || lines(&state).len() == 2);
    assert_eq!(lines(&state), ["whole", "unfinish"]);
}
