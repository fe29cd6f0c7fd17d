//! Many records in one allocation: wire-ready bytes, where each goes, and how far it has come.

use std::sync::Arc;

use super::Receipt;
use crate::message::Span;

/// A reader hands a chunk over when it has grown to this; large enough that a lock and a wake-up cost nothing a
/// message, small enough to stay in a core's second-level cache.
pub const CHUNK_BYTES: usize = 128 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Delivered,
    Pending,
    /// On its way: whether it arrives is not known yet.
    Sent,
    /// The destination will never take it.
    Rejected,
    /// It was not delivered before its deadline.
    Expired,
}

impl State {
    /// Nothing more is done with it.
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Delivered | Self::Rejected | Self::Expired)
    }
}

/// What a destination says of a record: it has it, or why it will never take it.
pub type Answer = Result<(), Arc<str>>;

/// Records that came within so many seconds count as of one age.
pub(super) const ONE_AGE: u32 = 2;

/// 2020. A clock that is before it has not been set yet, and says nothing of an age.
const FIRST_SECOND: u32 = 1_577_836_800;

#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// What the output's address template gave: a path; empty where the output has one destination.
    pub address: Span,
    pub body: Span,
    /// 0 (most severe) to 7.
    pub severity: u8,
    pub state: State,
}

/// Pending records whose bodies stand back to back: they can go with one write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub records: std::ops::Range<usize>,
    pub bytes: Span,
}

#[derive(Debug, Default)]
pub struct Chunk {
    /// Bodies and addresses; the bodies of an output without addresses stand back to back.
    pub bytes: Vec<u8>,
    pub records: Vec<Record>,
    /// How the bodies stand in their envelopes; only the output knows what it means.
    pub form: u8,
    /// When the first record was accepted, in seconds since 1970; the others came within [`ONE_AGE`].
    pub accepted: u32,
    /// The number of the first record in the queue on disk, where it is there.
    pub stored: Option<u64>,
    /// What it weighs in the memory queue that has lent it.
    pub(super) lent: usize,
    /// Which of the output's connections has the records that are on their way.
    pub carrier: usize,
    /// Of those who want to know when the records are safe.
    pub receipts: Vec<Arc<Receipt>>,
    /// Records that are given up, and why; until somebody has noted them.
    pub refused: Vec<(usize, Arc<str>)>,
    pending: usize,
    sent: usize,
}

impl Chunk {
    /// The address and body that stand at the end of `bytes` are one more record. An address that is the one before is
    /// kept once.
    pub fn commit(&mut self, address: Span, body: Span, severity: u8) {
        self.records.push(Record { address, body, severity, state: State::Pending });
        self.pending += 1;
    }

    /// A record from its parts.
    pub fn add(&mut self, address: &[u8], body: &[u8], severity: u8) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(address);
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(body);
        self.commit(Span::new(start, middle), Span::new(middle, self.bytes.len()), severity);
    }

    /// Takes the records of another chunk behind its own; the other one is empty then.
    pub(super) fn append(&mut self, other: &mut Self) {
        let by = self.bytes.len();
        let moved = |span: Span| Span::new(span.start as usize + by, span.end as usize + by);
        self.bytes.append(&mut other.bytes);
        self.records.extend(other.records.drain(..).map(|record| Record {
            address: moved(record.address),
            body: moved(record.body),
            ..record
        }));
        self.pending += std::mem::take(&mut other.pending);
        self.receipts.append(&mut other.receipts);
        other.accepted = 0;
    }

    /// Gives every record another body.
    pub fn reform(&mut self, form: u8, mut body: impl FnMut(&[u8], &mut Vec<u8>)) {
        let old = std::mem::take(&mut self.bytes);
        for record in &mut self.records {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(record.address.of(&old));
            let middle = self.bytes.len();
            body(record.body.of(&old), &mut self.bytes);
            (record.address, record.body) = (Span::new(start, middle), Span::new(middle, self.bytes.len()));
        }
        self.form = form;
    }

    pub fn settle(&mut self, record: usize, state: State) {
        let record = &mut self.records[record];
        match record.state {
            State::Pending => self.pending -= 1,
            State::Sent => self.sent -= 1,
            State::Delivered | State::Rejected | State::Expired => return,
        }
        match state {
            State::Pending => self.pending += 1,
            State::Sent => self.sent += 1,
            State::Delivered | State::Rejected | State::Expired => {}
        }
        record.state = state;
    }

    /// It will never be delivered.
    pub fn refuse(&mut self, record: usize, state: State, why: Arc<str>) {
        if !self.records[record].state.is_settled() {
            self.settle(record, state);
            self.refused.push((record, why));
        }
    }

    /// All that have still to go will never be delivered; how many records.
    pub fn refuse_pending(&mut self, state: State, why: &Arc<str>) -> usize {
        let pending: Vec<_> = self.records_in(State::Pending).collect();
        pending.iter().for_each(|record| self.refuse(*record, state, why.clone()));
        pending.len()
    }

    /// The records were accepted before this moment, in seconds since 1970.
    pub fn is_older_than(&self, moment: u64) -> bool {
        self.accepted > FIRST_SECOND && u64::from(self.accepted) + u64::from(ONE_AGE) < moment
    }

    /// The first records that are on their way, so many of them, have arrived; how many there were.
    pub fn confirm(&mut self, most: usize) -> usize {
        if most >= self.sent && self.pending == 0 {
            let count = self.sent;
            self.settle_all();
            return count;
        }
        let sent: Vec<_> = self.records_in(State::Sent).take(most).collect();
        sent.iter().for_each(|record| self.settle(*record, State::Delivered));
        sent.len()
    }

    /// What became of the first records that are on their way; how many of the answers were theirs.
    pub fn answer(&mut self, answers: &[Answer]) -> usize {
        let sent: Vec<_> = self.records_in(State::Sent).take(answers.len()).collect();
        for (record, answer) in sent.iter().zip(answers) {
            match answer {
                Ok(()) => self.settle(*record, State::Delivered),
                Err(why) => self.refuse(*record, State::Rejected, why.clone()),
            }
        }
        sent.len()
    }

    /// What was on its way has to go again; how many records.
    pub fn call_back(&mut self) -> usize {
        let sent: Vec<_> = self.records_in(State::Sent).collect();
        sent.iter().for_each(|record| self.settle(*record, State::Pending));
        sent.len()
    }

    fn records_in(&self, state: State) -> impl Iterator<Item = usize> {
        let indices = self.records.iter().enumerate().filter(move |(_, record)| record.state == state);
        indices.map(|(index, _)| index)
    }

    /// The first records that still have to go.
    pub fn first_run(&self) -> Option<Run> {
        let (first, record) = self.to_send().next()?;
        let (mut last, mut bytes) = (first, record.body);
        for next in &self.records[first + 1..] {
            if next.state != State::Pending || next.body.start != bytes.end {
                break;
            }
            bytes.end = next.body.end;
            last += 1;
        }
        Some(Run { records: first..last + 1, bytes })
    }

    /// The run's bytes up to `end` have gone; how many bytes of the record that is cut there.
    pub fn settle_up_to(&mut self, run: &Run, end: usize, state: State) -> usize {
        for i in run.records.clone() {
            let body = self.records[i].body;
            if body.end as usize > end {
                return end.saturating_sub(body.start as usize);
            }
            self.settle(i, state);
        }
        0
    }

    pub fn settle_all(&mut self) {
        for record in &mut self.records {
            if !record.state.is_settled() {
                record.state = State::Delivered;
            }
        }
        (self.pending, self.sent) = (0, 0);
    }

    /// Drops the records of this severity number and above, and what they cost; how many.
    pub(super) fn shed(&mut self, severity: u8) -> usize {
        let before = self.pending;
        if !self.records.iter().any(|record| record.severity >= severity) {
            return 0;
        }
        let old = std::mem::take(self);
        (self.form, self.accepted, self.lent, self.receipts) = (old.form, old.accepted, old.lent, old.receipts);
        for record in old.records.iter().filter(|record| record.severity < severity) {
            self.add(record.address.of(&old.bytes), record.body.of(&old.bytes), record.severity);
        }
        before - self.pending
    }

    /// Only the records that are not settled are left.
    pub(super) fn forget_settled(&mut self) {
        if self.open() < self.records.len() {
            self.records.retain(|record| !record.state.is_settled());
        }
    }

    /// Given up at a stop: those who wait for a receipt of its messages get none.
    pub fn lose(&mut self) {
        self.receipts.iter().for_each(|receipt| receipt.lose());
        self.clear();
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.receipts.clear();
        self.refused.clear();
        (self.form, self.accepted, self.stored, self.lent, self.pending, self.sent) = (0, 0, None, 0, 0, 0);
    }

    /// The records that still have to go, with their places.
    pub fn to_send(&self) -> impl Iterator<Item = (usize, &Record)> {
        self.records.iter().enumerate().filter(|(_, record)| record.state == State::Pending)
    }

    /// The records that have not arrived as far as we know, with their places.
    pub fn unsettled(&self) -> impl Iterator<Item = (usize, &Record)> {
        self.records.iter().enumerate().filter(|(_, record)| !record.state.is_settled())
    }

    /// How many records still have to go.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// How many records have not arrived as far as we know.
    pub fn open(&self) -> usize {
        self.pending + self.sent
    }

    pub fn count(&self, state: State) -> usize {
        self.records.iter().filter(|record| record.state == state).count()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// What it weighs in a queue's bound.
    pub fn cost(&self) -> usize {
        self.bytes.len() + self.records.len() * size_of::<Record>()
    }

    /// Once grown for one huge message, memory is given back.
    pub(super) fn is_worth_keeping(&self) -> bool {
        let capacity = self.bytes.capacity() + self.records.capacity() * size_of::<Record>();
        (1..=3 * CHUNK_BYTES).contains(&capacity)
    }
}
