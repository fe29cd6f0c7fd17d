//! Other processes of this host.

use std::fs;
use std::io;

use super::checked;

/// What the kernel calls the process (`comm`); None where it has ended, or must not be seen.
pub fn name(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim_end().to_owned())
}

/// systemd's unit of the process, by its control group.
pub fn unit(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).ok().and_then(|groups| of_groups(&groups))
}

/// The innermost unit that is no slice, of the unified hierarchy or of systemd's own.
fn of_groups(groups: &str) -> Option<String> {
    const UNITS: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];
    let paths = groups
        .lines()
        .filter_map(|line| line.strip_prefix("0::").or_else(|| line.split_once(":name=systemd:").map(|(_, path)| path)));
    let units = paths.flat_map(|path| path.rsplit('/')).find(|name| UNITS.iter().any(|kind| name.ends_with(kind)));
    units.map(str::to_owned)
}

/// Sends a signal to a child that has not been waited for: its number is its own until then.
pub fn signal(child: u32, signal: i32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(child).map_err(io::Error::other)?;
    // SAFETY: a plain call.
    checked(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// This thread works when nobody else wants the processor or the disk: nice 19, and the idle class of ioprio_set(2).
pub fn give_way() -> io::Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_IDLE: libc::c_int = 3 << 13;
    // SAFETY: plain calls; 0 is this thread.
    unsafe {
        checked(libc::setpriority(libc::PRIO_PROCESS, 0, 19))?;
        checked(libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, CLASS_IDLE)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_the_innermost() {
        for (groups, unit) in [
            ("0::/system.slice/ssh.service\n", Some("ssh.service")),
            ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.service/sub\n", Some("x.service")),
            ("0::/user.slice/user-0.slice/session-3.scope\n", Some("session-3.scope")),
            ("12:pids:/x\n1:name=systemd:/system.slice/cron.service\n0::/\n", Some("cron.service")),
            ("0::/\n", None),
        ] {
            assert_eq!(of_groups(groups).as_deref(), unit, "{groups}");
        }
        assert!(name(std::process::id()).is_some());
    }

    #[test]
    fn who_gives_way_is_the_last_to_run() {
        std::thread::spawn(|| {
            give_way().expect("allowed");
            let stat = fs::read_to_string("/proc/thread-self/stat").expect("it runs");
            let nice = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(16)).map(str::to_owned);
            assert_eq!(nice.as_deref(), Some("19"), "{stat}");
        })
        .join()
        .expect("no panic");
    }
}
