//! What holds for the whole server: `global(…)`, `$` directives of that kind, and the modules that were loaded.

use super::report::Report;
use super::syntax::{Source, module_name};

/// What is to be said of a parameter.
enum Known {
    /// It needs nothing here.
    Needless(&'static str),
    Differs(&'static str),
    Lost(&'static str),
    /// Another part looks at it.
    Used,
}

use Known::{Differs, Lost, Needless, Used};

pub(super) fn report(source: &Source, report: &mut Report) {
    for object in &source.globals {
        for (name, values) in &object.params {
            let value = values.first().map_or("", String::as_str);
            match parameter(name, value) {
                Needless(why) => report.carried(&object.origin, why),
                Differs(what) => report.differs(&object.origin, what),
                Lost(why) => report.lost(&object.origin, format!("`{name}`: {why}")),
                Used => {}
            }
        }
    }
    modules(source, report);
}

fn parameter(name: &str, value: &str) -> Known {
    let is_on = super::syntax::is_on(value);
    match name {
        _ if name.starts_with("allowedsender.") => Used,
        _ if name.starts_with("defaultnetstreamdriver") => Used,
        _ if name.starts_with("mainmsgqueue") => Differs(
            "there is no queue before the rules: each output has its own, bounded by `memory` and on disk where it forwards",
        ),
        "maxmessagesize" => Used,
        "privdroptogroup" | "privdroptogroupid" | "privdroptouser" | "privdroptouserid" => Differs(
            "the unit starts the server as a user of its own, `penstock`; started as root, `user` and `group` in [server]",
        ),
        "workdirectory" => Differs("queues and positions are below `state-dir`: /var/lib/penstock where nothing is said"),
        "repeatedmsgreduction" if is_on => Differs(
            "repetitions are counted for each sender, whoever sends in between, and told of after 30 s at the latest; another severity, message id, structured data or form of the header makes another message",
        ),
        "repeatedmsgreduction" => Needless("repeated messages are kept as they are"),
        "preservefqdn" | "localdomain" | "localhostname" => {
            Differs("names are kept as they come; a host's own name is that of the system")
        }
        "escapecontrolcharactersonreceive" | "parser.escapecontrolcharactersonreceive" if !is_on => {
            Differs("control characters are escaped where they are written; `control-characters` of an output can keep them")
        }
        "dropmsgswithmaliciousdnsptrrecords" | "net.acladdhostnameonfail" | "net.aclresolvehostname" | "net.enabledns" => {
            Needless("names by DNS are looked up only where an input has `reverse-dns`")
        }
        "omitlocallogging" => Lost("give the rules a condition on `input`"),
        "addunixlistensocket" | "inputunixlistensockethostname" | "systemlogsocketname" => Used,
        "klogpermitnonkernelfacility"
        | "klogpath"
        | "klogconsoleloglevel"
        | "klogsymbollookup"
        | "klogsymbolstwice"
        | "kloglocalipif"
        | "kloginternalmsgfacility" => Needless("the kernel's messages are read as they are"),
        "markmessageperiod" => {
            Lost("marks are not written: `penstock_input_messages_total` in [metrics] says that a server lives")
        }
        "systemlogratelimitinterval"
        | "systemlogratelimitburst"
        | "imuxsockratelimitinterval"
        | "imuxsockratelimitburst"
        | "systemlogratelimitseverity"
        | "imuxsockratelimitseverity"
        | "imjournalratelimitinterval"
        | "imjournalratelimitburst" => Differs("nothing is dropped by rate"),
        "imjournalstatefile" | "imjournalignorepreviousmessages" | "imjournalpersiststateinterval" => {
            Needless("the place in the journal is kept below `state-dir`")
        }
        "debug.logfile"
        | "debug.whitelist"
        | "debugfile"
        | "debuglevel"
        | "processinternalmessages"
        | "logrsyslogstatusmessages"
        | "internalmsg.ratelimit.interval"
        | "internalmsg.ratelimit.burst"
        | "internalmsg.severity"
        | "errormessagestostderr.maxnumber" => Needless("what the server says of itself goes to the journal"),
        "systemloguse"
        | "systemlogsocketignoremsgtimestamp"
        | "systemlogsocketannotate"
        | "systemlogusepidfromsystem"
        | "systemlogusesystimestamp"
        | "systemlogparsetrusted"
        | "systemlogflowcontrol"
        | "imuxsockratelimit" => Needless("the socket of this host is read as it is"),
        "optimizeforuniprocessor"
        | "moddir"
        | "moddirpath"
        | "abortonuncleanconfig"
        | "variables.casesensitive"
        | "errormessagestostderr"
        | "maxopenfiles"
        | "shutdown.enable.ctlc"
        | "shutdown.queue.doublesize"
        | "stdlog.channelspec"
        | "senders.keeptrack"
        | "senders.timeoutafter"
        | "senders.reportgoneaway"
        | "senders.reportnew"
        | "action.reportsuspension"
        | "action.reportsuspensioncontinuation"
        | "uuid"
        | "compactjsonstring"
        | "default.action.queue.timeoutshutdown"
        | "default.action.queue.timeoutactioncompletion"
        | "environment"
        | "operatingstatefile"
        | "reverselookup.cache.ttl.default"
        | "reverselookup.cache.ttl.enable"
        | "debug.gnutls"
        | "internal.developeronly.options"
        | "glbldebugfile" => Needless("it needs nothing here"),
        "defaultfacility" | "default.facility" | "default.severity" => {
            Lost("a message without priority is user.notice (RFC 3164, section 4.3.3)")
        }
        _ if name.starts_with("parser.") => {
            Needless("RFC 5424, RFC 3164 and messages without header are told apart by themselves")
        }
        _ if name.starts_with("debug") => Needless("what the server says of itself goes to the journal"),
        _ => Lost("there is no such setting here"),
    }
}

/// What a loaded module means; those of inputs and actions are looked at where they are used.
fn modules(source: &Source, report: &mut Report) {
    for object in &source.modules {
        let kind = object.kind();
        let name = module_name(&kind);
        match name {
            _ if name.starts_with("builtin:") => report.carried(&object.origin, "its settings stand with each output"),
            "imfile" | "imjournal" | "imklog" | "impstats" | "imptcp" | "imrelp" | "imtcp" | "imudp" | "imuxsock" => {}
            "immark" => report.lost(&object.origin, "marks are not written: `[metrics]` says that a server lives"),
            "omfile" | "omfwd" | "ompipe" | "omprog" | "omrelp" | "omstdout" | "omusrmsg" => {
                report.carried(&object.origin, "outputs need no module");
            }
            _ if name.starts_with("lmnsd") || name.starts_with("lm") => report.carried(&object.origin, "TLS needs no module"),
            "pmrfc3164" | "pmrfc5424" | "pmciscoios" | "pmaixforwardedfrom" | "pmsnare" | "pmlastmsg" | "pmnormalize"
            | "pmnull" => {
                report.differs(&object.origin, "RFC 5424, RFC 3164 and what devices make of them are told apart by themselves");
            }
            _ => report.lost(&object.origin, format!("there is no counterpart to the module `{name}`")),
        }
    }
}
