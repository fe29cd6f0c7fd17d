//! A running rsyslogd in a folder of its own.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Running, is_listening};
use crate::common::{TempDir, files, wait_until};

pub struct Rsyslogd {
    running: Running,
    folder: TempDir,
}

impl Rsyslogd {
    /// Starts on the configuration; `{dir}` in it is its folder. What listens says so: see [`Rsyslogd::port`].
    pub fn start(config: &str) -> Self {
        Self::start_with(&format!("global(workDirectory=\"{{dir}}\")\n{config}"), |_, _| {})
    }

    /// On this configuration alone, with something done to the command in its folder.
    pub fn start_with(config: &str, prepare: impl FnOnce(&mut Command, &Path)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().display().to_string();
        let path = folder.path().join("rsyslog.conf");
        std::fs::write(&path, config.replace("{dir}", &dir)).expect("written");
        let log = std::fs::File::create(folder.path().join("stderr")).expect("made");
        let mut command = Command::new("rsyslogd");
        command.env("PATH", path_with_sbin()).args(["-n", "-C", "-iNONE", "-f"]).arg(&path);
        command.stdout(log.try_clone().expect("a descriptor")).stderr(log);
        prepare(&mut command, folder.path());
        Self { running: Running::start(&mut command), folder }
    }

    /// What its `imtcp` wrote to `listenPortFileName="{dir}/NAME"`, which it does a moment before it listens.
    pub fn port(&self, name: &str) -> u16 {
        let mut port = None;
        wait_until(&format!("rsyslogd listens: {name}"), || {
            port = self.read(name).trim().parse().ok();
            port.is_some_and(is_listening)
        });
        port.expect("it was read")
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    pub fn read(&self, below: &str) -> String {
        std::fs::read(self.path(below)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Waits until the file has this many lines, and returns them.
    pub fn lines(&self, below: &str, count: usize) -> Vec<String> {
        wait_until(&format!("{count} lines in rsyslogd's {below}"), || self.read(below).matches('\n').count() >= count);
        self.read(below).lines().map(str::to_owned).collect()
    }

    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Ends it with this signal.
    pub fn end(&mut self, signal: &str) {
        self.running.signal(signal);
        self.running.wait();
    }

    /// Lets it deliver what it has, and end; all files below a folder of its.
    pub fn stop(mut self, below: &str) -> std::collections::HashMap<String, String> {
        self.end("TERM");
        files(&self.path(below))
    }
}

impl Drop for Rsyslogd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("rsyslogd said:\n{}", self.read("stderr"));
        }
    }
}

/// `imudp` cannot tell which port it got: one that was free a moment ago.
pub fn free_udp_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("an address").port()
}

fn path_with_sbin() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}
