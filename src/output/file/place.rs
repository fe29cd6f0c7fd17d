//! Below the base folder and nowhere else: how files are found, made and given to their owner.

use std::ffi::{CStr, CString};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::Settings;
use crate::metrics::Limited;
use crate::sys::file::{Folder, Protection, adjust_file, end_line, protect};
use crate::sys::reason;
use crate::warn_limited;

/// Takes what has no file of its own: a path that a folder or link stands in the way of, or one new file too many.
pub(super) const FALL_BACK: &str = "penstock-redirected.log";
const MINUTE: u64 = 60;

pub(super) struct Place {
    settings: Arc<Settings>,
    /// Opened with the first file.
    base: Option<Folder>,
    /// New files since when.
    made: (Option<Instant>, u32),
    /// For what belongs to somebody else.
    owners: Limited,
}

/// The fall-back file is no output's alone: nobody rotates or seals it.
pub(super) fn is_fall_back(name: &CStr) -> bool {
    name.to_bytes() == FALL_BACK.as_bytes()
}

/// Why a file cannot be had.
#[derive(Debug)]
pub(super) enum NoFile {
    /// It is this path: the fall-back file takes the record.
    Path(io::Error),
    /// Later it may be had.
    Retry(io::Error),
    TooMany,
}

/// A file, and what was in it.
pub(super) struct Found {
    pub file: File,
    pub size: u64,
    pub modified: SystemTime,
}

impl Place {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, base: None, made: (None, 0), owners: Limited::default() }
    }

    /// What was opened by its path is opened by it anew.
    pub(super) fn forget(&mut self) {
        self.base = None;
    }

    /// The path below the base folder.
    pub(super) fn below(&self, path: &[u8]) -> Result<CString, NoFile> {
        let base = self.settings.base.as_os_str().as_encoded_bytes();
        let below = path.strip_prefix(base).map_or(path, |rest| rest.strip_prefix(b"/").unwrap_or(rest));
        CString::new(below).map_err(|_| NoFile::Path(io::ErrorKind::InvalidInput.into()))
    }

    /// Opens a file that exists, or makes it and the folders it is in.
    pub(super) fn open(&mut self, name: &CStr) -> Result<Found, NoFile> {
        match self.base()?.append(name) {
            Ok(file) => {
                let modified = file.metadata().and_then(|data| data.modified()).map_err(NoFile::Retry)?;
                let size = end_line(&file).map_err(NoFile::Retry)?;
                return Ok(Found { file, size, modified });
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(classified(error)),
            Err(_) => {}
        }
        if !is_fall_back(name) && !self.may_make_one() {
            return Err(NoFile::TooMany);
        }
        match self.make(name) {
            // The base folder itself has been taken away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.base = None;
                self.make(name).map_err(classified)
            }
            result => result.map_err(classified),
        }
    }

    pub(super) fn make(&mut self, name: &CStr) -> io::Result<Found> {
        let Settings { mode, owner, group, dir_mode, dir_owner, dir_group, .. } = *self.settings;
        let mut adjusted = Ok(());
        let base = self.folder()?;
        let file = match base.create(name, mode) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                for folder in folders(name) {
                    if base.make(&folder, dir_mode)? {
                        adjusted = adjusted.and(base.adjust(&folder, dir_mode, dir_owner, dir_group));
                    }
                }
                base.create(name, mode)?
            }
            result => result?,
        };
        // Whom a file belongs to is no reason to write its messages elsewhere.
        if let Err(error) = adjusted.and(adjust_file(&file, mode, owner, group)) {
            let name = name.to_string_lossy();
            warn_limited!(self.owners, "{name}: its owner, group or mode cannot be set: {}", reason(&error));
        }
        if self.settings.protects()
            && let Err(error) = protect(&file, Protection::AppendOnly)
        {
            let name = name.to_string_lossy();
            warn_limited!(self.owners, "{name} cannot be made append-only (CAP_LINUX_IMMUTABLE): {}", reason(&error));
        }
        Ok(Found { file, size: 0, modified: SystemTime::now() })
    }

    /// The base folder, made where there is none.
    pub(super) fn folder(&mut self) -> io::Result<&Folder> {
        self.base().map_err(|error| match error {
            NoFile::Path(error) | NoFile::Retry(error) => error,
            NoFile::TooMany => io::ErrorKind::Other.into(),
        })
    }

    fn base(&mut self) -> Result<&Folder, NoFile> {
        if self.base.is_none() {
            let path = &self.settings.base;
            DirBuilder::new().recursive(true).mode(self.settings.dir_mode).create(path).map_err(NoFile::Retry)?;
            self.base = Some(Folder::open(path).map_err(NoFile::Retry)?);
        }
        Ok(self.base.as_ref().expect("it was opened just now"))
    }

    fn may_make_one(&mut self) -> bool {
        let (since, count) = &mut self.made;
        if since.is_none_or(|since| since.elapsed().as_secs() >= MINUTE) {
            (*since, *count) = (Some(Instant::now()), 0);
        }
        *count += 1;
        *count <= self.settings.new_files
    }
}

/// Errors of one path, which no waiting mends while the others go on; and all the others.
fn classified(error: io::Error) -> NoFile {
    match error.raw_os_error() {
        Some(
            libc::EACCES
            | libc::EILSEQ
            | libc::EINVAL
            | libc::EISDIR
            | libc::ELOOP
            | libc::ENAMETOOLONG
            | libc::ENOTDIR
            | libc::ENXIO
            | libc::EPERM
            | libc::EXDEV,
        )
        | None => NoFile::Path(error),
        Some(_) => NoFile::Retry(error),
    }
}

/// The folders that a path is in, the outermost first.
fn folders(path: &CStr) -> impl Iterator<Item = CString> {
    let bytes = path.to_bytes();
    let slashes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(i, _)| i);
    slashes.filter(|i| *i > 0).filter_map(|i| CString::new(&bytes[..i]).ok())
}
