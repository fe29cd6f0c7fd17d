//! Reader threads: each runs its own single-threaded runtime, so that nothing on the way of a message is shared but the
//! queues at its end.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::{LocalOptions, LocalRuntime};
use tokio::sync::{Notify, mpsc};
use tokio::task::{spawn_local, yield_now};
use tokio::time::timeout_at;

use super::{Settings, Shared};
use crate::frame::Errors;
use crate::message::{Batch, Frame};
use crate::queue::{Queue, Receipt};
use crate::route::{Outbox, Pipeline, Tally, Touched};
use crate::warn_limited;

type Job = Box<dyn FnOnce(Rc<Worker>) + Send>;

/// A busy thread reads so much later, and ten times as much at a time.
const REST: Duration = Duration::from_millis(1);

/// What a reader thread's tasks share.
pub struct Worker {
    /// Where streams are read to; never borrowed over an await.
    pub(super) buffers: RefCell<Buffers>,
    outbox: RefCell<Outbox>,
    /// Where the last batch of an input went, for inputs whose connections are too short to know.
    pub(super) touched_last: RefCell<HashMap<Arc<str>, Touched>>,
    /// Something waits in the outbox.
    dirty: Notify,
    stopping: Cell<bool>,
    /// A busy socket can do without the thread for a while …
    may_rest: Cell<bool>,
    /// … but so many others cannot.
    tight: Cell<usize>,
}

/// A socket that holds little: its thread does not rest.
pub(super) struct Tight(Rc<Worker>);

impl Drop for Tight {
    fn drop(&mut self) {
        self.0.tight.set(self.0.tight.get() - 1);
    }
}

#[derive(Default)]
pub(super) struct Buffers {
    pub(super) arena: Vec<u8>,
    pub(super) frames: Vec<Frame>,
}

/// The threads from outside.
pub struct Workers {
    handles: Vec<Handle>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

struct Handle {
    jobs: mpsc::UnboundedSender<Job>,
    connections: Arc<AtomicUsize>,
}

/// Counts one connection of a thread for as long as it lives.
pub struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    pub fn start(count: usize, pipeline: &Arc<Pipeline>) -> io::Result<Self> {
        let mut workers = Self { handles: Vec::new(), threads: Vec::new() };
        for i in 0..count {
            let (jobs, inbox) = mpsc::unbounded_channel();
            let pipeline = pipeline.clone();
            let (ready, is_ready) = std::sync::mpsc::channel();
            let thread = std::thread::Builder::new().name(format!("reader-{i}")).spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
                match runtime {
                    Ok(runtime) => {
                        drop(ready);
                        run(runtime, inbox, pipeline);
                    }
                    Err(error) => drop(ready.send(error)),
                }
            })?;
            // Nothing is said where all is well.
            if let Ok(error) = is_ready.recv() {
                return Err(error);
            }
            workers.threads.push(thread);
            workers.handles.push(Handle { jobs, connections: Arc::default() });
        }
        Ok(workers)
    }

    pub fn count(&self) -> usize {
        self.handles.len()
    }

    /// Runs a job on thread `i`; it may spawn local tasks.
    pub fn on(&self, i: usize, job: impl FnOnce(Rc<Worker>) + Send + 'static) {
        // A thread ends only when its channel does.
        let _ = self.handles[i].jobs.send(Box::new(job));
    }

    /// Runs a job for a new connection on the thread that has the fewest. A hash could put all the busy ones on one.
    pub fn deal(&self, job: impl FnOnce(Rc<Worker>, Seat) + Send + 'static) {
        let connections = |i: &usize| self.handles[*i].connections.load(Ordering::Relaxed);
        let fewest = (0..self.handles.len()).min_by_key(connections).unwrap_or(0);
        let seats = self.handles[fewest].connections.clone();
        seats.fetch_add(1, Ordering::Relaxed);
        self.on(fewest, move |worker| job(worker, Seat(seats)));
    }

    /// Gives all threads the new pipeline; returns when the old one takes no message any more.
    pub async fn switch(&self, pipeline: &Arc<Pipeline>) {
        let (done, mut all_done) = mpsc::channel::<()>(1);
        for i in 0..self.count() {
            let (pipeline, done) = (pipeline.clone(), done.clone());
            self.on(i, move |worker| {
                worker.switch(pipeline);
                drop(done);
            });
        }
        drop(done);
        // None as soon as every thread has dropped its sender.
        let _ = all_done.recv().await;
    }

    /// Every thread has done something for us within the time.
    pub async fn answer_within(&self, time: Duration) -> bool {
        let (done, mut all_done) = mpsc::channel::<()>(1);
        (0..self.count()).for_each(|i| {
            let done = done.clone();
            self.on(i, move |_| drop(done));
        });
        drop(done);
        tokio::time::timeout(time, all_done.recv()).await.is_ok()
    }

    /// Ends the threads; what they have still to hand over is handed over first.
    pub fn finish(self) -> Vec<std::thread::JoinHandle<()>> {
        self.threads
    }
}

fn run(runtime: LocalRuntime, mut inbox: mpsc::UnboundedReceiver<Job>, pipeline: Arc<Pipeline>) {
    let worker = Rc::new(Worker {
        buffers: RefCell::default(),
        outbox: RefCell::new(Outbox::new(pipeline)),
        touched_last: RefCell::default(),
        dirty: Notify::new(),
        stopping: Cell::new(false),
        may_rest: Cell::new(false),
        tight: Cell::new(0),
    });
    runtime.block_on(async {
        let flusher = spawn_local(flusher(worker.clone()));
        while let Some(job) = inbox.recv().await {
            job(worker.clone());
        }
        worker.stopping.set(true);
        worker.dirty.notify_one();
        // It has no cause to fail but a panic, which has been shown already.
        let _ = flusher.await;
    });
}

/// Hands over what the readers have filled as soon as none of them has anything to do: one round of ready sockets makes
/// one hand-over, however many connections it came from. Ends when the thread is to end and nothing is left.
async fn flusher(worker: Rc<Worker>) {
    loop {
        let due = worker.outbox.borrow().next_held();
        match due {
            None => worker.dirty.notified().await,
            Some(due) => {
                // What is held goes on, or something else comes before.
                let _ = timeout_at(due.into(), worker.dirty.notified()).await;
                worker.outbox.borrow_mut().tell_held(worker.stopping.get());
            }
        }
        // Every socket that is ready comes first.
        yield_now().await;
        if worker.stopping.get() {
            // Nobody comes any more for whom something could be held.
            worker.outbox.borrow_mut().tell_held(true);
        }
        worker.flush();
        let blocked = worker.outbox.borrow_mut().newly_blocked();
        for (queue, cost) in blocked {
            let worker = worker.clone();
            spawn_local(async move {
                queue.room(cost).await;
                worker.outbox.borrow_mut().unwatch(&queue);
                worker.dirty.notify_one();
            });
        }
        if worker.stopping.get() && worker.outbox.borrow().is_empty() {
            return;
        }
        if worker.may_rest.take() && worker.tight.get() == 0 {
            // The whole thread: a timer of the runtime would be disturbed by every datagram.
            std::thread::sleep(REST);
        }
    }
}

impl Worker {
    /// The way of a batch: parse, route, render, count.
    pub(super) fn process(
        &self,
        shared: &Shared,
        settings: &Settings,
        batch: &Batch<'_>,
        touched: &mut Touched,
        receipt: Option<Arc<Receipt>>,
    ) {
        let mut outbox = self.outbox.borrow_mut();
        let pipeline = outbox.pipeline().clone();
        let (mut tally, first) = (Tally::default(), outbox.next_number());
        outbox.set_receipt(receipt);
        pipeline.process(batch, &settings.route, &mut outbox, &mut tally);
        outbox.set_receipt(None);
        outbox.touched(first, touched);
        count(shared, &tally);
        self.dirty.notify_one();
    }

    /// As soon as everything is handed over, once for all sockets of the thread.
    pub(super) fn rest(&self) {
        self.may_rest.set(true);
    }

    pub(super) fn never_rest(self: &Rc<Self>) -> Tight {
        self.tight.set(self.tight.get() + 1);
        Tight(self.clone())
    }

    pub(super) fn flush(&self) {
        self.outbox.borrow_mut().flush();
    }

    /// Returns when what the last batch went to can take more.
    pub(super) async fn unblocked(&self, touched: &Touched) {
        while let Some((queue, cost)) = self.blocked_by(touched) {
            queue.room(cost).await;
            self.flush();
        }
    }

    pub(super) fn is_blocked(&self, touched: &Touched) -> bool {
        self.blocked_by(touched).is_some()
    }

    fn blocked_by(&self, touched: &Touched) -> Option<(Arc<Queue>, usize)> {
        self.outbox.borrow().blocked_by(touched)
    }

    fn switch(&self, pipeline: Arc<Pipeline>) {
        self.outbox.borrow_mut().switch(pipeline);
        self.dirty.notify_one();
    }
}

fn count(shared: &Shared, tally: &Tally) {
    let counters = &shared.counters;
    counters.messages.add(tally.messages);
    counters.bytes.add(tally.bytes);
    counters.unrouted.add(tally.unrouted);
    counters.repeated.add(tally.repeated);
    for (counter, count) in counters.grammars.iter().zip(tally.grammars) {
        counter.add(count);
    }
    count_errors(shared, &Errors { oversized: tally.truncated, miscounted: 0 });
}

pub(super) fn count_errors(shared: &Shared, errors: &Errors) {
    shared.counters.miscounted.add(errors.miscounted);
    shared.counters.truncated.add(errors.oversized);
    if errors.oversized > 0 {
        let max = shared.settings.load().max_message;
        warn_limited!(shared.log.truncated, "input `{}`: a message longer than max-message ({max} bytes) was cut", shared.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_dealt_evenly_and_make_up_for_those_that_ended() {
        let workers = Workers::start(3, &Arc::default()).expect("three threads");
        let (seats, dealt) = std::sync::mpsc::channel();
        let deal = |count| {
            (0..count).for_each(|_| {
                let seats = seats.clone();
                workers.deal(move |_, seat| drop(seats.send((std::thread::current().name().map(str::to_owned), seat))));
            });
            (0..count).map(|_| dealt.recv().expect("dealt")).collect::<Vec<_>>()
        };
        let on = |seats: &[(Option<String>, Seat)], i: usize| {
            let name = format!("reader-{i}");
            seats.iter().filter(|(thread, _)| thread.as_deref() == Some(&name)).count()
        };
        let first = deal(9);
        assert_eq!([0, 1, 2].map(|i| on(&first, i)), [3; 3]);
        let (gone, kept): (Vec<_>, Vec<_>) = first.into_iter().partition(|(thread, _)| thread.as_deref() == Some("reader-1"));
        drop(gone);
        assert_eq!(on(&deal(3), 1), 3, "the thread that has become idle gets all of the next");
        drop(kept);
        workers.finish().into_iter().for_each(|thread| thread.join().expect("no panic"));
    }
}
