//! The running inputs: started, kept through a reload, stopped.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc::unbounded_channel;
use tokio_util::task::TaskTracker;

use super::handover::Estate;
use crate::config::Address;
use crate::input::{ConnectionState, Given, Names, Opened, Plan, Shared, Transport, Workers, open, resume};
use crate::metrics::Source;

pub(super) struct Inputs {
    running: Vec<Running>,
    /// From systemd; kept open, so that a reload can take them again.
    given: Vec<Given>,
    /// Listeners and connections; a stop waits for them.
    tracker: TaskTracker,
}

struct Running {
    shared: Arc<Shared>,
    transport: Transport,
    /// As configured.
    address: Address,
    /// For another input that is to take the place of this one, or another process.
    sockets: Vec<Given>,
}

/// What is to become of one planned input.
pub(super) enum Next {
    /// It runs already, at this place.
    Keep(usize),
    New(Opened),
}

impl Inputs {
    pub(super) fn new(given: Vec<Given>) -> Self {
        Self { running: Vec::new(), given, tracker: TaskTracker::new() }
    }

    /// Opens what is new and touches nothing that runs.
    pub(super) fn open(&self, plans: &[Plan], threads: usize) -> Result<Vec<Next>, String> {
        plans.iter().map(|plan| self.open_one(plan, threads)).collect()
    }

    fn open_one(&self, plan: &Plan, threads: usize) -> Result<Next, String> {
        if let Some(place) = self.running.iter().position(|running| running.is(plan)) {
            return Ok(Next::Keep(place));
        }
        // Where another kind or name takes over an address, it takes over the socket.
        let replaced = self.running.iter().find(|running| running.transport == plan.transport && running.address == plan.address);
        match replaced {
            Some(running) => open(plan, &running.sockets, threads),
            None => open(plan, &self.given, threads),
        }
        .map(Next::New)
    }

    /// Starts what was opened, gives the others their new settings, stops those that are in no plan any more.
    pub(super) fn apply(
        &mut self,
        plans: Vec<Plan>,
        next: Vec<Next>,
        workers: &Arc<Workers>,
        names: &Arc<Names>,
        state_dir: &Path,
    ) -> io::Result<()> {
        let mut old: Vec<_> = std::mem::take(&mut self.running).into_iter().map(Some).collect();
        let mut starting = Vec::new();
        for (plan, next) in plans.into_iter().zip(next) {
            match next {
                Next::Keep(place) => {
                    if let Some(running) = old[place].take() {
                        running.shared.settings.store(Arc::new(plan.settings));
                        self.running.push(running);
                    }
                }
                Next::New(opened) => {
                    let sockets = opened.duplicates()?;
                    let shared = Arc::new(Shared::new(&plan));
                    self.running.push(Running {
                        shared: shared.clone(),
                        transport: plan.transport,
                        address: plan.address,
                        sockets,
                    });
                    starting.push((opened, shared));
                }
            }
        }
        old.into_iter().flatten().for_each(|running| running.shared.stop.cancel());
        starting.into_iter().try_for_each(|(opened, shared)| opened.start(&shared, workers, names, &self.tracker, state_dir))
    }

    /// Returns when all that was read is in the queues. What can go to another process is put into the estate.
    pub(super) async fn stop(self, estate: Option<&mut Estate>) {
        let (heir, mut kept) = unbounded_channel();
        for running in &self.running {
            if estate.is_some() {
                let _ = running.shared.heir.set(heir.clone());
            }
            running.shared.stop.cancel();
        }
        drop(heir);
        self.tracker.close();
        self.tracker.wait().await;
        let Some(estate) = estate else { return };
        while let Ok(kept) = kept.try_recv() {
            estate.connections.push(kept);
        }
        let sockets = self.running.into_iter().flat_map(|running| running.sockets);
        estate.sockets.extend(sockets.map(Given::into_socket));
    }

    /// What is to be told when the outputs have ended.
    pub(super) fn all(&self) -> Vec<Arc<Shared>> {
        self.running.iter().map(|running| running.shared.clone()).collect()
    }

    /// Goes on with the connections that another process has left.
    pub(super) fn resume(
        &self,
        connections: Vec<(Option<OwnedFd>, ConnectionState)>,
        workers: &Arc<Workers>,
        names: &Arc<Names>,
    ) {
        let (mut open, mut gone) = (0, 0);
        for (fd, state) in connections {
            let heir = self.running.iter().find(|running| *running.shared.name == *state.input);
            let streams = || self.running.iter().find(|running| running.transport == Transport::Stream);
            let Some(running) = heir.or_else(streams) else {
                gone += 1;
                continue;
            };
            open += usize::from(fd.is_some());
            resume(fd, state, &running.shared, workers, names, &self.tracker);
        }
        if open > 0 {
            tracing::info!("{open} open connections were taken over");
        }
        if gone > 0 {
            tracing::error!("{gone} connections of a former process have no input any more");
        }
    }

    /// Sockets of a former process that no input has taken are closed.
    pub(super) fn say_what_was_not_used(&mut self) {
        for given in self.given.iter().filter(|given| !given.used.get() && !given.is_kept()) {
            tracing::warn!("systemd handed over a socket `{}` that no input names", given.name);
        }
        self.given.retain(|given| !given.is_kept());
    }

    pub(super) fn count(&self) -> usize {
        self.running.len()
    }

    pub(super) fn sources(&self) -> impl Iterator<Item = Source> {
        self.running.iter().map(|running| Source::Input {
            name: running.shared.name.clone(),
            kind: running.shared.kind,
            counters: running.shared.counters.clone(),
        })
    }
}

impl Running {
    fn is(&self, plan: &Plan) -> bool {
        self.shared.name == plan.name
            && self.shared.kind == plan.kind
            && self.transport == plan.transport
            && self.address == plan.address
            && self.shared.settings.load().source == plan.settings.source
    }
}
