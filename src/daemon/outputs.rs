//! The running outputs and their queues: an output of the same name, kind and form keeps its queue through every reload.

use std::io;
use std::sync::Arc;

use super::pipeline;
use crate::metrics::{OutputCounters, Source};
use crate::output::Plan;
use crate::output::drive::{self, Command, Handle};
use crate::queue::Queue;
use crate::route::{Pipeline, Route};

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
    queue: Arc<Queue>,
    counters: Arc<OutputCounters>,
    handle: Handle,
}

impl Outputs {
    /// Starts what is new, replaces what delivers differently, and makes the pipeline over all of them. What is in no plan
    /// any more runs on until [`Outputs::close_those_left`].
    pub(super) fn apply(&mut self, plans: Vec<Plan>, routes: Vec<Route>) -> io::Result<Arc<Pipeline>> {
        let mut old = std::mem::take(&mut self.running);
        let mut destinations = Vec::new();
        for plan in plans {
            let known = old.iter().position(|running| running.is(&plan));
            let running = match known {
                Some(place) => old.swap_remove(place).replan(&plan),
                None => Running::start(&plan)?,
            };
            destinations.push(plan.destination(running.queue.clone()));
            self.running.push(running);
        }
        self.leaving.retain(|running| !running.handle.has_ended());
        self.leaving.extend(old);
        Ok(pipeline(routes, destinations))
    }

    /// Nobody sends to them any more.
    pub(super) fn close_those_left(&self) {
        for running in &self.leaving {
            let fill = running.queue.fill();
            if fill > 0 {
                tracing::info!(
                    "output `{}` is gone from the configuration: it delivers {} KiB that wait, and ends",
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

    /// What the stop has cost, by output.
    pub(super) fn say_losses(&self) {
        for running in self.all() {
            let lost = running.queue.counters.dropped_stop.get();
            let name = &running.name;
            if !running.handle.has_ended() {
                tracing::error!("output `{name}`: hangs in a delivery; what it had is lost ({} KiB)", running.queue.fill() >> 10);
            }
            if lost > 0 {
                tracing::error!("output `{name}`: {lost} messages could not be delivered before the stop and are lost");
            }
        }
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
    fn start(plan: &Plan) -> io::Result<Self> {
        let (queue, counters) = (Arc::new(Queue::new(plan.bounds)), Arc::new(OutputCounters::default()));
        let output = (plan.make)(&counters);
        let handle = drive::start(plan.name.clone(), output, queue.clone(), counters.clone())?;
        let (name, form, print) = (plan.name.clone(), plan.form.clone(), plan.print.clone());
        Ok(Self { name, kind: plan.kind, form, print, queue, counters, handle })
    }

    /// What is in the queue can be delivered as the plan says.
    fn is(&self, plan: &Plan) -> bool {
        self.name == plan.name && self.kind == plan.kind && self.form == plan.form
    }

    fn replan(mut self, plan: &Plan) -> Self {
        self.queue.configure(plan.bounds);
        if self.print != plan.print {
            self.handle.command(Command::Replace((plan.make)(&self.counters)));
            self.print.clone_from(&plan.print);
        }
        self
    }
}
