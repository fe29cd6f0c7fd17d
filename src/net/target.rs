//! Targets as URLs: `udp://host:port`, `tcp://…`, `tls://…`, `unix:///path`.

use std::fmt;
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub scheme: Scheme,
    pub place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Tcp,
    Tls,
    Udp,
    /// RELP, with acknowledgements.
    Relp,
    /// RELP over TLS.
    Relps,
    /// A datagram or stream socket, whichever is there.
    Unix,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Host { host: String, port: u16 },
    Path(PathBuf),
}

const SCHEMES: [(&str, Scheme); 6] = [
    ("tcp", Scheme::Tcp),
    ("tls", Scheme::Tls),
    ("udp", Scheme::Udp),
    ("relp", Scheme::Relp),
    ("relps", Scheme::Relps),
    ("unix", Scheme::Unix),
];

/// No registry names one; this is the one that is used.
const RELP_PORT: u16 = 2514;

impl Scheme {
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Relps)
    }

    pub fn is_relp(self) -> bool {
        matches!(self, Self::Relp | Self::Relps)
    }
}

impl Target {
    /// The port is 514 (RFC 5426), 6514 (RFC 5425) or 2514 (RELP) where none is named.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("`{text}` is no target: `tls://relay.example.com:6514` is expected"));
        };
        let Some((_, scheme)) = SCHEMES.iter().find(|(name, _)| *name == scheme) else {
            let names = SCHEMES.map(|(name, _)| name);
            return Err(format!("no transport is called `{scheme}`{}", crate::template::did_you_mean(scheme, names)));
        };
        let place = match scheme {
            Scheme::Unix if rest.starts_with('/') => Place::Path(rest.into()),
            Scheme::Unix => return Err(format!("`{text}` has no absolute path: `unix:///dev/log` is expected")),
            Scheme::Tls => host(rest, 6514)?,
            Scheme::Tcp | Scheme::Udp => host(rest, 514)?,
            Scheme::Relp | Scheme::Relps => host(rest, RELP_PORT)?,
        };
        Ok(Self { scheme: *scheme, place })
    }
}

/// `name`, `name:port`, `1.2.3.4:port`, `[::1]:port`, `::1`.
fn host(text: &str, default: u16) -> Result<Place, String> {
    let text = text.trim_end_matches('/');
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').unwrap_or(rest))),
        None if text.matches(':').count() > 1 => (text, None),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("`{port}` is no port"))?,
        None => default,
    };
    if host.is_empty() || host.contains(['/', '@', ' ']) {
        return Err(format!("`{text}` names no host"));
    }
    Ok(Place::Host { host: host.to_owned(), port })
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = SCHEMES.iter().find(|(_, scheme)| *scheme == self.scheme).map_or("", |(name, _)| name);
        match &self.place {
            Place::Host { host, port } if host.contains(':') => write!(f, "{name}://[{host}]:{port}"),
            Place::Host { host, port } => write!(f, "{name}://{host}:{port}"),
            Place::Path(path) => write!(f, "{name}://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_urls() {
        for (text, shown) in [
            ("udp://10.0.0.1", "udp://10.0.0.1:514"),
            ("tls://relay.example.com", "tls://relay.example.com:6514"),
            ("tcp://[::1]:601", "tcp://[::1]:601"),
            ("tcp://::1", "tcp://[::1]:514"),
            ("unix:///dev/log", "unix:///dev/log"),
        ] {
            assert_eq!(Target::parse(text).map(|target| target.to_string()), Ok(shown.to_owned()));
        }
        for (text, what) in [
            ("relay:514", "`relay:514` is no target"),
            ("tsl://x", "no transport is called `tsl`: did you mean `tls`?"),
            ("tcp://x:0", "`0` is no port"),
            ("tcp://", "`` names no host"),
            ("unix://dev/log", "`unix://dev/log` has no absolute path"),
        ] {
            assert!(Target::parse(text).is_err_and(|error| error.starts_with(what)), "{text}");
        }
    }
}
