//! Outputs: chunks of records → their destination. A kind is one file with a `Config` and a `plan`, and one word in the
//! list below. An output delivers and says what went wrong; it never retries, sleeps or counts: [`drive`] does.

mod backlog;
mod backoff;
mod dead_letters;
pub mod drive;
mod lines;
mod queue_config;

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::config::OutputScope;
use crate::metrics::OutputCounters;
#[cfg(doc)]
use crate::queue::State;
use crate::queue::{Bounds, Chunk, Queue};
use crate::route::{Destination, Envelope};
use crate::template::{Format, Template};

pub use backlog::{Mode, Store};
pub use dead_letters::DeadLetters;
pub use file::{SealKey, Verdict, verify};
pub use queue_config::{DiskPlan, QueueConfig, SMALLEST_QUEUE};

/// Registers the kinds: their tables in the configuration, and their plans.
macro_rules! kinds {
    ($($kind:ident),*) => {
        $(mod $kind;)*

        /// `[[output.KIND]]`, as written.
        #[derive(Debug, Default, serde::Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        pub struct Configs {
            $(#[serde(default)] $kind: Vec<toml::Spanned<$kind::Config>>,)*
        }

        impl Configs {
            /// Each with where it stands; None where something is wrong and has been said.
            pub fn plan(&self, scope: &mut OutputScope<'_, '_>) -> Vec<(Range<usize>, Option<Plan>)> {
                let mut plans = Vec::new();
                $(for config in &self.$kind {
                    let (span, config) = (config.span(), config.as_ref());
                    if config.name.is_empty() {
                        scope.scope.error(span.clone(), "an output's `name` is empty: routes need one");
                    }
                    scope.names.insert(config.name.clone());
                    plans.push((span, $kind::plan(config, scope)));
                })*
                plans
            }
        }
    };
}

kinds!(discard, file, forward, pipe, program, stdout, users);

/// Where records go in the end.
pub trait Output: Send {
    /// Delivers the pending records of the chunks and settles each that the destination has. What it could not deliver
    /// is tried again, or given up, as the error says; what it has left without an error goes on at once. Dropping the
    /// future breaks off.
    fn deliver<'a>(&'a mut self, batch: &'a mut [Chunk]) -> Delivery<'a>;

    /// Settles what has arrived of what was on its way ([`State::Sent`]), and calls back what never will. Asked after each
    /// delivery, and from time to time while something is on its way.
    fn confirm(&mut self, _batch: &mut [Chunk]) {}

    /// Records were given up that it may have begun to write: what comes next is none of them.
    fn given_up(&mut self) {}

    /// HUP: open files are opened anew.
    fn reopen(&mut self) {}

    /// The end of this output, though not of the server: what has been delivered is not to be lost on its way.
    fn close(&mut self) -> Closing<'_> {
        Box::pin(std::future::ready(()))
    }

    /// What keeps some records need not keep others: deliveries go on beside those that failed, and are tried again soon.
    fn has_many_places(&self) -> bool {
        false
    }

    /// Whether the next records are better held until more of them can go at once; None: they go as they come.
    fn hold(&self) -> Option<Hold> {
        None
    }
}

/// What a delivery is worth waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// So many bytes in the queue …
    pub enough: usize,
    /// … or so long.
    pub longest: Duration,
}

pub type Delivery<'a> = Pin<Box<dyn Future<Output = Result<(), Undelivered>> + 'a>>;

pub type Closing<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Why records remain unsettled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undelivered {
    /// The destination will never take them.
    Reject(String),
    /// Later it may.
    Retry(String),
}

/// Makes the running output, with the counters that are its own.
pub type Make = Box<dyn Fn(&Arc<OutputCounters>) -> Box<dyn Output> + Send + Sync>;

/// An output as run.
pub struct Plan {
    pub name: Arc<str>,
    pub kind: &'static str,
    /// Where everything goes that has no address of its own, for `explain`.
    pub place: String,
    pub format: Format,
    pub address: Option<Template>,
    pub envelope: Envelope,
    /// `size` is the default until the plan has shared out the memory.
    pub bounds: Bounds,
    /// As written.
    pub queue_size: Option<usize>,
    /// The part of the queue on disk.
    pub disk: Option<DiskPlan>,
    /// Where what is given up is kept; below `state-dir` where nothing is written.
    pub dead_letters: Option<PathBuf>,
    /// Fill level, 0 to 1, above which `bounds.shed` begins.
    pub shed_above: f64,
    /// Records of one queue can be delivered by every output of this form: a folder, an envelope.
    pub form: String,
    /// Two of the same kind and print deliver in the same way.
    pub print: String,
    /// Whom its files belong to, as written.
    pub group: Option<String>,
    /// Nobody else may write where it writes.
    pub is_alone: bool,
    pub make: Make,
}

impl Plan {
    /// Lines to one place, from a queue in memory; what else a kind has is set over it.
    fn of(format: Format, bounds: Bounds, make: Make) -> Self {
        Self {
            name: "".into(),
            kind: "",
            place: String::new(),
            format,
            address: None,
            envelope: Envelope::Line,
            bounds,
            queue_size: None,
            disk: None,
            dead_letters: None,
            shed_above: 1.0,
            form: String::new(),
            print: String::new(),
            group: None,
            is_alone: false,
            make,
        }
    }

    /// As the router knows it, over its queue.
    pub fn destination(&self, queue: Arc<Queue>) -> Destination {
        Destination {
            name: self.name.clone(),
            place: self.place.clone(),
            queue,
            format: self.format.clone(),
            address: self.address.clone(),
            envelope: self.envelope,
        }
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}` {}", self.kind, self.name, self.print)
    }
}
