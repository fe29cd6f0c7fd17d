//! The configuration as written: TOML in kebab-case, unknown keys refused, every error at file:line:column.
//!
//! Deserializing only reads. [`Plan`] is the configuration as run: names resolved, templates compiled, certificates
//! read; after it is made nothing is checked again.

mod error;
mod load;
mod plan;
mod units;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

pub use error::{Errors, Problem};
pub use load::{Loaded, Source, load};
pub use plan::{OutputScope, Plan, Scope, ServerPlan, plan};
pub use units::{Address, FacilityName, Mode, Network, Period, Size, TimeZone};

/// One file. Kinds of inputs and outputs are keys (`[[input.udp]]`), not tags: serde's tagged and flattened forms lose
/// the position of an error.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    pub server: Option<Spanned<Server>>,
    #[serde(default)]
    pub input: crate::input::Configs,
    pub metrics: Option<Spanned<Metrics>>,
    /// Address → the name that stands for it where a message names no host.
    #[serde(default)]
    pub hostnames: BTreeMap<Spanned<String>, String>,
    #[serde(default)]
    pub lookup: BTreeMap<Spanned<String>, Lookup>,
    #[serde(default)]
    pub template: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    pub output: crate::output::Configs,
    #[serde(default)]
    pub route: Vec<Spanned<Route>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Server {
    /// For what outlives the process.
    pub state_dir: Option<PathBuf>,
    /// Reader threads; the cores this process may use where it is not given.
    pub threads: Option<Spanned<usize>>,
    /// All queues together.
    pub memory: Option<Size>,
    /// How long a stop may take to drain.
    pub grace: Option<Period>,
    /// Whom to become when started as root.
    pub user: Option<Spanned<String>>,
    pub group: Option<Spanned<String>>,
}

/// `[lookup.NAME]`: texts and what stands for them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lookup {
    /// For what is not in the table.
    #[serde(default)]
    pub default: String,
    pub table: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Metrics {
    pub listen: SocketAddr,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Route {
    pub select: Option<Spanned<String>>,
    #[serde(rename = "where")]
    pub condition: Option<Spanned<String>>,
    pub to: Spanned<Vec<Spanned<String>>>,
    #[serde(default, rename = "final")]
    pub is_final: bool,
}

/// The table `hostnames`, by address.
pub type HostTable = std::collections::HashMap<IpAddr, Box<str>>;
