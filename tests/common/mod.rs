//! What the end-to-end tests share: a real server in a folder of its own, and waiting for events.
//!
//! Servers listen on port 0 and say where; nothing here waits for time, only for something to become true.
#![allow(dead_code, reason = "every test program uses another part of this")]

pub mod proxy;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use tempfile::TempDir;

/// The program under test.
pub const PENSTOCK: &str = env!("CARGO_BIN_EXE_penstock");

/// Longer than anything takes on a busy machine; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server; killed when it is dropped.
pub struct Server {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    pub folder: TempDir,
}

impl Server {
    /// Starts on the configuration; `{dir}` in it is the server's folder. Returns when it is ready.
    pub fn start(config: &str) -> Self {
        Self::start_with(config, |_| {})
    }

    /// The same, with something done to the command.
    pub fn start_with(config: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("penstock.toml");
        std::fs::write(&path, placed(config, folder.path())).expect("written");
        let mut command = Command::new(PENSTOCK);
        command.args(["run", "--config"]).arg(&path).stderr(Stdio::piped()).stdout(Stdio::piped()).stdin(Stdio::null());
        prepare(&mut command);
        let mut child = command.spawn().expect("penstock starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let stderr = child.stderr.take().expect("it is piped");
        let lines = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().expect("no panic").push(line);
            }
        });
        let server = Self { child, log, folder };
        server.wait_for_log("is ready");
        server
    }

    /// Replaces the configuration; it is read with the next [`Server::hup`].
    pub fn configure(&self, config: &str) {
        std::fs::write(self.path("penstock.toml"), placed(config, self.folder.path())).expect("written");
    }

    /// Where an input listens, by its name.
    pub fn address(&self, input: &str) -> SocketAddr {
        let start = format!("input `{input}`: listening on ");
        let line = self.wait_for_log(&start);
        line.rsplit(' ').next().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no address in {line}"))
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// A file's text, empty while there is none.
    pub fn read(&self, below: &str) -> String {
        std::fs::read(self.path(below)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Waits until the file has this many lines, and returns them. More than that fails.
    pub fn lines(&self, below: &str, count: usize) -> Vec<String> {
        wait_until(&format!("{count} lines in {below}"), || self.read(below).matches('\n').count() >= count);
        let lines: Vec<_> = self.read(below).lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), count, "{below}: {lines:?}");
        lines
    }

    /// All regular files below a folder, with their texts.
    pub fn files(&self, below: &str) -> HashMap<String, String> {
        files(&self.path(below))
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("no panic").clone()
    }

    /// Waits for a line with this text, and returns it.
    pub fn wait_for_log(&self, text: &str) -> String {
        let mut found = None;
        wait_until(&format!("`{text}` in the log"), || {
            found = self.log().into_iter().find(|line| line.contains(text));
            found.is_some() || {
                assert!(text != "is ready" || self.is_running(), "it ended: {:?}", self.log());
                false
            }
        });
        found.expect("it was found")
    }

    pub fn is_running(&self) -> bool {
        Path::new(&format!("/proc/{}/stat", self.pid())).exists() && !self.state().contains('Z')
    }

    fn state(&self) -> String {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).unwrap_or("Z").to_owned()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status().expect("kill runs");
        assert!(status.success());
    }

    pub fn hup(&self) {
        self.signal("HUP");
    }

    /// Sends TERM and waits for the end; the log.
    pub fn stop(mut self) -> Vec<String> {
        self.signal("TERM");
        let status = self.wait();
        assert!(status.success(), "{status}: {:?}", self.log());
        self.log()
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the server ends", || {
            status = self.child.try_wait().expect("it is our child");
            status.is_some()
        });
        status.expect("it ended")
    }

    /// The text of `/metrics`; the configuration has `[metrics] listen = "127.0.0.1:0"`.
    pub fn metrics(&self) -> String {
        let line = self.wait_for_log("metrics: listening on http://");
        let address = line.split("http://").nth(1).and_then(|rest| rest.strip_suffix("/metrics")).expect("an address");
        http_get(address, "/metrics")
    }

    /// One sample, by its name and all of its labels.
    pub fn metric(&self, sample: &str) -> u64 {
        let text = self.metrics();
        let line = text.lines().find(|line| line.strip_prefix(sample).is_some_and(|rest| rest.starts_with(' ')));
        let line = line.unwrap_or_else(|| panic!("no {sample} in {text}"));
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log().join("\n"));
        }
    }
}

/// The configuration for this folder, where its state is too.
fn placed(config: &str, folder: &Path) -> String {
    let state = "[server]\nstate-dir = \"{dir}/state\"\n";
    let config = match config.contains("[server]") {
        true if config.contains("state-dir") => config.to_owned(),
        true => config.replacen("[server]\n", state, 1),
        false => format!("{config}\n{state}"),
    };
    config.replace("{dir}", &folder.display().to_string())
}

/// Sends messages whose texts are these numbers over one connection; returns when the server has read them.
pub fn send_numbers(address: SocketAddr, from: usize, count: usize) {
    let mut stream = TcpStream::connect(address).expect("connected");
    let text: String = (from..from + count).map(|i| format!("<14>1 - h a - - - {i}\n")).collect();
    stream.write_all(text.as_bytes()).expect("sent");
    stream.shutdown(std::net::Shutdown::Write).expect("open");
    stream.read_to_end(&mut Vec::new()).expect("closed in order");
}

pub fn http_get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connected");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("read");
    text
}

pub fn files(folder: &Path) -> HashMap<String, String> {
    let mut found = HashMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("it is below").display().to_string();
                found.insert(name, String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).into_owned());
            }
        }
    }
    found
}

/// Waits until it is true; says what did not happen.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "this did not happen: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A port that was free a moment ago, for peers that cannot listen on port 0.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Listens on a port that was free. Somebody's connection may have it for a while: it is waited for.
pub fn listen(port: u16) -> TcpListener {
    let mut listener = None;
    wait_until("the port is free again", || {
        listener = TcpListener::bind(("127.0.0.1", port)).ok();
        listener.is_some()
    });
    listener.expect("it was waited for")
}

/// Whether a peer can be had; says by name what is left out for want of it. Where everything must be there
/// (`PENSTOCK_REQUIRE_PEERS`), its absence is a failure.
pub fn has(peer: &str) -> bool {
    let found = match peer {
        "root" => Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.starts_with(b"0\n")),
        program => std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .any(|folder| folder.join(program).exists()),
    };
    if !found {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        assert!(std::env::var_os("PENSTOCK_REQUIRE_PEERS").is_none(), "{test} needs {peer}");
        // Not through the test runner, which would keep it to itself.
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: there is no {peer}");
    }
    found
}
