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
