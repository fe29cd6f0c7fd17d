//! The command line: what is asked for, and what the process says with its exit code (sysexits(3)).

mod cert;
mod check;
mod explain;
mod import;
mod log;
mod queue;
mod run;
mod send;
mod unit;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::{self, Errors, Loaded, Plan};

/// Where the configuration is when nobody says otherwise.
const CONFIG: &str = "/etc/penstock/penstock.toml";

/// Syslog server and relay.
#[derive(Debug, Parser)]
#[command(name = "penstock", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Cert(cert::Arguments),
    /// Says all that is wrong with the configuration, each with its place
    ///
    /// No socket is opened. It exits with 78 where anything is wrong; what is probably not meant is a warning.
    Check(ConfigFile),
    Explain(explain::Arguments),
    Import(import::Arguments),
    Queue(queue::Arguments),
    Run(run::Arguments),
    Send(send::Arguments),
    /// Prints what penstock.service lacks for a configuration, as a drop-in for it
    Unit(ConfigFile),
    Verify(verify::Arguments),
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration; the files of `conf.d` beside it are read too
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
}

/// Why the process ends other than well; the numbers are those of sysexits(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// EX_USAGE
    Usage = 64,
    /// EX_DATAERR
    Data = 65,
    /// EX_UNAVAILABLE
    Unavailable = 69,
    /// EX_OSERR
    System = 71,
    /// EX_CANTCREAT
    File = 73,
    /// EX_CONFIG
    Config = 78,
}

/// One message on stderr, and the code.
struct Failure {
    exit: Exit,
    what: String,
}

impl Failure {
    fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into() }
    }
}

impl From<Errors> for Failure {
    fn from(errors: Errors) -> Self {
        Self::new(Exit::Config, errors.to_string())
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let result = match cli.command {
        Command::Cert(arguments) => cert::main(&arguments),
        Command::Check(arguments) => check::main(&arguments.config),
        Command::Explain(arguments) => explain::main(&arguments),
        Command::Import(arguments) => import::main(&arguments),
        Command::Queue(arguments) => queue::main(&arguments),
        Command::Run(arguments) => run::main(&arguments),
        Command::Send(arguments) => send::main(&arguments),
        Command::Unit(arguments) => unit::main(&arguments),
        Command::Verify(arguments) => verify::main(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", failure.what);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// The command line's definition: the manual page and the shells' completions are made from it.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Help and version are no errors.
fn usage(error: &clap::Error) -> ExitCode {
    // Nothing is to be done about a stderr that cannot be written.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(Exit::Usage as u8) } else { ExitCode::SUCCESS }
}

/// The plan of a file, and the files it was made from.
fn planned(path: &std::path::Path) -> Result<(Plan, Loaded), Failure> {
    let loaded = config::load(path)?;
    Ok((config::plan(&loaded)?, loaded))
}
