//! penstock: a syslog server and relay.
//!
//! The way of the data is the list of the modules: a socket gives bytes to an [`input`], [`frame`] cuts them into
//! messages, [`parse`] finds their fields, [`route`] decides who takes them, [`template`] renders them into records of a
//! [`queue`], and an [`output`] delivers those. `docs/architecture.md` tells it whole.

pub mod frame;
pub mod message;
pub mod metrics;
pub mod parse;
pub mod queue;
pub mod route;
pub mod template;
