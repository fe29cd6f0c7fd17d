//! `[[input.unix]]`: what `/dev/log` is, and Python's default target; datagrams or a stream.

use std::path::PathBuf;

use toml::Spanned;

use super::tcp::FramingName;
use super::{Plan, Settings, Transport, input_config};
use crate::config::{Address, Mode, Period, Scope};

input_config! {
    pub struct Config {
        pub listen: PathBuf,
        #[serde(default)]
        pub kind: Kind,
        /// Everybody may write where it is not given.
        pub mode: Option<Mode>,
        pub owner: Option<Spanned<String>>,
        pub group: Option<Spanned<String>>,
        #[serde(default)]
        pub framing: FramingName,
        pub max_connections: Option<usize>,
        /// A connection that is silent for so long is closed; never where it is not given.
        pub idle_timeout: Option<Period>,
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    #[default]
    Datagram,
    Stream,
}

pub(super) fn plan(config: &Config, scope: &mut Scope<'_>) -> Option<Plan> {
    let settings = config.settings(scope);
    let settings = Settings {
        framing: config.framing.into(),
        max_connections: config.max_connections.unwrap_or(settings.max_connections),
        idle: config.idle_timeout.map(|period| period.0),
        ..settings
    };
    let owner = scope.user(config.owner.as_ref()).map(|user| user.uid);
    let group = scope.group(config.group.as_ref());
    Some(Plan {
        name: config.name.as_str().into(),
        kind: "unix",
        transport: match config.kind {
            Kind::Datagram => Transport::Datagram,
            Kind::Stream => Transport::Stream,
        },
        address: Address::Path(config.listen.clone()),
        permissions: (config.mode.map_or(0o666, |mode| mode.0), owner, group),
        settings,
    })
}
