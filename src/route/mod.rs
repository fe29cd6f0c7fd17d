//! Which outputs take a message: the heart of penstock, [`Pipeline::process`].

mod condition;
mod index;
mod join;
mod outbox;
mod pipeline;
mod repeats;
mod selector;

pub use condition::{Condition, must_not_panic as condition_must_not_panic};
pub use join::{By, Join};
pub use outbox::{Outbox, Touched};
pub use pipeline::{Destination, Envelope, Pipeline, Route, Settings, Tally};
pub use repeats::Repetitions;
pub use selector::Selector;
