//! penstock: a syslog server and relay.
//!
//! The way of the data is the list of the modules: a socket gives bytes to an [`input`], [`frame`] cuts them into
//! messages, [`parse`] finds their fields, [`route`] decides who takes them, [`template`] renders them into records of a
//! [`queue`], and an [`output`] delivers those. `docs/architecture.md` tells it whole.

pub mod cli;
pub mod config;
pub mod daemon;
pub mod frame;
pub mod import;
pub mod input;
pub mod message;
pub mod metrics;
pub mod net;
pub mod output;
pub mod parse;
pub mod queue;
pub mod route;
pub mod sys;
pub mod template;
pub mod translate;
