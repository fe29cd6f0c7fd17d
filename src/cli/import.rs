//! `penstock import`: another server's configuration becomes ours.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Exit, Failure};
use crate::config::{self, Loaded};
use crate::import;
use crate::sys::reason;

/// Turns the configuration of another server into penstock's
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    /// rsyslog's, in all three dialects, with what it includes
    ///
    /// The result goes to stdout, with a comment for each statement that it comes from. What became of each is said on stderr:
    /// carried over, carried over with a difference, not carried over.
    Rsyslog {
        /// The main file
        #[arg(value_name = "FILE", default_value = "/etc/rsyslog.conf")]
        file: PathBuf,
        /// Writes the result there, which must not exist yet
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

pub(super) fn main(arguments: &Arguments) -> Result<(), Failure> {
    let From::Rsyslog { file, output } = &arguments.from;
    let failed =
        |path: &PathBuf, error: &std::io::Error| Failure::new(Exit::File, format!("{}: {}", path.display(), reason(error)));
    let imported = import::rsyslog(file).map_err(|error| failed(file, &error))?;
    match output {
        Some(path) => write(path, &imported.toml).map_err(|error| failed(path, &error))?,
        None => print!("{}", imported.toml),
    }
    eprint!("{}", imported.report);
    check(&imported.toml)?;
    eprintln!("what the unit lacks for it: `penstock unit --config FILE`");
    Ok(())
}

fn write(path: &PathBuf, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    std::fs::OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}

/// What `penstock check` will say is said at once.
fn check(toml: &str) -> Result<(), Failure> {
    let errors = match Loaded::of_text(toml) {
        Ok(loaded) => config::plan(&loaded).err(),
        Err(errors) => Some(errors),
    };
    match errors {
        Some(errors) => Err(Failure::new(Exit::Config, format!("`penstock check` refuses the result:\n{errors}"))),
        None => Ok(()),
    }
}
