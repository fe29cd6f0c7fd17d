//! `penstock run`

use std::path::Path;

use super::{Exit, Failure, log, planned};
use crate::daemon;

/// Runs in the foreground until it is told to stop.
pub(super) fn main(path: &Path) -> Result<(), Failure> {
    log::start();
    let (plan, _) = planned(path)?;
    daemon::run(path, plan).map_err(|error| {
        let exit = match error {
            daemon::Error::Socket(_) => Exit::Unavailable,
            daemon::Error::System(_) => Exit::System,
            daemon::Error::File(_) => Exit::File,
        };
        Failure::new(exit, error.to_string())
    })
}
