//! What `benches/compare` needs beside the servers: loads, a floor, a relay's far end, a count of what was written, and a
//! probe for the time between sending and the file.
//!
//! Every command answers with one line of JSON.

mod check;
mod datagrams;
mod floor;
mod latency;
mod load;
mod seen;
mod sink;
mod streams;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

type Outcome = Result<(), Box<dyn Error>>;

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Counts the messages in all files below a folder
    Check { folder: PathBuf, count: u64 },
    /// Sends datagrams at a fixed rate
    Datagrams(datagrams::Arguments),
    /// Receives and appends to one file, without looking at what it is
    Floor(floor::Arguments),
    /// Sends at a fixed rate and watches the file grow
    Latency(latency::Arguments),
    /// Writes the messages that are to be sent, one a line
    Load(load::Arguments),
    /// Receives and counts; a line on stdin asks for the counts
    Sink(sink::Arguments),
}

/// Where streams are taken.
#[derive(Args)]
struct Listen {
    address: SocketAddr,
    /// PEM; with it and the key streams are TLS
    #[arg(long, requires = "key")]
    certificate: Option<PathBuf>,
    #[arg(long, requires = "certificate")]
    key: Option<PathBuf>,
}

fn main() -> ExitCode {
    let result = match Line::parse().command {
        Command::Check { folder, count } => check::run(&folder, count),
        Command::Datagrams(arguments) => datagrams::run(&arguments),
        Command::Floor(arguments) => floor::run(&arguments),
        Command::Latency(arguments) => latency::run(&arguments),
        Command::Load(arguments) => load::run(&arguments),
        Command::Sink(arguments) => sink::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare-tool: {error}");
            ExitCode::FAILURE
        }
    }
}
