//! `[[input.tcp]]`: RFC 6587, with the framing found for each frame.

use std::net::SocketAddr;

use super::{Plan, Settings, Transport, input_config};
use crate::config::{Address, Network, Period, Scope};
use crate::frame::Framing;

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
    }
}

/// `auto`, `newline`, `nul` or `octet-counted`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FramingName {
    #[default]
    Auto,
    Newline,
    Nul,
    OctetCounted,
}

impl From<FramingName> for Framing {
    fn from(name: FramingName) -> Self {
        match name {
            FramingName::Auto => Self::Auto,
            FramingName::Newline => Self::Newline,
            FramingName::Nul => Self::Nul,
            FramingName::OctetCounted => Self::OctetCounted,
        }
    }
}

pub(super) fn plan(config: &Config, scope: &mut Scope<'_>) -> Option<Plan> {
    let settings = config.settings(scope);
    let settings = Settings {
        framing: config.framing.into(),
        allow: config.allow.iter().map(|network| network.0).collect(),
        max_connections: config.max_connections.unwrap_or(settings.max_connections),
        idle: config.idle_timeout.map(|period| period.0),
        ..settings
    };
    Some(Plan {
        name: config.name.as_str().into(),
        kind: "tcp",
        transport: Transport::Stream,
        address: Address::Ip(config.listen),
        permissions: (0, None, None),
        settings,
    })
}
