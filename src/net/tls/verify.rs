//! Who a peer must be: a path to a CA, a name, a fingerprint (RFC 5425, sections 4.2 and 5).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{
    self, CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore, SignatureScheme,
};
use toml::Spanned;

use super::pem::{crls, roots};
use super::{ClientFiles, PROVIDER, ServerFiles, Wrong, peers};
use crate::net::peers::{Peer, subject};

/// How signatures are verified is the provider's business, on both sides.
macro_rules! signatures {
    () => {
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
    };
}

/// None: clients need no certificate.
pub(super) fn client_verifier(files: &ServerFiles<'_>) -> Result<Option<Arc<dyn ClientCertVerifier>>, Wrong> {
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

    signatures!();
}

pub(super) fn server_verifier(roots: RootCertStore, peers: Vec<Peer>, files: &ClientFiles<'_>) -> Result<TargetVerifier, Wrong> {
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
pub(super) struct TargetVerifier {
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

    signatures!();
}
