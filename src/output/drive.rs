//! One thread for each output: look, deliver, acknowledge; and when it fails, wait and try again.
//!
//! Retrying, backing off, counting and speaking of it live here, once. A thread of its own, because a file system may hang
//! as long as it likes: nobody else waits for it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};

use super::backlog::{BEHIND, Backlog, MOST, Store, unstored};
use super::backoff::Backoff;
use super::{DeadLetters, DiskPlan, Hold, Output, Undelivered};
use crate::metrics::{Limited, OutputCounters};
use crate::queue::{Chunk, Linger, Queue, State};
use crate::warn_limited;

/// An output with many places tries those that failed again after this at the latest.
const SOON: Duration = Duration::from_millis(250);
/// An output that holds records waits at most this many times as long as its last delivery took: what would cost less
/// than a fiftieth of its time goes at once.
const REST: u32 = 50;
/// A runtime's clock ticks in milliseconds: a shorter wait would become a longer one.
const SHORTEST_HOLD: Duration = Duration::from_millis(1);

pub enum Command {
    /// What is left is given up; the thread ends.
    Abandon,
    /// A reload: what is given up is kept elsewhere.
    DeadLetters(DeadLetters),
    Reopen,
    /// A reload: another size, mode or sync of the queue on disk.
    Store(DiskPlan),
    /// A reload: the queue stays, its records go through this output from now on.
    Replace(Box<dyn Output>),
}

/// A running output from outside. It ends when its queue is closed and empty.
#[derive(Debug)]
pub struct Handle {
    commands: UnboundedSender<Command>,
    thread: std::thread::JoinHandle<()>,
}

struct Drive {
    name: Arc<str>,
    output: Box<dyn Output>,
    backlog: Backlog,
    counters: Arc<OutputCounters>,
    commands: UnboundedReceiver<Command>,
    /// In hands: taken from the backlog and not acknowledged.
    batch: Vec<Chunk>,
    backoff: Backoff,
    failing_since: Option<Instant>,
    log: Limited,
    /// When the last delivery ended, and how long it took.
    last: (Instant, Duration),
    /// When it was looked last whether what is on its way has arrived, and how long after that it is looked again.
    looked: Instant,
    look: Duration,
    /// When some of it had arrived, or nothing was on its way.
    progress: Instant,
    /// The queue is closed, and empty.
    drained: bool,
}

/// Starts the thread.
pub fn start(
    name: Arc<str>,
    output: Box<dyn Output>,
    queue: Arc<Queue>,
    store: Option<Store>,
    letters: DeadLetters,
    counters: Arc<OutputCounters>,
) -> io::Result<Handle> {
    let (sender, commands) = unbounded_channel();
    // Here, where there may be no descriptors for it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The kernel keeps fifteen bytes of a thread's name.
    let thread = std::thread::Builder::new().name(format!("out {name}")).spawn(move || {
        let drive = Drive {
            backlog: Backlog { name: name.clone(), queue, store, letters, log: Limited::default() },
            name,
            output,
            counters,
            commands,
            batch: Vec::new(),
            backoff: Backoff::default(),
            failing_since: None,
            log: Limited::default(),
            last: (Instant::now(), Duration::ZERO),
            looked: Instant::now(),
            look: FIRST_LOOK,
            progress: Instant::now(),
            drained: false,
        };
        runtime.block_on(drive.run());
        // A look-up that hangs must not keep the thread.
        runtime.shutdown_background();
    })?;
    Ok(Handle { commands: sender, thread })
}

impl Handle {
    pub fn command(&self, command: Command) {
        // One that has ended needs none.
        let _ = self.commands.send(command);
    }

    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }
}

/// What ended a wait.
enum Woken {
    Batch(bool),
    /// What waits in memory should be put on disk.
    Pressed,
    Confirm,
    Command(Command),
}

/// How often it is looked whether what is on its way has arrived: soon, and then less and less often.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LAST_LOOK: Duration = Duration::from_millis(200);

impl Drive {
    async fn run(mut self) {
        loop {
            if self.backlog.is_to_be_parked(self.failing_since.is_some()) {
                return self.end().await;
            }
            if self.batch.iter().all(|chunk| chunk.pending() == 0) {
                match self.next().await {
                    Woken::Batch(true) => {}
                    Woken::Batch(false) if self.batch.is_empty() => return self.end().await,
                    Woken::Batch(false) => {
                        self.drained = true;
                        continue;
                    }
                    Woken::Pressed => {
                        self.backlog.absorb(unstored(&self.batch));
                        continue;
                    }
                    Woken::Confirm => {
                        self.confirm();
                        continue;
                    }
                    Woken::Command(command) => {
                        if self.obey(command).await {
                            return;
                        }
                        continue;
                    }
                }
            }
            if self.expire() {
                continue;
            }
            let started = Instant::now();
            if self.batch.iter().all(|chunk| chunk.open() == chunk.pending()) {
                self.progress = started;
            }
            let before = open(&self.batch);
            let command = match self.deliver().await {
                Ok(result) => {
                    self.last = (Instant::now(), started.elapsed());
                    if result.is_ok() && open(&self.batch) < before {
                        self.recovered();
                    }
                    if self.settle(result) {
                        continue;
                    }
                    self.wait().await
                }
                Err(command) => Some(command),
            };
            if let Some(command) = command
                && self.obey(command).await
            {
                return;
            }
        }
    }

    /// Until there is more to deliver, or what is on its way may have arrived.
    async fn next(&mut self) -> Woken {
        let linger = self.linger();
        let in_hands: usize = self.batch.iter().map(Chunk::cost).sum();
        if self.drained && in_hands == 0 {
            return Woken::Batch(false);
        }
        if in_hands >= MOST {
            return tokio::select! {
                biased;
                Some(command) = self.commands.recv() => Woken::Command(command),
                () = sleep_until(self.looked + self.look) => Woken::Confirm,
                () = self.backlog.pressed(self.progress, false) => Woken::Pressed,
            };
        }
        tokio::select! {
            biased;
            Some(command) = self.commands.recv() => Woken::Command(command),
            more = self.backlog.fill(&mut self.batch, linger), if !self.drained => Woken::Batch(more),
            () = sleep_until(self.looked + self.look), if in_hands > 0 => Woken::Confirm,
        }
    }

    /// What has arrived is forgotten.
    fn confirm(&mut self) {
        let before = open(&self.batch);
        if before > 0 {
            self.output.confirm(&mut self.batch);
        }
        let after = open(&self.batch);
        self.looked = Instant::now();
        if after < before {
            self.recovered();
        }
        if after < before || after == 0 {
            (self.look, self.progress) = (FIRST_LOOK, self.looked);
        } else {
            self.look = (self.look * 2).min(LAST_LOOK);
        }
        self.backlog.acknowledge(&mut self.batch);
        if self.progress.elapsed() > BEHIND {
            self.backlog.secure(&mut self.batch);
        }
    }

    /// The connection is closed in order; what has not arrived then goes to the disk, or is counted as lost.
    async fn end(mut self) {
        self.output.close().await;
        self.confirm();
        self.park();
    }

    /// Until it is time to try again, or there is something else to do.
    async fn wait(&mut self) -> Option<Command> {
        let wait = self.backoff.next();
        let until = Instant::now() + if self.output.has_many_places() { wait.min(SOON) } else { wait };
        loop {
            tokio::select! {
                biased;
                Some(command) = self.commands.recv() => return Some(command),
                () = sleep_until(until) => return None,
                () = self.backlog.pressed(until, true) => self.backlog.absorb(unstored(&self.batch)),
            }
            if self.backlog.is_to_be_parked(true) {
                return None;
            }
        }
    }

    /// What is left goes to the disk where there is one, and is counted as lost where there is none.
    fn park(&mut self) {
        let lost = self.backlog.park(&mut self.batch);
        self.backlog.queue.counters.dropped_stop.add(lost as u64);
    }

    fn linger(&self) -> Linger {
        let (ended, took) = self.last;
        match self.output.hold() {
            Some(Hold { enough, longest }) if took * REST >= SHORTEST_HOLD => {
                Linger { enough, until: ended + longest.min(took * REST) }
            }
            _ => Linger::not_at_all(),
        }
    }

    /// One delivery. A command that makes it pointless breaks it off; others wait until it is over.
    async fn deliver(&mut self) -> Result<Result<(), Undelivered>, Command> {
        let mut waiting = Vec::new();
        let (progress, in_hands) = (self.progress, unstored(&self.batch));
        let result = {
            let mut delivery = self.output.deliver(&mut self.batch);
            loop {
                tokio::select! {
                    biased;
                    result = &mut delivery => break Ok(result),
                    Some(command) = self.commands.recv() => match command {
                        command @ (Command::Abandon | Command::Replace(_)) => break Err(command),
                        command => waiting.push(command),
                    },
                    () = self.backlog.pressed(progress, false) => self.backlog.absorb(in_hands),
                }
            }
        };
        for command in waiting {
            self.obey(command).await;
        }
        result
    }

    /// True: the batch is done with.
    fn settle(&mut self, result: Result<(), Undelivered>) -> bool {
        match result {
            Ok(()) => {
                self.confirm();
                true
            }
            Err(Undelivered::Reject(why)) => {
                self.give_up(State::Rejected, &why.into(), |_| true);
                self.output.given_up();
                self.backlog.acknowledge(&mut self.batch);
                true
            }
            Err(Undelivered::Retry(why)) => {
                self.confirm();
                self.counters.retries.add(1);
                self.counters.failing.set(1);
                self.failing_since.get_or_insert_with(Instant::now);
                warn_limited!(
                    self.log,
                    "output `{}`: delivery failed: {why}; it is tried again ({} KiB wait)",
                    self.name,
                    self.backlog.weight() >> 10
                );
                self.backlog.secure(&mut self.batch);
                if self.output.has_many_places() {
                    self.go_on_beside();
                }
                false
            }
        }
    }

    /// What was delivered and is acknowledged makes room for more, so that one place that fails does not keep the others waiting.
    fn go_on_beside(&mut self) {
        let lent: usize = self.batch.iter().map(Chunk::cost).sum();
        if lent < MOST {
            self.backlog.extend(&mut self.batch, MOST - lent);
        }
    }

    fn recovered(&mut self) {
        self.backoff.reset();
        if let Some(since) = self.failing_since.take() {
            self.counters.failing.set(0);
            self.log = Limited::default();
            tracing::info!("output `{}`: delivers again after {:.1} s", self.name, since.elapsed().as_secs_f32());
        }
    }

    fn give_up(&mut self, state: State, why: &Arc<str>, which: impl Fn(&Chunk) -> bool) {
        for chunk in self.batch.iter_mut().filter(|chunk| which(chunk)) {
            chunk.refuse_pending(state, why);
        }
    }

    /// Gives up what has waited for too long. True: nothing is left to deliver.
    fn expire(&mut self) -> bool {
        let Some(deadline) = self.backlog.queue.deadline() else { return false };
        let oldest = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(deadline).as_secs();
        if !self.batch.iter().any(|chunk| chunk.is_older_than(oldest)) {
            return false;
        }
        let why = format!("not delivered within {} s", deadline.as_secs()).into();
        self.give_up(State::Expired, &why, |chunk| chunk.is_older_than(oldest));
        self.output.given_up();
        self.backlog.acknowledge(&mut self.batch);
        self.batch.iter().all(|chunk| chunk.pending() == 0)
    }

    /// True: the thread ends.
    async fn obey(&mut self, command: Command) -> bool {
        match command {
            Command::Abandon => {
                self.confirm();
                self.park();
                true
            }
            Command::DeadLetters(letters) => {
                self.backlog.letters = letters;
                false
            }
            Command::Reopen => {
                self.output.reopen();
                self.backlog.letters.reopen();
                false
            }
            Command::Store(plan) => {
                if let Some(store) = &mut self.backlog.store {
                    store.disk.configure(plan.settings);
                    (store.mode, store.shed) = (plan.mode, plan.shed);
                }
                false
            }
            Command::Replace(output) => {
                let mut old = std::mem::replace(&mut self.output, output);
                old.close().await;
                old.confirm(&mut self.batch);
                for chunk in &mut self.batch {
                    chunk.call_back();
                }
                self.backoff.reset();
                false
            }
        }
    }
}

/// Records that have not arrived as far as we know.
fn open(batch: &[Chunk]) -> usize {
    batch.iter().map(Chunk::open).sum()
}

#[cfg(test)]
mod tests;
