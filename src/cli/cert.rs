//! `penstock cert`
use clap::Args;
use super::Failure;

/// Makes certificates
#[derive(Debug, Args)]
pub(super) struct Arguments {}

pub(super) fn main(_arguments: &Arguments) -> Result<(), Failure> {
    Ok(())
}
