//! rsyslog's inputs as ours, and which ruleset takes what from them.

use std::path::Path;

use super::report::{Origin, Report};
use super::syntax::{Object, Source};
use super::write::{Table, string, strings};

#[derive(Debug, Default)]
pub(super) struct Inputs {
    pub tables: Vec<Table>,
    /// What rsyslog calls each (`$inputname`), and our name.
    pub names: Vec<(String, String)>,
    /// Our names of those that take what is of this host.
    pub local: Vec<String>,
    /// Our names with the ruleset that is theirs, and where that is said.
    pub bound: Vec<(String, String, Origin)>,
    pub metrics: Option<Origin>,
}

/// Where journald hands messages on to whoever stands in for syslog.
pub const JOURNALD: &str = "/run/systemd/journal/syslog";

/// The inputs for which $RepeatedMsgReduction holds.
const REDUCED: [&str; 5] = ["[[input.relp]]", "[[input.tcp]]", "[[input.tls]]", "[[input.udp]]", "[[input.unix]]"];

pub(super) fn translate(source: &Source, report: &mut Report) -> Inputs {
    let mut inputs = Inputs::default();
    for (name, make) in
        [("imuxsock", local_socket as fn(&mut Inputs, &Source, &Object, &mut Report)), ("imklog", kernel), ("imjournal", journal)]
    {
        if let Some(module) = source.module(name) {
            make(&mut inputs, source, module, report);
        }
    }
    if let Some(module) = source.module("impstats") {
        report.differs(&module.origin, "counters are served to Prometheus on request (`[metrics]`), not written into the log");
        inputs.metrics = Some(module.origin.clone());
    }
    for object in &source.inputs {
        match object.kind().as_str() {
            "imfile" => file(&mut inputs, object, report),
            "imptcp" | "imtcp" => stream(&mut inputs, source, object, report),
            "imrelp" => relp(&mut inputs, source, object, report),
            "imudp" => udp(&mut inputs, source, object, report),
            "imuxsock" => socket(&mut inputs, object, report),
            other => report.lost(&object.origin, format!("there is no counterpart to the input `{other}`")),
        }
    }
    say_what_nobody_listens_to(source, report);
    if source.global("repeatedmsgreduction").is_some_and(super::syntax::is_on) {
        let takes_messages = |table: &&mut Table| REDUCED.contains(&&*table.heading);
        inputs.tables.iter_mut().filter(takes_messages).for_each(|table| table.set("repeats", string("count-with-text")));
    }
    inputs
}

/// A module that is loaded and never told a port does nothing.
fn say_what_nobody_listens_to(source: &Source, report: &mut Report) {
    for name in ["imudp", "imtcp", "imptcp", "imrelp", "imfile"] {
        if let Some(module) = source.module(name) {
            let is_used = source.inputs.iter().any(|input| input.kind() == name);
            report.carried(&module.origin, if is_used { "its settings stand with each input" } else { "nothing listens by it" });
        }
    }
}

impl Inputs {
    /// Adds an input under a name that is not taken: that of rsyslog, or with a number behind it.
    fn add(&mut self, mut table: Table, object: &Object, theirs: &str) -> String {
        let taken = |name: &str| self.names.iter().any(|(_, ours)| ours == name);
        let theirs = object.get("name").unwrap_or(theirs).to_owned();
        let mut ours = theirs.clone();
        let mut number = 1;
        while taken(&ours) {
            number += 1;
            ours = format!("{theirs}-{number}");
        }
        table.entries.insert(0, ("name".to_owned(), string(&ours)));
        table.origins.push(object.origin.clone());
        self.tables.push(table);
        self.names.push((theirs, ours.clone()));
        if let Some(ruleset) = object.get("ruleset") {
            self.bound.push((ours.clone(), ruleset.to_owned(), object.origin.clone()));
        }
        ours
    }

    fn add_local(&mut self, table: Table, object: &Object, theirs: &str) {
        let name = self.add(table, object, theirs);
        self.local.push(name);
    }
}

fn local_socket(inputs: &mut Inputs, source: &Source, module: &Object, report: &mut Report) {
    let off = |object: &Object, name: &str| object.get(name).is_some_and(|value| value.eq_ignore_ascii_case("off"));
    let is_off = off(module, "syssock.use")
        || source.globals.iter().any(|global| off(global, "omitlocallogging_") || off(global, "systemloguse"));
    if is_off {
        return report.carried(&module.origin, "this host's socket is not read");
    }
    let named = source.global("systemlogsocketname").or(module.get("syssock.name"));
    // As rsyslog does it, by what the system is that it runs on.
    let path = named.unwrap_or(if Path::new("/run/systemd/system").exists() { JOURNALD } else { "/dev/log" });
    let mut table = Table::new("[[input.unix]]");
    table.set("listen", string(path));
    if module.get("syssock.ignoretimestamp").is_none_or(super::syntax::is_on) {
        table.set("timestamp", string("received"));
    }
    inputs.add_local(table, module, "imuxsock");
    if module.params.keys().any(|name| name.starts_with("syssock.ratelimit")) {
        report.differs(&module.origin, "nothing is dropped by rate");
    } else {
        report.carried(&module.origin, format!("reads {path}"));
    }
}

fn kernel(inputs: &mut Inputs, _source: &Source, module: &Object, report: &mut Report) {
    inputs.add_local(Table::new("[[input.kmsg]]"), module, "imklog");
    report.carried(&module.origin, "reads /dev/kmsg");
}

fn journal(inputs: &mut Inputs, _source: &Source, module: &Object, report: &mut Report) {
    inputs.add_local(Table::new("[[input.journal]]"), module, "imjournal");
    match module.params.keys().any(|name| name.starts_with("ratelimit")) {
        true => report.differs(&module.origin, "nothing is dropped by rate; the place in the journal is kept below `state-dir`"),
        false => report.carried(&module.origin, "the place in the journal is kept below `state-dir`"),
    }
}

/// A further socket of imuxsock.
fn socket(inputs: &mut Inputs, object: &Object, report: &mut Report) {
    let Some(path) = object.get("socket") else {
        return report.lost(&object.origin, "a socket has a path");
    };
    let mut table = Table::new("[[input.unix]]");
    table.set("listen", string(path));
    if object.get("ignoretimestamp").is_none_or(super::syntax::is_on) {
        table.set("timestamp", string("received"));
    }
    inputs.add_local(table, object, "imuxsock");
    report.carried(&object.origin, format!("reads {path}"));
}

/// `ADDRESS:PORT`s of the ports, on which the module listens.
fn addresses(object: &Object) -> Vec<String> {
    let address = match object.get("address") {
        None | Some("*" | "") => "[::]".to_owned(),
        Some(address) if address.contains(':') => format!("[{address}]"),
        Some("localhost") => "127.0.0.1".to_owned(),
        Some(address) => address.to_owned(),
    };
    let ports = object.params.get("port").cloned().unwrap_or_default();
    ports.iter().map(|port| format!("{address}:{}", if port == "0" { "514" } else { port.as_str() })).collect()
}

/// What every kind that listens has.
fn settings(table: &mut Table, source: &Source, object: &Object, allowed: &str) {
    if source.global("net.enabledns").is_none_or(super::syntax::is_on) {
        table.set("reverse-dns", "true");
    }
    if let Some(zone) = object.get("defaulttz") {
        table.set("timezone", string(zone));
    }
    let senders: Vec<_> =
        source.globals.iter().filter_map(|global| global.params.get(&format!("allowedsender.{allowed}"))).flatten().collect();
    let networks: Vec<_> = senders
        .iter()
        .filter(|sender| sender.parse::<ipnet::IpNet>().is_ok() || sender.parse::<std::net::IpAddr>().is_ok())
        .collect();
    if !networks.is_empty() {
        table.set("allow", strings(networks.iter().map(|sender| sender.as_str())));
    }
    if let Some(size) = source.global("maxmessagesize").and_then(octets).filter(|octets| (480..=16 << 20).contains(octets)) {
        table.set("max-message", size.to_string());
    }
}

/// `8k`: small letters are powers of 1024, capitals of 1000.
pub(super) fn octets(text: &str) -> Option<u64> {
    let units = [
        ('k', 1 << 10),
        ('K', 1000),
        ('m', 1 << 20),
        ('M', 1_000_000),
        ('g', 1 << 30),
        ('G', 1_000_000_000),
        ('t', 1 << 40),
        ('T', 1_000_000_000_000),
    ];
    let (number, unit) = units.iter().find_map(|(unit, octets)| Some((text.strip_suffix(*unit)?, *octets))).unwrap_or((text, 1));
    number.trim().parse::<u64>().ok()?.checked_mul(unit)
}

fn say_names(source: &Source, allowed: &str, origin: &Origin, report: &mut Report) {
    let senders = source.globals.iter().filter_map(|global| global.params.get(&format!("allowedsender.{allowed}"))).flatten();
    for sender in senders.filter(|sender| sender.parse::<ipnet::IpNet>().is_err() && sender.parse::<std::net::IpAddr>().is_err())
    {
        report.lost(origin, format!("`{sender}` in $AllowedSender: `allow` has addresses and networks only"));
    }
}

fn udp(inputs: &mut Inputs, source: &Source, object: &Object, report: &mut Report) {
    for address in addresses(object) {
        let mut table = Table::new("[[input.udp]]");
        table.set("listen", string(&address));
        settings(&mut table, source, object, "udp");
        inputs.add(table, object, "imudp");
    }
    say_names(source, "udp", &object.origin, report);
    said(object, &["address", "name", "port", "rcvbufsize", "ruleset", "type"], report);
}

fn stream(inputs: &mut Inputs, source: &Source, object: &Object, report: &mut Report) {
    let module = source.module(&object.kind());
    let of = |name: &str| object.get(name).or_else(|| module.and_then(|module| module.get(name)));
    let is_tls = of("streamdriver.mode").is_some_and(|mode| mode == "1");
    for address in addresses(object) {
        let mut table = Table::new(if is_tls { "[[input.tls]]" } else { "[[input.tcp]]" });
        table.set("listen", string(&address));
        if is_tls {
            let peers =
                object.params.get("permittedpeer").or_else(|| module.and_then(|module| module.params.get("permittedpeer")));
            tls(&mut table, source, of, peers, object, report);
        }
        if of("supportoctetcountedframing").is_some_and(|value| value.eq_ignore_ascii_case("off")) {
            table.set("framing", string("newline"));
        }
        if let Some(sessions) = of("maxsessions").filter(|sessions| sessions.parse::<usize>().is_ok()) {
            table.set("max-connections", sessions);
        }
        settings(&mut table, source, object, "tcp");
        inputs.add(table, object, &object.kind());
    }
    say_names(source, "tcp", &object.origin, report);
    const KNOWN: [&str; 16] = [
        "address",
        "keepalive",
        "maxsessions",
        "name",
        "permittedpeer",
        "port",
        "ruleset",
        "streamdriver.authmode",
        "streamdriver.mode",
        "streamdriver.name",
        "streamdriver.certfile",
        "streamdriver.keyfile",
        "streamdriver.cafile",
        "supportoctetcountedframing",
        "type",
        "threads",
    ];
    said(object, &KNOWN, report);
}

/// Certificates are those of the input, or else of the whole server.
fn tls<'o>(
    table: &mut Table,
    source: &'o Source,
    of: impl Fn(&str) -> Option<&'o str>,
    peers: Option<&Vec<String>>,
    object: &Object,
    report: &mut Report,
) {
    let file = |own: &str, global: &str| of(own).or_else(|| source.global(global)).map(string);
    let certificate = file("streamdriver.certfile", "defaultnetstreamdrivercertfile");
    let key = file("streamdriver.keyfile", "defaultnetstreamdriverkeyfile");
    let ca = file("streamdriver.cafile", "defaultnetstreamdrivercafile");
    match (certificate, key) {
        (Some(certificate), Some(key)) => {
            table.set("certificate", certificate);
            table.set("key", key);
        }
        _ => report
            .lost(&object.origin, "TLS without a certificate of its own (DefaultNetstreamDriverCertFile) is not possible here"),
    }
    let mode = of("streamdriver.authmode").unwrap_or("anon").to_ascii_lowercase();
    if mode.starts_with("x509")
        && let Some(ca) = ca.filter(|_| mode != "x509/fingerprint")
    {
        table.set("client-ca", ca);
    }
    let peers = permitted(peers.into_iter().flatten());
    if matches!(mode.as_str(), "x509/fingerprint" | "x509/name") && !peers.is_empty() {
        table.set("peers", strings(peers.iter().map(String::as_str)));
    }
}

/// `SHA1:AB:…` is `sha-1:AB:…` here.
pub(super) fn permitted<'p>(peers: impl Iterator<Item = &'p String>) -> Vec<String> {
    let ours = |peer: &str| match peer.split_once(':') {
        Some((kind, rest)) if kind.eq_ignore_ascii_case("sha1") => format!("sha-1:{rest}"),
        Some((kind, rest)) if kind.eq_ignore_ascii_case("sha256") => format!("sha-256:{rest}"),
        _ => peer.to_owned(),
    };
    peers.flat_map(|peers| peers.split(',')).map(|peer| ours(peer.trim())).filter(|peer| !peer.is_empty()).collect()
}

fn relp(inputs: &mut Inputs, source: &Source, object: &Object, report: &mut Report) {
    for address in addresses(object) {
        let mut table = Table::new("[[input.relp]]");
        table.set("listen", string(&address));
        if object.is_on("tls") {
            match (object.get("tls.mycert"), object.get("tls.myprivkey")) {
                (Some(certificate), Some(key)) => {
                    table.set("certificate", string(certificate));
                    table.set("key", string(key));
                }
                _ => {
                    report.lost(&object.origin, "TLS without a certificate is not possible here (`tls.mycert`, `tls.myprivkey`)")
                }
            }
            if let Some(ca) = object.get("tls.cacert") {
                table.set("client-ca", string(ca));
            }
            let peers = permitted(object.params.get("tls.permittedpeer").into_iter().flatten());
            if !peers.is_empty() {
                table.set("peers", strings(peers.iter().map(String::as_str)));
            }
        }
        settings(&mut table, source, object, "relp");
        inputs.add(table, object, "imrelp");
    }
    const KNOWN: [&str; 12] = [
        "address",
        "keepalive",
        "name",
        "port",
        "ruleset",
        "tls",
        "tls.authmode",
        "tls.cacert",
        "tls.mycert",
        "tls.myprivkey",
        "tls.permittedpeer",
        "type",
    ];
    said(object, &KNOWN, report);
}

fn file(inputs: &mut Inputs, object: &Object, report: &mut Report) {
    let Some(path) = object.get("file") else {
        return report.lost(&object.origin, "a file has a path");
    };
    let mut table = Table::new("[[input.file]]");
    table.set("path", strings([path]));
    if let Some(tag) = object.get("tag") {
        table.set("app-name", string(tag.trim_end_matches(':')));
    }
    table.set("facility", string(&object.get("facility").unwrap_or("local0").to_ascii_lowercase()));
    table.set("severity", string(&object.get("severity").unwrap_or("notice").to_ascii_lowercase()));
    if let Some(pattern) = object.get("startmsg.regex") {
        match super::patterns::posix(pattern, true) {
            Ok(pattern) => table.set("start", string(&pattern.text)),
            Err(why) => report.lost(&object.origin, format!("`startmsg.regex`: {why}")),
        }
    }
    if object.is_on("freshstarttail") {
        table.set("from", string("end"));
    }
    inputs.add_local(table, object, "imfile");
    const KNOWN: [&str; 9] =
        ["facility", "file", "freshstarttail", "name", "ruleset", "severity", "startmsg.regex", "tag", "type"];
    said(object, &KNOWN, report);
}

/// What a parameter that nothing was made of means.
fn said(object: &Object, known: &[&str], report: &mut Report) {
    let mut all = true;
    for name in object.params.keys().filter(|name| !known.contains(&name.as_str())) {
        all = false;
        match name.as_str() {
            name if name.starts_with("ratelimit") => report.differs(&object.origin, "nothing is dropped by rate"),
            "defaulttz" => {}
            "addmetadata"
            | "statefile"
            | "persiststateinterval"
            | "deletestateonfiledelete"
            | "reopenontruncate"
            | "freshstarttail"
            | "readmode"
            | "escapelf"
            | "device"
            | "rcvbufsize"
            | "timerequery"
            | "batchsize"
            | "threads"
            | "schedulingpolicy"
            | "schedulingpriority"
            | "name.appendport"
            | "flowcontrol"
            | "notifyonconnectionclose"
            | "notifyonconnectionopen"
            | "disablelfdelimiter"
            | "addtlframedelimiter"
            | "keepalive.probes"
            | "keepalive.interval"
            | "keepalive.time"
            | "socketbacklog"
            | "maxdatasize"
            | "oversizemode"
            | "maxframesize"
            | "multiline"
            | "preservecase"
            | "compression.mode"
            | "listenportfilename"
            | "processonpoller"
            | "discardtruncatedmsg"
            | "usespecialparser"
            | "createpath"
            | "hostname"
            | "usepidfromsystem"
            | "parsetrusted" => {
                report.differs(&object.origin, format!("`{name}` has no counterpart"));
            }
            other => report.lost(&object.origin, format!("`{other}` has no counterpart")),
        }
    }
    if all {
        report.carried(&object.origin, "an input");
    }
}
