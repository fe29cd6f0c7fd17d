//! PEM files → certificates, keys and revocation lists; what is wrong is said with the file's name.

use std::path::PathBuf;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use toml::Spanned;

use super::Wrong;
use crate::sys::reason;

pub(super) fn contents(path: &Spanned<PathBuf>) -> Result<String, Wrong> {
    std::fs::read_to_string(path.as_ref())
        .map_err(|error| (path.span(), format!("{}: {}", path.as_ref().display(), reason(&error))))
}

/// The only use of rustls-pemfile: a list of what the file holds.
pub(super) fn items(path: &Spanned<PathBuf>) -> Result<Vec<rustls_pemfile::Item>, Wrong> {
    let text = contents(path)?;
    rustls_pemfile::read_all(&mut text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| (path.span(), format!("{} is not PEM: {error}", path.as_ref().display())))
}

pub(super) fn certificates(path: &Spanned<PathBuf>) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let chain: Vec<_> = items(path)?
        .into_iter()
        .filter_map(|item| match item {
            rustls_pemfile::Item::X509Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    if chain.is_empty() { Err((path.span(), format!("{} holds no certificate", path.as_ref().display()))) } else { Ok(chain) }
}

pub(super) fn key(path: &Spanned<PathBuf>) -> Result<PrivateKeyDer<'static>, Wrong> {
    let key = items(path)?.into_iter().find_map(|item| match item {
        rustls_pemfile::Item::Pkcs1Key(key) => Some(key.into()),
        rustls_pemfile::Item::Pkcs8Key(key) => Some(key.into()),
        rustls_pemfile::Item::Sec1Key(key) => Some(key.into()),
        _ => None,
    });
    key.ok_or_else(|| (path.span(), format!("{} holds no private key", path.as_ref().display())))
}

/// The private key of a signature, in PKCS#8.
pub fn signing_key(path: &Spanned<PathBuf>) -> Result<Vec<u8>, Wrong> {
    match key(path)? {
        PrivateKeyDer::Pkcs8(key) => Ok(key.secret_pkcs8_der().to_vec()),
        _ => Err((path.span(), format!("{} is not in PKCS#8 (`BEGIN PRIVATE KEY`)", path.as_ref().display()))),
    }
}

/// A public key (SubjectPublicKeyInfo), in DER; None where the file holds something else.
pub fn public_key(path: &Spanned<PathBuf>) -> Result<Option<Vec<u8>>, Wrong> {
    Ok(items(path)?.into_iter().find_map(|item| match item {
        rustls_pemfile::Item::SubjectPublicKeyInfo(key) => Some(key.to_vec()),
        _ => None,
    }))
}

pub(super) fn roots(path: &Spanned<PathBuf>) -> Result<RootCertStore, Wrong> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| (path.span(), format!("{}: {error}", path.as_ref().display())))?;
    }
    Ok(roots)
}

pub(super) fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

pub(super) fn crls(path: Option<&Spanned<PathBuf>>) -> Result<Vec<CertificateRevocationListDer<'static>>, Wrong> {
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
