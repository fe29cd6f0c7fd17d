//! A relay's far end: counts what arrives.

use std::io;
use std::sync::Arc;
use std::thread;

use clap::Args;

use crate::seen::Seen;
use crate::{Listen, Outcome, streams};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    listen: Listen,
    /// How many messages are to come
    #[arg(long)]
    count: u64,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let seen = Arc::new(Seen::new(arguments.count));
    let asked = seen.clone();
    thread::spawn(move || {
        for _ in io::stdin().lines() {
            println!("{}", asked.report(0));
        }
    });
    streams::serve(&arguments.listen, move |lines| {
        seen.take(lines);
        Ok(())
    })
}
