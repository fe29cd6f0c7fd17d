//! Files below a folder and nowhere else: openat2(2), mkdirat(2), fchown(2).

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Write};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

use super::checked;

/// A folder below which files are opened.
#[derive(Debug)]
pub struct Folder(OwnedFd);

impl Folder {
    /// Follows links: the path is the administrator's.
    pub fn open(path: &std::path::Path) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map(|file| Self(file.into()))
    }

    /// Opens a regular file for appending, and for reading where that is allowed. The kernel refuses what would leave the folder or pass through a link
    /// (RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS).
    pub fn append(&self, path: &CStr) -> io::Result<File> {
        self.regular(path, 0, 0)
    }

    /// The same, and makes it where there is none.
    pub fn create(&self, path: &CStr, mode: u32) -> io::Result<File> {
        self.regular(path, libc::O_CREAT, mode)
    }

    fn regular(&self, path: &CStr, create: i32, mode: u32) -> io::Result<File> {
        // O_NONBLOCK: a FIFO that stands in the place of a file must not hang us.
        let flags = libc::O_APPEND | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY | create;
        let opened = match self.open_beneath(path, flags | libc::O_RDWR, mode) {
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => self.open_beneath(path, flags | libc::O_WRONLY, mode),
            other => other,
        };
        let file = File::from(opened?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        Ok(file)
    }

    /// Makes one folder below this one; one that exists already is as good. True: it was made now.
    pub fn make(&self, path: &CStr, mode: u32) -> io::Result<bool> {
        let (parent, name) = split(path);
        let parent = self.open_beneath(&parent, libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC, 0)?;
        // SAFETY: a valid descriptor and a NUL-terminated name that live through the call.
        match checked(unsafe { libc::mkdirat(parent.as_raw_fd(), name.as_ptr(), mode) }) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives a folder below this one to an owner and group, and sets its mode whatever the umask was.
    pub fn adjust(&self, path: &CStr, mode: u32, owner: Option<u32>, group: Option<u32>) -> io::Result<()> {
        let folder = self.open_beneath(path, libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC, 0)?;
        adjust(folder.as_raw_fd(), mode, owner, group)
    }

    fn open_beneath(&self, path: &CStr, flags: i32, mode: u32) -> io::Result<OwnedFd> {
        // SAFETY: all-zero is a valid open_how.
        let mut how: libc::open_how = unsafe { zeroed() };
        how.flags = flags as u64;
        how.mode = u64::from(mode);
        how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
        // SAFETY: descriptor, path and `how` live through the call, and the size given is the struct's.
        let fd = checked(unsafe {
            libc::syscall(libc::SYS_openat2, self.0.as_raw_fd(), path.as_ptr(), &raw const how, size_of::<libc::open_how>())
        })?;
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
    }
}

/// The folder that a path is in (`.` for the first), and the last name.
fn split(path: &CStr) -> (CString, CString) {
    let bytes = path.to_bytes();
    let (parent, name) = match bytes.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&bytes[..slash], &bytes[slash + 1..]),
        None => (&b"."[..], bytes),
    };
    let owned = |part: &[u8]| CString::new(part).expect("a part of a C string has no NUL");
    (owned(parent), owned(name))
}

/// A line that was cut, by a full disk or the end of a process, stays a line of its own. What cannot be read is left as it is.
pub fn end_line(mut file: &File) -> io::Result<()> {
    let end = file.metadata()?.len();
    let mut last = [b'\n'];
    if end > 0 && file.read_at(&mut last, end - 1).is_ok() && last != [b'\n'] {
        file.write_all(b"\n")?;
    }
    Ok(())
}

/// Sets mode, owner and group of an open file or folder.
pub fn adjust_file(file: &File, mode: u32, owner: Option<u32>, group: Option<u32>) -> io::Result<()> {
    adjust(file.as_raw_fd(), mode, owner, group)
}

fn adjust(fd: RawFd, mode: u32, owner: Option<u32>, group: Option<u32>) -> io::Result<()> {
    if owner.is_some() || group.is_some() {
        // SAFETY: plain call on an open descriptor; -1 leaves an id as it is.
        checked(unsafe { libc::fchown(fd, owner.unwrap_or(u32::MAX), group.unwrap_or(u32::MAX)) })?;
    }
    // SAFETY: plain call on an open descriptor.
    checked(unsafe { libc::fchmod(fd, mode) }).map(drop)
}
