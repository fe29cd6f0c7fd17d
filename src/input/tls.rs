//! `[[input.tls]]`: RFC 5425 and RFC 9662.

use std::net::SocketAddr;
use std::path::PathBuf;

use toml::Spanned;

use super::tcp::FramingName;
use super::{Plan, Settings, Transport, input_config};
use crate::config::{Address, Network, Period, Scope};
use crate::net::tls::{ServerFiles, ServerTls};

input_config! {
    pub struct Config {
        pub listen: SocketAddr,
        #[serde(default)]
        pub framing: FramingName,
        /// Connections of others are closed; empty: everybody may come.
        #[serde(default)]
        pub allow: Vec<Network>,
        pub max_connections: Option<usize>,
        /// A connection that is silent for so long is closed; never where it is not given.
        pub idle_timeout: Option<Period>,
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
    let settings = config.settings(scope);
    let files = ServerFiles {
        certificate: &config.certificate,
        key: &config.key,
        client_ca: config.client_ca.as_ref(),
        crl: config.crl.as_ref(),
        peers: &config.peers,
    };
    let tls = ServerTls::read(&files).map_err(|(span, what)| scope.error(span, what)).ok()?;
    let settings = Settings {
        framing: config.framing.into(),
        allow: config.allow.iter().map(|network| network.0).collect(),
        max_connections: config.max_connections.unwrap_or(settings.max_connections),
        idle: config.idle_timeout.map(|period| period.0),
        handshake: config.handshake_timeout.map_or(settings.handshake, |period| period.0),
        tls: Some(tls),
        ..settings
    };
    Some(Plan {
        name: config.name.as_str().into(),
        kind: "tls",
        transport: Transport::Stream,
        address: Address::Ip(config.listen),
        permissions: (0, None, None),
        settings,
    })
}
