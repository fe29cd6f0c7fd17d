//! The running outputs and their queues: an output of the same name, kind and form keeps its queue through every reload.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Error, pipeline, queues};
use crate::metrics::{OutputCounters, Source};
use crate::output::drive::{self, Command, Handle};
use crate::output::{DeadLetters, DiskPlan, Plan, Store};
use crate::queue::Queue;
use crate::queue::disk::{self, Disk};
use crate::route::{Pipeline, Route};
use crate::sys::reason;

/// An output that has just left the configuration gives its queue away within this.
const GIVEN_AWAY: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct Outputs {
    running: Vec<Running>,
    /// In no plan any more; they deliver what they have and end.
    leaving: Vec<Running>,
}

struct Running {
    name: Arc<str>,
    kind: &'static str,
    form: String,
    print: String,
    disk: Option<DiskPlan>,
    dead_letters: Option<PathBuf>,
    queue: Arc<Queue>,
    counters: Arc<OutputCounters>,
    handle: Handle,
}

impl Outputs {
    /// Starts what is new, replaces what delivers differently, and makes the pipeline over all of them. What is in no plan
    /// any more runs on until [`Outputs::close_those_left`].
    /// On an error everything runs on as before.
    pub(super) fn apply(&mut self, plans: Vec<Plan>, routes: Vec<Route>, state_dir: &Path) -> Result<Arc<Pipeline>, Error> {
        let mut started = Vec::new();
        for plan in plans.iter().filter(|plan| !self.running.iter().any(|running| running.is(plan))) {
            match Running::start(plan, state_dir) {
                Ok(running) => started.push(running),
                Err(error) => {
                    started.iter().for_each(|running| running.queue.close());
                    return Err(error);
                }
            }
        }
        let (mut old, mut destinations) = (std::mem::take(&mut self.running), Vec::new());
        old.extend(started);
        for plan in &plans {
            if let Some(place) = old.iter().position(|running| running.is(plan)) {
                let running = old.swap_remove(place).replan(plan, state_dir);
                destinations.push(plan.destination(running.queue.clone()));
                self.running.push(running);
            }
        }
        self.leaving.retain(|running| !running.handle.has_ended());
        self.leaving.extend(old);
        self.say_whose_output_is_gone(state_dir);
        Ok(pipeline(routes, destinations))
    }

    /// Queues on disk that nobody empties.
    fn say_whose_output_is_gone(&self, state_dir: &Path) {
        let listed = queues::list(state_dir).unwrap_or_default();
        for folder in listed {
            let known = self.all().any(|running| *running.name == *folder.name && running.kind == folder.kind);
            if !known && !disk::is_empty(&folder.path).unwrap_or(true) {
                tracing::warn!(
                    "the queue of {} output `{}` is on disk, and the configuration has no such output: `penstock queue export` \
                     shows what waits there, `penstock queue drop` deletes it",
                    folder.kind,
                    folder.name
                );
            }
        }
    }

    /// Nobody sends to them any more.
    pub(super) fn close_those_left(&self) {
        for running in &self.leaving {
            let fill = running.queue.fill();
            let kept = if running.disk.is_some() { " (what cannot be delivered now is kept on disk)" } else { "" };
            if fill > 0 {
                tracing::info!(
                    "output `{}` is gone from the configuration: it delivers {} KiB that wait, and ends{kept}",
                    running.name,
                    fill >> 10
                );
            }
            running.queue.close();
        }
    }

    pub(super) fn reopen(&self) {
        self.all().for_each(|running| running.handle.command(Command::Reopen));
    }

    pub(super) fn close(&self) {
        self.all().for_each(|running| running.queue.close());
    }

    pub(super) fn abandon(&self) {
        self.all().for_each(|running| running.handle.command(Command::Abandon));
    }

    /// What the stop has cost, by output. True: something is lost.
    pub(super) fn say_losses(&self) -> bool {
        let mut any = false;
        for running in self.all() {
            let lost = running.queue.counters.dropped_stop.get();
            let name = &running.name;
            if !running.handle.has_ended() {
                tracing::error!("output `{name}`: hangs in a delivery; what it had is lost ({} KiB)", running.queue.fill() >> 10);
            }
            if lost > 0 {
                tracing::error!("output `{name}`: {lost} messages could not be delivered before the stop and are lost");
            }
            any |= lost > 0 || !running.handle.has_ended();
        }
        any
    }

    /// Messages that the queues on disk have for the next start.
    pub(super) fn kept(&self) -> u64 {
        self.all().map(|running| running.queue.counters.disk.records.get()).sum()
    }

    pub(super) fn have_ended(&self) -> bool {
        self.all().all(|running| running.handle.has_ended())
    }

    pub(super) fn count(&self) -> usize {
        self.running.len()
    }

    pub(super) fn sources(&self) -> impl Iterator<Item = Source> {
        self.running.iter().map(|running| Source::Output {
            name: running.name.clone(),
            kind: running.kind,
            queue: running.queue.clone(),
            counters: running.counters.clone(),
        })
    }

    fn all(&self) -> impl Iterator<Item = &Running> {
        self.running.iter().chain(&self.leaving)
    }
}

impl Running {
    fn start(plan: &Plan, state_dir: &Path) -> Result<Self, Error> {
        let (queue, counters) = (Arc::new(Queue::new(plan.bounds)), Arc::new(OutputCounters::default()));
        let store = plan.disk.map(|disk| open(plan, disk, &queue, state_dir)).transpose()?;
        let output = (plan.make)(&counters);
        let dead_letters = dead_letters(plan, state_dir);
        let letters = DeadLetters::at(dead_letters.clone());
        let handle = drive::start(plan.name.clone(), output, queue.clone(), store, letters, counters.clone());
        let handle = handle.map_err(|error| Error::System(format!("its thread cannot be started: {}", reason(&error))))?;
        let (name, form, print) = (plan.name.clone(), plan.form.clone(), plan.print.clone());
        Ok(Self { name, kind: plan.kind, form, print, disk: plan.disk, dead_letters, queue, counters, handle })
    }

    /// What is in the queue can be delivered as the plan says.
    fn is(&self, plan: &Plan) -> bool {
        let same_queue = match (self.disk, plan.disk) {
            // Its folder can have one owner only.
            (Some(_), Some(_)) => true,
            (None, None) => self.form == plan.form,
            _ => false,
        };
        self.name == plan.name && self.kind == plan.kind && same_queue
    }

    fn replan(mut self, plan: &Plan, state_dir: &Path) -> Self {
        self.queue.configure(plan.bounds);
        if let Some(disk) = plan.disk.filter(|disk| self.disk != Some(*disk)) {
            self.handle.command(Command::Store(disk));
            self.disk = Some(disk);
        }
        let dead_letters = dead_letters(plan, state_dir);
        if self.dead_letters != dead_letters {
            self.handle.command(Command::DeadLetters(DeadLetters::at(dead_letters.clone())));
            self.dead_letters = dead_letters;
        }
        if self.print != plan.print {
            self.handle.command(Command::Replace((plan.make)(&self.counters)));
            self.print.clone_from(&plan.print);
        }
        self
    }
}

/// As written; or below the state, which an output with a queue on disk has.
fn dead_letters(plan: &Plan, state_dir: &Path) -> Option<PathBuf> {
    let own = || plan.disk.map(|_| queues::dead_letters(state_dir, plan.kind, &plan.name));
    plan.dead_letters.clone().or_else(own)
}

/// Opens the output's queue on disk and says what was found.
fn open(plan: &Plan, disk: DiskPlan, queue: &Queue, state_dir: &Path) -> Result<Store, Error> {
    let (name, folder) = (&plan.name, queues::folder(state_dir, plan.kind, &plan.name));
    let patience = Instant::now() + GIVEN_AWAY;
    let (opened, found) = loop {
        match Disk::open(&folder, disk.settings, queue.counters.disk.clone()) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < patience => {
                std::thread::sleep(super::LOOK);
            }
            other => {
                break other.map_err(|error| {
                    let (place, why) = (folder.display(), reason(&error));
                    Error::File(format!(
                        "output `{name}`: its queue on disk cannot be opened: {place}: {why} (`state-dir` in [server] says where \
                         queues are; `queue = {{ disk = false }}` keeps this one in memory)"
                    ))
                })?;
            }
        }
    };
    if found.records > 0 {
        tracing::info!("output `{name}`: {} messages ({} KiB) wait on disk", found.records, found.bytes >> 10);
    }
    if found.torn > 0 {
        tracing::warn!("output `{name}`: the last write to its queue on disk was broken off; {} bytes were cut", found.torn);
    }
    if found.unreadable > 0 {
        tracing::error!(
            "output `{name}`: nothing can be read in the last segment of its queue ({} bytes); it is set aside in {}",
            found.unreadable,
            folder.display()
        );
    }
    Ok(Store::new(opened, disk.mode, disk.shed))
}
