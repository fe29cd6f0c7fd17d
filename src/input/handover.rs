//! Open connections that go from one process to the next, with the beginning of a message where one has come.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use crate::frame::Saved;

/// A connection and what has been found out about it.
#[derive(Debug)]
pub struct Kept {
    pub fd: OwnedFd,
    pub state: ConnectionState,
}

/// JSON between processes that may be of different versions: what one of them does not know is passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ConnectionState {
    /// SO_COOKIE: the same in every process.
    pub cookie: u64,
    /// The input's name.
    pub input: String,
    pub peer: Option<IpAddr>,
    pub framer: Saved,
    /// What has come of a message that is not whole.
    pub held: Vec<u8>,
}

/// A stream of which only the descriptor matters can go to another process; a TLS session cannot.
pub(super) trait Keep: AsyncRead + AsyncWrite + Unpin {
    const KEEPABLE: bool;

    fn keep(self) -> Option<OwnedFd>;
}

impl Keep for TcpStream {
    const KEEPABLE: bool = true;

    fn keep(self) -> Option<OwnedFd> {
        self.into_std().ok().map(OwnedFd::from)
    }
}

impl Keep for UnixStream {
    const KEEPABLE: bool = true;

    fn keep(self) -> Option<OwnedFd> {
        self.into_std().ok().map(OwnedFd::from)
    }
}

impl Keep for TlsStream<TcpStream> {
    const KEEPABLE: bool = false;

    fn keep(self) -> Option<OwnedFd> {
        None
    }
}

/// A connection that did not come along: what it had sent is all there is.
impl Keep for tokio::io::Join<tokio::io::Empty, tokio::io::Sink> {
    const KEEPABLE: bool = false;

    fn keep(self) -> Option<OwnedFd> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_may_say_more_or_less() {
        let state = ConnectionState { cookie: 7, input: "tcp".to_owned(), held: b"<14>h\xff".to_vec(), ..Default::default() };
        let text = serde_json::to_string(&state).expect("JSON");
        assert_eq!(serde_json::from_str::<ConnectionState>(&text).expect("the same"), state);
        let more = text.replacen('{', "{\"later\":{\"than\":1},", 1).replace("\"nul\":false,", "\"new\":[],");
        assert_eq!(serde_json::from_str::<ConnectionState>(&more).expect("what is known"), state);
        let less = serde_json::from_str::<ConnectionState>("{\"cookie\":7,\"input\":\"tcp\"}").expect("what is there");
        assert_eq!(less, ConnectionState { held: Vec::new(), ..state });
    }
}
