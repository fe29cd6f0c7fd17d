//! Whom a certificate makes its holder (RFC 5425, section 5): fingerprints and names.

use std::net::IpAddr;

use aws_lc_rs::digest;
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// One of the option `peers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// `sha-256:AB:CD:…` or, for old peers, `sha-1:…` (RFC 5425, section 4.2.2).
    Fingerprint(Fingerprint),
    /// dNSName with an optional `*` as the whole left-most label, iPAddress, or the common name where the certificate
    /// has no subjectAltName.
    Name(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    algorithm: Algorithm,
    digest: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Sha1,
    Sha256,
}

impl Peer {
    pub fn parse(text: &str) -> Result<Self, String> {
        let (algorithm, hex, length) = match text.split_once(':') {
            Some(("sha-1", hex)) => (Algorithm::Sha1, hex, 20),
            Some(("sha-256", hex)) => (Algorithm::Sha256, hex, 32),
            _ => return name(text),
        };
        let octets: Option<Vec<u8>> =
            hex.split(':').map(|pair| u8::from_str_radix(pair, 16).ok().filter(|_| pair.len() == 2)).collect();
        match octets.filter(|octets| octets.len() == length) {
            Some(digest) => Ok(Self::Fingerprint(Fingerprint { algorithm, digest })),
            None => Err(format!("a fingerprint of this kind has {length} octets: `sha-256:AB:CD:…`")),
        }
    }

    pub fn is(&self, certificate: &CertificateDer<'_>) -> bool {
        match self {
            Self::Fingerprint(fingerprint) => fingerprint.algorithm.digest(certificate) == fingerprint.digest,
            Self::Name(name) => names(certificate).iter().any(|other| matches(name, other)),
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fingerprint(Fingerprint { algorithm: Algorithm::Sha1, digest }) => write!(f, "sha-1:{}", hex(digest)),
            Self::Fingerprint(Fingerprint { algorithm: Algorithm::Sha256, digest }) => write!(f, "sha-256:{}", hex(digest)),
            Self::Name(name) => f.write_str(name),
        }
    }
}

fn name(text: &str) -> Result<Peer, String> {
    let rest = text.strip_prefix("*.").unwrap_or(text);
    if rest.is_empty() || rest.contains('*') {
        return Err(format!("`{text}`: a star stands for the whole left-most label only (`*.example.com`)"));
    }
    Ok(Peer::Name(text.to_ascii_lowercase()))
}

impl Algorithm {
    fn digest(self, bytes: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
        };
        digest::digest(algorithm, bytes).as_ref().to_vec()
    }
}

/// `sha-256:AB:CD:…`
pub fn fingerprint(certificate: &[u8]) -> String {
    format!("sha-256:{}", hex(&Algorithm::Sha256.digest(certificate)))
}

fn hex(digest: &[u8]) -> String {
    let pairs: Vec<_> = digest.iter().map(|octet| format!("{octet:02X}")).collect();
    pairs.join(":")
}

/// The subjectAltNames of a certificate; its common name only where it has none.
fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let mut names = Vec::new();
    if let Ok(Some(alternative)) = certificate.subject_alternative_name() {
        for name in &alternative.value.general_names {
            match name {
                GeneralName::DNSName(name) => names.push(name.to_ascii_lowercase()),
                GeneralName::IPAddress(octets) => names.extend(address(octets).map(|address| address.to_string())),
                _ => {}
            }
        }
    }
    if names.is_empty() {
        let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        names.extend(common.map(str::to_ascii_lowercase));
    }
    names
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

/// Either may have a star: the administrator's list, or the certificate (RFC 5425, section 5.2).
fn matches(wanted: &str, name: &str) -> bool {
    let covers = |pattern: &str, name: &str| match (pattern.strip_prefix("*."), name.split_once('.')) {
        (Some(rest), Some((label, domain))) => !label.is_empty() && label != "*" && rest == domain,
        _ => false,
    };
    wanted == name || covers(wanted, name) || covers(name, wanted)
}

/// Who a certificate says its holder is, for the log.
pub fn subject(certificate: &CertificateDer<'_>) -> String {
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => {
            let names = names(certificate).join(", ");
            format!("subject \"{}\", names [{names}], {}", parsed.subject(), fingerprint(certificate))
        }
        Err(_) => format!("a certificate that cannot be read, {}", fingerprint(certificate)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_the_whole_left_most_label_only() {
        for (wanted, name, expected) in [
            ("*.example.com", "a.example.com", true),
            ("a.example.com", "*.example.com", true),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", "example.com", false),
            ("a.example.com", "a.example.com", true),
            ("*.example.com", "*.example.com", true),
        ] {
            assert_eq!(matches(wanted, name), expected, "{wanted} {name}");
        }
        assert!(Peer::parse("a*.example.com").is_err() && Peer::parse("*").is_err());
    }

    /// FIPS 180-2, appendices A and B.
    #[test]
    fn digests() {
        assert!(fingerprint(b"abc").starts_with("sha-256:BA:78:16:BF"));
        assert!(hex(&Algorithm::Sha1.digest(b"abc")).starts_with("A9:99:3E:36"));
    }

    #[test]
    fn fingerprints_have_their_length() {
        let text = fingerprint(b"abc");
        assert_eq!(Peer::parse(&text).map(|peer| peer.to_string()), Ok(text));
        assert!(Peer::parse("sha-256:AB").is_err() && Peer::parse("sha-1:zz").is_err());
    }
}
