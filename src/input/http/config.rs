//! `[[input.http]]`, as written and as run.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{SeqAccess, Visitor};
use tokio::sync::Semaphore;
use toml::Spanned;

use super::auth::Credentials;
use crate::config::{FacilityName, Period, Scope, Size};
use crate::input::{Plan, Protocol, Settings, tls_options};
use crate::message::Frame;
use crate::translate::{Mapping, Options, Target, from_object};

tls_options! {
    stream_config,
    pub struct Config {
        /// Where logs are taken.
        #[serde(default)]
        pub paths: Vec<Spanned<String>>,
        /// Bearer tokens (RFC 6750), one a line.
        pub tokens: Option<Spanned<PathBuf>>,
        /// Users and passwords for basic authentication (RFC 7617), `user:password` a line.
        pub passwords: Option<Spanned<PathBuf>>,
        /// Tokens and passwords may come without TLS.
        #[serde(default)]
        pub plaintext_credentials: bool,
        /// A body, packed or not.
        pub max_body: Option<Spanned<Size>>,
        /// A body must have come in this time.
        pub body_timeout: Option<Period>,
        /// So long an answer may wait for the outputs.
        pub answer_timeout: Option<Period>,
        /// Of records that name none.
        pub facility: Option<FacilityName>,
        /// Which keys of an object are which fields, before those that are known.
        #[serde(default)]
        pub fields: Fields,
    }
}

/// Keys for each field; `user.id` is a key of an object in the object.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Fields {
    app_name: Names,
    exception: Names,
    facility: Names,
    hostname: Names,
    message: Names,
    msg_id: Names,
    proc_id: Names,
    severity: Names,
    timestamp: Names,
}

/// One name or several.
#[derive(Debug, Default)]
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key or a list of keys")
            }

            fn visit_str<E>(self, name: &str) -> Result<Names, E> {
                Ok(Names(vec![name.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = seq.next_element()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }

        deserializer.deserialize_any(Read)
    }
}

/// What requests need besides the settings of every input.
#[derive(Debug)]
pub struct Http {
    pub(super) paths: Vec<String>,
    pub(super) credentials: Credentials,
    pub(super) max_body: usize,
    pub(super) body: Duration,
    pub(super) answer: Duration,
    pub(super) mapping: Mapping,
    /// For bodies and what they become, in pages of [`PAGE`].
    pub(super) room: Arc<Semaphore>,
    /// All of it.
    pub(super) most_room: usize,
}

/// Where no path is given.
const PATH: &str = "/logs";
/// Of a body, packed or not.
const MAX_BODY: usize = 16 << 20;
const LARGEST_BODY: usize = 256 << 20;
/// All requests together may take so many times what one body may have: packed, unpacked, and as messages with their objects.
const ROOM: usize = 8;
/// What the room is counted in.
pub(super) const PAGE: usize = 4 << 10;
const BODY: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(30);
/// A connection without a request is closed after this.
pub(super) const IDLE: Duration = Duration::from_secs(75);
/// An object may be longer than a line of syslog.
const MAX_MESSAGE: usize = 1 << 20;

pub(in crate::input) fn plan(config: &Config, scope: &mut Scope<'_>) -> Option<Plan> {
    let tls = config.tls(scope).map(|tls| tls.for_http());
    let http = config.http(scope);
    let is_own = config.max_message.is_none();
    Some(config.plan("http", scope, |settings| Settings {
        max_message: if is_own { MAX_MESSAGE } else { settings.max_message },
        handshake: config.handshake_timeout.map_or(settings.handshake, |period| period.0),
        protocol: Protocol::Http,
        facility: config.facility.map_or(settings.facility, |facility| facility.0),
        tls,
        http: Some(Arc::new(http)),
        ..settings
    }))
}

impl Config {
    fn http(&self, scope: &mut Scope<'_>) -> Http {
        for path in self.paths.iter().filter(|path| !path.as_ref().starts_with('/')) {
            scope.error(path.span(), format!("`{}` where a path is expected: it begins with `/`", path.as_ref()));
        }
        let secret = self.tokens.as_ref().or(self.passwords.as_ref());
        if let (Some(secret), None, false) = (secret, &self.certificate, self.plaintext_credentials) {
            scope.error(
                secret.span(),
                "this would be sent in plain text: give `certificate` and `key`, or set `plaintext-credentials = true`",
            );
        }
        let max_body = self.max_body.as_ref().map_or(MAX_BODY, |size| {
            if !(1024..=LARGEST_BODY).contains(&size.as_ref().0) {
                scope.error(size.span(), "`max-body` is 1KiB to 256MiB");
            }
            size.as_ref().0
        });
        let paths: Vec<_> = self.paths.iter().map(|path| path.as_ref().clone()).collect();
        Http {
            paths: if paths.is_empty() { vec![PATH.to_owned()] } else { paths },
            credentials: Credentials::read(self.tokens.as_ref(), self.passwords.as_ref(), scope),
            max_body,
            body: self.body_timeout.map_or(BODY, |period| period.0),
            answer: self.answer_timeout.map_or(ANSWER, |period| period.0),
            mapping: self.fields.mapping(),
            room: Arc::new(Semaphore::new(ROOM * max_body / PAGE)),
            most_room: ROOM * max_body,
        }
    }
}

impl Http {
    pub(in crate::input) fn translated(&self, object: &str, options: &Options, arena: &mut Vec<u8>) -> Option<Frame> {
        from_object(object, &self.mapping, options, arena).ok().map(|translated| translated.frame)
    }
}

impl Fields {
    fn mapping(&self) -> Mapping {
        let all = [
            (Target::AppName, &self.app_name),
            (Target::Exception, &self.exception),
            (Target::Facility, &self.facility),
            (Target::Hostname, &self.hostname),
            (Target::Message, &self.message),
            (Target::MsgId, &self.msg_id),
            (Target::ProcId, &self.proc_id),
            (Target::Severity, &self.severity),
            (Target::Timestamp, &self.timestamp),
        ];
        let named = all.iter().flat_map(|(target, names)| names.0.iter().map(move |name| (Box::from(name.as_str()), *target)));
        named.collect::<HashMap<_, _>>()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The defaults, open to everybody.
    pub(in crate::input::http) fn http() -> Http {
        Http {
            paths: vec![PATH.to_owned()],
            credentials: Credentials::default(),
            max_body: MAX_BODY,
            body: BODY,
            answer: ANSWER,
            mapping: Mapping::default(),
            room: Arc::new(Semaphore::new(ROOM * MAX_BODY / PAGE)),
            most_room: ROOM * MAX_BODY,
        }
    }
}
