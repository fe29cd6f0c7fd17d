//! Chunks that a reader thread is filling, one for each output, and their hand-over.
//!
//! A chunk goes to its queue when it has grown to [`CHUNK_BYTES`], and all of them go when the thread would wait: alone a
//! message goes at once, under load the chunks grow by themselves. A queue that blocks leaves the chunk here; the
//! readers whose messages went there wait before they read again, and nobody else does.

use std::sync::Arc;
use std::time::Instant;

use super::index::Candidates;
use super::join::{Joined, Joins};
use super::repeats::Repeats;
use super::{Destination, Pipeline, Settings, Tally};
use crate::message::{Message, Origin};
use crate::queue::{CHUNK_BYTES, Chunk, Queue, Receipt};
use crate::template::{Scratch, Workspace};

/// So much may be kept for blocked queues by one thread before all its readers wait.
const KEPT_BYTES: usize = 4 << 20;

pub struct Outbox {
    pipeline: Arc<Pipeline>,
    /// One for each destination of the pipeline.
    slots: Vec<Slot>,
    scratch: Scratch,
    /// The routes that the message in hand may take.
    pub(super) candidates: Candidates,
    /// For the values that conditions look at.
    pub(super) workspace: Workspace,
    /// Of inputs that count repetitions.
    pub(super) repeats: Repeats,
    /// Lines that may belong together.
    joins: Joins,
    /// Go with every chunk that gets one of the messages in hand.
    receipts: Vec<Arc<Receipt>>,
    /// The number of the message in hand, so that an output gets it once.
    message: u64,
    /// Grows with every pipeline: slot numbers of another generation mean nothing.
    generation: u64,
}

#[derive(Default)]
struct Slot {
    chunk: Chunk,
    /// The last message that went here.
    message: u64,
    /// The queue has refused the chunk.
    blocked: bool,
    /// Somebody waits for the queue's room on behalf of this thread.
    watched: bool,
}

/// Where the last batch of a connection went.
#[derive(Debug, Default)]
pub struct Touched {
    generation: u64,
    slots: Vec<usize>,
}

impl Outbox {
    pub fn new(pipeline: Arc<Pipeline>) -> Self {
        let slots = pipeline.destinations.iter().map(|_| Slot::default()).collect();
        Self {
            pipeline,
            slots,
            scratch: Scratch::default(),
            candidates: Candidates::default(),
            workspace: Workspace::default(),
            repeats: Repeats::default(),
            joins: Joins::default(),
            receipts: Vec::new(),
            message: 0,
            generation: 1,
        }
    }

    pub fn pipeline(&self) -> &Arc<Pipeline> {
        &self.pipeline
    }

    /// A reload: what was rendered goes to the queues it was rendered for.
    pub fn switch(&mut self, pipeline: Arc<Pipeline>) {
        self.tell_held(true);
        self.flush();
        let old = std::mem::replace(&mut self.pipeline, pipeline);
        for (mut slot, destination) in self.slots.drain(..).zip(&old.destinations) {
            if !slot.chunk.is_empty() {
                destination.queue.push_anyway(&mut slot.chunk);
            }
        }
        self.slots = self.pipeline.destinations.iter().map(|_| Slot::default()).collect();
        self.generation += 1;
    }

    /// What comes from now on is wanted to be known as safe.
    pub fn set_receipt(&mut self, receipt: Option<Arc<Receipt>>) {
        self.receipts.clear();
        self.receipts.extend(receipt);
    }

    pub(super) fn next_message(&mut self) {
        self.message += 1;
    }

    pub(super) fn deliver(&mut self, to: usize, destination: &Destination, message: &Message<'_>) {
        let slot = &mut self.slots[to];
        if slot.message == self.message {
            return;
        }
        slot.message = self.message;
        for receipt in &self.receipts {
            if slot.chunk.receipts.last().is_none_or(|last| !Arc::ptr_eq(last, receipt)) {
                slot.chunk.receipts.push(receipt.clone());
            }
        }
        destination.render(message, &mut self.scratch, &mut slot.chunk);
        if slot.chunk.bytes.len() >= CHUNK_BYTES && !slot.blocked {
            slot.blocked = !destination.queue.push(&mut slot.chunk);
        }
    }

    /// Holds the message; what is done waiting for it.
    pub(super) fn join(&mut self, message: &Message<'_>, origin: &Arc<Origin>, settings: &Settings) -> Vec<Joined> {
        self.joins.take(message, origin, settings, self.receipts.first())
    }

    /// Those of messages that come from elsewhere; gives back what there was.
    pub(super) fn replace_receipts(&mut self, receipts: Vec<Arc<Receipt>>) -> Vec<Arc<Receipt>> {
        std::mem::replace(&mut self.receipts, receipts)
    }

    /// Routes what has been held long enough, or all: lines that were joined, and what is to be said of repetitions.
    pub fn tell_held(&mut self, all: bool) {
        let pipeline = self.pipeline.clone();
        for joined in self.joins.due(all) {
            pipeline.tell_joined(joined, self, &mut Tally::default());
        }
        for told in self.repeats.due(all) {
            pipeline.tell(&told, self);
        }
    }

    /// When something of what is held goes on.
    pub fn next_held(&self) -> Option<Instant> {
        [self.repeats.next_due(), self.joins.next_due()].into_iter().flatten().min()
    }

    /// Hands over what there is.
    pub fn flush(&mut self) {
        for (slot, destination) in self.slots.iter_mut().zip(&self.pipeline.destinations) {
            slot.blocked = !slot.chunk.is_empty() && !destination.queue.push(&mut slot.chunk);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.slots.iter().all(|slot| slot.chunk.is_empty())
    }

    /// The queues whose room nobody waits for yet, and how much is wanted; from now on the caller does.
    pub fn newly_blocked(&mut self) -> Vec<(Arc<Queue>, usize)> {
        let mut queues = Vec::new();
        for (slot, destination) in self.slots.iter_mut().zip(&self.pipeline.destinations) {
            if slot.blocked && !std::mem::replace(&mut slot.watched, true) {
                queues.push((destination.queue.clone(), slot.chunk.cost()));
            }
        }
        queues
    }

    /// The caller waits for this queue no longer.
    pub fn unwatch(&mut self, queue: &Arc<Queue>) {
        for (slot, destination) in self.slots.iter_mut().zip(&self.pipeline.destinations) {
            slot.watched &= !Arc::ptr_eq(queue, &destination.queue);
        }
    }

    /// Notes where the messages since `first` went.
    pub fn touched(&self, first: u64, touched: &mut Touched) {
        touched.generation = self.generation;
        touched.slots.clear();
        touched.slots.extend((0..self.slots.len()).filter(|slot| self.slots[*slot].message >= first));
    }

    /// The number that the next message will have.
    pub fn next_number(&self) -> u64 {
        self.message + 1
    }

    /// The queue for whose room a reader with these traces has to wait, and how much of it.
    pub fn blocked_by(&self, touched: &Touched) -> Option<(Arc<Queue>, usize)> {
        let blocked = |slot: &usize| self.slots[*slot].blocked;
        let wanted = |slot: usize| (self.pipeline.destinations[slot].queue.clone(), self.slots[slot].chunk.cost());
        if touched.generation == self.generation
            && let Some(slot) = touched.slots.iter().copied().find(blocked)
        {
            return Some(wanted(slot));
        }
        let kept: usize = self.slots.iter().filter(|slot| slot.blocked).map(|slot| slot.chunk.cost()).sum();
        if kept <= KEPT_BYTES {
            return None;
        }
        (0..self.slots.len()).find(blocked).map(wanted)
    }
}
