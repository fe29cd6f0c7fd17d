//! `penstock send`: a client, for trying things out and for load.
//!
//! Arguments become a [`Job`] that needs no more checks; one loop takes texts, frames them and gives them to links.
//! One thread is enough: what costs time is the system call, and that is made for a whole buffer.

mod frame;
mod link;
mod pace;
mod text;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as ValueError;
use toml::Spanned;

use super::{Exit, Failure};
use crate::config::Size;
use crate::message::{Facility, Priority, Severity};
use crate::net::target::{Scheme, Target};
use crate::net::tls::{self, ClientFiles, ClientTls};
use crate::sys::reason;

use frame::{Envelope, Format, Framing, Layout};
use link::Links;
use pace::Pace;
use text::Texts;

/// Sends messages, to try things out or as load
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The text; `{seq}` in it is the message's number. Lines of stdin where none is given
    message: Vec<OsString>,
    /// Where to: udp://HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT or unix:///PATH
    #[arg(long, value_name = "URL", default_value = "udp://127.0.0.1:514", value_parser = Target::parse)]
    to: Target,
    /// What a message looks like
    #[arg(long, value_enum, default_value_t = Format::Rfc5424)]
    format: Format,
    /// How a stream is cut into messages: nul for python, octet-counted otherwise
    #[arg(long, value_enum)]
    framing: Option<Framing>,
    /// Messages on stdin end with NUL and may contain line feeds
    #[arg(long, conflicts_with = "message")]
    null: bool,
    #[command(flatten)]
    header: Box<HeaderArguments>,
    #[command(flatten)]
    tls: Box<TlsArguments>,
    /// Sends this many messages; the text of the arguments is repeated and numbered
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Messages a second; as fast as it goes where not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Spreads the messages over this many connections
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Pads each text to this size, its number included
    #[arg(long, value_name = "BYTES", value_parser = size)]
    size: Option<usize>,
}

/// The header's fields; each has a default.
#[derive(Debug, Default, Args)]
struct HeaderArguments {
    /// FACILITY.SEVERITY or a number from 0 to 191 [default: user.notice]
    #[arg(long, value_name = "PRIORITY", value_parser = priority)]
    priority: Option<Priority>,
    /// [default: this host's name]
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// [default: penstock]
    #[arg(long, value_name = "NAME")]
    app_name: Option<String>,
    /// [default: that of this process]
    #[arg(long, value_name = "ID")]
    proc_id: Option<String>,
    /// For rfc5424 [default: -]
    #[arg(long, value_name = "ID")]
    msg_id: Option<String>,
    /// For rfc5424, repeatable: an element of structured data, '[id name="value"]'
    #[arg(long, value_name = "ELEMENT")]
    sd: Vec<String>,
    /// As of RFC 3339 [default: now]
    #[arg(long, value_name = "TIME")]
    timestamp: Option<String>,
}

#[derive(Debug, Args)]
struct TlsArguments {
    /// PEM: who may vouch for the server; the system's roots where not given
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// PEM: what this side shows to the server
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// PEM: the certificate's private key
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Repeatable: whom the server must prove to be; the host of the URL where not given
    #[arg(long, value_name = "NAME_OR_FINGERPRINT")]
    peer: Vec<String>,
}

/// Arguments that make sense.
struct Job {
    target: Target,
    tls: Option<ClientTls>,
    layout: Layout,
    envelope: Envelope,
    texts: Texts,
    /// As many as there are, where None.
    count: Option<u64>,
    rate: Option<u64>,
    connections: usize,
}

/// What has been handed over.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    messages: u64,
    bytes: u64,
}

pub(super) fn main(arguments: &Arguments) -> Result<(), Failure> {
    let job = job(arguments).map_err(|what| Failure::new(Exit::Usage, what))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::System, reason(&error)))?;
    let counted = job.count.is_some_and(|count| count > 1);
    let (sent, took) = runtime.block_on(run(job))?;
    if counted {
        eprintln!("{}", report(sent, took));
    }
    Ok(())
}

fn job(arguments: &Arguments) -> Result<Job, String> {
    let layout = Layout::new(arguments.format, &arguments.header)?;
    let texts = match arguments.message.as_slice() {
        [] => Texts::stdin(if arguments.null { 0 } else { b'\n' }),
        words => Texts::repeated(words, arguments.count.unwrap_or(1) > 1),
    };
    let count = arguments.count.or(if arguments.message.is_empty() { None } else { Some(1) });
    Ok(Job {
        target: arguments.to.clone(),
        tls: client_tls(&arguments.tls, arguments.to.scheme)?,
        layout,
        envelope: Envelope::new(arguments.format, arguments.framing, arguments.to.scheme)?,
        texts: texts.padded(arguments.size.unwrap_or(0)),
        count,
        rate: arguments.rate,
        connections: usize::from(arguments.connections),
    })
}

fn client_tls(arguments: &TlsArguments, scheme: Scheme) -> Result<Option<ClientTls>, String> {
    let file = |path: &Option<PathBuf>| path.as_deref().map(tls::path);
    let (ca, certificate, key) = (file(&arguments.ca), file(&arguments.certificate), file(&arguments.key));
    let peers: Vec<_> = arguments.peer.iter().map(|peer| Spanned::new(0..0, peer.clone())).collect();
    if scheme == Scheme::Tls {
        let files = ClientFiles { ca: ca.as_ref(), certificate: certificate.as_ref(), key: key.as_ref(), peers: &peers };
        return ClientTls::read(&files).map(Some).map_err(|(_, what)| what);
    }
    match (ca.or(certificate).or(key), peers.as_slice()) {
        (None, []) => Ok(None),
        _ => Err("certificates and peers are for `tls://` targets".to_owned()),
    }
}

/// Returns when everything has been handed over and the other side had its time to take it.
async fn run(mut job: Job) -> Result<(Sent, Duration), Failure> {
    let mut links = Links::connect(&job).await.map_err(|what| Failure::new(Exit::Unavailable, what))?;
    let start = Instant::now();
    pump(&mut job, &mut links, start).await?;
    let took = start.elapsed();
    let sent = links.close().await.map_err(|what| Failure::new(Exit::Unavailable, what))?;
    Ok((sent, took))
}

async fn pump(job: &mut Job, links: &mut Links, start: Instant) -> Result<(), Failure> {
    let broken = |what| Failure::new(Exit::Unavailable, what);
    let pace = Pace::new(job.rate);
    let last = job.count.unwrap_or(u64::MAX);
    let (mut taken, mut due, mut text) = (0, 0, Vec::new());
    while taken < last {
        if taken >= due {
            due = pace.due(start.elapsed());
            if taken >= due {
                links.flush().await.map_err(broken)?;
                tokio::time::sleep_until((start + pace.moment(taken)).into()).await;
                continue;
            }
        }
        // Reading blocks the thread, which has nothing else to do; so nothing may be kept back meanwhile.
        if job.texts.would_wait() {
            links.flush().await.map_err(broken)?;
        }
        let more = job.texts.next(taken + 1, &mut text);
        if !more.map_err(|error| Failure::new(Exit::System, format!("stdin: {}", reason(&error))))? {
            break;
        }
        links.push(&job.layout, &text).await.map_err(broken)?;
        taken += 1;
    }
    links.flush().await.map_err(broken)
}

fn report(sent: Sent, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    let rate = sent.messages as f64 / seconds.max(1e-9);
    format!("sent {} messages, {} bytes in {seconds:.3} s ({rate:.0}/s)", sent.messages, sent.bytes)
}

fn priority(text: &str) -> Result<Priority, String> {
    let expected = || "a facility and a severity (`user.notice`) or a number from 0 to 191 is expected".to_owned();
    if let Ok(number) = text.parse() {
        return Priority::new(number).ok_or_else(expected);
    }
    let (facility, severity) = text.split_once('.').ok_or_else(expected)?;
    let facility = Facility::parse(facility).ok_or_else(|| format!("no facility is called `{facility}`"))?;
    let severity = Severity::parse(severity).ok_or_else(|| format!("no severity is called `{severity}`"))?;
    Priority::new(u16::from(facility.0) * 8 + u16::from(severity.0)).ok_or_else(expected)
}

fn size(text: &str) -> Result<usize, String> {
    let deserializer: serde::de::value::StrDeserializer<'_, ValueError> = text.into_deserializer();
    Size::deserialize(deserializer).map(|size| size.0).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn wrong(words: &[&str]) -> String {
        let words = ["send"].iter().chain(words);
        match Line::try_parse_from(words) {
            Ok(line) => job(&line.arguments).err().unwrap_or_default(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn nonsense_is_named() {
        for (words, what) in [
            (&["--to", "127.0.0.1:514", "x"][..], "`127.0.0.1:514` is no target"),
            (&["--to", "tsl://x", "x"], "did you mean `tls`?"),
            (&["--to", "tcp://x:99999", "x"], "`99999` is no port"),
            (&["--priority", "user", "x"], "a facility and a severity (`user.notice`)"),
            (&["--priority", "192", "x"], "a number from 0 to 191"),
            (&["--priority", "usr.notice", "x"], "no facility is called `usr`"),
            (&["--framing", "newline", "x"], "a datagram is its own frame"),
            (&["--to", "tcp://x", "--format", "python", "--framing", "newline", "x"], "python messages end with NUL"),
            (&["--ca", "/nowhere", "x"], "certificates and peers are for `tls://` targets"),
            (&["--to", "tls://x", "--ca", "/nowhere", "x"], "/nowhere: No such file or directory"),
            (&["--format", "rfc3164", "--msg-id", "A", "x"], "`--msg-id` has no place"),
            (&["--sd", "[a", "x"], "`[a` is no element of structured data"),
            (&["--sd", "[a]", "--sd", "[a]", "x"], "the same id twice"),
            (&["--size", "1KB", "x"], "`1KB` where a size"),
            (&["--null", "x"], "cannot be used with"),
            (&["--count", "0", "x"], "0 is not in"),
        ] {
            let said = wrong(words);
            assert!(said.contains(what), "{words:?}: {said}");
        }
        assert_eq!(wrong(&["--to", "unix:///dev/log", "--size", "2KiB", "--priority", "165", "x"]), "");
    }

    #[test]
    fn the_report_is_one_line() {
        let sent = Sent { messages: 3000, bytes: 300_000 };
        assert_eq!(report(sent, Duration::from_millis(1500)), "sent 3000 messages, 300000 bytes in 1.500 s (2000/s)");
    }
}
