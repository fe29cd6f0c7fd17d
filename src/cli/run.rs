//! `penstock run`

use clap::Args;

use super::{ConfigFile, Exit, Failure, log, planned};
use crate::daemon::{self, Succession};

/// Runs the server in the foreground until it is told to stop
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// At a stop systemd gets the open sockets and plain connections, and gives them to the next start
    /// (FileDescriptorStoreMax= in the unit)
    #[arg(long)]
    keep_descriptors: bool,
    /// Takes the sockets and plain connections of the server that runs with the same `state-dir`, which ends
    #[arg(long)]
    takeover: bool,
}

pub(super) fn main(arguments: &Arguments) -> Result<(), Failure> {
    log::start();
    let (plan, _) = planned(&arguments.file.config)?;
    let succession = Succession { keep_descriptors: arguments.keep_descriptors, take_over: arguments.takeover };
    daemon::run(&arguments.file.config, plan, succession).map_err(|error| {
        let exit = match error {
            daemon::Error::Socket(_) => Exit::Unavailable,
            daemon::Error::System(_) => Exit::System,
            daemon::Error::File(_) => Exit::File,
        };
        Failure::new(exit, error.to_string())
    })
}
