//! `[[output.forward]]`: records to an upstream server by UDP, TCP, TLS or RELP.
//!
//! Several targets by fail-over (the first that answers, and back to an earlier one as soon as it does) or in turn. A
//! dead target is tried in the background while another one works, so that it delays nothing.

mod connect;
mod link;
mod relp;

use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use toml::Spanned;

use super::{Closing, Delivery, DiskPlan, Output, OutputScope, Plan, QueueConfig, Undelivered};
use crate::config::Period;
use crate::net::target::{Scheme, Target};
use crate::net::tls::{ClientFiles, ClientTls};
use crate::queue::{Bounds, Chunk, WhenFull};
use crate::route::Envelope;
use crate::template::Escaping;

use connect::Way;
use link::{Link, Outcomes};

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    pub name: String,
    /// `udp://`, `tcp://`, `tls://`, `relp://`, `relps://`; all of one kind.
    pub to: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    pub balance: Balance,
    pub format: Option<Spanned<String>>,
    pub framing: Option<Spanned<FramingName>>,
    /// PEM: who may vouch for the server; the system's roots where it is not given.
    pub ca: Option<Spanned<PathBuf>>,
    pub certificate: Option<Spanned<PathBuf>>,
    pub key: Option<Spanned<PathBuf>>,
    /// Whom the server must prove to be: names or fingerprints; the target's own name where it is not given.
    #[serde(default)]
    pub peers: Vec<Spanned<String>>,
    /// For a connection, a handshake, and a write without progress.
    pub timeout: Option<Period>,
    /// By RELP: messages on their way at a time.
    pub window: Option<Spanned<usize>>,
    /// By RELP, to servers that take it.
    pub compression: Option<Spanned<CompressionName>>,
    /// A connection is made anew after so many messages, for a load balancer on the way.
    pub rebind_messages: Option<u64>,
    /// And after so long.
    pub rebind_after: Option<Period>,
    #[serde(default)]
    pub queue: QueueConfig,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    #[default]
    Failover,
    RoundRobin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FramingName {
    Newline,
    OctetCounted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CompressionName {
    Zstd,
}

#[derive(Clone, Debug)]
struct Settings {
    targets: Vec<Target>,
    balance: Balance,
    timeout: Duration,
    window: usize,
    compressed: bool,
    tls: Option<ClientTls>,
    envelope: Envelope,
    rebind_messages: u64,
    rebind_after: Option<Duration>,
}

impl Settings {
    /// What has waited through a change of the configuration may have another envelope.
    fn adapt(&self, chunk: &mut Chunk) {
        let form = self.envelope as u8;
        if chunk.form != form
            && let Some(old) = Envelope::of_form(chunk.form)
        {
            chunk.reform(form, |body, out| self.envelope.close(old.opened(body), out));
        }
    }
}

/// Long enough for a far upstream under load, short enough that fail-over is of use.
const TIMEOUT: Duration = Duration::from_secs(10);
/// After so long what has arrived is acknowledged, and the rest goes on: so much may go twice when the process is killed.
const LONGEST: Duration = Duration::from_millis(20);
/// A far server has something to do while its acknowledgements are on their way, and not much comes twice after a break.
const WINDOW: usize = 1024;
/// Memory for an upstream that is away; the other outputs share what is left.
const QUEUE: usize = 64 << 20;

pub(super) fn plan(config: &Config, scope: &mut OutputScope<'_, '_>) -> Option<Plan> {
    let targets = targets(config, scope)?;
    let envelope = envelope(config, targets[0].scheme, scope);
    let escaping = if envelope == Envelope::Line { Escaping::Line } else { Escaping::Nothing };
    let format = scope.format(config.format.as_ref(), "rfc5424", escaping);
    let tls = match targets[0].scheme.is_tls() {
        true => Some(client_tls(config, scope)?),
        false => {
            let given = config.ca.as_ref().or(config.certificate.as_ref()).or(config.key.as_ref());
            if let Some(given) = given {
                scope.scope.error(given.span(), "certificates are for `tls://` and `relps://` targets");
            }
            None
        }
    };
    let of_relp = [config.compression.as_ref().map(Spanned::span), config.window.as_ref().map(Spanned::span)];
    for span in of_relp.into_iter().flatten().filter(|_| !targets[0].scheme.is_relp()) {
        scope.scope.error(span, "only RELP has it: `relp://` or `relps://` targets");
    }
    if let Some(window) = config.window.as_ref().filter(|window| *window.as_ref() == 0) {
        scope.scope.error(window.span(), "at least one message must be on its way");
    }
    let settings = Settings {
        targets,
        balance: config.balance,
        timeout: config.timeout.map_or(TIMEOUT, |time| time.0),
        window: config.window.as_ref().map_or(WINDOW, |window| (*window.as_ref()).max(1)),
        compressed: config.compression.is_some(),
        tls,
        envelope,
        rebind_messages: config.rebind_messages.unwrap_or(u64::MAX).max(1),
        rebind_after: config.rebind_after.map(|time| time.0),
    };
    let mut plan = Plan {
        name: config.name.as_str().into(),
        kind: "forward",
        place: config.to.as_ref().iter().map(|to| to.as_ref().as_str()).collect::<Vec<_>>().join(", "),
        envelope,
        disk: Some(DiskPlan::standard()),
        print: format!("{settings:?}"),
        ..Plan::of(format?, Bounds::new(QUEUE, WhenFull::DropNewest), Box::new(move |_| Box::new(Forward::new(settings.clone()))))
    };
    config.queue.apply(&mut plan, scope.scope);
    Some(plan)
}

fn targets(config: &Config, scope: &mut OutputScope<'_, '_>) -> Option<Vec<Target>> {
    let mut targets: Vec<Target> = Vec::new();
    let mut wrong = false;
    for text in config.to.as_ref() {
        let what = match Target::parse(text.as_ref()) {
            Ok(target) if target.scheme == Scheme::Unix => {
                "a forward goes to `udp://`, `tcp://`, `tls://`, `relp://` or `relps://`".to_owned()
            }
            Ok(target) if targets.first().is_some_and(|first| first.scheme != target.scheme) => {
                "the targets of one output are of one kind: give the others an output of their own".to_owned()
            }
            Ok(target) => {
                targets.push(target);
                continue;
            }
            Err(what) => what,
        };
        scope.scope.error(text.span(), what);
        wrong = true;
    }
    if config.to.as_ref().is_empty() {
        scope.scope.error(config.to.span(), "`to` names no target");
    }
    (!wrong && !targets.is_empty()).then_some(targets)
}

fn envelope(config: &Config, scheme: Scheme, scope: &mut OutputScope<'_, '_>) -> Envelope {
    match (&config.framing, scheme) {
        (Some(framing), Scheme::Udp) => {
            scope.scope.error(framing.span(), "a datagram is its own frame");
            Envelope::Datagram
        }
        (Some(framing), scheme) if scheme.is_relp() => {
            scope.scope.error(framing.span(), "RELP has a framing of its own");
            Envelope::Datagram
        }
        (None, Scheme::Udp | Scheme::Relp | Scheme::Relps) => Envelope::Datagram,
        (Some(framing), _) if *framing.as_ref() == FramingName::Newline => Envelope::Line,
        _ => Envelope::OctetCounted,
    }
}

fn client_tls(config: &Config, scope: &mut OutputScope<'_, '_>) -> Option<ClientTls> {
    let files = ClientFiles {
        ca: config.ca.as_ref(),
        certificate: config.certificate.as_ref(),
        key: config.key.as_ref(),
        peers: &config.peers,
    };
    let to = config.to.span();
    ClientTls::read(&files).map_err(|(span, what)| scope.scope.error(if span.is_empty() { to } else { span }, what)).ok()
}

struct Forward {
    settings: Settings,
    links: Vec<Link>,
    /// Whose turn it is.
    next: usize,
}

impl Output for Forward {
    fn deliver<'a>(&'a mut self, batch: &'a mut [Chunk]) -> Delivery<'a> {
        Box::pin(async move {
            let mut failures = Vec::new();
            let started = Instant::now();
            while batch.iter().any(|chunk| chunk.pending() > 0) {
                let chosen = self.ready_link(batch, &mut failures).await.map_err(Undelivered::Retry)?;
                // Only now: what has just been called back may stand before what was pending.
                let Some(chunk) = batch.iter_mut().find(|chunk| chunk.pending() > 0) else { break };
                self.settings.adapt(chunk);
                // One connection has all of a chunk that is on its way: what it confirms are the first of its own.
                let link = if chunk.open() > chunk.pending() { chunk.carrier } else { chosen };
                chunk.carrier = link;
                if let Err(why) = self.links[link].send(chunk).await {
                    self.broken(link, batch);
                    failures.push(why);
                    if failures.len() >= self.links.len() {
                        // That was its turn to wait.
                        self.links[link].take_barren();
                        return Err(Undelivered::Retry(failures.join("; ")));
                    }
                } else if started.elapsed() > LONGEST {
                    return Ok(());
                }
            }
            Ok(())
        })
    }

    fn confirm(&mut self, batch: &mut [Chunk]) {
        for link in 0..self.links.len() {
            self.links[link].look();
            if self.links[link].is_connected() {
                settle(batch, link, &self.links[link].confirmed());
            } else {
                self.broken(link, batch);
            }
        }
    }

    fn close(&mut self) -> Closing<'_> {
        Box::pin(async {
            for link in &mut self.links {
                link.finish().await;
            }
        })
    }
}

impl Forward {
    fn new(settings: Settings) -> Self {
        let Settings { tls, timeout, window, compressed, .. } = &settings;
        let way = |target: &Target| Way {
            target: target.clone(),
            tls: tls.clone(),
            timeout: *timeout,
            window: *window,
            compressed: *compressed,
        };
        let links = settings.targets.iter().map(|target| Link::new(way(target))).collect();
        Self { settings, links, next: 0 }
    }

    /// The connection is gone: what had not arrived goes again.
    fn broken(&mut self, link: usize, batch: &mut [Chunk]) {
        settle(batch, link, &self.links[link].confirmed());
        self.links[link].forget();
        let own = batch.iter_mut().filter(|chunk| chunk.carrier == link);
        let again: usize = own.map(Chunk::call_back).sum();
        if again > 0 {
            self.links[link].has_failed();
            tracing::info!("{} had not taken the last {again} messages: they go again", self.settings.targets[link]);
        }
    }

    /// The link that is to be used now, connected.
    async fn ready_link(&mut self, batch: &mut [Chunk], reasons: &mut Vec<String>) -> Result<usize, String> {
        let order = self.order();
        for link in 0..self.links.len() {
            self.links[link].look();
            if !self.links[link].is_connected() {
                self.broken(link, batch);
            }
        }
        let connected = order.iter().copied().find(|link| self.links[*link].is_connected());
        if let Some(chosen) = connected {
            self.tend(chosen, &order);
            if !self.renew(chosen, batch).await {
                return Ok(chosen);
            }
        }
        for link in order {
            if self.links[link].is_connected() {
                return Ok(link);
            }
            if self.links[link].take_barren() {
                reasons.push(format!("{}: its last connection ended before anything had arrived", self.settings.targets[link]));
                continue;
            }
            match self.links[link].connect().await {
                Ok(()) => return Ok(link),
                Err(why) => reasons.push(why),
            }
        }
        Err(reasons.join("; "))
    }

    /// A connection that has been used for long enough is closed as soon as nothing is on its way, or when it has been used
    /// for twice as long. True: it is closed.
    async fn renew(&mut self, link: usize, batch: &mut [Chunk]) -> bool {
        let wear = self.links[link].wear(self.settings.rebind_messages, self.settings.rebind_after);
        if wear < 1.0 {
            return false;
        }
        settle(batch, link, &self.links[link].confirmed());
        if self.links[link].is_idle() {
            self.links[link].close();
        } else if wear >= 2.0 {
            self.links[link].finish().await;
            self.broken(link, batch);
        }
        !self.links[link].is_connected()
    }

    /// In which the links are preferred.
    fn order(&mut self) -> Vec<usize> {
        let count = self.links.len();
        match self.settings.balance {
            Balance::Failover => (0..count).collect(),
            Balance::RoundRobin => {
                self.next = (self.next + 1) % count;
                (0..count).map(|i| (self.next + i) % count).collect()
            }
        }
    }

    /// Those that would be preferred are connected in the background; those that are not needed are closed.
    fn tend(&mut self, chosen: usize, order: &[usize]) {
        let mut before = true;
        for link in order.iter().copied() {
            if link == chosen {
                before = false;
            } else if before || self.settings.balance == Balance::RoundRobin {
                self.links[link].connect_in_background();
            } else {
                self.links[link].close();
            }
        }
    }
}

/// What became of the first records that the link has on their way.
fn settle(batch: &mut [Chunk], link: usize, outcomes: &Outcomes) {
    let mut chunks = batch.iter_mut().filter(|chunk| chunk.carrier == link);
    match outcomes {
        Outcomes::Arrived(count) => {
            let mut count = *count;
            while count > 0
                && let Some(chunk) = chunks.next()
            {
                count -= chunk.confirm(count);
            }
        }
        Outcomes::Answered(answers) => {
            let mut answers = answers.as_slice();
            while !answers.is_empty()
                && let Some(chunk) = chunks.next()
            {
                answers = &answers[chunk.answer(answers)..];
            }
        }
    }
}

/// The future's result within the time, or what is said when it is over.
async fn within<T>(time: Duration, what: &str, future: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    match tokio::time::timeout(time, future).await {
        Ok(result) => result,
        Err(_) => Err(format!("{what} within {} s", time.as_secs_f32())),
    }
}
