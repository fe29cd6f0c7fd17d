//! Inputs that are read from a place instead of being sent to: the kernel's messages, the journal, files.
//!
//! How far they have been read is a *position*, which is kept below `state-dir` when everything before it is safe: written, delivered or in a
//! queue on disk. After a kill some of it comes again, and nothing is missing.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Local};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::worker::Seat;
use super::{Names, Settings, Shared, Worker, file, journal, kmsg};
use crate::message::{Batch, Frame, Origin, Received, Span};
use crate::queue::{Acceptance, Receipt};
use crate::route::Touched;
use crate::sys::reason;
use crate::warn_limited;

/// A kind with its own settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    File(file::Source),
    Journal(journal::Source),
    Kmsg(kmsg::Source),
}

/// Reads that are known apart while they are under way, unacknowledged; those behind them count as one.
const UNDER_WAY: usize = 64;
/// A position is written at most so often.
const KEEP: Duration = Duration::from_secs(1);
/// At a stop, for what has been read to become safe.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// What cannot be read is tried again after this, and then after twice as long …
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// … up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A place that is read.
pub(super) trait Reader: Sized {
    type Source;

    /// Goes on where the position says; an empty one is that of the very first start.
    fn open(source: &Self::Source, position: &str) -> io::Result<Self>;

    /// Returns when there may be something to read.
    async fn ready(&mut self) -> io::Result<()>;

    /// Takes what there is, a batch at most. `WouldBlock`: nothing.
    fn read(&mut self, taken: &mut Taken<'_>) -> io::Result<()>;

    /// How far everything is read that has been taken.
    fn position(&self) -> String;
}

/// What one read gives.
pub(super) struct Taken<'s> {
    pub(super) arena: Vec<u8>,
    frames: Vec<Frame>,
    origins: Vec<Arc<Origin>>,
    shared: &'s Shared,
    names: &'s Names,
    /// Those of the read in hand: a reload may change them.
    settings: Arc<Settings>,
}

/// A header of RFC 5424, section 6; what is empty is absent.
#[derive(Default)]
pub(super) struct Header<'h> {
    pub(super) priority: u8,
    /// Microseconds since 1970.
    pub(super) micros: Option<i64>,
    pub(super) app_name: &'h [u8],
    pub(super) proc_id: &'h [u8],
    pub(super) msg_id: &'h [u8],
}

/// What a source's task is made of.
pub(super) struct Task {
    pub(super) source: Source,
    pub(super) shared: Arc<Shared>,
    pub(super) names: Arc<Names>,
    /// The file of the position.
    pub(super) place: PathBuf,
    pub(super) token: TaskTrackerToken,
}

/// The file of an input in a folder of the state's.
pub(super) fn place(state_dir: &Path, folder: &str, kind: &str, name: &str) -> PathBuf {
    let name: String = name.chars().map(|c| if c == '/' || c.is_control() { '_' } else { c }).collect();
    state_dir.join(folder).join(format!("{kind}.{name}"))
}

/// Reads until the input ends.
pub(super) async fn serve(task: Task, worker: Rc<Worker>, seat: Seat) {
    match task.source.clone() {
        Source::File(source) => run::<file::Files>(&task, &source, &worker).await,
        Source::Journal(source) => run::<journal::Journal>(&task, &source, &worker).await,
        Source::Kmsg(source) => run::<kmsg::Kmsg>(&task, &source, &worker).await,
    }
    drop((seat, task.token));
}

async fn run<R: Reader>(task: &Task, source: &R::Source, worker: &Worker) {
    let stop = task.shared.stop.clone();
    let mut position = Position::open(&task.place).await;
    let mut wait = FIRST_WAIT;
    while !stop.is_cancelled() {
        let error = match R::open(source, position.read()) {
            Ok(mut reader) => {
                let began = Instant::now();
                let result = follow(&mut reader, task, worker, &mut position).await;
                if began.elapsed() > LONGEST_WAIT {
                    wait = FIRST_WAIT;
                }
                result.err()
            }
            Err(error) => Some(error),
        };
        if let Some(error) = error {
            let log = &task.shared.log.connection;
            warn_limited!(log, "input `{}`: {}; it is tried again", task.shared.name, reason(&error));
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(wait) => {}
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
    position.finish().await;
}

async fn follow<R: Reader>(reader: &mut R, task: &Task, worker: &Worker, position: &mut Position) -> io::Result<()> {
    let shared = &*task.shared;
    let mut touched = Touched::default();
    let mut taken = Taken::new(shared, &task.names);
    let safe = position.safe.clone();
    loop {
        worker.unblocked(&touched).await;
        let next = position.next_write();
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => return Ok(()),
            () = safe.notified() => { position.advance(); continue }
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => { position.write(); continue }
            ready = reader.ready() => ready?,
        }
        taken.clear();
        let result = reader.read(&mut taken);
        if !taken.frames.is_empty() {
            taken.process(worker, &mut touched, position.receipt());
            position.has_read(reader.position());
        }
        match result {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => tokio::task::yield_now().await,
        }
    }
}

impl<'s> Taken<'s> {
    fn new(shared: &'s Shared, names: &'s Names) -> Self {
        let settings = shared.settings.load_full();
        Self { arena: Vec::new(), frames: Vec::new(), origins: Vec::new(), shared, names, settings }
    }

    fn clear(&mut self) {
        self.arena.clear();
        self.frames.clear();
        self.settings = self.shared.settings.load_full();
        self.origins = vec![self.names.of_source(self.shared, &self.settings, None)];
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Messages that were there and that nobody has read in time.
    pub(super) fn missed(&self, count: u64) {
        self.shared.counters.kernel_drops.add(count);
        let name = &self.shared.name;
        warn_limited!(self.shared.log.limit, "input `{name}`: {count} messages were overwritten before they could be read");
    }

    /// A message as RFC 5424 has it, of this sender.
    pub(super) fn message(&mut self, header: &Header<'_>, sender: Option<crate::message::Sender>, text: &[u8]) {
        let start = self.arena.len();
        header.write(&mut self.arena);
        let longest = start + self.settings.max_message;
        self.arena.extend_from_slice(text);
        let truncated = self.arena.len() > longest;
        self.arena.truncate(longest);
        let origin = match sender {
            None => 0,
            Some(sender) => self.origin(sender),
        };
        self.frames.push(Frame { origin, truncated, ..Frame::of(Span::new(start, self.arena.len())) });
    }

    /// One origin a sender: neighbours often have the same.
    fn origin(&mut self, sender: crate::message::Sender) -> u32 {
        let same = |origin: &Arc<Origin>| origin.sender.as_deref() == Some(&sender);
        if let Some(at) = self.origins.iter().rposition(same) {
            return at as u32;
        }
        self.origins.push(self.names.of_source(self.shared, &self.settings, Some(sender)));
        self.origins.len() as u32 - 1
    }

    fn process(&mut self, worker: &Worker, touched: &mut Touched, receipt: Arc<Receipt>) {
        let received = Received::now();
        let batch = Batch { arena: &self.arena, frames: &self.frames, origins: &self.origins, received: &received };
        worker.process(self.shared, &self.settings, &batch, touched, Some(receipt));
    }
}

impl Header<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        use std::io::Write;
        // A Vec takes everything.
        let _ = write!(out, "<{}>1 ", self.priority);
        match self.micros.and_then(DateTime::from_timestamp_micros) {
            Some(time) => drop(write!(out, "{}", time.with_timezone(&Local).format("%Y-%m-%dT%H:%M:%S%.6f%:z"))),
            None => out.push(b'-'),
        }
        out.extend_from_slice(b" -");
        for (value, longest) in [(self.app_name, 48), (self.proc_id, 128), (self.msg_id, 32)] {
            out.push(b' ');
            if value.is_empty() {
                out.push(b'-');
            }
            out.extend(value.iter().take(longest).map(|octet| if octet.is_ascii_graphic() { *octet } else { b'_' }));
        }
        out.extend_from_slice(b" - ");
    }
}

/// The file that says how far everything is safe.
struct Position {
    path: PathBuf,
    /// Everything before it is safe.
    last: String,
    /// `last` is not in the file yet.
    is_dirty: bool,
    written: Instant,
    under_way: VecDeque<(Acceptance, String)>,
    /// Goes with everything that is read while as many are under way as are known apart.
    newest: Option<Arc<Receipt>>,
    safe: Arc<Notify>,
}

/// Files in use by this process: a reload may start an input before the one that it replaces has written its last position.
static IN_USE: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);

impl Position {
    async fn open(path: &Path) -> Self {
        while !lock().get_or_insert_default().insert(path.to_owned()) {
            sleep(Duration::from_millis(10)).await;
        }
        let last = std::fs::read_to_string(path).unwrap_or_default();
        let last = last.trim_end().to_owned();
        Self {
            path: path.to_owned(),
            last,
            is_dirty: false,
            written: Instant::now(),
            under_way: VecDeque::new(),
            newest: None,
            safe: Arc::default(),
        }
    }

    /// In order: what is safe behind something that is not has to wait.
    fn advance(&mut self) {
        while self.under_way.front().is_some_and(|(acceptance, _)| acceptance.is_given()) {
            self.newest = None;
            if let Some((_, position)) = self.under_way.pop_front() {
                self.last = position;
                self.is_dirty = true;
            }
        }
    }

    /// For what is being read.
    fn receipt(&mut self) -> Arc<Receipt> {
        if let Some(newest) = &self.newest {
            return newest.clone();
        }
        let (receipt, acceptance) = Receipt::new(self.safe.clone());
        self.under_way.push_back((acceptance, String::new()));
        self.newest = (self.under_way.len() >= UNDER_WAY).then(|| receipt.clone());
        receipt
    }

    fn has_read(&mut self, to: String) {
        if let Some((_, position)) = self.under_way.back_mut() {
            *position = to;
        }
    }

    /// Where to go on, though not all before it is safe.
    fn read(&self) -> &str {
        self.under_way.back().map_or(&self.last, |(_, position)| position)
    }

    fn next_write(&self) -> Option<Instant> {
        self.is_dirty.then(|| self.written + KEEP)
    }

    /// Under another name first: a position is never half written.
    fn write(&mut self) {
        let mut new = self.path.clone().into_os_string();
        new.push(".new");
        let made = self.path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let written =
            made.and_then(|()| std::fs::write(&new, format!("{}\n", self.last))).and_then(|()| std::fs::rename(&new, &self.path));
        self.is_dirty = written.is_err();
        if let Err(error) = written {
            tracing::warn!(
                "{}: cannot be written: {}; what was read since comes again after a restart",
                self.path.display(),
                reason(&error)
            );
        }
        self.written = Instant::now();
    }

    async fn finish(mut self) {
        let (safe, deadline) = (self.safe.clone(), Instant::now() + LAST_ANSWERS);
        self.newest = None;
        self.advance();
        while !self.under_way.is_empty() && timeout_at(deadline, safe.notified()).await.is_ok() {
            self.advance();
        }
        if self.is_dirty {
            self.write();
        }
    }
}

impl Drop for Position {
    fn drop(&mut self) {
        lock().get_or_insert_default().remove(&self.path);
    }
}

fn lock() -> std::sync::MutexGuard<'static, Option<HashSet<PathBuf>>> {
    IN_USE.lock().unwrap_or_else(PoisonError::into_inner)
}
