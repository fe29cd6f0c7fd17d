//! `[[input.udp]]`: RFC 5426. A socket for each thread; the kernel deals senders out among them.

use std::net::SocketAddr;

use super::{Plan, Settings, Transport, input_config};
use crate::config::{Address, Network, Scope, Size};

input_config! {
    pub struct Config {
        pub listen: SocketAddr,
        /// Datagrams of others are counted and forgotten; empty: everybody's are taken.
        #[serde(default)]
        pub allow: Vec<Network>,
        /// The kernel's, of each socket; what it grants may be less (net.core.rmem_max).
        pub receive_buffer: Option<Size>,
    }
}

pub(super) fn plan(config: &Config, scope: &mut Scope<'_>) -> Option<Plan> {
    let settings = config.settings(scope);
    let settings = Settings {
        allow: config.allow.iter().map(|network| network.0).collect(),
        receive_buffer: config.receive_buffer.map_or(settings.receive_buffer, |size| size.0),
        max_message: config.max_message.as_ref().map_or(65536, |_| settings.max_message),
        ..settings
    };
    Some(Plan {
        name: config.name.as_str().into(),
        kind: "udp",
        transport: Transport::Datagram,
        address: Address::Ip(config.listen),
        permissions: (0, None, None),
        settings,
    })
}
