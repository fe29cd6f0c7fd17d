//! Names of hosts, users and groups as the system's own databases have them.

use std::ffi::{CStr, CString};
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::IpAddr;
use std::ptr;

/// The name of an address by reverse look-up; blocks as long as the resolver does.
pub fn of_address(address: IpAddr) -> Option<String> {
    let mut name = [0 as libc::c_char; libc::NI_MAXHOST as usize];
    let address = socket2::SockAddr::from(std::net::SocketAddr::new(address, 0));
    // SAFETY: the address and its length are socket2's; the buffer and its size belong together.
    let result = unsafe {
        libc::getnameinfo(
            address.as_ptr().cast(),
            address.len(),
            name.as_mut_ptr(),
            name.len() as u32,
            ptr::null_mut(),
            0,
            libc::NI_NAMEREQD,
        )
    };
    if result != 0 {
        return None;
    }
    // SAFETY: on success the buffer holds a NUL-terminated string.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) };
    name.to_str().ok().map(str::to_owned)
}

/// This host's name, or `localhost`.
pub fn of_this_host() -> String {
    let mut name = [0u8; 256];
    // SAFETY: the buffer and its size belong together.
    let result = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    let text = CStr::from_bytes_until_nul(&name).ok().and_then(|name| name.to_str().ok());
    text.filter(|text| result == 0 && !text.is_empty()).unwrap_or("localhost").to_owned()
}

/// A user's number and first group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

/// By name or number.
pub fn user(text: &str) -> Option<User> {
    let name = CString::new(text).ok()?;
    let mut buffer = vec![0 as libc::c_char; 16 << 10];
    // SAFETY: all-zero is a valid passwd, and is only read after the call has filled it.
    let (mut entry, mut found): (libc::passwd, _) = unsafe { (zeroed(), ptr::null_mut()) };
    // SAFETY: all pointers live through the call, and the buffer's size is its own.
    let result = unsafe { libc::getpwnam_r(name.as_ptr(), &mut entry, buffer.as_mut_ptr(), buffer.len(), &mut found) };
    match (result, found.is_null()) {
        (0, false) => Some(User { uid: entry.pw_uid, gid: entry.pw_gid }),
        _ => text.parse().ok().map(|uid| User { uid, gid: uid }),
    }
}

/// By name or number.
pub fn group(text: &str) -> Option<u32> {
    let name = CString::new(text).ok()?;
    let mut buffer = vec![0 as libc::c_char; 64 << 10];
    let mut entry = MaybeUninit::<libc::group>::zeroed();
    let mut found = ptr::null_mut();
    // SAFETY: all pointers live through the call, and the buffer's size is its own.
    let result = unsafe { libc::getgrnam_r(name.as_ptr(), entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &mut found) };
    if result == 0 && !found.is_null() {
        // SAFETY: a found entry is `entry`, which the call has filled.
        return Some(unsafe { entry.assume_init() }.gr_gid);
    }
    text.parse().ok()
}

const _: () = assert!(size_of::<libc::gid_t>() == size_of::<u32>());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_by_name_and_number() {
        assert_eq!(user("root"), Some(User { uid: 0, gid: 0 }));
        assert_eq!(group("root"), Some(0));
        assert_eq!(user("4711").map(|user| user.uid), Some(4711));
        assert_eq!((user("no such user"), group("no such group")), (None, None));
    }
}
