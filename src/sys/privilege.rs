//! From root to an ordinary user, with the one capability that ports below 1024 need; and the limit on open files.

use std::io;

use super::checked;

const CAP_NET_BIND_SERVICE: u32 = 10;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

pub fn is_root() -> bool {
    is_own(0)
}

/// The user that this process acts as.
pub fn is_own(uid: u32) -> bool {
    // SAFETY: cannot fail.
    unsafe { libc::geteuid() == uid }
}

/// Becomes user and group for good, and keeps CAP_NET_BIND_SERVICE, so that a reload can open port 514 too. Must be
/// called while there is one thread: capabilities belong to threads.
pub fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: plain calls without pointers, but for the group list whose length is given.
    unsafe {
        checked(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0))?;
        checked(libc::setgroups(1, &gid))?;
        checked(libc::setgid(gid))?;
        checked(libc::setuid(uid))?;
    }
    keep_only(1 << CAP_NET_BIND_SERVICE)
}

fn keep_only(capabilities: u32) -> io::Result<()> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let low = CapabilityData { effective: capabilities, permitted: capabilities, inheritable: 0 };
    let high = CapabilityData { effective: 0, permitted: 0, inheritable: 0 };
    let data = [low, high];
    // SAFETY: version 3 takes a header and two data structs, which live through the call.
    checked(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// Raises the limit on open files as far as it may be; what it is then.
pub fn raise_file_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct lives through both calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && limit.rlim_cur < limit.rlim_max {
            let wanted = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
            if libc::setrlimit(libc::RLIMIT_NOFILE, &wanted) == 0 {
                limit = wanted;
            }
        }
    }
    limit.rlim_cur
}
