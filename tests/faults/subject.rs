//! The server under test: penstock, or for the comparison rsyslogd with its safest settings
//! (`PENSTOCK_FAULTS_SUBJECT=rsyslogd`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::common::{Server, free_port, wait_until};
use crate::peers::is_listening;
use crate::peers::rsyslogd::Rsyslogd;

/// Whether the list runs against rsyslogd.
pub fn is_rsyslogd() -> bool {
    std::env::var("PENSTOCK_FAULTS_SUBJECT").is_ok_and(|name| name == "rsyslogd")
}

/// As the table has it.
pub fn name() -> &'static str {
    if is_rsyslogd() { "rsyslogd" } else { "penstock" }
}

/// What the queue to the upstream does with a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// In memory, and on disk when the upstream falls behind.
    Overflow,
    /// Always through the disk.
    Always,
    /// The same, and synced.
    Synced,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Input {
    Relp,
    Tcp,
    Tls,
}

/// What is done to the command, and the folder of its configuration.
pub type Prepare = Box<dyn Fn(&mut Command, &Path)>;

/// One input; every message to the file `out`, and to an upstream where there is one.
pub struct Plan {
    pub input: Input,
    pub port: u16,
    /// Where queues are, and where the file is.
    pub state: PathBuf,
    pub files: PathBuf,
    /// `relp://HOST:PORT`, `relps://…`, `tcp://…`.
    pub upstream: Option<String>,
    pub keep: Keep,
    /// A queue of 4 MiB at most.
    pub is_small: bool,
    /// `ca.pem`, `localhost.pem` and `localhost.key`, for TLS.
    pub certificates: PathBuf,
    pub prepare: Prepare,
}

impl Plan {
    pub fn new(folder: &Path) -> Self {
        Self {
            input: Input::Relp,
            port: free_port(),
            state: folder.to_owned(),
            files: folder.to_owned(),
            upstream: None,
            keep: Keep::Overflow,
            is_small: false,
            certificates: PathBuf::new(),
            prepare: Box::new(|_, _| {}),
        }
    }

    pub fn out(&self) -> PathBuf {
        self.files.join("out")
    }

    /// Where its queues are.
    pub fn queues(&self) -> PathBuf {
        if is_rsyslogd() { self.state.clone() } else { self.state.join("queues/forward.up") }
    }

    fn penstock(&self) -> String {
        let (port, state, out, ca) = (self.port, self.state.display(), self.out(), self.certificates.display());
        let certificate = format!("certificate = \"{ca}/localhost.pem\"\nkey = \"{ca}/localhost.key\"\n");
        let input = match self.input {
            Input::Relp => format!("[[input.relp]]\nlisten = \"127.0.0.1:{port}\"\n"),
            Input::Tcp => format!("[[input.tcp]]\nlisten = \"127.0.0.1:{port}\"\n"),
            Input::Tls => format!("[[input.tls]]\nlisten = \"127.0.0.1:{port}\"\n{certificate}"),
        };
        let mut text = format!(
            "[server]\nstate-dir = \"{state}\"\ngrace = \"500ms\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n{input}\
             [template]\nline = \"{{message}}\"\n\
             [[output.file]]\nname = \"file\"\npath = \"{}\"\nformat = \"line\"\n[[route]]\nto = [\"file\"]\n",
            out.display()
        );
        if let Some(upstream) = &self.upstream {
            let queue = match self.keep {
                Keep::Overflow => "disk = true",
                Keep::Always => "mode = \"always\", segment = \"64KiB\"",
                Keep::Synced => "mode = \"always\", sync = \"batch\"",
            };
            let size = if self.is_small { ", size = \"4MiB\"" } else { "" };
            let ca = if upstream.starts_with("relps") { format!("ca = \"{ca}/ca.pem\"\n") } else { String::new() };
            text += &format!(
                "[[output.forward]]\nname = \"up\"\nto = [\"{upstream}\"]\ntimeout = \"300ms\"\n{ca}queue = {{ {queue}{size} }}\n\
                 [[route]]\nto = [\"up\"]\n"
            );
        }
        text
    }

    /// What keeps most: queues on disk in front of the rules and of the action, a checkpoint for each message where
    /// everything goes through the disk; retried for ever.
    fn rsyslogd(&self) -> String {
        let (port, state, ca) = (self.port, self.state.display(), self.certificates.display());
        let queue = |name: &str| {
            let kind = match self.keep {
                Keep::Overflow => "queue.type=\"LinkedList\" queue.saveOnShutdown=\"on\" queue.timeoutShutdown=\"500\"",
                Keep::Always => "queue.type=\"Disk\" queue.checkpointInterval=\"1\"",
                Keep::Synced => "queue.type=\"Disk\" queue.checkpointInterval=\"1\" queue.syncQueueFiles=\"on\"",
            };
            let size = if self.is_small { "4m" } else { "1g" };
            format!("{kind} queue.filename=\"{name}\" queue.maxDiskSpace=\"{size}\"")
        };
        let input = match self.input {
            Input::Relp => {
                format!("module(load=\"imrelp\")\ninput(type=\"imrelp\" port=\"{port}\" address=\"127.0.0.1\" ruleset=\"all\")\n")
            }
            Input::Tcp => format!(
                "module(load=\"imtcp\" maxSessions=\"20000\")\n\
                 input(type=\"imtcp\" port=\"{port}\" address=\"127.0.0.1\" ruleset=\"all\")\n"
            ),
            Input::Tls => format!(
                "global(defaultNetstreamDriver=\"ossl\" defaultNetstreamDriverCAFile=\"{ca}/ca.pem\" \
                 defaultNetstreamDriverCertFile=\"{ca}/localhost.pem\" defaultNetstreamDriverKeyFile=\"{ca}/localhost.key\")\n\
                 module(load=\"imtcp\" streamDriver.name=\"ossl\" streamDriver.mode=\"1\" streamDriver.authMode=\"anon\")\n\
                 input(type=\"imtcp\" port=\"{port}\" address=\"127.0.0.1\" ruleset=\"all\")\n"
            ),
        };
        let retry = "action.resumeInterval=\"1\" action.resumeRetryCount=\"-1\"";
        let action = self.upstream.as_deref().map_or(String::new(), |upstream| {
            let (scheme, place) = upstream.split_once("://").expect("a URL");
            let (host, port) = place.rsplit_once(':').expect("a port");
            let kind = match scheme {
                "relp" => "type=\"omrelp\" timeout=\"1\"".to_owned(),
                "relps" => format!(
                    "type=\"omrelp\" timeout=\"1\" tls=\"on\" tls.caCert=\"{ca}/ca.pem\" tls.authMode=\"name\" \
                     tls.permittedPeer=[\"localhost\"] tls.myCert=\"{ca}/localhost.pem\" tls.myPrivKey=\"{ca}/localhost.key\""
                ),
                _ => "type=\"omfwd\" protocol=\"tcp\" tcp_framing=\"octet-counted\" keepalive=\"on\"".to_owned(),
            };
            format!(
                "action({kind} target=\"{host}\" port=\"{port}\" template=\"RSYSLOG_SyslogProtocol23Format\" {retry} {})\n",
                queue("up")
            )
        });
        format!(
            "global(workDirectory=\"{state}\")\nmodule(load=\"omrelp\")\nmain_queue({})\n{input}\
             template(name=\"line\" type=\"string\" string=\"%msg:::drop-last-lf%\\n\")\n\
             ruleset(name=\"all\") {{\naction(type=\"omfile\" file=\"{}\" template=\"line\" {retry})\n{action}}}\n",
            queue("main"),
            self.out().display()
        )
    }
}

enum Running {
    Penstock(Server),
    Rsyslogd(Rsyslogd),
}

/// A running server, which is told to reload every 100 ms.
pub struct Subject {
    running: Running,
    reloads: Reloads,
}

impl Subject {
    /// Returns when it is ready.
    pub fn start(plan: &Plan) -> Self {
        let running = if is_rsyslogd() {
            let rsyslogd = Rsyslogd::start_with(&plan.rsyslogd(), &plan.prepare);
            wait_until("rsyslogd listens", || is_listening(plan.port));
            Running::Rsyslogd(rsyslogd)
        } else {
            Running::Penstock(Server::start_with(&plan.penstock(), |command| {
                let config = command.get_args().last().map(PathBuf::from).expect("the configuration");
                (plan.prepare)(command, config.parent().expect("a folder"));
            }))
        };
        let pid = match &running {
            Running::Penstock(server) => server.pid(),
            Running::Rsyslogd(rsyslogd) => rsyslogd.pid(),
        };
        Self { running, reloads: Reloads::of(pid) }
    }

    pub fn pid(&self) -> u32 {
        match &self.running {
            Running::Penstock(server) => server.pid(),
            Running::Rsyslogd(rsyslogd) => rsyslogd.pid(),
        }
    }

    /// Ends it with this signal.
    pub fn end(self, signal: &str) {
        // No signal to a process that is gone.
        drop(self.reloads);
        match self.running {
            Running::Penstock(mut server) => {
                server.signal(signal);
                let status = server.wait();
                assert!(signal == "KILL" || status.success(), "{status}: {:?}", server.log());
            }
            Running::Rsyslogd(mut rsyslogd) => rsyslogd.end(signal),
        }
    }

    /// Returns when what waits on disk now has been delivered, or for rsyslogd, which does not say, after a while.
    pub fn wait_for_queue(&self) {
        let Running::Penstock(server) = &self.running else { return std::thread::sleep(Duration::from_secs(2)) };
        let delivered = || server.metric("penstock_delivered_messages_total{output=\"up\",kind=\"forward\"}");
        let all = delivered() + server.metric("penstock_queue_disk_messages{output=\"up\",kind=\"forward\"}");
        wait_until("the queue is delivered", || delivered() >= all);
    }

    /// Messages that it says are missing.
    pub fn said_missing(&self) -> usize {
        match &self.running {
            Running::Penstock(server) => {
                server.metric("penstock_dropped_messages_total{output=\"up\",kind=\"forward\",reason=\"missing\"}") as usize
            }
            Running::Rsyslogd(_) => 0,
        }
    }
}

/// Reloads until it is dropped.
struct Reloads(Arc<Mutex<bool>>);

impl Reloads {
    fn of(pid: u32) -> Self {
        let stopped = Arc::new(Mutex::new(false));
        let known = stopped.clone();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(100));
                let stopped = known.lock().unwrap_or_else(PoisonError::into_inner);
                if *stopped {
                    return;
                }
                let _ = Command::new("kill").args(["-HUP", &pid.to_string()]).status();
            }
        });
        Self(stopped)
    }
}

impl Drop for Reloads {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}
