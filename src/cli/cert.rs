//! `penstock cert`
use super::Failure;
use clap::Args;

/// Makes certificates
#[derive(Debug, Args)]
pub(super) struct Arguments {}

pub(super) fn main(_arguments: &Arguments) -> Result<(), Failure> {
    Ok(())
}
