//! The only `unsafe` code: system calls that no kept library offers as they are needed here. Every call goes through
//! one helper that turns the C result into an `io::Result`.

pub mod clock;
pub mod datagram;
pub mod file;
pub mod name;
pub mod privilege;
pub mod process;
pub mod socket;
pub mod terminals;

use std::io;

/// `-1` is an error, anything else the result.
fn checked(result: impl TryInto<i64>) -> io::Result<i64> {
    match result.try_into() {
        Ok(-1) | Err(_) => Err(io::Error::last_os_error()),
        Ok(value) => Ok(value),
    }
}

/// What an administrator reads: the reason without `(os error 13)`.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}
