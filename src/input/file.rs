//! `[[input.file]]`: lines of files that programs write, through their rotation, with positions kept.

use std::path::PathBuf;

use encoding_rs::Encoding;
use regex::bytes::Regex;
use tokio::sync::mpsc::{Receiver, channel};
use toml::Spanned;

mod tail;

use super::source::{self, Header, Reader, Taken};
use super::{Plan, Settings, Transport, input_config};
use crate::config::{Address, Scope};
use crate::message::{Facility, Sender, Severity};
use tail::{Piece, Tail};

input_config! {
    pub struct Config {
        /// Files, with `*`, `?`, `[…]` and `**`.
        pub path: Spanned<Vec<Spanned<String>>>,
        pub app_name: Option<Spanned<String>>,
        pub facility: Option<Spanned<String>>,
        pub severity: Option<Spanned<String>>,
        /// A line that this matches begins a message; the others belong to the one before. Every line is one where it is not given.
        pub start: Option<Spanned<String>>,
        /// `utf-8`, `windows-1252`, `utf-16le`, … (WHATWG's labels).
        pub encoding: Option<Spanned<String>>,
        /// Where a file begins that is there at the very first start.
        #[serde(default)]
        pub from: From,
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum From {
    #[default]
    Beginning,
    End,
}

#[derive(Clone, Debug)]
pub struct Source {
    pub(super) patterns: Vec<String>,
    app_name: String,
    priority: u8,
    pub(super) start: Option<Regex>,
    pub(super) encoding: &'static Encoding,
    pub(super) from: From,
    pub(super) max_message: usize,
}

/// In UTF-8; at the beginning of a file it is no part of a line.
const BYTE_ORDER_MARK: &[u8] = "\u{FEFF}".as_bytes();

impl Source {
    fn decoded<'t>(&self, text: &'t [u8]) -> std::borrow::Cow<'t, str> {
        use std::borrow::Cow;
        match self.encoding.decode_without_bom_handling(text).0 {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim_start_matches('\u{FEFF}')),
            Cow::Owned(text) => Cow::Owned(text.trim_start_matches('\u{FEFF}').to_owned()),
        }
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        let start = |source: &Self| source.start.as_ref().map(|regex| regex.as_str().to_owned());
        (&self.patterns, &self.app_name, self.priority, self.from, self.max_message)
            == (&other.patterns, &other.app_name, other.priority, other.from, other.max_message)
            && start(self) == start(other)
            && self.encoding == other.encoding
    }
}

impl Eq for Source {}

pub(super) fn plan(config: &Config, scope: &mut Scope<'_>) -> Option<Plan> {
    let settings = config.settings(scope);
    if config.path.as_ref().is_empty() {
        scope.error(config.path.span(), "`path` names no file");
    }
    for pattern in config.path.as_ref() {
        let what = match glob::Pattern::new(pattern.as_ref()) {
            Ok(_) if pattern.as_ref().starts_with('/') => continue,
            Ok(_) => "an absolute path is expected".to_owned(),
            Err(error) => format!("the pattern is wrong: {}", error.msg),
        };
        scope.error(pattern.span(), what);
    }
    let facility = named(config.facility.as_ref(), "facility", 1, |name| Facility::parse(name).map(|facility| facility.0), scope);
    let severity = named(config.severity.as_ref(), "severity", 5, |name| Severity::parse(name).map(|severity| severity.0), scope);
    let start = config.start.as_ref().and_then(|text| {
        let compiled = Regex::new(text.as_ref());
        compiled.map_err(|error| scope.error(text.span(), format!("the pattern is wrong: {}", last_line(&error)))).ok()
    });
    let encoding = config.encoding.as_ref().map_or(Some(encoding_rs::UTF_8), |label| {
        let found = Encoding::for_label(label.as_ref().as_bytes());
        if found.is_none() {
            scope.error(label.span(), format!("no encoding is called `{}`: `utf-8`, `windows-1252`, `utf-16le`", label.as_ref()));
        }
        found
    });
    let source = Source {
        patterns: config.path.as_ref().iter().map(|pattern| pattern.as_ref().clone()).collect(),
        app_name: config.app_name.as_ref().map(|name| name.as_ref().clone()).unwrap_or_default(),
        priority: facility * 8 + severity,
        start,
        encoding: encoding?,
        from: config.from,
        max_message: settings.max_message,
    };
    Some(Plan {
        name: config.name.as_str().into(),
        kind: "file",
        transport: Transport::Source,
        address: Address::Path(PathBuf::from(source.patterns.join(", "))),
        permissions: (0, None, None),
        settings: Settings { source: Some(source::Source::File(source)), ..settings },
    })
}

fn last_line(error: &regex::Error) -> String {
    error.to_string().lines().last().unwrap_or_default().to_owned()
}

fn named(text: Option<&Spanned<String>>, what: &str, default: u8, parse: fn(&str) -> Option<u8>, scope: &mut Scope<'_>) -> u8 {
    let Some(text) = text else { return default };
    parse(text.as_ref()).unwrap_or_else(|| {
        scope.error(text.span(), format!("no {what} is called `{}`", text.as_ref()));
        default
    })
}

/// Pieces that wait between the thread that reads files and the one that routes.
const WAITING: usize = 4;

pub(super) struct Files {
    source: Source,
    pieces: Receiver<Piece>,
    piece: Option<Piece>,
    position: String,
}

impl Reader for Files {
    type Source = Source;

    /// Files are read by a thread of their own: a file system may hang.
    fn open(source: &Source, position: &str) -> std::io::Result<Self> {
        let (sender, pieces) = channel(WAITING);
        let mut tail = Tail::new(source.clone(), position);
        std::thread::Builder::new().name("files".to_owned()).spawn(move || tail.run(&sender))?;
        Ok(Self { source: source.clone(), pieces, piece: None, position: position.to_owned() })
    }

    async fn ready(&mut self) -> std::io::Result<()> {
        if self.piece.is_none() {
            self.piece = self.pieces.recv().await;
        }
        if self.piece.is_some() { Ok(()) } else { Err(std::io::Error::other("the thread that reads files has ended")) }
    }

    fn read(&mut self, taken: &mut Taken<'_>) -> std::io::Result<()> {
        let Some(piece) = self.piece.take() else { return Err(std::io::ErrorKind::WouldBlock.into()) };
        let Source { app_name, priority, encoding, .. } = &self.source;
        let header = Header { priority: *priority, app_name: app_name.as_bytes(), ..Header::default() };
        for line in &piece.lines {
            let sender = Sender { file: piece.path.clone(), ..Sender::default() };
            match *encoding == encoding_rs::UTF_8 {
                true => taken.message(&header, Some(sender), line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line)),
                false => taken.message(&header, Some(sender), self.source.decoded(line).as_bytes()),
            }
        }
        self.position = piece.position;
        Ok(())
    }

    fn position(&self) -> String {
        self.position.clone()
    }
}
