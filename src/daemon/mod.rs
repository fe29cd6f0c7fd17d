//! Start, reload, stop.
//!
//! Stopping is dropping: the inputs are cancelled, what they have read goes to the queues, the queues are closed, and
//! the outputs end when theirs are empty. A reload makes the whole new plan first and keeps everything that is equal.

mod handover;
mod inputs;
mod outputs;
pub mod queues;
mod systemd;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep, sleep_until};

use crate::config::{self, Plan, ServerPlan};
use crate::input::{Names, Workers};
use crate::metrics::{Registry, http};
use crate::route::{Pipeline, Route};
use crate::sys::{privilege, reason};

use handover::{Control, Estate, Inheritance};
use inputs::Inputs;
use outputs::Outputs;

/// Why the server could not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// An address is taken or not allowed.
    Socket(String),
    System(String),
    /// A queue on disk cannot be opened.
    File(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(what) | Self::System(what) | Self::File(what) => f.write_str(what),
        }
    }
}

/// How often an ending is looked for where nothing announces it.
const LOOK: Duration = Duration::from_millis(5);

/// After the grace: for readers to hand over what they hold, and for outputs to break off.
const LAST_LOOK: Duration = Duration::from_millis(50);
const ABANDONED: Duration = Duration::from_millis(500);

/// How the process stands to the one before and the one behind it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Succession {
    /// At a stop systemd gets the open sockets and connections, and gives them to the next process.
    pub keep_descriptors: bool,
    /// The server that runs now gives us its sockets and connections, and ends.
    pub take_over: bool,
}

/// Runs until a signal ends it.
pub fn run(path: &Path, plan: Plan, succession: Succession) -> Result<(), Error> {
    privilege::raise_file_limit();
    drop_privileges(&plan.server)?;
    let system = |error: std::io::Error| Error::System(format!("the server cannot start: {}", reason(&error)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system)?;
    runtime.block_on(async {
        let mut signals = Signals::new().map_err(system)?;
        let mut daemon = Daemon::start(path, plan, succession).await?;
        let heir = daemon.serve(&mut signals).await;
        daemon.stop(&mut signals, heir).await;
        Ok(())
    })
}

/// Before the first thread is started: capabilities belong to threads.
fn drop_privileges(server: &ServerPlan) -> Result<(), Error> {
    match server.identity {
        Some((uid, gid)) if privilege::is_root() => privilege::become_user(uid, gid)
            .map_err(|error| Error::System(format!("cannot become user {uid} and group {gid}: {}", reason(&error)))),
        _ => Ok(()),
    }
}

struct Signals {
    hup: Signal,
    int: Signal,
    term: Signal,
    usr1: Signal,
}

enum Asked {
    Reload,
    Reopen,
    Stop,
}

/// Who gets what is open at a stop.
enum Heir {
    Nobody,
    Systemd,
    Process(std::os::unix::net::UnixStream),
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let [hup, int, term] = [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::terminate()];
        Ok(Self { hup: signal(hup)?, int: signal(int)?, term: signal(term)?, usr1: signal(SignalKind::user_defined1())? })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.int.recv() => Asked::Stop,
            _ = self.term.recv() => Asked::Stop,
            _ = self.hup.recv() => Asked::Reload,
            _ = self.usr1.recv() => Asked::Reopen,
        }
    }

    async fn stop(&mut self) {
        while !matches!(self.next().await, Asked::Stop) {}
    }
}

struct Daemon {
    path: PathBuf,
    server: ServerPlan,
    workers: Arc<Workers>,
    names: Arc<Names>,
    inputs: Inputs,
    outputs: Outputs,
    registry: Arc<Registry>,
    metrics: Option<(std::net::SocketAddr, JoinHandle<()>)>,
    succession: Succession,
    control: Option<Control>,
}

impl Daemon {
    async fn start(path: &Path, plan: Plan, succession: Succession) -> Result<Self, Error> {
        let started = Instant::now();
        let Plan { server, metrics, inputs: planned, outputs: planned_outputs, routes, hostnames, warnings } = plan;
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let inherited = inheritance(&server, succession)?;
        let mut inputs = Inputs::new(inherited.sockets);
        let opened = inputs.open(&planned, server.threads).map_err(Error::Socket)?;
        inputs.say_what_was_not_used();
        let system = |error: std::io::Error| Error::System(format!("a thread cannot be started: {}", reason(&error)));
        let mut outputs = Outputs::default();
        let pipeline = outputs.apply(planned_outputs, routes, &server.state_dir)?;
        let workers = Arc::new(Workers::start(server.threads, &pipeline).map_err(system)?);
        let names = Arc::new(Names::new(hostnames));
        inputs.apply(planned, opened, &workers, &names, &server.state_dir).map_err(system)?;
        inputs.resume(inherited.connections, &workers, &names);
        Inheritance::accept(&server.state_dir, succession.keep_descriptors);
        let control = Control::open(&server.state_dir);
        let mut daemon = Self {
            path: path.to_owned(),
            server,
            workers,
            names,
            inputs,
            outputs,
            registry: Arc::default(),
            metrics: None,
            succession,
            control,
        };
        daemon.serve_metrics(metrics).await.map_err(Error::Socket)?;
        daemon.register();
        tracing::info!(
            "penstock {} is ready after {} ms: {}",
            env!("CARGO_PKG_VERSION"),
            started.elapsed().as_millis(),
            daemon.status()
        );
        systemd::ready(&daemon.status());
        Ok(daemon)
    }

    /// Until a signal asks for the end, or a process that takes over.
    async fn serve(&mut self, signals: &mut Signals) -> Heir {
        let watchdog = systemd::watchdog();
        // Its own clock: signals that come often must not put it off.
        let mut tick = interval(watchdog.unwrap_or(Duration::from_secs(3600)));
        loop {
            let control = async {
                match &self.control {
                    Some(control) => control.asked().await,
                    None => std::future::pending().await,
                }
            };
            let asked = tokio::select! {
                biased;
                _ = tick.tick(), if watchdog.is_some() => {
                    if self.workers.answer_within(watchdog.unwrap_or_default()).await {
                        systemd::alive();
                    }
                    continue;
                }
                asked = signals.next() => asked,
                stream = control => {
                    tracing::info!("another process takes over");
                    return Heir::Process(stream);
                }
            };
            match asked {
                Asked::Stop if self.succession.keep_descriptors => return Heir::Systemd,
                Asked::Stop => return Heir::Nobody,
                Asked::Reload => self.reload().await,
                Asked::Reopen => {
                    self.outputs.reopen();
                    tracing::info!("files are opened anew");
                }
            }
        }
    }

    /// HUP: everything new is made before anything old is touched; on an error the old configuration stays.
    async fn reload(&mut self) {
        systemd::reloading();
        match self.try_reload().await {
            Ok(()) => {
                self.registry.daemon.reloads.add(1);
                tracing::info!("reloaded {}: {}", self.path.display(), self.status());
                systemd::ready(&self.status());
            }
            Err(what) => {
                self.registry.daemon.reloads_failed.add(1);
                what.lines().for_each(|line| tracing::error!("{line}"));
                tracing::error!("the configuration was not reloaded; the old one stays in force");
                systemd::ready(&format!(
                    "reload refused, the old configuration stays: {}",
                    what.lines().next().unwrap_or_default()
                ));
            }
        }
        // For logrotate, whatever the configuration says.
        self.outputs.reopen();
    }

    async fn try_reload(&mut self) -> Result<(), String> {
        let loaded = config::load(&self.path).map_err(|errors| errors.to_string())?;
        let plan = config::plan(&loaded).map_err(|errors| errors.to_string())?;
        plan.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        if (plan.server.threads, plan.server.identity) != (self.server.threads, self.server.identity) {
            tracing::warn!("`threads`, `user` and `group` change with a restart only");
        }
        if plan.server.state_dir != self.server.state_dir {
            tracing::warn!("`state-dir` changes with a restart only");
        }
        let opened = self.inputs.open(&plan.inputs, self.workers.count())?;
        self.serve_metrics(plan.metrics).await?;
        let system = |error: std::io::Error| format!("a thread cannot be started: {}", reason(&error));
        let pipeline = self.outputs.apply(plan.outputs, plan.routes, &self.server.state_dir);
        let pipeline = pipeline.map_err(|error| error.to_string())?;
        self.names.replace(plan.hostnames);
        self.workers.switch(&pipeline).await;
        self.outputs.close_those_left();
        self.inputs.apply(plan.inputs, opened, &self.workers, &self.names, &self.server.state_dir).map_err(system)?;
        self.server = ServerPlan { threads: self.server.threads, state_dir: self.server.state_dir.clone(), ..plan.server };
        self.register();
        Ok(())
    }

    async fn serve_metrics(&mut self, address: Option<std::net::SocketAddr>) -> Result<(), String> {
        if self.metrics.as_ref().map(|(address, _)| *address) == address {
            return Ok(());
        }
        let new = match address {
            Some(address) => {
                let listener = TcpListener::bind(address).await;
                let listener = listener.map_err(|error| format!("metrics: cannot listen on {address}: {}", reason(&error)))?;
                if let Ok(address) = listener.local_addr() {
                    tracing::info!("metrics: listening on http://{address}/metrics");
                }
                Some((address, tokio::spawn(http::serve(listener, self.registry.clone()))))
            }
            None => None,
        };
        if let Some((_, old)) = std::mem::replace(&mut self.metrics, new) {
            old.abort();
        }
        Ok(())
    }

    fn register(&self) {
        self.registry.replace(self.inputs.sources().chain(self.outputs.sources()).collect());
    }

    fn status(&self) -> String {
        format!("{} inputs, {} outputs", self.inputs.count(), self.outputs.count())
    }

    /// Stops reading, drains, and gives up what is left when the grace is over or a second signal comes.
    async fn stop(self, signals: &mut Signals, heir: Heir) {
        systemd::stopping();
        tracing::info!("stopping");
        let Self { server, workers, inputs, outputs, control, metrics, .. } = self;
        let listened = inputs.all();
        // The next one has a socket of its own there.
        drop(control);
        if let Some((_, metrics)) = metrics {
            metrics.abort();
        }
        let mut estate = (!matches!(heir, Heir::Nobody)).then(Estate::default);
        let deadline = Instant::now() + server.grace;
        let draining = async {
            inputs.stop(estate.as_mut()).await;
            let threads = Arc::into_inner(workers).map(Workers::finish).unwrap_or_default();
            while threads.iter().any(|thread| !thread.is_finished()) {
                sleep(LOOK).await;
            }
            outputs.close();
            while !outputs.have_ended() {
                sleep(LOOK).await;
            }
        };
        let drained = tokio::select! {
            () = draining => true,
            () = sleep_until(deadline) => {
                tracing::warn!("the grace of {} s is over", server.grace.as_secs_f32());
                false
            }
            () = signals.stop() => {
                tracing::warn!("a second signal: stopping at once");
                false
            }
        };
        if !drained {
            give_up(&outputs).await;
        }
        listened.iter().for_each(|input| input.settle());
        let lost = outputs.say_losses();
        match (estate, heir) {
            (Some(estate), Heir::Systemd) => leave("systemd", estate.leave_to_systemd(&server.state_dir)),
            (Some(estate), Heir::Process(stream)) => leave("the next process", estate.leave_to(stream)),
            _ => {}
        }
        match outputs.kept() {
            // What is lost has been said.
            _ if lost || !drained => tracing::info!("stopped"),
            0 => tracing::info!("stopped; everything is delivered"),
            kept => tracing::info!("stopped; {kept} messages wait on disk for the next start, everything else is delivered"),
        }
    }
}

/// Readers that wait for room bring what they have, to be counted; outputs break off.
async fn give_up(outputs: &Outputs) {
    outputs.close();
    sleep(LAST_LOOK).await;
    outputs.abandon();
    let last = Instant::now() + ABANDONED;
    while !outputs.have_ended() && Instant::now() < last {
        sleep(LOOK).await;
    }
}

fn leave(to: &str, result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::error!("the open connections cannot be left to {to}: {}", reason(&error));
    }
}

/// From systemd, or from the server that is running.
fn inheritance(server: &ServerPlan, succession: Succession) -> Result<Inheritance, Error> {
    let from_systemd = || Inheritance::from_systemd(&server.state_dir, systemd::given_sockets());
    if !succession.take_over {
        return Ok(from_systemd());
    }
    match Inheritance::take_over(&server.state_dir) {
        Ok(Some(inheritance)) => Ok(inheritance),
        Ok(None) => {
            tracing::info!("no server runs that could be taken over");
            Ok(from_systemd())
        }
        Err(error) => Err(Error::System(format!(
            "the server that runs with {} cannot be taken over: {}",
            server.state_dir.display(),
            reason(&error)
        ))),
    }
}

/// The routes over the destinations, as the readers use them.
fn pipeline(routes: Vec<Route>, destinations: Vec<crate::route::Destination>) -> Arc<Pipeline> {
    Arc::new(Pipeline::new(routes, destinations))
}
