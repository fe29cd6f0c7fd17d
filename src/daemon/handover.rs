//! Sockets and open connections from one process to the next: by way of systemd, which keeps them through a restart, or
//! directly to a process that takes over.
//!
//! What goes along with the descriptors (whose connection it is, what has come of an unfinished message) goes by way of
//! a file with systemd, so that nothing is lost where there is no next process soon: it is then delivered as it is.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sd_notify::NotifyState;
use sendfd::{RecvWithFd, SendWithFd};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::UnixListener;

use crate::input::{ConnectionState, Given, Kept};
use crate::sys::{privilege, reason, socket};

/// All that a process leaves to the next.
#[derive(Debug, Default)]
pub(super) struct Estate {
    pub(super) sockets: Vec<OwnedFd>,
    pub(super) connections: Vec<Kept>,
}

/// All that a process has from the one before.
#[derive(Debug, Default)]
pub(super) struct Inheritance {
    pub(super) sockets: Vec<Given>,
    /// Without a descriptor where the connection has ended.
    pub(super) connections: Vec<(Option<OwnedFd>, ConnectionState)>,
}

/// The names of stored descriptors. Short: systemd passes all names in one variable, and 128 KiB is all that may have.
const CONNECTION: &str = "c";
const SOCKET: &str = "s";
/// The kernel passes 253 at a time.
const AT_A_TIME: usize = 200;
const FILE: &str = "handover";
const CONTROL: &str = "control";
const TAKE_OVER: &[u8] = b"take over\n";
/// The other process drains its queues first, for as long as its grace.
const PATIENCE: Duration = Duration::from_secs(120);

/// What stands before the descriptors on their way to a process that takes over.
#[derive(Serialize, Deserialize)]
struct Announcement {
    sockets: usize,
    connections: Vec<ConnectionState>,
}

impl Inheritance {
    /// From systemd, and what the file says about it.
    pub(super) fn from_systemd(state_dir: &Path, given: Vec<Given>) -> Self {
        let mut inheritance = Self::default();
        let mut by_cookie = HashMap::new();
        for given in given {
            match given.name.as_str() {
                CONNECTION => {
                    let fd = given.into_socket();
                    let cookie = socket::cookie(fd.as_fd()).unwrap_or(0);
                    by_cookie.insert(cookie, fd);
                }
                SOCKET => inheritance.sockets.push(Given::kept(given.into_socket())),
                _ => inheritance.sockets.push(given),
            }
        }
        let path = state_dir.join(FILE);
        let states: Vec<ConnectionState> = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::error!("{}: cannot be read: {error}; its connections are closed", path.display());
                Vec::new()
            }),
            Err(_) => Vec::new(),
        };
        let found = |state: ConnectionState| (by_cookie.remove(&state.cookie), state);
        inheritance.connections =
            states.into_iter().map(found).filter(|(fd, state)| fd.is_some() || !state.held.is_empty()).collect();
        inheritance
    }

    /// Ours now: systemd's copies would keep connections open that we close, and the file would be read once more.
    pub(super) fn accept(state_dir: &Path, keep_descriptors: bool) {
        for name in [CONNECTION, SOCKET].into_iter().filter(|_| keep_descriptors) {
            let _ = sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
        }
        let _ = fs::remove_file(state_dir.join(FILE));
    }

    /// From the process that runs now; it ends. None: there is none.
    pub(super) fn take_over(state_dir: &Path) -> io::Result<Option<Self>> {
        let mut stream = match UnixStream::connect(state_dir.join(CONTROL)) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => return Ok(None),
            Err(error) => return Err(error),
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(TAKE_OVER)?;
        let mut length = [0; 8];
        stream.read_exact(&mut length)?;
        let mut bytes = vec![0; usize::try_from(u64::from_le_bytes(length)).map_err(io::Error::other)?];
        stream.read_exact(&mut bytes)?;
        let Announcement { sockets, connections } = serde_json::from_slice(&bytes).map_err(io::Error::other)?;
        let mut fds = receive(&stream, sockets + connections.len())?;
        let of_connections = fds.split_off(sockets);
        Ok(Some(Self {
            sockets: fds.into_iter().map(Given::kept).collect(),
            connections: of_connections.into_iter().map(Some).zip(connections).collect(),
        }))
    }
}

impl Estate {
    /// Systemd keeps the descriptors until the next start, or until the unit has stopped altogether.
    pub(super) fn leave_to_systemd(self, state_dir: &Path) -> io::Result<()> {
        let states: Vec<_> = self.connections.iter().map(|kept| &kept.state).collect();
        let bytes = serde_json::to_vec(&states).map_err(io::Error::other)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
        let path = state_dir.join(FILE);
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(&bytes)?;
        let connections: Vec<_> = self.connections.iter().map(|kept| kept.fd.as_fd()).collect();
        let sockets: Vec<_> = self.sockets.iter().map(AsFd::as_fd).collect();
        for (name, fds) in [(CONNECTION, connections), (SOCKET, sockets)] {
            for some in fds.chunks(AT_A_TIME) {
                // One whose peer has closed may still have something to say.
                let states = [NotifyState::FdStore, NotifyState::FdName(name), NotifyState::Custom("FDPOLL=0")];
                sd_notify::notify_with_fds(&states, some)?;
            }
        }
        Ok(())
    }

    /// To the process that has asked for it.
    pub(super) fn leave_to(self, mut stream: UnixStream) -> io::Result<()> {
        let (fds, states): (Vec<_>, Vec<_>) = self.connections.into_iter().map(|kept| (kept.fd, kept.state)).unzip();
        let announcement = Announcement { sockets: self.sockets.len(), connections: states };
        let bytes = serde_json::to_vec(&announcement).map_err(io::Error::other)?;
        stream.write_all(&(bytes.len() as u64).to_le_bytes())?;
        stream.write_all(&bytes)?;
        let all: Vec<_> = self.sockets.iter().chain(&fds).map(AsRawFd::as_raw_fd).collect();
        for some in all.chunks(AT_A_TIME) {
            stream.send_with_fd(&[0], some)?;
        }
        // The other one has them when it has said so, by closing.
        stream.shutdown(std::net::Shutdown::Write)?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    }
}

fn receive(stream: &UnixStream, count: usize) -> io::Result<Vec<OwnedFd>> {
    let mut fds = Vec::new();
    while fds.len() < count {
        let mut raw = [-1; AT_A_TIME];
        let (bytes, came) = stream.recv_with_fd(&mut [0], &mut raw)?;
        fds.extend(raw[..came].iter().filter_map(|fd| socket::inherited(*fd)));
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(fds)
}

/// Where a process that wants to take over says so.
pub(super) struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// None where there is no place for it: then nobody can take over.
    pub(super) fn open(state_dir: &Path) -> Option<Self> {
        let path = state_dir.join(CONTROL);
        let opened = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
            match UnixStream::connect(&path) {
                Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another server uses it")),
                Err(_) => drop(fs::remove_file(&path)),
            }
            UnixListener::bind(&path)
        };
        match opened() {
            Ok(listener) => Some(Self { listener, path }),
            Err(error) => {
                tracing::debug!("nobody can take over: {}: {}", path.display(), reason(&error));
                None
            }
        }
    }

    /// Returns when somebody who may has asked for it.
    pub(super) async fn asked(&self) -> UnixStream {
        loop {
            let Ok((mut stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            };
            let allowed = stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || privilege::is_own(peer.uid()));
            let mut words = [0; TAKE_OVER.len()];
            let asked = tokio::time::timeout(Duration::from_secs(1), stream.read_exact(&mut words)).await;
            if allowed
                && matches!(asked, Ok(Ok(_)))
                && words == TAKE_OVER
                && let Ok(stream) = stream.into_std()
                && stream.set_nonblocking(false).is_ok()
            {
                return stream;
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
