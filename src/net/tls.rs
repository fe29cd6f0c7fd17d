//! TLS 1.2 and 1.3 (RFC 5425, RFC 9662), server and client: files → configurations, and handshakes with a deadline.
//!
//! No session tickets: a sender that closes without having read them would be reset by its own kernel, and what it had
//! in flight would be lost.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore, ServerConfig,
    SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use toml::Spanned;

use super::peers::{Peer, subject};
use crate::sys::reason;

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
type Wrong = (Range<usize>, String);

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

fn contents(path: &Spanned<PathBuf>) -> Result<String, Wrong> {
    std::fs::read_to_string(path.as_ref())
        .map_err(|error| (path.span(), format!("{}: {}", path.as_ref().display(), reason(&error))))
}

/// The only use of rustls-pemfile: a list of what the file holds.
fn items(path: &Spanned<PathBuf>) -> Result<Vec<rustls_pemfile::Item>, Wrong> {
    let text = contents(path)?;
    rustls_pemfile::read_all(&mut text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| (path.span(), format!("{} is not PEM: {error}", path.as_ref().display())))
}

fn certificates(path: &Spanned<PathBuf>) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let chain: Vec<_> = items(path)?
        .into_iter()
        .filter_map(|item| match item {
            rustls_pemfile::Item::X509Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    if chain.is_empty() { Err((path.span(), format!("{} holds no certificate", path.as_ref().display()))) } else { Ok(chain) }
}

fn key(path: &Spanned<PathBuf>) -> Result<PrivateKeyDer<'static>, Wrong> {
    let key = items(path)?.into_iter().find_map(|item| match item {
        rustls_pemfile::Item::Pkcs1Key(key) => Some(key.into()),
        rustls_pemfile::Item::Pkcs8Key(key) => Some(key.into()),
        rustls_pemfile::Item::Sec1Key(key) => Some(key.into()),
        _ => None,
    });
    key.ok_or_else(|| (path.span(), format!("{} holds no private key", path.as_ref().display())))
}

fn roots(path: &Spanned<PathBuf>) -> Result<RootCertStore, Wrong> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| (path.span(), format!("{}: {error}", path.as_ref().display())))?;
    }
    Ok(roots)
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn crls(path: Option<&Spanned<PathBuf>>) -> Result<Vec<CertificateRevocationListDer<'static>>, Wrong> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let found = items(path)?.into_iter().filter_map(|item| match item {
        rustls_pemfile::Item::Crl(crl) => Some(crl),
        _ => None,
    });
    let lists: Vec<_> = found.collect();
    if lists.is_empty() {
        return Err((path.span(), format!("{} holds no revocation list", path.as_ref().display())));
    }
    Ok(lists)
}

fn peers(written: &[Spanned<String>]) -> Result<Vec<Peer>, Wrong> {
    written.iter().map(|text| Peer::parse(text.as_ref()).map_err(|what| (text.span(), what))).collect()
}

/// None: clients need no certificate.
fn client_verifier(files: &ServerFiles<'_>) -> Result<Option<Arc<dyn ClientCertVerifier>>, Wrong> {
    let peers = peers(files.peers)?;
    let Some(ca) = files.client_ca else {
        if let Some((i, _)) = peers.iter().enumerate().find(|(_, peer)| matches!(peer, Peer::Name(_))) {
            return Err((
                files.peers[i].span(),
                "a name needs a `client-ca` that vouches for it; only fingerprints do without".to_owned(),
            ));
        }
        let path = None;
        return Ok(if peers.is_empty() { None } else { Some(Arc::new(Verifier { path, peers })) });
    };
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), PROVIDER.clone())
        .with_crls(crls(files.crl)?)
        .allow_unknown_revocation_status()
        .build()
        .map_err(|error| unusable(&error, ca, files.crl))?;
    Ok(Some(Arc::new(Verifier { path: Some(verifier), peers })))
}

fn unusable(error: &VerifierBuilderError, ca: &Spanned<PathBuf>, crl: Option<&Spanned<PathBuf>>) -> Wrong {
    match (error, crl) {
        (VerifierBuilderError::InvalidCrl(_), Some(crl)) => (
            crl.span(),
            format!("{} cannot be used: version 2 of RFC 5280, section 5, is needed, with its number", crl.as_ref().display()),
        ),
        _ => (ca.span(), format!("{} cannot be used: it holds no CA", ca.as_ref().display())),
    }
}

/// By path, and then by name or fingerprint; a fingerprint alone where there is no CA.
#[derive(Debug)]
struct Verifier {
    path: Option<Arc<dyn ClientCertVerifier>>,
    peers: Vec<Peer>,
}

impl Verifier {
    fn check_peer(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        if self.peers.is_empty() || self.peers.iter().any(|peer| peer.is(certificate)) {
            return Ok(());
        }
        Err(refused(certificate, &format!("not one of the peers expected: {}", listed(&self.peers))))
    }
}

fn listed(peers: &[Peer]) -> String {
    let texts: Vec<_> = peers.iter().map(Peer::to_string).collect();
    texts.join(", ")
}

/// An error that says whose certificate it was.
fn refused(certificate: &CertificateDer<'_>, why: &str) -> rustls::Error {
    let text = format!("{why}; it showed {}", subject(certificate));
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Refusal(text)))))
}

#[derive(Debug)]
struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// What a verifier of rustls did not like.
fn why_not(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired".to_owned()
        }
        rustls::Error::InvalidCertificate(CertificateError::Revoked) => "its certificate is revoked (crl)".to_owned(),
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "no CA expected here has signed its certificate".to_owned()
        }
        rustls::Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            "its certificate is not valid yet".to_owned()
        }
        other => other.to_string(),
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.path.as_ref().map_or(&[], |path| path.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if let Some(path) = &self.path {
            path.verify_client_cert(end_entity, intermediates, now).map_err(|error| refused(end_entity, &why_not(&error)))?;
        }
        self.check_peer(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &PROVIDER.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &PROVIDER.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}

fn server_verifier(roots: RootCertStore, peers: Vec<Peer>, files: &ClientFiles<'_>) -> Result<TargetVerifier, Wrong> {
    let span = files.ca.map_or(0..0, |ca| ca.span());
    let path = match WebPkiServerVerifier::builder_with_provider(Arc::new(roots), PROVIDER.clone()).build() {
        Ok(verifier) => Some(verifier),
        // Without any root only a fingerprint can vouch for the server.
        Err(_) if peers.iter().any(|peer| matches!(peer, Peer::Fingerprint(_))) => None,
        Err(error) => return Err((span, format!("no CA to check the server with: {error}"))),
    };
    Ok(TargetVerifier { path, peers })
}

/// A server is who a fingerprint says, or has a path to a root and the right name: one of `peers`, or the target's own.
#[derive(Debug)]
struct TargetVerifier {
    path: Option<Arc<WebPkiServerVerifier>>,
    peers: Vec<Peer>,
}

impl ServerCertVerifier for TargetVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let named = self.peers.iter().find(|peer| peer.is(end_entity));
        if matches!(named, Some(Peer::Fingerprint(_))) {
            return Ok(ServerCertVerified::assertion());
        }
        let Some(path) = &self.path else {
            return Err(refused(end_entity, &format!("not one of the peers expected: {}", listed(&self.peers))));
        };
        match path.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Ok(verified) if self.peers.is_empty() || named.is_some() => Ok(verified),
            Ok(_) => Err(refused(end_entity, &format!("not one of the peers expected: {}", listed(&self.peers)))),
            // The path is good, the target's own name is not in it: `peers` may allow another.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => match named {
                Some(_) => Ok(ServerCertVerified::assertion()),
                None => Err(refused(end_entity, &format!("its certificate is not for `{}`", server_name.to_str()))),
            },
            Err(error) => Err(refused(end_entity, &why_not(&error))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &PROVIDER.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &PROVIDER.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}

/// A path without its span, for callers that have no configuration file.
pub fn path(path: &Path) -> Spanned<PathBuf> {
    Spanned::new(0..0, path.to_owned())
}
