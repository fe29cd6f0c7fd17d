//! The messages of a load: one a line, all of one size, each with its number.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::Outcome;

/// Below this size the names are short ones and there is no structured data.
const ROOM: usize = 160;

#[derive(Args)]
pub struct Arguments {
    file: PathBuf,
    #[arg(long)]
    count: u64,
    /// The number of the first
    #[arg(long, default_value_t = 0)]
    first: u64,
    #[arg(long, value_enum, default_value_t = Format::Rfc5424)]
    format: Format,
    /// Of the whole message, its header included
    #[arg(long, default_value_t = 256)]
    size: usize,
    #[arg(long, default_value_t = 50)]
    hosts: u64,
    /// Of each host
    #[arg(long, default_value_t = 8)]
    programs: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// <PRI>PROGRAM[PID]: TEXT
    Python,
    Rfc3164,
    /// With structured data
    Rfc5424,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let mut file = BufWriter::new(File::create(&arguments.file)?);
    for number in arguments.first..arguments.first + arguments.count {
        let mut line = message(arguments, number);
        if line.len() < arguments.size {
            line.extend(std::iter::repeat_n('x', arguments.size - line.len()));
        }
        writeln!(file, "{line}")?;
    }
    file.flush()?;
    Ok(())
}

/// Neighbours have different hosts, so that every file is written to all the time.
fn message(arguments: &Arguments, number: u64) -> String {
    let (host, program, pid) = (number % arguments.hosts, number / arguments.hosts % arguments.programs, number % 30000);
    match arguments.format {
        Format::Python => format!("<14>program{program}[{pid}]: seq={number} "),
        Format::Rfc3164 => format!("<165>Oct 11 22:14:15 host{host} program{program}[{pid}]: seq={number} "),
        Format::Rfc5424 if arguments.size < ROOM => format!("<165>1 2003-10-11T22:14:15Z h{host} p{program} 1 - - seq={number} "),
        Format::Rfc5424 => format!(
            "<165>1 2003-10-11T22:14:15.003Z host{host} program{program} {pid} ID47 \
             [exampleSDID@32473 iut=\"3\" eventSource=\"Application\" eventID=\"1011\"] seq={number} "
        ),
    }
}
