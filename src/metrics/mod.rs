//! Counters: plain atomics that readers and drivers add to once a batch, and their text for Prometheus.

mod counters;
mod exposition;
pub mod http;
mod limited;

pub use counters::{Answered, Counter, DaemonCounters, DiskCounters, InputCounters, OutputCounters, QueueCounters};
pub use exposition::{Registry, Source};
pub use limited::Limited;
