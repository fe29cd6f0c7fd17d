//! What systemd gives and wants to know: sockets, readiness, the watchdog. Without systemd all of it does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::input::Given;
use crate::sys::socket;

/// Asked once, at the start.
pub(super) fn given_sockets() -> Vec<Given> {
    let Ok(listed) = sd_notify::listen_fds_with_names() else {
        return Vec::new();
    };
    listed.filter_map(|(fd, name)| Some(Given::new(name, socket::inherited(fd)?))).collect()
}

/// A supervisor that does not listen is none of our business.
fn notify(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}

pub(super) fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

pub(super) fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("delivering what is left")]);
}

pub(super) fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// How often to say that all is well: twice as often as systemd asks.
pub(super) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|time| time / 2)
}
