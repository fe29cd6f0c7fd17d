//! Socket options that the standard library and socket2 do not have.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use super::checked;
use super::datagram::Credentials;

/// The receive buffer as large as can be had, up to `wanted` bytes, and never smaller than it is; what it is then.
pub fn grow_receive_buffer(socket: BorrowedFd<'_>, wanted: usize) -> io::Result<usize> {
    let half = |bytes: usize| i32::try_from(bytes / 2).unwrap_or(i32::MAX / 2);
    let has = get(socket, libc::SO_RCVBUF)? as usize;
    // With CAP_NET_ADMIN beyond net.core.rmem_max, otherwise up to it; the kernel doubles what it is told.
    if has < wanted && set(socket, libc::SO_RCVBUFFORCE, half(wanted)).is_err() {
        // Asked of another socket first: what this one has may be more than we could give it again.
        let trial = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None)?;
        set(trial.as_fd(), libc::SO_RCVBUF, half(wanted))?;
        if get(trial.as_fd(), libc::SO_RCVBUF)? as usize > has {
            set(socket, libc::SO_RCVBUF, half(wanted))?;
        }
    }
    get(socket, libc::SO_RCVBUF).map(|granted| granted as usize)
}

/// Octets that were written to a stream and that the other side has not acknowledged (SIOCOUTQ); known of a broken
/// connection too.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut octets: libc::c_int = 0;
    // SAFETY: the number lives through the call.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, ptr::from_mut(&mut octets)) })?;
    Ok(octets.max(0) as u64)
}

/// A number that the socket has in every process (SO_COOKIE).
pub fn cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let (mut value, mut size) = (0u64, size_of::<u64>() as u32);
    // SAFETY: value and size live through the call, and the size given is the value's.
    checked(unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_COOKIE, ptr::from_mut(&mut value).cast(), &mut size)
    })?;
    Ok(value)
}

/// Device and inode of what is open.
pub fn identity(open: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let data = std::fs::File::from(open.try_clone_to_owned()?).metadata()?;
    Ok((data.dev(), data.ino()))
}

/// Who has connected a unix socket (SO_PEERCRED, unix(7)).
pub fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    // SAFETY: all-zero is a valid ucred.
    let mut found: libc::ucred = unsafe { std::mem::zeroed() };
    let mut size = size_of::<libc::ucred>() as u32;
    // SAFETY: value and size live through the call, and the size given is the value's.
    checked(unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, ptr::from_mut(&mut found).cast(), &mut size)
    })?;
    Ok(Credentials { pid: found.pid.max(0) as u32, uid: found.uid, gid: found.gid })
}

/// How many datagrams the kernel has dropped on this socket since it was made (SO_MEMINFO: a look now and then costs
/// less than SO_RXQ_OVFL's word with every datagram, and sees drops that nothing follows).
pub fn drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    /// SK_MEMINFO_DROPS and SK_MEMINFO_VARS of linux/sock_diag.h.
    const DROPS: usize = 8;
    const VARS: usize = 9;
    let mut values = [0u32; VARS];
    let mut size = size_of_val(&values) as u32;
    // SAFETY: values and size live through the call, and the size given is the values'.
    checked(unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, ptr::from_mut(&mut values).cast(), &mut size)
    })?;
    Ok(values[DROPS])
}

fn set(socket: BorrowedFd<'_>, option: i32, value: i32) -> io::Result<()> {
    let size = size_of::<i32>() as u32;
    // SAFETY: the value lives through the call and has the size given.
    checked(unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, ptr::from_ref(&value).cast(), size) })
        .map(drop)
}

fn get(socket: BorrowedFd<'_>, option: i32) -> io::Result<i32> {
    let (mut value, mut size) = (0i32, size_of::<i32>() as u32);
    // SAFETY: value and size live through the call, and the size given is the value's.
    checked(unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, ptr::from_mut(&mut value).cast(), &mut size)
    })?;
    Ok(value)
}

/// Takes over a descriptor that this process was started with (sd_listen_fds(3)). None where it is not open.
pub fn inherited(fd: std::os::fd::RawFd) -> Option<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: F_GETFD only asks.
    checked(unsafe { libc::fcntl(fd, libc::F_GETFD) }).ok()?;
    // SAFETY: it is open, and the protocol of socket activation gives it to us alone; asked once, at the start.
    Some(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) })
}
