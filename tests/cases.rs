//! The end-to-end cases: every folder below `tests/cases` is one, and one test runs them all; another runs them against
//! rsyslogd where it is installed.
//!
//! | in the folder | what it is |
//! |---|---|
//! | `penstock.toml` | the configuration; `{dir}` is the server's folder |
//! | `send` | what is sent, a step a line (see [`steps`]); its first line says what the case is for |
//! | `expect/` | the files that must be in the server's folder afterwards, these and no others; `{time}` is any time |
//! | `rsyslog.conf` | the same work for rsyslog, behind `tests/cases/rsyslog.conf`; it listens on port 0, by TCP and by UDP once at most |
//! | `expect-rsyslog/` | the files where rsyslog's are others; `docs/differences-from-rsyslog.md` says why |
//!
//! `PENSTOCK_CASES=framing` runs only those with this in their names.

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::{Server, TempDir, has, wait_until};

/// How long a case that goes wrong is given to become right.
const PATIENCE: Duration = Duration::from_secs(15);
/// Cases at a time; they mostly wait.
const THREADS: usize = 4;

/// What rsyslogd has to say.
const ERRORS: &str = "rsyslogd.errors";

/// Relative path → content.
type Files = BTreeMap<String, Vec<u8>>;

#[test]
fn every_case_gives_what_is_written() {
    run(cases(), |case| {
        let config = case.text("penstock.toml");
        let mut server = Server::start_with(&config, |command| {
            command.env("TZ", "UTC");
        });
        let folder = server.folder.path().to_owned();
        let address = |name: &str| match name.starts_with("unix") {
            true => Address::Unix(folder.join(name)),
            false => Address::Ip(server.address(name)),
        };
        let expected = case.files("expect");
        let sent = send(&case.steps(), &folder, &address);
        wait_for(&folder, &expected);
        server.signal("TERM");
        assert!(server.wait().success(), "{:?}", server.log());
        sent.and_then(|()| compare(&files(&folder), &expected))
    });
}

#[test]
fn rsyslog_gives_the_same_or_what_is_written_for_it() {
    if !has("rsyslogd") || !is_measured() {
        return;
    }
    let cases = cases().into_iter().filter(|case| case.0.join("rsyslog.conf").exists()).collect();
    run(cases, |case| {
        let steps = case.steps();
        let mut rsyslog = Rsyslog::start(&case.text("rsyslog.conf"), &steps);
        let folder = rsyslog.folder.path().to_owned();
        let address = |name: &str| match name.starts_with("unix") {
            true => Address::Unix(folder.join(name)),
            false => Address::Ip(SocketAddr::from(([127, 0, 0, 1], rsyslog.ports[name]))),
        };
        let different = case.0.join("expect-rsyslog");
        let expected = case.files(if different.exists() { "expect-rsyslog" } else { "expect" });
        let sent = send(&steps, &folder, &address);
        wait_for(&folder, &expected);
        rsyslog.stop();
        sent.and_then(|()| compare(&files(&folder), &expected))
    });
}

/// The version that `expect-rsyslog` was written down from; others differ in other places.
fn is_measured() -> bool {
    const VERSION: &str = "8.2302";
    let output = Command::new(rsyslogd()).arg("-v").output().expect("rsyslogd runs");
    let found = String::from_utf8_lossy(&output.stdout).contains(VERSION);
    if !found {
        assert!(std::env::var_os("PENSTOCK_REQUIRE_PEERS").is_none(), "the cases need rsyslogd {VERSION}");
        let _ = writeln!(std::io::stderr(), "SKIPPED the cases of rsyslogd: it is not {VERSION}");
    }
    found
}

fn rsyslogd() -> &'static str {
    if Path::new("/usr/sbin/rsyslogd").exists() { "/usr/sbin/rsyslogd" } else { "rsyslogd" }
}

/// What the cases show and what the page says are the same list.
#[test]
fn every_difference_from_rsyslog_is_in_the_docs() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/differences-from-rsyslog.md");
    let page = std::fs::read_to_string(page).expect("the page");
    for case in cases().iter().filter(|case| case.0.join("expect-rsyslog").exists()) {
        assert!(page.contains(&format!("(../tests/cases/{})", case.name())), "{} is not in the page", case.name());
        assert_ne!(case.files("expect"), case.files("expect-rsyslog"), "{} does not differ", case.name());
    }
    for link in page.split("(../tests/cases/").skip(1) {
        let name = link.split(')').next().unwrap_or("");
        assert!(cases().iter().any(|case| case.name() == name), "the page names {name}, which is no case");
    }
}

/// What is expected is itself checked by somebody else's parser.
#[test]
fn every_json_line_is_valid() {
    if !has("python3") {
        return;
    }
    let lines: Vec<_> =
        cases().iter().flat_map(|case| case.files("expect")).filter(|(name, _)| name.ends_with(".json")).collect();
    assert!(!lines.is_empty());
    for (name, text) in lines {
        let mut python = Command::new("python3");
        python.args(["-m", "json.tool", "--json-lines"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = python.spawn().expect("python3 runs");
        child.stdin.take().expect("piped").write_all(&text).expect("written");
        assert!(child.wait().expect("it ends").success(), "{name}");
    }
}

/// A folder.
struct Case(PathBuf);

fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let wanted = std::env::var("PENSTOCK_CASES").unwrap_or_default();
    let mut found: Vec<_> = std::fs::read_dir(root).expect("the cases").flatten().map(|entry| entry.path()).collect();
    found.sort();
    found.into_iter().filter(|path| path.is_dir()).map(Case).filter(|case| case.name().contains(&wanted)).collect()
}

impl Case {
    fn name(&self) -> String {
        self.0.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn steps(&self) -> Vec<Step> {
        steps(&self.text("send"))
    }

    fn files(&self, name: &str) -> Files {
        let found = files(&self.0.join(name));
        assert!(!found.is_empty(), "`{name}` has no files");
        found
    }
}

/// Runs them all, and then says which went wrong and how.
fn run(cases: Vec<Case>, one: impl Fn(&Case) -> Result<(), String> + Sync) {
    assert!(!cases.is_empty(), "no case is called so");
    let (waiting, wrong) = (Mutex::new(cases), Mutex::new(Vec::new()));
    let next = || waiting.lock().expect("no panic").pop();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(case) = next() {
                    let result = catch_unwind(AssertUnwindSafe(|| one(&case))).unwrap_or_else(|_| Err("it panicked".to_owned()));
                    if let Err(what) = result {
                        wrong.lock().expect("no panic").push(format!("case {}: {what}", case.name()));
                    }
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().expect("no panic");
    wrong.sort();
    assert!(wrong.is_empty(), "\n{}\n{} cases went wrong", wrong.join("\n"), wrong.len());
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Until so many lines are in all the files together.
    Arrive(usize),
    /// Half-close all connections, and wait until the other side has closed them too: what follows makes new ones.
    Close,
    /// The name of an input, which begins with its kind: `tcp`, `tcp-lines`, `udp`, `unix`, `unix-stream`.
    Send(String, Vec<u8>),
}

/// A line is `INPUT BYTES`, `arrive N`, `close` or a comment. `BYTES` is one write, read by the server before the next is
/// made; in it `\n`, `\r`, `\t`, `\0`, `\\`, `\xFF` and `\{x*600}` (so many `x`) stand for bytes.
fn steps(text: &str) -> Vec<Step> {
    assert!(text.starts_with("# "), "the first line of `send` says what the case is for");
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(step).collect()
}

fn step(line: &str) -> Step {
    match line.split_once(' ') {
        None if line == "close" => Step::Close,
        Some(("arrive", count)) => Step::Arrive(count.parse().expect("a number of lines")),
        Some((input, bytes)) => Step::Send(input.to_owned(), unescaped(bytes)),
        None => panic!("what is `{line}`?"),
    }
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((plain, after)) = rest.split_once('\\') {
        out.extend_from_slice(plain.as_bytes());
        let escape = after.chars().next().expect("something after a backslash");
        rest = &after[escape.len_utf8()..];
        match escape {
            '0' => out.push(0),
            '\\' => out.push(b'\\'),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'x' => {
                out.push(u8::from_str_radix(&rest[..2], 16).expect("two hexadecimal digits"));
                rest = &rest[2..];
            }
            '{' => {
                let (repeated, after) = rest.split_once('}').expect("`}`");
                let (text, count) = repeated.rsplit_once('*').expect("`*`");
                out.extend(text.repeat(count.parse().expect("a number")).bytes());
                rest = after;
            }
            other => panic!("what is `\\{other}`?"),
        }
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

#[test]
fn bytes_are_written_readably() {
    assert_eq!(unescaped(r"<1>a\n\0\xFF\\\{ab*2}é"), b"<1>a\n\0\xFF\\abab\xC3\xA9");
    assert_eq!(
        steps("# why\n\nudp a b\narrive 1\nclose"),
        [Step::Send("udp".into(), b"a b".into()), Step::Arrive(1), Step::Close]
    );
}

enum Address {
    Ip(SocketAddr),
    Unix(PathBuf),
}

/// An open way to an input.
enum Way {
    Datagrams(UdpSocket, SocketAddr),
    Tcp(TcpStream),
    UnixDatagrams(UnixDatagram),
    UnixStream(UnixStream),
}

fn send(steps: &[Step], folder: &Path, address: &dyn Fn(&str) -> Address) -> Result<(), String> {
    let mut ways: BTreeMap<&str, Way> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Arrive(lines) => {
                let count = || files(folder).values().flatten().filter(|byte| **byte == b'\n').count();
                within(PATIENCE, || count() >= *lines)
                    .ok_or_else(|| format!("{} lines and not {lines} have arrived", count()))?;
            }
            Step::Close => close(&mut ways)?,
            Step::Send(input, bytes) => {
                let way = match ways.entry(input) {
                    std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
                    std::collections::btree_map::Entry::Vacant(none) => none.insert(Way::open(input, address(input))),
                };
                way.write(bytes).map_err(|error| format!("{input}: {error}"))?;
            }
        }
    }
    close(&mut ways)
}

fn close(ways: &mut BTreeMap<&str, Way>) -> Result<(), String> {
    std::mem::take(ways).into_iter().try_for_each(|(input, way)| way.close().map_err(|error| format!("closing {input}: {error}")))
}

impl Way {
    fn open(input: &str, address: Address) -> Self {
        match address {
            Address::Ip(to) if input.starts_with("udp") => Self::Datagrams(UdpSocket::bind("127.0.0.1:0").expect("a socket"), to),
            Address::Ip(to) => {
                let stream = TcpStream::connect(to).expect("connected");
                stream.set_nodelay(true).expect("it is TCP");
                Self::Tcp(stream)
            }
            Address::Unix(path) if input.ends_with("stream") => Self::UnixStream(UnixStream::connect(path).expect("connected")),
            Address::Unix(path) => {
                let socket = UnixDatagram::unbound().expect("a socket");
                socket.connect(path).expect("connected");
                Self::UnixDatagrams(socket)
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Datagrams(socket, to) => {
                socket.send_to(bytes, *to)?;
                wait_until("the datagram is read", || unread("udp", to.port(), 0) == 0);
            }
            Self::Tcp(stream) => {
                stream.write_all(bytes)?;
                let (here, there) = (stream.local_addr()?.port(), stream.peer_addr()?.port());
                wait_until("the bytes are read", || unread("tcp", there, here) == 0);
            }
            Self::UnixDatagrams(socket) => drop(socket.send(bytes)?),
            Self::UnixStream(stream) => stream.write_all(bytes)?,
        }
        Ok(())
    }

    fn close(self) -> std::io::Result<()> {
        match self {
            Self::Tcp(mut stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.shutdown(std::net::Shutdown::Write)?;
                stream.read_to_end(&mut Vec::new()).map(drop)
            }
            Self::UnixStream(mut stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.shutdown(std::net::Shutdown::Write)?;
                stream.read_to_end(&mut Vec::new()).map(drop)
            }
            Self::Datagrams(..) | Self::UnixDatagrams(_) => Ok(()),
        }
    }
}

/// The bytes that a socket of 127.0.0.1 has received and its program has not read; `peer` 0 is everybody.
fn unread(protocol: &str, of: u16, peer: u16) -> u64 {
    rows(protocol)
        .iter()
        .filter(|row| port(&row[1]) == Some(of) && (peer == 0 || port(&row[2]) == Some(peer)))
        .filter_map(|row| row[4].split(':').nth(1).and_then(|queue| u64::from_str_radix(queue, 16).ok()))
        .sum()
}

/// The kernel's table of sockets, as proc_net(5) has it, without its heading: 1 is the local address, 2 the peer's, 4 both
/// queues, 9 the inode.
fn rows(protocol: &str) -> Vec<Vec<String>> {
    let table = std::fs::read_to_string(format!("/proc/net/{protocol}")).expect("Linux");
    table.lines().skip(1).map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

fn port(address: &str) -> Option<u16> {
    address.rsplit(':').next().and_then(|port| u16::from_str_radix(port, 16).ok())
}

/// All regular files below a folder but the configuration.
fn files(folder: &Path) -> Files {
    let (mut found, mut folders) = (Files::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for path in std::fs::read_dir(next).into_iter().flatten().flatten().map(|entry| entry.path()) {
            let name = path.strip_prefix(folder).expect("it is below").display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() && !["penstock.toml", "port", "rsyslog.conf", ERRORS].contains(&name.as_str()) {
                found.insert(name, std::fs::read(&path).unwrap_or_default());
            }
        }
    }
    found
}

/// Whether it became true.
fn within(patience: Duration, mut condition: impl FnMut() -> bool) -> Option<()> {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > patience {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Some(())
}

/// Returns as soon as everything is there; what is missing then is found by [`compare`].
fn wait_for(folder: &Path, expected: &Files) {
    let _ = within(PATIENCE, || compare(&files(folder), expected).is_ok());
}

fn compare(found: &Files, expected: &Files) -> Result<(), String> {
    let mut wrong = Vec::new();
    for (name, text) in expected {
        match found.get(name) {
            Some(other) if matches(other, text) => {}
            Some(other) => wrong.push(format!("{name} is\n{}and not\n{}", shown(other), shown(text))),
            None => wrong.push(format!("{name} is missing")),
        }
    }
    let unexpected = found.iter().filter(|(name, _)| !expected.contains_key(*name));
    wrong.extend(unexpected.map(|(name, text)| format!("{name:?} is there, with\n{}", shown(text))));
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// `{time}` in what is expected is any time of today's forms.
fn matches(found: &[u8], expected: &[u8]) -> bool {
    const TIME: &str = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d:\d\d|Z)|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d)";
    let Ok(text) = std::str::from_utf8(expected) else {
        return found == expected;
    };
    if !text.contains("{time}") {
        return found == expected;
    }
    let parts: Vec<_> = text.split("{time}").map(regex::escape).collect();
    regex::bytes::Regex::new(&format!("^{}$", parts.join(TIME))).expect("a pattern").is_match(found)
}

fn shown(text: &[u8]) -> String {
    text.split_inclusive(|byte| *byte == b'\n').map(|line| format!("    {}\n", line.escape_ascii())).collect()
}

/// rsyslogd in a folder of its own; killed when it is dropped.
struct Rsyslog {
    child: Child,
    folder: TempDir,
    /// Where `udp` and `tcp` of `send` are: the kernel chose them, and nobody else can have the same.
    ports: BTreeMap<&'static str, u16>,
}

impl Rsyslog {
    fn start(config: &str, steps: &[Step]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let prelude = include_str!("cases/rsyslog.conf");
        let text = format!("{prelude}{config}").replace("{dir}", &folder.path().display().to_string());
        let path = folder.path().join("rsyslog.conf");
        std::fs::write(&path, text).expect("written");
        let mut command = Command::new(rsyslogd());
        command.args(["-n", "-iNONE", "-f"]).arg(&path).env("TZ", "UTC").stdin(Stdio::null());
        command.stderr(std::fs::File::create(folder.path().join(ERRORS)).expect("a file"));
        let mut rsyslog = Self { child: command.spawn().expect("rsyslogd starts"), folder, ports: BTreeMap::new() };
        wait_until("rsyslogd listens", || {
            rsyslog.find_ports();
            steps.iter().all(|step| !matches!(step, Step::Send(name, _) if !rsyslog.listens(name)))
        });
        rsyslog
    }

    fn listens(&self, name: &str) -> bool {
        self.ports.contains_key(name) || self.folder.path().join(name).exists()
    }

    /// Those of its sockets that are bound; a listening TCP socket has no peer.
    fn find_ports(&mut self) {
        let sockets = self.sockets();
        for protocol in ["tcp", "udp"] {
            let bound = rows(protocol).into_iter().find(|row| row[2].ends_with(":0000") && sockets.contains(&row[9]));
            self.ports.extend(bound.and_then(|row| Some((protocol, port(&row[1])?))));
        }
    }

    /// The inodes of all sockets that it has open.
    fn sockets(&self) -> Vec<String> {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).into_iter().flatten().flatten();
        let links = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        links.filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect()
    }

    fn stop(&mut self) {
        let killed = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill runs");
        assert!(killed.success());
        wait_until("rsyslogd ends", || self.child.try_wait().expect("our child").is_some());
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.folder.path().join(ERRORS)).unwrap_or_default());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
