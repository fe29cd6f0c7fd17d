//! `[[input.tls]]`: RFC 5425 and RFC 9662.

use std::path::PathBuf;

use toml::Spanned;

use super::tcp::FramingName;
use super::{Plan, Settings, stream_config};
use crate::config::{Period, Scope};
use crate::net::tls::{ServerFiles, ServerTls};

stream_config! {
    pub struct Config {
        #[serde(default)]
        pub framing: FramingName,
        /// A handshake must be over in this time.
        pub handshake_timeout: Option<Period>,
        /// PEM: the server's certificate and what leads to its root.
        pub certificate: Spanned<PathBuf>,
        /// PEM: its private key.
        pub key: Spanned<PathBuf>,
        /// PEM: a client must show a certificate of one of these.
        pub client_ca: Option<Spanned<PathBuf>>,
        /// PEM: revoked certificates.
        pub crl: Option<Spanned<PathBuf>>,
        /// A client must be one of these: names, or fingerprints (`sha-256:AB:…`), for which no CA is needed.
        #[serde(default)]
        pub peers: Vec<Spanned<String>>,
    }
}

/// The same, where an input can do without TLS.
pub(super) struct Optional<'c> {
    pub(super) certificate: Option<&'c Spanned<PathBuf>>,
    pub(super) key: Option<&'c Spanned<PathBuf>>,
    pub(super) client_ca: Option<&'c Spanned<PathBuf>>,
    pub(super) crl: Option<&'c Spanned<PathBuf>>,
    pub(super) peers: &'c [Spanned<String>],
}

impl Optional<'_> {
    /// TLS where a certificate is given.
    pub(super) fn read(&self, scope: &mut Scope<'_>) -> Option<ServerTls> {
        match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => {
                let files = ServerFiles { certificate, key, client_ca: self.client_ca, crl: self.crl, peers: self.peers };
                ServerTls::read(&files).map_err(|(span, what)| scope.error(span, what)).ok()
            }
            (Some(one), None) | (None, Some(one)) => {
                scope.error(one.span(), "TLS needs both `certificate` and `key`");
                None
            }
            (None, None) => {
                let needless = self.client_ca.or(self.crl).map(Spanned::span);
                if let Some(span) = needless.or_else(|| self.peers.first().map(Spanned::span)) {
                    scope.error(span, "this is for TLS: `certificate` and `key` are missing");
                }
                None
            }
        }
    }
}

pub(super) fn plan(config: &Config, scope: &mut Scope<'_>) -> Option<Plan> {
    let files = ServerFiles {
        certificate: &config.certificate,
        key: &config.key,
        client_ca: config.client_ca.as_ref(),
        crl: config.crl.as_ref(),
        peers: &config.peers,
    };
    let tls = ServerTls::read(&files).map_err(|(span, what)| scope.error(span, what)).ok();
    Some(config.plan("tls", scope, |settings| Settings {
        framing: config.framing.into(),
        handshake: config.handshake_timeout.map_or(settings.handshake, |period| period.0),
        tls,
        ..settings
    }))
}
