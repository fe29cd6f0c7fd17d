//! `[[input.tcp]]`: RFC 6587, with the framing found for each frame.

use super::{Plan, Settings, stream_config};
use crate::config::Scope;
use crate::frame::Framing;

stream_config! {
    pub struct Config {
        #[serde(default)]
        pub framing: FramingName,
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
    Some(config.plan("tcp", scope, |settings| Settings { framing: config.framing.into(), ..settings }))
}
