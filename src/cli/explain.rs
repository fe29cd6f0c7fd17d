//! `penstock explain`: what becomes of raw messages, without sending them anywhere.

use std::io::{self, BufRead, BufReader, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::{CONFIG, Exit, Failure, planned};
use crate::config::{HostTable, Plan, Source};
use crate::frame::trimmed;
use crate::message::{Grammar, Message, Origin, Received, Timestamp};
use crate::parse::parse;
use crate::queue::Chunk;
use crate::route::{Destination, Route};
use crate::sys::{name, reason};
use crate::template::{Scratch, Workspace};
use crate::{config, input};

/// Shows what becomes of raw messages: fields, routes, files and bytes
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The configuration; the files of `conf.d` beside it are read too
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
    /// The address that the messages come from
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
    from: IpAddr,
    /// The input that they come by; the first where it is not given
    #[arg(long, value_name = "NAME")]
    input: Option<String>,
    /// Raw messages, one a line; standard input where it is not given
    file: Option<PathBuf>,
}

pub(super) fn main(arguments: &Arguments) -> Result<(), Failure> {
    let (plan, loaded) = planned(&arguments.config)?;
    let input = chosen_input(&plan, arguments.input.as_deref())?;
    let origin = origin(&plan.hostnames, input, arguments.from);
    let explainer = Explainer { routes: labelled(&plan, &loaded), destinations: destinations(&plan), input, origin };
    let mut out = io::stdout().lock();
    for line in lines(arguments)? {
        let line =
            line.map_err(|error| Failure::new(Exit::System, format!("the messages cannot be read: {}", reason(&error))))?;
        let mut text = Vec::new();
        explainer.explain(&line[..trimmed(&line)], &mut text);
        if out.write_all(&text).is_err() {
            // Whoever read this has seen enough.
            return Ok(());
        }
    }
    Ok(())
}

fn chosen_input<'p>(plan: &'p Plan, name: Option<&str>) -> Result<&'p input::Plan, Failure> {
    let Some(name) = name else {
        return Ok(&plan.inputs[0]);
    };
    plan.inputs.iter().find(|input| *input.name == *name).ok_or_else(|| {
        let names = plan.inputs.iter().map(|input| &*input.name);
        Failure::new(Exit::Usage, format!("no input is called `{name}`{}", crate::template::did_you_mean(name, names)))
    })
}

fn origin(table: &HostTable, input: &input::Plan, from: IpAddr) -> Origin {
    let peer = (input.kind != "unix").then_some(from);
    let origin = Origin::new(input.name.clone(), peer, &name::of_this_host(), input.settings.zone);
    if let Some(known) = origin.peer.and_then(|peer| table.get(&peer)) {
        let _ = origin.name.set(known.clone());
    }
    origin
}

type Lines = Box<dyn Iterator<Item = io::Result<Vec<u8>>>>;

fn lines(arguments: &Arguments) -> Result<Lines, Failure> {
    let reader: Box<dyn BufRead> = match &arguments.file {
        Some(path) => {
            let file = std::fs::File::open(path);
            Box::new(BufReader::new(
                file.map_err(|error| Failure::new(Exit::Usage, format!("{}: {}", path.display(), reason(&error))))?,
            ))
        }
        None => Box::new(BufReader::new(io::stdin())),
    };
    Ok(Box::new(reader.split(b'\n')))
}

/// A route, and how the configuration names it: its place and its conditions.
struct Labelled<'p> {
    route: &'p Route,
    label: String,
}

fn labelled<'p>(plan: &'p Plan, loaded: &config::Loaded) -> Vec<Labelled<'p>> {
    let written = loaded.files.iter().flat_map(|(source, config)| config.route.iter().map(move |route| (source, route)));
    plan.routes
        .iter()
        .zip(written)
        .map(|(route, (source, written))| Labelled { route, label: place(source, written.span().start) })
        .collect()
}

fn place(source: &Source, at: usize) -> String {
    let line = source.text[..at].matches('\n').count() + 1;
    format!("{}:{line}", source.path.display())
}

fn destinations(plan: &Plan) -> Vec<Destination> {
    plan.outputs.iter().map(|output| output.destination(Arc::new(crate::queue::Queue::new(output.bounds)))).collect()
}

struct Explainer<'p> {
    routes: Vec<Labelled<'p>>,
    destinations: Vec<Destination>,
    input: &'p input::Plan,
    origin: Origin,
}

impl Explainer<'_> {
    fn explain(&self, raw: &[u8], out: &mut Vec<u8>) {
        let settings = &self.input.settings;
        let mut arena = Vec::new();
        let frame = settings.translated(raw, &mut arena);
        let came = raw;
        let (raw, json) = frame.map_or((raw, &b""[..]), |frame| (frame.span.of(&arena), frame.json.of(&arena)));
        let kept = if json.is_empty() { &raw[..raw.len().min(settings.max_message)] } else { raw };
        let mut fields = parse(kept, &settings.route.parse);
        if settings.route.hostname_from_peer {
            fields.hostname = b"";
        }
        let received = Received::now();
        let truncated = kept.len() < raw.len();
        let message = Message { raw: kept, fields, origin: &self.origin, received: &received, truncated, json };
        line(out, "message", came);
        self.fields(&message, out);
        self.route(&message, out);
        out.push(b'\n');
    }

    fn fields(&self, message: &Message<'_>, out: &mut Vec<u8>) {
        let fields = &message.fields;
        let grammar = match fields.grammar {
            Grammar::Rfc5424 => "rfc5424: the whole header is well-formed",
            Grammar::Rfc3164 => "rfc3164: a BSD header as really sent",
            Grammar::Headerless => "headerless: a priority and text; the host is the peer, the text is whole",
            Grammar::Text => "text: no syslog; kept whole as user.notice",
        };
        line(out, "  grammar", grammar.as_bytes());
        let priority = fields.priority;
        let names = format!("{} ({}.{})", priority.value(), priority.facility().name(), priority.severity().name());
        line(out, "  pri", names.as_bytes());
        let when = message.fields.timestamp.resolve(self.origin.zone, message.received).to_rfc3339();
        let when =
            if fields.timestamp == Timestamp::Absent { format!("{when} (of receipt: the message has none)") } else { when };
        line(out, "  timestamp", when.as_bytes());
        let own = if fields.hostname.is_empty() { " (the peer)" } else { "" };
        line(out, "  hostname", &[message.hostname(), own.as_bytes()].concat());
        let named = [
            ("  app-name", fields.app_name),
            ("  proc-id", fields.proc_id),
            ("  msg-id", fields.msg_id),
            ("  structured-data", fields.structured_data),
            ("  tag", fields.tag),
        ];
        named.iter().filter(|(_, value)| !value.is_empty()).for_each(|(name, value)| line(out, name, value));
        line(out, "  message", fields.message);
        line(out, "  input, peer", format!("{}, {}", self.input.name, self.origin.peer_text).as_bytes());
        if message.truncated {
            line(out, "  truncated", format!("to max-message, {} bytes", self.input.settings.max_message).as_bytes());
        }
    }

    fn route(&self, message: &Message<'_>, out: &mut Vec<u8>) {
        let mut taken = vec![false; self.destinations.len()];
        let mut ended: Option<&str> = None;
        for Labelled { route, label } in &self.routes {
            let (takes, why) = verdict(route, message);
            let (word, why) = match ended {
                Some(by) => ("no", format!("route {by} is final and took it")),
                None if takes => ("yes", why),
                None => ("no", why),
            };
            line(out, &format!("  route {label}"), format!("{word}: {why}").as_bytes());
            if ended.is_some() || !takes {
                continue;
            }
            for to in route.to.iter().copied() {
                self.record(to, std::mem::replace(&mut taken[to], true), message, out);
            }
            if route.is_final {
                ended = Some(label);
            }
        }
        if !taken.contains(&true) {
            line(out, "  unrouted", b"no route takes it: it is counted and dropped");
        }
    }

    /// The exact address and bytes.
    fn record(&self, to: usize, again: bool, message: &Message<'_>, out: &mut Vec<u8>) {
        let destination = &self.destinations[to];
        if again {
            return line(out, &format!("    to {}", destination.name), b"has it already");
        }
        let mut chunk = Chunk::default();
        destination.render(message, &mut Scratch::default(), &mut chunk);
        for record in &chunk.records {
            let address = record.address.of(&chunk.bytes);
            let place = if address.is_empty() { destination.place.as_bytes() } else { address };
            line(out, &format!("    to {}", destination.name), place);
            line(out, "    bytes", format!("\"{}\"", record.body.of(&chunk.bytes).escape_ascii()).as_bytes());
        }
    }
}

fn verdict(route: &Route, message: &Message<'_>) -> (bool, String) {
    let mut reasons = Vec::new();
    let mut takes = true;
    if let Some(selector) = &route.selector {
        let priority = message.fields.priority;
        takes &= selector.takes(priority);
        let verb = if takes { "takes" } else { "does not take" };
        reasons.push(format!("select {verb} {}.{}", priority.facility().name(), priority.severity().name()));
    }
    if let Some(condition) = &route.condition {
        takes &= condition.holds(message, &mut Workspace::default());
        reasons.push(condition.explain(message));
    }
    if reasons.is_empty() {
        reasons.push("it takes everything".to_owned());
    }
    (takes, reasons.join("; "))
}

/// What came from outside cannot act on the terminal.
fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    let text: String =
        value.utf8_chunks().map(|chunk| format!("{}{}", escaped(chunk.valid()), chunk.invalid().escape_ascii())).collect();
    out.extend_from_slice(format!("{name}: {text}\n").as_bytes());
}

fn escaped(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}
