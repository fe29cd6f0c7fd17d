//! Who is logged in, and where: utmp(5), and the sessions of systemd-logind where a system has no utmp any more.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// A user's terminal, as a name below `/dev`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Terminal {
    pub user: String,
    pub line: String,
}

/// Everybody who is logged in at a terminal.
pub fn all() -> BTreeSet<Terminal> {
    let mut terminals = of_utmp();
    terminals.extend(of_logind(Path::new("/run/systemd/sessions")));
    terminals.retain(|terminal| is_harmless(&terminal.line));
    terminals
}

/// `pts/0`, `tty1`: never a way out of `/dev`.
fn is_harmless(line: &str) -> bool {
    !line.is_empty() && !line.starts_with('/') && !line.split('/').any(|name| matches!(name, "" | "." | ".."))
}

fn of_utmp() -> BTreeSet<Terminal> {
    // The functions of utmp share one place in the process.
    static USED: Mutex<()> = Mutex::new(());
    let _used = USED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut found = BTreeSet::new();
    // SAFETY: plain calls, one thread at a time.
    unsafe { libc::setutxent() };
    // SAFETY: as above; the entry is read before the next call.
    while let Some(entry) = unsafe { libc::getutxent().as_ref() } {
        if entry.ut_type == libc::USER_PROCESS {
            found.insert(Terminal { user: text(&entry.ut_user), line: text(&entry.ut_line) });
        }
    }
    // SAFETY: as above.
    unsafe { libc::endutxent() };
    found
}

fn text(field: &[libc::c_char]) -> String {
    let octets: Vec<u8> = field.iter().map(|c| *c as u8).take_while(|octet| *octet != 0).collect();
    String::from_utf8_lossy(&octets).into_owned()
}

/// One file a session, with `USER=` and `TTY=`.
fn of_logind(folder: &Path) -> BTreeSet<Terminal> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sessions = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
    sessions.filter_map(|session| of_session(&session)).collect()
}

fn of_session(session: &str) -> Option<Terminal> {
    let value = |key: &str| session.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
    Some(Terminal { user: value("USER=")?, line: value("TTY=")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_of_logind_have_a_user_and_a_terminal() {
        let session = "# This is private data. Do not parse.\nUID=0\nUSER=root\nACTIVE=1\nTTY=pts/3\nCLASS=user\n";
        assert_eq!(of_session(session), Some(Terminal { user: "root".to_owned(), line: "pts/3".to_owned() }));
        assert_eq!(of_session("USER=root\nCLASS=manager\n"), None);
        assert!(is_harmless("pts/3") && !is_harmless("../etc/passwd") && !is_harmless("/dev/sda") && !is_harmless(""));
    }
}
