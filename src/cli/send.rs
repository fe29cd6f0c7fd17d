//! `penstock send`
use super::Failure;
use clap::Args;

/// Sends messages, to try things out
#[derive(Debug, Args)]
pub(super) struct Arguments {}

pub(super) fn main(_arguments: &Arguments) -> Result<(), Failure> {
    Ok(())
}
