//! Inputs: sockets → batches. A kind is one file with a `Config` and a `plan`, and one word in the list below.

mod bind;
mod datagram;
mod handover;
mod listener;
mod names;
mod source;
mod stream;
mod worker;

use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use crate::config::{Address, Scope};
use crate::frame::Framing;
use crate::message::{Facility, Frame, Priority, Zone};
use crate::metrics::{InputCounters, Limited};
use crate::net::tls::ServerTls;
use crate::route;
use crate::translate;

pub use handover::{ConnectionState, Kept};
pub use listener::{Given, Opened, open, resume};
pub use names::Names;
pub use worker::{Worker, Workers};

/// Registers the kinds: their tables in the configuration, and their plans.
macro_rules! kinds {
    ($($kind:ident),*) => {
        $(mod $kind;)*

        /// `[[input.KIND]]`, as written.
        #[derive(Debug, Default, serde::Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        pub struct Configs {
            $(#[serde(default)] $kind: Vec<toml::Spanned<$kind::Config>>,)*
        }

        impl Configs {
            /// Each with where it stands; None where something is wrong and has been said.
            pub fn plan(&self, scope: &mut Scope<'_>) -> Vec<(Range<usize>, Option<Plan>)> {
                let mut plans = Vec::new();
                $(for config in &self.$kind {
                    plans.push((config.span(), $kind::plan(config.as_ref(), scope)));
                })*
                plans
            }
        }
    };
}

kinds!(file, http, journal, kmsg, python, relp, tcp, tls, udp, unix);

/// A kind's own options, and those that all kinds have.
macro_rules! input_config {
    ($(#[$doc:meta])* pub struct Config { $($(#[$field_doc:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        pub struct Config {
            $($(#[$field_doc])* pub $field: $type,)*
            /// The label in metrics, and the name of a socket handed over by systemd.
            #[serde(default)]
            pub name: String,
            /// The zone of timestamps that name none.
            pub timezone: Option<crate::config::TimeZone>,
            /// A leading `2026-11-20 21:14:26,171` is the timestamp of a message without header.
            #[serde(default)]
            pub asctime: bool,
            /// `postfix/smtpd` is the app name; otherwise `postfix`.
            #[serde(default)]
            pub app_name_slashes: bool,
            /// Whether the message or its peer says which host it is from.
            #[serde(default)]
            pub hostname: crate::input::HostnameFrom,
            /// Whether the message says when it was, or the time of its receipt is taken.
            #[serde(default)]
            pub timestamp: crate::input::TimestampFrom,
            /// Repetitions of a message may be counted instead of kept.
            #[serde(default)]
            pub repeats: crate::route::Repetitions,
            /// Lines that belong together become one message.
            pub join: Option<crate::input::Joined>,
            /// The same, by a pattern that matches the first line of a message.
            pub join_start: Option<toml::Spanned<String>>,
            /// So long a message waits for its next line.
            pub join_within: Option<crate::config::Period>,
            /// The peer's name by reverse DNS stands for its address.
            #[serde(default)]
            pub reverse_dns: bool,
            pub max_message: Option<toml::Spanned<crate::config::Size>>,
        }

        impl Config {
            /// The options that all kinds have.
            fn settings(&self, scope: &mut crate::config::Scope<'_>) -> crate::input::Settings {
                let max_message = crate::input::max_message(self.max_message.as_ref(), scope);
                let start = self.join_start.as_ref();
                let join = crate::input::join(self.join, start, self.join_within, max_message, scope);
                crate::input::Settings {
                    route: crate::route::Settings {
                        parse: crate::parse::Options { asctime: self.asctime, slashes: self.app_name_slashes },
                        hostname_from_peer: self.hostname == crate::input::HostnameFrom::Peer,
                        repetitions: self.repeats,
                        join,
                        timestamp_of_receipt: self.timestamp == crate::input::TimestampFrom::Received,
                    },
                    zone: self.timezone.map_or(crate::message::Zone::Local, |zone| zone.0),
                    reverse_dns: self.reverse_dns,
                    max_message,
                    ..crate::input::Settings::default()
                }
            }
        }
    };
}
use input_config;

/// The same for kinds with connections, and what those have in common.
macro_rules! stream_config {
    (pub struct Config { $($(#[$field_doc:meta])* pub $field:ident: $type:ty,)* }) => {
        crate::input::input_config! {
            pub struct Config {
                pub listen: std::net::SocketAddr,
                /// Connections of others are closed; empty: everybody may come.
                #[serde(default)]
                pub allow: Vec<crate::config::Network>,
                pub max_connections: Option<usize>,
                /// A connection that is silent for so long is closed; never where it is not given.
                pub idle_timeout: Option<crate::config::Period>,
                $($(#[$field_doc])* pub $field: $type,)*
            }
        }

        impl Config {
            /// The plan of an input with connections, with these settings over those that all kinds have.
            fn plan(
                &self,
                kind: &'static str,
                scope: &mut crate::config::Scope<'_>,
                own: impl FnOnce(crate::input::Settings) -> crate::input::Settings,
            ) -> crate::input::Plan {
                let settings = self.settings(scope);
                let settings = crate::input::Settings {
                    allow: self.allow.iter().map(|network| network.0).collect(),
                    max_connections: self.max_connections.unwrap_or(settings.max_connections),
                    idle: self.idle_timeout.map(|period| period.0),
                    ..settings
                };
                crate::input::Plan {
                    name: self.name.as_str().into(),
                    kind,
                    transport: crate::input::Transport::Stream,
                    address: crate::config::Address::Ip(self.listen),
                    permissions: (0, None, None),
                    settings: own(settings),
                }
            }
        }
    };
}
use stream_config;

/// A kind for which TLS is a choice: its options beside those of the macro named first.
macro_rules! tls_options {
    ($base:ident, pub struct Config { $($(#[$field_doc:meta])* pub $field:ident: $type:ty,)* }) => {
        crate::input::$base! {
            pub struct Config {
                $($(#[$field_doc])* pub $field: $type,)*
                /// A handshake must be over in this time.
                pub handshake_timeout: Option<crate::config::Period>,
                /// PEM: the server's certificate and what leads to its root; TLS where it is given.
                pub certificate: Option<toml::Spanned<std::path::PathBuf>>,
                /// PEM: its private key.
                pub key: Option<toml::Spanned<std::path::PathBuf>>,
                /// PEM: a client must show a certificate of one of these.
                pub client_ca: Option<toml::Spanned<std::path::PathBuf>>,
                /// PEM: revoked certificates.
                pub crl: Option<toml::Spanned<std::path::PathBuf>>,
                /// A client must be one of these: names, or fingerprints (`sha-256:AB:…`), for which no CA is needed.
                #[serde(default)]
                pub peers: Vec<toml::Spanned<String>>,
            }
        }

        impl Config {
            /// TLS where a certificate is given.
            fn tls(&self, scope: &mut crate::config::Scope<'_>) -> Option<crate::net::tls::ServerTls> {
                let files = crate::input::tls::Optional {
                    certificate: self.certificate.as_ref(),
                    key: self.key.as_ref(),
                    client_ca: self.client_ca.as_ref(),
                    crl: self.crl.as_ref(),
                    peers: &self.peers,
                };
                files.read(scope)
            }
        }
    };
}
use tls_options;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostnameFrom {
    #[default]
    Message,
    Peer,
}

/// Lines that are known to belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Joined {
    Python,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimestampFrom {
    #[default]
    Message,
    Received,
}

/// An input as run.
#[derive(Debug)]
pub struct Plan {
    /// Empty until the plan has given it one.
    pub name: Arc<str>,
    pub kind: &'static str,
    pub transport: Transport,
    pub address: Address,
    /// Mode, owner and group of a unix socket.
    pub permissions: (u32, Option<u32>, Option<u32>),
    pub settings: Settings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Datagram,
    /// Nobody sends: it is read from a place.
    Source,
    Stream,
}

/// What a stream's bytes mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Requests.
    Http,
    /// Pickled records of Python's logging.
    Python,
    /// Messages that are acknowledged.
    Relp,
    /// Messages, one after the other.
    Syslog,
}

/// What may change while the sockets and connections stay.
#[derive(Clone, Debug)]
pub struct Settings {
    pub route: route::Settings,
    pub zone: Zone,
    pub reverse_dns: bool,
    pub max_message: usize,
    /// Empty: everybody.
    pub allow: Vec<IpNet>,
    pub framing: Framing,
    pub max_connections: usize,
    /// None: a connection may be silent for ever.
    pub idle: Option<Duration>,
    pub handshake: Duration,
    pub receive_buffer: usize,
    pub protocol: Protocol,
    /// Of records that name none.
    pub facility: Facility,
    pub tls: Option<ServerTls>,
    pub http: Option<Arc<http::Http>>,
    /// What is read, where nobody sends.
    pub source: Option<source::Source>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            route: route::Settings::default(),
            zone: Zone::Local,
            reverse_dns: false,
            max_message: 64 << 10,
            allow: Vec::new(),
            framing: Framing::Auto,
            max_connections: 10_000,
            idle: None,
            handshake: Duration::from_secs(10),
            receive_buffer: 32 << 20,
            protocol: Protocol::Syslog,
            facility: Priority::DEFAULT.facility(),
            tls: None,
            http: None,
            source: None,
        }
    }
}

/// A running input: what its listener, its connections and a reload share.
#[derive(Debug)]
pub struct Shared {
    pub name: Arc<str>,
    pub kind: &'static str,
    pub settings: ArcSwap<Settings>,
    pub counters: Arc<InputCounters>,
    /// Cancelled when the input ends: what was read is delivered, nothing more is read.
    pub stop: CancellationToken,
    /// Set before `stop`, where the connections go to another process.
    pub heir: OnceLock<UnboundedSender<Kept>>,
    /// What clients that send again have sent before.
    keys: http::Keys,
    log: Log,
}

/// One for each kind of line that a peer can trigger.
#[derive(Debug, Default)]
struct Log {
    accept: Limited,
    allow: Limited,
    connection: Limited,
    limit: Limited,
    protocol: Limited,
    tls: Limited,
    truncated: Limited,
}

impl Shared {
    /// After the outputs have ended: nothing becomes safe any more.
    pub fn settle(&self) {
        self.keys.settle();
    }
}

impl Plan {
    /// The same socket twice.
    pub fn collides_with(&self, other: &Self) -> bool {
        let any_port = matches!(&self.address, Address::Ip(address) if address.port() == 0);
        self.transport == other.transport && self.address == other.address && !any_port
    }
}

impl Shared {
    pub fn new(plan: &Plan) -> Self {
        Self {
            name: plan.name.clone(),
            kind: plan.kind,
            settings: ArcSwap::from_pointee(plan.settings.clone()),
            counters: Arc::default(),
            stop: CancellationToken::new(),
            heir: OnceLock::new(),
            keys: http::Keys::default(),
            log: Log::default(),
        }
    }
}

impl Settings {
    /// How records of other loggers become messages.
    fn translation(&self) -> translate::Options {
        translate::Options { facility: self.facility, zone: self.zone, max_message: self.max_message }
    }

    /// What an input of objects makes of one; None where it is none, or no object is expected.
    pub fn translated(&self, line: &[u8], arena: &mut Vec<u8>) -> Option<Frame> {
        let (http, object) = (self.http.as_ref()?, crate::parse::json::object(line)?);
        http.translated(object, &self.translation(), arena)
    }

    fn allows(&self, peer: std::net::IpAddr) -> bool {
        self.allow.is_empty() || self.allow.iter().any(|network| network.contains(&peer.to_canonical()))
    }
}

/// A line comes right behind the one before, unless a network stands between.
const JOIN_WITHIN: Duration = Duration::from_millis(500);

fn join(
    joined: Option<Joined>,
    start: Option<&toml::Spanned<String>>,
    within: Option<crate::config::Period>,
    most: usize,
    scope: &mut Scope<'_>,
) -> Option<Arc<route::Join>> {
    let by = match (joined, start) {
        (Some(Joined::Python), None) => route::By::Python,
        (None, Some(start)) => route::By::Start(scope.pattern(start)?),
        (Some(_), Some(start)) => {
            scope.error(start.span(), "`join` says already where a message begins");
            return None;
        }
        (None, None) => return None,
    };
    Some(Arc::new(route::Join { by, within: within.map_or(JOIN_WITHIN, |period| period.0), most }))
}

/// RFC 5424, section 6.1: a receiver must take 480 octets. The arenas of all threads grow with this.
fn max_message(written: Option<&toml::Spanned<crate::config::Size>>, scope: &mut Scope<'_>) -> usize {
    const RANGE: std::ops::RangeInclusive<usize> = 480..=(16 << 20);
    let Some(size) = written else {
        return Settings::default().max_message;
    };
    if !RANGE.contains(&size.as_ref().0) {
        scope.error(size.span(), "`max-message` is 480 bytes (RFC 5424, section 6.1) to 16MiB");
    }
    size.as_ref().0
}
