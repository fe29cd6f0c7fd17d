//! A closed file becomes a packed one, which takes its place when it is whole and on disk.

use std::ffi::CStr;
use std::fs::{File, FileTimes};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::names::{PARTIAL, with};
use super::rotation::Packing;
use crate::sys::file::{Folder, adjust_file, is_being_written};

const BLOCK: usize = 128 << 10;

/// Packs a file; nothing is left of an attempt that failed, and the file stays. False: not now, somebody writes to it
/// or it is time to stop.
pub(super) fn pack(folder: &Folder, name: &CStr, packing: Packing, stop: &AtomicBool) -> io::Result<bool> {
    let Some(ending) = packing.ending() else { return Ok(false) };
    let packed = with(name.to_bytes(), ending)?;
    let partial = with(packed.to_bytes(), PARTIAL)?;
    let mut file = match folder.read(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        result => result?,
    };
    if is_being_written(&file) {
        return Ok(false);
    }
    match folder.remove(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let result = write(folder, &mut file, &partial, packing, stop).and_then(|is_whole| {
        if is_whole {
            folder.replace(&partial, &packed)?;
            folder.sync_folder_of(&packed)?;
            match folder.remove(name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(is_whole)
    });
    if !matches!(result, Ok(true)) {
        // What is left of it is found and removed by a later one at the latest.
        let _ = folder.remove(&partial);
    }
    result
}

fn write(folder: &Folder, file: &mut File, partial: &CStr, packing: Packing, stop: &AtomicBool) -> io::Result<bool> {
    let before = file.metadata()?;
    let mut target = folder.create_new(partial, 0o600)?;
    let read = match packing {
        Packing::Gzip => {
            let mut encoder = GzEncoder::new(&mut target, Compression::default());
            let read = copy(file, &mut encoder, stop)?;
            encoder.finish()?;
            read
        }
        Packing::Zstd => {
            let mut encoder = zstd::Encoder::new(&mut target, zstd::DEFAULT_COMPRESSION_LEVEL)?;
            encoder.include_checksum(true)?;
            let read = copy(file, &mut encoder, stop)?;
            encoder.finish()?;
            read
        }
        Packing::None => None,
    };
    adjust_file(&target, before.mode() & 0o7777, None, None)?;
    // What cannot be given away belongs to who packed it.
    for owner in [None, Some(before.uid())] {
        let _ = adjust_file(&target, before.mode() & 0o7777, owner, Some(before.gid()));
    }
    target.set_times(FileTimes::new().set_modified(before.modified()?))?;
    target.sync_all()?;
    // Where nobody can tell who has it open: what came meanwhile is packed the next time.
    Ok(read.is_some_and(|read| read == before.len()) && file.metadata()?.len() == before.len())
}

/// How much was copied; None: it is time to stop.
fn copy(file: &mut File, target: &mut impl Write, stop: &AtomicBool) -> io::Result<Option<u64>> {
    let mut block = vec![0; BLOCK];
    let mut copied = 0;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match file.read(&mut block) {
            Ok(0) => return Ok(Some(copied)),
            Ok(count) => {
                target.write_all(&block[..count])?;
                copied += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
