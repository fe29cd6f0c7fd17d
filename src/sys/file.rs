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

    /// Opens a regular file for reading.
    pub fn read(&self, path: &CStr) -> io::Result<File> {
        let file =
            File::from(self.open_beneath(path, libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY, 0)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        Ok(file)
    }

    /// Makes a file that is not there yet, for writing.
    pub fn create_new(&self, path: &CStr, mode: u32) -> io::Result<File> {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
        self.open_beneath(path, flags, mode).map(File::from)
    }

    /// Whether anything has this name.
    pub fn has(&self, path: &CStr) -> io::Result<bool> {
        match self.open_beneath(path, libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC, 0) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives a file another name in its folder; a name that is taken is an error.
    pub fn rename(&self, from: &CStr, to: &CStr) -> io::Result<()> {
        match self.rename_with(from, to, libc::RENAME_NOREPLACE) {
            // A file system that does not know the flag: nobody else makes names like ours.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && !self.has(to)? => self.rename_with(from, to, 0),
            result => result,
        }
    }

    /// Gives a file the name of another one in its folder, which is gone then.
    pub fn replace(&self, from: &CStr, to: &CStr) -> io::Result<()> {
        self.rename_with(from, to, 0)
    }

    fn rename_with(&self, from: &CStr, to: &CStr, flags: u32) -> io::Result<()> {
        let (folder, from) = split(from);
        let (_, to) = split(to);
        let folder = self.open_beneath(&folder, libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC, 0)?;
        let fd = folder.as_raw_fd();
        // SAFETY: a valid descriptor and NUL-terminated names that live through the call.
        checked(unsafe { libc::syscall(libc::SYS_renameat2, fd, from.as_ptr(), fd, to.as_ptr(), flags) }).map(drop)
    }

    pub fn remove(&self, path: &CStr) -> io::Result<()> {
        let (folder, name) = split(path);
        let folder = self.open_beneath(&folder, libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC, 0)?;
        // SAFETY: a valid descriptor and a NUL-terminated name that live through the call.
        checked(unsafe { libc::unlinkat(folder.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
    }

    /// What has been made, renamed or removed in a file's folder is there after a power cut, too.
    pub fn sync_folder_of(&self, path: &CStr) -> io::Result<()> {
        let (folder, _) = split(path);
        File::from(self.open_beneath(&folder, libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC, 0)?).sync_all()
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

/// A line that was cut, by a full disk or the end of a process, stays a line of its own. What cannot be read is left as it
/// is. The file's size then.
pub fn end_line(mut file: &File) -> io::Result<u64> {
    let end = file.metadata()?.len();
    let mut last = [b'\n'];
    if end > 0 && file.read_at(&mut last, end - 1).is_ok() && last != [b'\n'] {
        file.write_all(b"\n")?;
        return Ok(end + 1);
    }
    Ok(end)
}

/// Sets mode, owner and group of an open file or folder.
pub fn adjust_file(file: &File, mode: u32, owner: Option<u32>, group: Option<u32>) -> io::Result<()> {
    adjust(file.as_raw_fd(), mode, owner, group)
}

/// The attributes of chattr(1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    Nothing,
    /// `+a`: bytes are added, and nothing else happens to it.
    AppendOnly,
    /// `+i`
    Immutable,
}

/// Sets the attribute, in the place of the other one. It takes CAP_LINUX_IMMUTABLE and a file system that has it.
pub fn protect(file: &File, protection: Protection) -> io::Result<()> {
    const APPEND: libc::c_int = 0x20;
    const IMMUTABLE: libc::c_int = 0x10;
    let mut flags: libc::c_int = 0;
    // SAFETY: an open descriptor, and a number that the kernel writes to.
    checked(unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_GETFLAGS, &raw mut flags) })?;
    let wanted = flags & !(APPEND | IMMUTABLE)
        | match protection {
            Protection::Nothing => 0,
            Protection::AppendOnly => APPEND,
            Protection::Immutable => IMMUTABLE,
        };
    if wanted == flags {
        return Ok(());
    }
    // SAFETY: an open descriptor, and a number that the kernel reads.
    checked(unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_SETFLAGS, &raw const wanted) }).map(drop)
}

/// Whether any process has the file open for writing; `file` itself is open for reading only. False where nobody can tell:
/// on file systems without leases, or for somebody else's file.
pub fn is_being_written(file: &File) -> bool {
    // Who opens it meanwhile makes the kernel send a signal: one that is ignored, and not SIGIO, which ends a process.
    const SETSIG: libc::c_int = 10;
    // SAFETY: a plain call on an open descriptor.
    let control = |what, value: libc::c_int| checked(unsafe { libc::fcntl(file.as_raw_fd(), what, value) });
    match control(SETSIG, libc::SIGURG).and_then(|_| control(libc::F_SETLEASE, libc::F_RDLCK)) {
        Ok(_) => {
            // A lease that is not given back ends with the descriptor.
            let _ = control(libc::F_SETLEASE, libc::F_UNLCK);
            false
        }
        Err(error) => error.raw_os_error() == Some(libc::EAGAIN),
    }
}

fn adjust(fd: RawFd, mode: u32, owner: Option<u32>, group: Option<u32>) -> io::Result<()> {
    if owner.is_some() || group.is_some() {
        // SAFETY: plain call on an open descriptor; -1 leaves an id as it is.
        checked(unsafe { libc::fchown(fd, owner.unwrap_or(u32::MAX), group.unwrap_or(u32::MAX)) })?;
    }
    // SAFETY: plain call on an open descriptor.
    checked(unsafe { libc::fchmod(fd, mode) }).map(drop)
}
