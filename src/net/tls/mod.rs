//! TLS 1.2 and 1.3 (RFC 5425, RFC 9662), server and client: files → configurations, and handshakes with a deadline.
//!
//! No session tickets: a sender that closes without having read them would be reset by its own kernel, and what it had
//! in flight would be lost.

mod pem;
mod verify;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use toml::Spanned;

use super::peers::Peer;
use crate::sys::reason;

use pem::{certificates, contents, key, roots, system_roots};

pub use pem::{public_key, signing_key};
use verify::{client_verifier, server_verifier};

/// Named once and passed explicitly: nothing depends on a process-wide default.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));

/// The options of an input.
pub struct ServerFiles<'c> {
    pub certificate: &'c Spanned<PathBuf>,
    pub key: &'c Spanned<PathBuf>,
    pub client_ca: Option<&'c Spanned<PathBuf>>,
    pub crl: Option<&'c Spanned<PathBuf>>,
    pub peers: &'c [Spanned<String>],
}

/// The options of an output.
pub struct ClientFiles<'c> {
    /// The system's roots where it is not given.
    pub ca: Option<&'c Spanned<PathBuf>>,
    pub certificate: Option<&'c Spanned<PathBuf>>,
    pub key: Option<&'c Spanned<PathBuf>>,
    /// Whom the server must prove to be; the target's own name where empty.
    pub peers: &'c [Spanned<String>],
}

#[derive(Clone)]
pub struct ServerTls(Arc<ServerConfig>);

#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    /// Grows out of everything that was read: two of the same print are the same.
    print: String,
}

/// Where a value stands, and what is wrong with it.
pub type Wrong = (Range<usize>, String);

impl ServerTls {
    pub fn read(files: &ServerFiles<'_>) -> Result<Self, Wrong> {
        let builder = ServerConfig::builder_with_provider(PROVIDER.clone())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| (files.certificate.span(), error.to_string()))?;
        let builder = match client_verifier(files)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let chain = certificates(files.certificate)?;
        let mut config = builder
            .with_single_cert(chain, key(files.key)?)
            .map_err(|error| (files.key.span(), format!("the key does not go with the certificate: {error}")))?;
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        Ok(Self(Arc::new(config)))
    }
}

impl ServerTls {
    /// The client chooses between HTTP/2 and HTTP/1.1 (RFC 7301).
    pub fn for_http(self) -> Self {
        let mut config = ServerConfig::clone(&self.0);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self(Arc::new(config))
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls")
    }
}

impl ClientTls {
    pub fn read(files: &ClientFiles<'_>) -> Result<Self, Wrong> {
        let roots = match files.ca {
            Some(path) => roots(path)?,
            None => system_roots(),
        };
        let mut print = format!("{} roots", roots.len());
        if let Some(path) = files.ca {
            print += &contents(path)?;
        }
        let peers = peers(files.peers)?;
        print += &format!("{peers:?}");
        let verifier = server_verifier(roots, peers, files)?;
        let builder = ClientConfig::builder_with_provider(PROVIDER.clone())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| (0..0, error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match (files.certificate, files.key) {
            (Some(certificate), Some(key_file)) => {
                print += &contents(certificate)?;
                print += &contents(key_file)?;
                builder
                    .with_client_auth_cert(certificates(certificate)?, key(key_file)?)
                    .map_err(|error| (key_file.span(), format!("the key does not go with the certificate: {error}")))?
            }
            (Some(alone), None) | (None, Some(alone)) => {
                return Err((alone.span(), "`certificate` and `key` go together".to_owned()));
            }
            (None, None) => builder.with_no_client_auth(),
        };
        Ok(Self { config: Arc::new(config), print: crate::net::peers::fingerprint(print.as_bytes()) })
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.print)
    }
}

/// The server's side of a handshake; what went wrong is said as an administrator needs it.
pub async fn accept(stream: TcpStream, server: &ServerTls, deadline: Duration) -> Result<server::TlsStream<TcpStream>, String> {
    let handshake = async {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(0) => return Err("it closed before the TLS handshake".to_owned()),
            Ok(_) if first[0] != 0x16 => return Err("it speaks plain text to a TLS port".to_owned()),
            Ok(_) => {}
            Err(error) => return Err(reason(&error)),
        }
        TlsAcceptor::from(server.0.clone()).accept(stream).await.map_err(|error| explained(&error))
    };
    match timeout(deadline, handshake).await {
        Ok(result) => result,
        Err(_) => Err(format!("the TLS handshake was not over within {} seconds", deadline.as_secs_f32())),
    }
}

/// The client's side of a handshake.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    host: &str,
    tls: &ClientTls,
) -> Result<client::TlsStream<S>, String> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("`{host}` is no name for a TLS server"))?;
    TlsConnector::from(tls.config.clone()).connect(name, stream).await.map_err(|error| explained(&error))
}

/// What rustls says, in words that lead to the cause.
fn explained(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(other))) => other.to_string(),
        Some(rustls::Error::NoCertificatesPresented) => {
            "it showed no certificate, and one is required (client-ca, peers)".to_owned()
        }
        Some(rustls::Error::AlertReceived(alert)) => format!("the other side refused: TLS alert {alert:?}"),
        Some(rustls::Error::InvalidMessage(_)) => "it does not speak TLS".to_owned(),
        Some(rustls::Error::PeerIncompatible(why)) => {
            format!("nothing in common: {why:?}; TLS 1.2 with ECDHE or TLS 1.3 is needed")
        }
        Some(other) => other.to_string(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "it closed in the middle of the TLS handshake".to_owned(),
        None => reason(error),
    }
}

fn peers(written: &[Spanned<String>]) -> Result<Vec<Peer>, Wrong> {
    written.iter().map(|text| Peer::parse(text.as_ref()).map_err(|what| (text.span(), what))).collect()
}

/// A path without its span, for callers that have no configuration file.
pub fn path(path: &Path) -> Spanned<PathBuf> {
    Spanned::new(0..0, path.to_owned())
}
