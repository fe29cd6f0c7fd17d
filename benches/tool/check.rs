//! All files below a folder: how many, how many messages, and which are missing or doubled.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::Outcome;
use crate::seen::Seen;

pub fn run(folder: &Path, count: u64) -> Outcome {
    let seen = Seen::new(count);
    let (mut folders, mut files, mut text) = (vec![folder.to_owned()], 0, Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                text.clear();
                File::open(entry.path())?.read_to_end(&mut text)?;
                seen.take(&text);
                files += 1;
            }
        }
    }
    println!("{}", seen.report(files));
    Ok(())
}
