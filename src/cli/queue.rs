//! `penstock queue`: looks into the queues on disk, while a server uses them and when none does.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{CONFIG, Exit, Failure, planned};
use crate::daemon::queues::{self, QueueFolder};
use crate::message::SEVERITIES;
use crate::queue::disk::{self, Disk};
use crate::sys::reason;

/// Lists, shows, exports and deletes the queues on disk
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The configuration, which says where queues are and which outputs there are
    #[arg(long, value_name = "FILE", default_value = CONFIG, global = true)]
    config: PathBuf,
    /// Where the queues are, whatever a configuration says
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One line for each queue: its output, messages, KiB, and what is to be said of it
    List,
    /// The messages that wait, oldest first: number, severity, address, text
    Show {
        /// The output's name
        name: String,
        /// So many of them
        #[arg(long, value_name = "N", default_value_t = 10)]
        first: u64,
    },
    /// What waits, octet for octet as it would be sent or written
    Export {
        /// The output's name
        name: String,
        /// Not to stdout
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Deletes a queue that no server uses, with everything in it
    Drop {
        /// The output's name
        name: String,
    },
}

/// The queues, and the outputs of the configuration by kind and name.
struct Place {
    state_dir: PathBuf,
    outputs: Option<Vec<(String, String)>>,
}

pub(super) fn main(arguments: &Arguments) -> Result<(), Failure> {
    let place = match &arguments.state_dir {
        Some(state_dir) => Place { state_dir: state_dir.clone(), outputs: None },
        None => {
            let (plan, _) = planned(&arguments.config)?;
            let outputs = plan.outputs.iter().filter(|output| output.disk.is_some());
            let outputs = outputs.map(|output| (output.kind.to_owned(), output.name.to_string())).collect();
            Place { state_dir: plan.server.state_dir, outputs: Some(outputs) }
        }
    };
    match &arguments.command {
        Command::List => list(&place),
        Command::Show { name, first } => show(&place.find(name)?, *first),
        Command::Export { name, output } => export(&place.find(name)?, output.as_ref()),
        Command::Drop { name } => delete(&place.find(name)?),
    }
}

fn failed(what: &str, error: &io::Error) -> Failure {
    Failure::new(Exit::File, format!("{what}: {}", reason(error)))
}

impl Place {
    fn folders(&self) -> Result<Vec<QueueFolder>, Failure> {
        queues::list(&self.state_dir).map_err(|error| failed(&self.state_dir.display().to_string(), &error))
    }

    /// By `NAME`, or by `KIND.NAME` where several have it.
    fn find(&self, name: &str) -> Result<QueueFolder, Failure> {
        let folders = self.folders()?;
        let full = |folder: &QueueFolder| format!("{}.{}", folder.kind, folder.name);
        let found: Vec<_> = folders.iter().filter(|folder| folder.name == name || full(folder) == name).collect();
        match found.as_slice() {
            [one] => Ok((*one).clone()),
            [] => {
                let names: Vec<_> = folders.iter().map(|folder| folder.name.as_str()).collect();
                let suggestion = crate::template::did_you_mean(name, names);
                let place = self.state_dir.display();
                Err(Failure::new(Exit::Usage, format!("there is no queue `{name}` in {place}{suggestion}")))
            }
            several => {
                let names: Vec<_> = several.iter().map(|folder| format!("`{}`", full(folder))).collect();
                Err(Failure::new(Exit::Usage, format!("several queues are called `{name}`: say {}", names.join(" or "))))
            }
        }
    }
}

fn list(place: &Place) -> Result<(), Failure> {
    let folders = place.folders()?;
    if folders.is_empty() {
        println!("no queue is on disk in {}", place.state_dir.display());
        return Ok(());
    }
    println!("{:<24} {:<10} {:>12} {:>12}", "output", "kind", "messages", "KiB");
    for folder in folders {
        let said = |error: io::Error| failed(&folder.path.display().to_string(), &error);
        let (found, missing) = Disk::look(&folder.path, |_| Ok(())).map_err(said)?;
        let mut remarks = Vec::new();
        if disk::is_in_use(&folder.path).map_err(said)? {
            remarks.push("a server uses it".to_owned());
        } else if missing > 0 {
            // Beside a server they may have been delivered meanwhile.
            remarks.push(format!("{missing} messages are missing"));
        }
        let aside = disk::set_aside(&folder.path).map_err(said)?;
        if aside > 0 {
            remarks.push(format!("{aside} damaged segments are set aside"));
        }
        let letters = queues::dead_letters(&place.state_dir, &folder.kind, &folder.name);
        if letters.exists() {
            remarks.push(format!("dead letters in {}", letters.display()));
        }
        let own = (folder.kind.clone(), folder.name.clone());
        if place.outputs.as_ref().is_some_and(|outputs| !outputs.contains(&own)) {
            remarks.push("the configuration has no such output".to_owned());
        }
        let messages = found.records - missing.min(found.records);
        let line =
            format!("{:<24} {:<10} {messages:>12} {:>12}  {}", folder.name, folder.kind, found.bytes >> 10, remarks.join("; "));
        println!("{}", line.trim_end());
    }
    Ok(())
}

fn show(folder: &QueueFolder, first: u64) -> Result<(), Failure> {
    let mut left = first;
    let mut out = BufWriter::new(io::stdout().lock());
    let looked = Disk::look(&folder.path, |record| {
        if left == 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        left -= 1;
        let severity = SEVERITIES.get(usize::from(record.severity)).copied().unwrap_or("?");
        let address = String::from_utf8_lossy(&record.address);
        // What could move the cursor of a terminal is shown as what it is.
        let body = String::from_utf8_lossy(&record.body);
        writeln!(out, "{} {severity} {} {}", record.number, address.escape_debug(), body.escape_debug())
    });
    match looked {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(failed(&folder.path.display().to_string(), &error)),
        _ => out.flush().or_else(ignore_closed).map_err(|error| failed("stdout", &error)),
    }
}

fn export(folder: &QueueFolder, output: Option<&PathBuf>) -> Result<(), Failure> {
    let mut out: Box<dyn Write> = match output {
        Some(path) => {
            let file = File::create_new(path).map_err(|error| failed(&path.display().to_string(), &error))?;
            Box::new(BufWriter::new(file))
        }
        None => Box::new(BufWriter::new(io::stdout().lock())),
    };
    let result = Disk::look(&folder.path, |record| out.write_all(&record.body));
    let (found, missing) = match result.and_then(|looked| out.flush().map(|()| looked)) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        other => other.map_err(|error| failed(&folder.path.display().to_string(), &error))?,
    };
    eprintln!("{} messages, {missing} missing", found.records - missing.min(found.records));
    Ok(())
}

fn delete(folder: &QueueFolder) -> Result<(), Failure> {
    disk::delete(&folder.path).map_err(|error| match error.kind() {
        io::ErrorKind::ResourceBusy => Failure::new(
            Exit::Unavailable,
            format!("`{}` is in use: stop the server, or take the output out of its configuration", folder.name),
        ),
        _ => failed(&folder.path.display().to_string(), &error),
    })
}

/// Who reads may have seen enough.
fn ignore_closed(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}
