//! rsyslog's actions as our outputs. Two that do the same are one.

use super::inputs::{octets, permitted};
use super::properties::Piece;
use super::report::{Origin, Report};
use super::syntax::{Object, Source};
use super::templates::{self, Variables};
use super::write::{Named, Table, string, strings};
use crate::sys::name;

pub(super) struct Outputs<'s> {
    source: &'s Source,
    tables: Vec<(String, Table)>,
    templates: Vec<Named>,
    /// The last that forwards, for an action that takes over where it is suspended.
    last_forward: Option<(String, String)>,
}

/// Why an action has no counterpart.
type Wrong = String;

impl<'s> Outputs<'s> {
    pub(super) fn new(source: &'s Source) -> Self {
        Self { source, tables: Vec::new(), templates: Vec::new(), last_forward: None }
    }

    pub(super) fn finish(self) -> (Vec<Table>, Vec<Named>) {
        let named = |(name, mut table): (String, Table)| {
            table.entries.insert(0, ("name".to_owned(), string(&name)));
            table
        };
        (self.tables.into_iter().map(named).collect(), self.templates)
    }

    /// The name of the output that takes what an action takes, with what is in the variables there.
    pub(super) fn action(&mut self, object: &Object, variables: &Variables, report: &mut Report) -> Option<String> {
        let made = match object.kind().as_str() {
            "omdiscard" => return Some(self.discard()),
            "omfile" => self.file(object, variables, report),
            "omfwd" => self.forward(object, variables, report),
            "ompipe" => self.pipe(object, variables),
            "omprog" => self.program(object, variables),
            "omrelp" => self.relp(object, variables, report),
            "omusrmsg" => self.users(object, variables),
            other => Err(without_counterpart(other)),
        };
        match made {
            Ok(Some(name)) => {
                self.other_params(object, report);
                report.carried(&object.origin, format!("output `{name}`"));
                Some(name)
            }
            Ok(None) => None,
            Err(why) => {
                report.lost(&object.origin, why);
                None
            }
        }
    }

    pub(super) fn discard(&mut self) -> String {
        self.add("discard", Table::new("[[output.discard]]"), None)
    }

    /// The output that is like this one, or a new one of a free name.
    fn add(&mut self, name: &str, table: Table, origin: Option<&Origin>) -> String {
        let same = |other: &&mut (String, Table)| (&other.1.heading, &other.1.entries) == (&table.heading, &table.entries);
        if let Some((name, table)) = self.tables.iter_mut().find(same) {
            table.origins.extend(origin.filter(|origin| !table.origins.contains(origin)).cloned());
            return name.clone();
        }
        let name = free(name, |name| self.tables.iter().any(|(other, _)| other == name));
        self.tables.push((name.clone(), Table { origins: origin.cloned().into_iter().collect(), ..table }));
        name
    }

    /// `format = "…"` for the action's template.
    fn format(&mut self, object: &Object, default: &str, variables: &Variables) -> Result<String, Wrong> {
        let name = object.get("template").unwrap_or(default);
        let (pieces, origin) = self.template(name, variables)?;
        let text = templates::text(&pieces);
        // Every record gets its line end.
        Ok(self.named(name, text.strip_suffix('\n').unwrap_or(&text), origin))
    }

    fn template(&self, name: &str, variables: &Variables) -> Result<(Vec<Piece>, Option<Origin>), Wrong> {
        if let Some(template) = self.source.templates.get(&name.to_ascii_lowercase()) {
            let format = templates::translate(template, variables).map_err(|why| format!("its template `{name}`: {why}"))?;
            return Ok((format, Some(template.origin.clone())));
        }
        let known = templates::builtin(name).ok_or_else(|| format!("its template `{name}` is not there"))?;
        Ok((known, None))
    }

    fn named(&mut self, name: &str, text: &str, origin: Option<Origin>) -> String {
        if let Some((name, ..)) = self.templates.iter().find(|(_, other, _)| other == text) {
            return name.clone();
        }
        let name = free(&kebab(name), |name| {
            self.templates.iter().any(|(other, ..)| other == name) || crate::template::Format::NAMES.contains(&name)
        });
        self.templates.push((name.clone(), text.to_owned(), origin));
        name
    }

    fn file(&mut self, object: &Object, variables: &Variables, report: &mut Report) -> Result<Option<String>, Wrong> {
        let path = match (object.get("file"), object.get("dynafile")) {
            (Some(path), _) => path.replace('{', "{{").replace('}', "}}"),
            (None, Some(name)) => templates::text(&confined(self.template(name, variables)?.0)),
            (None, None) => return Err("an omfile has neither `file` nor `dynaFile`".to_owned()),
        };
        if path.starts_with("/dev/") && !path.starts_with("/dev/shm/") {
            return self.device(&path, object, variables).map(Some);
        }
        let mut table = Table::new("[[output.file]]");
        table.set("path", string(&path));
        if object.is_on("action.execonlywhenpreviousissuspended") {
            return Err("a file in place of an output that is away: what waits for that one is in its queue on disk".to_owned());
        }
        table.set("format", string(&self.format(object, "RSYSLOG_FileFormat", variables)?));
        let umask = object.get("umask").and_then(|mode| u32::from_str_radix(mode, 8).ok()).unwrap_or(0);
        let mode = |name: &str, default: u32| {
            object.get(name).and_then(|mode| u32::from_str_radix(mode, 8).ok()).unwrap_or(default) & !umask
        };
        for (key, mode, ours) in
            [("mode", mode("filecreatemode", 0o644), 0o640), ("dir-mode", mode("dircreatemode", 0o700), 0o750)]
        {
            if mode != ours {
                table.set(key, string(&format!("{mode:04o}")));
            }
        }
        owners(&mut table, object, report);
        if object.is_on("sync") {
            table.set("sync", string("batch"));
        }
        if let Some(most) =
            object.get("dynafilecachesize").and_then(|most| most.parse::<usize>().ok()).filter(|most| *most > 2048)
        {
            table.set("max-open", most.to_string());
        }
        Ok(Some(self.add(&name_of(&path), table, Some(&object.origin))))
    }

    fn device(&mut self, path: &str, object: &Object, variables: &Variables) -> Result<String, Wrong> {
        let mut table = Table::new("[[output.pipe]]");
        table.set("path", string(path));
        table.set("format", string(&self.format(object, "RSYSLOG_FileFormat", variables)?));
        Ok(self.add(&name_of(path), table, Some(&object.origin)))
    }

    fn pipe(&mut self, object: &Object, variables: &Variables) -> Result<Option<String>, Wrong> {
        let path = object.get("pipe").ok_or("an ompipe has no `pipe`")?;
        self.device(path, object, variables).map(Some)
    }

    fn users(&mut self, object: &Object, variables: &Variables) -> Result<Option<String>, Wrong> {
        let users = object.params.get("users").ok_or("an omusrmsg has no `users`")?;
        let users: Vec<_> =
            users.iter().flat_map(|users| users.split(',')).map(str::trim).filter(|user| !user.is_empty()).collect();
        let mut table = Table::new("[[output.users]]");
        table.set("to", strings(users.iter().copied()));
        if object.get("template").is_some_and(|name| !name.to_ascii_uppercase().starts_with("RSYSLOG_")) {
            table.set("format", string(&self.format(object, "RSYSLOG_WallFmt", variables)?));
        }
        let name = if users == ["*"] { "everybody".to_owned() } else { users.join("-") };
        Ok(Some(self.add(&name, table, Some(&object.origin))))
    }

    fn program(&mut self, object: &Object, variables: &Variables) -> Result<Option<String>, Wrong> {
        let words = words(object.get("binary").ok_or("an omprog has no `binary`")?);
        let mut table = Table::new("[[output.program]]");
        table.set("command", strings(words.iter().map(String::as_str)));
        table.set("format", string(&self.format(object, "RSYSLOG_FileFormat", variables)?));
        if object.is_on("confirmmessages") {
            table.set("acknowledge", "true");
        }
        let name = words.first().map(|program| name_of(program)).unwrap_or_default();
        Ok(Some(self.add(&name, table, Some(&object.origin))))
    }

    fn forward(&mut self, object: &Object, variables: &Variables, report: &mut Report) -> Result<Option<String>, Wrong> {
        let target = object.get("target").ok_or("an omfwd has no `target`")?;
        let protocol = object.get("protocol").unwrap_or("udp").to_ascii_lowercase();
        let driver = object.get("streamdriver").or(self.source.global("defaultnetstreamdriver")).unwrap_or("ptcp");
        let mode = object.get("streamdrivermode").or(object.get("streamdriver.mode")).unwrap_or("0");
        let is_tls = protocol == "tcp" && mode == "1" && driver != "ptcp";
        let scheme = if is_tls { "tls" } else { protocol.as_str() };
        let url = url(scheme, target, object.get("port").unwrap_or("514"));
        let mut table = Table::new("[[output.forward]]");
        table.set("to", strings([url.as_str()]));
        table.set("format", string(&self.format(object, "RSYSLOG_TraditionalForwardFormat", variables)?));
        if scheme != "udp" && !object.get("tcp_framing").is_some_and(|framing| framing.eq_ignore_ascii_case("octet-counted")) {
            table.set("framing", string("newline"));
        }
        if is_tls {
            self.tls(&mut table, object, report);
        }
        if let Some(number) = object.get("rebindinterval").filter(|number| number.parse::<u64>().is_ok_and(|number| number > 0)) {
            table.set("rebind-messages", number);
        }
        if object.params.contains_key("tcp_framedelimiter") {
            report.differs(&object.origin, "a line feed ends each message, not another delimiter");
        }
        if object.params.contains_key("ziplevel") || object.get("compression.mode").is_some_and(|mode| mode != "none") {
            report.differs(&object.origin, "the stream is not compressed: by RELP two penstocks can");
        }
        self.add_forward(target, &url, table, object, report)
    }

    fn relp(&mut self, object: &Object, variables: &Variables, report: &mut Report) -> Result<Option<String>, Wrong> {
        let target = object.get("target").ok_or("an omrelp has no `target`")?;
        let scheme = if object.is_on("tls") { "relps" } else { "relp" };
        let url = url(scheme, target, object.get("port").unwrap_or("514"));
        let mut table = Table::new("[[output.forward]]");
        table.set("to", strings([url.as_str()]));
        // omrelp's own default, unlike omfwd's.
        let format = self.format(object, "RSYSLOG_ForwardFormat", variables)?;
        table.set("format", string(&format));
        for (theirs, ours) in [("tls.cacert", "ca"), ("tls.mycert", "certificate"), ("tls.myprivkey", "key")] {
            if let Some(path) = object.get(theirs) {
                table.set(ours, string(path));
            }
        }
        let peers = permitted(object.params.get("tls.permittedpeer").into_iter().flatten());
        if !peers.is_empty() {
            table.set("peers", strings(peers.iter().map(String::as_str)));
        }
        if let Some(window) = object.get("windowsize").filter(|window| window.parse::<usize>().is_ok_and(|window| window > 0)) {
            table.set("window", window);
        }
        self.add_forward(target, &url, table, object, report)
    }

    /// An action that is tried when the one before it is suspended adds its target to that one.
    fn add_forward(
        &mut self,
        name: &str,
        url: &str,
        mut table: Table,
        object: &Object,
        report: &mut Report,
    ) -> Result<Option<String>, Wrong> {
        if object.is_on("action.execonlywhenpreviousissuspended") {
            return self.take_over(url, object, report).map(|()| None);
        }
        self.queue(&mut table, object, report);
        let name = self.add(&kebab(name), table, Some(&object.origin));
        self.last_forward = Some((name.clone(), url.to_owned()));
        Ok(Some(name))
    }

    fn take_over(&mut self, url: &str, object: &Object, report: &mut Report) -> Result<(), Wrong> {
        let scheme = |url: &str| url.split(':').next().map(str::to_owned);
        let first = self.last_forward.clone().filter(|(_, first)| scheme(first) == scheme(url));
        let (name, _) = first.ok_or("only an output of the same protocol can take over: name several targets in `to`")?;
        let table = self.tables.iter_mut().find(|(other, _)| *other == name).map(|(_, table)| table);
        if let Some(to) = table.and_then(|table| table.entry("to"))
            && !to.contains(&string(url))
        {
            to.truncate(to.len() - 1);
            to.push_str(&format!(", {}]", string(url)));
        }
        report.differs(
            &object.origin,
            format!("a further target of output `{name}`; it goes back to the first when that answers again"),
        );
        Ok(())
    }

    fn tls(&mut self, table: &mut Table, object: &Object, report: &mut Report) {
        let file = |own: &str, global: &str| object.get(own).or_else(|| self.source.global(global)).map(string);
        for (own, global, ours) in [
            ("streamdriver.cafile", "defaultnetstreamdrivercafile", "ca"),
            ("streamdriver.certfile", "defaultnetstreamdrivercertfile", "certificate"),
            ("streamdriver.keyfile", "defaultnetstreamdriverkeyfile", "key"),
        ] {
            if let Some(path) = file(own, global) {
                table.set(ours, path);
            }
        }
        let mode = object.get("streamdriverauthmode").or(object.get("streamdriver.authmode")).unwrap_or("anon");
        let peers = permitted(object.params.get("streamdriverpermittedpeers").into_iter().flatten());
        if mode.starts_with("x509/") && !peers.is_empty() {
            table.set("peers", strings(peers.iter().map(String::as_str)));
        } else {
            report.differs(&object.origin, "the server's certificate must be of that CA and have the target's name");
        }
    }

    fn queue(&mut self, table: &mut Table, object: &Object, report: &mut Report) {
        let size = object.get("queue.maxdiskspace").and_then(octets).filter(|size| *size > 0);
        if let Some(size) = size {
            table.set("queue", format!("{{ size = {size} }}"));
        }
        if object.get("queue.filename").is_none() {
            report.differs(
                &object.origin,
                "while the target is away messages wait on disk, below `state-dir` (up to 1GiB), and nothing is given up",
            );
        } else if size.is_none() {
            report.differs(&object.origin, "its queue on disk is 1GiB at most where nothing is said (`queue.size`)");
        }
    }

    /// What else an action says.
    fn other_params(&self, object: &Object, report: &mut Report) {
        for (name, what) in [
            ("action.execonlyeverynthtime", "every message is taken, not one of so many"),
            ("action.execonlyonceeveryinterval", "every message is taken, not one of an interval"),
            ("omitlocallogging", "messages of this host are taken too: give the route a condition on `input`"),
        ] {
            if object.get(name).is_some_and(|value| value != "0") {
                report.lost(&object.origin, what);
            }
        }
        if object.get("ziplevel").is_some_and(|level| level != "0") && object.kind() == "omfile" {
            report.differs(&object.origin, "files are written as text; what is rotated is compressed");
        }
    }
}

fn without_counterpart(module: &str) -> String {
    match module {
        "mmutf8fix" => "JSON is always written as UTF-8".to_owned(),
        "mmjsonparse" | "mmnormalize" | "mmpstrucdata" | "mmfields" | "mmanon" | "mmexternal" | "mmdblookup" | "mmcount" => {
            format!("`{module}`: messages are not taken apart or changed beyond the fields of their headers")
        }
        "omprog-shell" => "a program for each message: `output.program` feeds one program with all of them".to_owned(),
        other => format!("there is no counterpart to the output `{other}`"),
    }
}

/// In a path a field through `secure-path` is confined anyway.
fn confined(mut pieces: Vec<Piece>) -> Vec<Piece> {
    for piece in &mut pieces {
        if let Piece::Field(field) = piece {
            field.filters.retain(|filter| filter != "secure-path");
        }
    }
    pieces
}

/// Owner and group, where this system knows them.
fn owners(table: &mut Table, object: &Object, report: &mut Report) {
    for (theirs, ours, is_known) in [
        ("fileowner", "owner", (|name| name::user(name).is_some()) as fn(&str) -> bool),
        ("filegroup", "group", |name| name::group(name).is_some()),
        ("dirowner", "dir-owner", |name| name::user(name).is_some()),
        ("dirgroup", "dir-group", |name| name::group(name).is_some()),
    ] {
        match object.get(theirs) {
            Some(name) if is_known(name) => table.set(ours, string(name)),
            Some(name) => report.lost(&object.origin, format!("`{theirs}`: this system knows no `{name}`")),
            None => {}
        }
    }
}

fn url(scheme: &str, host: &str, port: &str) -> String {
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    format!("{scheme}://{host}:{port}")
}

/// Words of a command, with quotes.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in text.chars() {
        match (quote, c) {
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), c) if c == open => quote = None,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The last name of a path that says something, without what stands for a message's own.
fn name_of(path: &str) -> String {
    let mut depth = 0;
    let literal: String = path
        .chars()
        .filter(|c| {
            depth += i32::from(*c == '{');
            let is_outside = depth == 0;
            depth -= i32::from(*c == '}');
            is_outside
        })
        .collect();
    let mut names = literal.split('/').map(|name| kebab(name.strip_suffix(".log").unwrap_or(name)));
    names.rfind(|name| name.chars().any(char::is_alphanumeric) && name != "log").unwrap_or_else(|| "files".to_owned())
}

fn kebab(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        match c {
            c if c.is_ascii_alphanumeric() || c == '.' => out.push(c.to_ascii_lowercase()),
            _ if out.ends_with('-') || out.is_empty() => {}
            _ => out.push('-'),
        }
    }
    out.trim_matches(['-', '.']).to_owned()
}

fn free(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let name = if name.is_empty() { "output" } else { name };
    let mut candidates = std::iter::once(name.to_owned()).chain((2..).map(|number| format!("{name}-{number}")));
    candidates.find(|name| !is_taken(name)).unwrap_or_default()
}
