//! What a package has beside the program: manual pages, completions, and who wrote what of it.
//!
//!     package-tool pages FOLDER        penstock.8, penstock.toml.5, completions
//!     package-tool copyright >FILE     the licences of all that is linked, as Debian has them (DEP-5)
//!
//! An example and not a command of penstock: neither clap_mangen nor the licences are anything that a log server needs.

mod copyright;
mod markdown;
mod pages;
mod roff;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["pages", folder] => pages::write(Path::new(folder)),
        ["copyright"] => copyright::text().map(|text| print!("{text}")),
        _ => Err("usage: package-tool pages FOLDER | package-tool copyright >FILE".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("package-tool: {why}");
            ExitCode::FAILURE
        }
    }
}
