//! `$` directives: some make something, the others set what the next ones are made with.

use super::super::report::Origin;
use super::files::Reader;
use super::{DEFAULT_RULESET, NamedTemplate, Object, Params, Template};

impl Reader<'_> {
    /// `$Name value`
    pub(super) fn directive(&mut self, origin: &Origin, line: &str) {
        let (name, value) = line[1..].split_once(char::is_whitespace).unwrap_or((&line[1..], ""));
        let (name, value) = (name.to_ascii_lowercase(), without_comment(value).trim());
        match name.as_str() {
            "allowedsender" => self.allowed_sender(origin, value),
            "includeconfig" => self.include_legacy(origin, value),
            "inputptcpserverrun" => self.server(origin, "imptcp", value),
            "inputrelpserverrun" => self.server(origin, "imrelp", value),
            "inputrunfilemonitor" => self.file_monitor(origin),
            "inputtcpserverrun" => self.server(origin, "imtcp", value),
            "modload" => self.source.modules.push(object(origin, [("load", value)])),
            "outchannel" => self.channel(origin, value),
            "resetconfigvariables" => self.legacy.retain(|name, _| name.ends_with("defaulttemplate")),
            "ruleset" => self.begin_ruleset(if value.eq_ignore_ascii_case(DEFAULT_RULESET) { "" } else { value }),
            "template" => self.legacy_template(origin, value),
            "udpserverrun" => self.server(origin, "imudp", value),
            _ => self.setting(origin, &name, value),
        }
    }

    /// What is remembered for the actions and inputs that follow, or holds for everything.
    fn setting(&mut self, origin: &Origin, name: &str, value: &str) {
        const REMEMBERED: [&str; 9] =
            ["action", "createdirs", "dir", "dynafile", "file", "input", "omfile", "udpserver", "umask"];
        let value = unquoted(value);
        if name.ends_with("permittedpeer") {
            self.legacy.entry(name.to_owned()).or_default().push(value.to_owned());
        } else if REMEMBERED.iter().any(|prefix| name.starts_with(prefix)) {
            self.legacy.insert(name.to_owned(), vec![value.to_owned()]);
        } else {
            self.source.globals.push(object(origin, [(name, value)]));
        }
    }

    fn legacy(&self, name: &str) -> Option<&str> {
        self.legacy.get(name)?.first().map(String::as_str)
    }

    fn server(&mut self, origin: &Origin, kind: &str, port: &str) {
        let mut server = object(origin, [("type", kind), ("port", unquoted(port))]);
        let prefix = match kind {
            "imudp" => "inputudpserver",
            "imtcp" => "inputtcpserver",
            "imptcp" => "inputptcpserver",
            _ => "inputrelpserver",
        };
        let settings = [("bindruleset", "ruleset"), ("inputname", "name"), ("listenip", "address")];
        let mut given: Vec<_> = settings.map(|(directive, param)| (format!("{prefix}{directive}"), param)).into();
        given
            .extend([("inputtcpserverstreamdrivermode".to_owned(), "streamdriver.mode")].into_iter().filter(|_| kind == "imtcp"));
        given.extend([("inputtcpserverstreamdriverauthmode".to_owned(), "streamdriver.authmode")]);
        given.extend([("inputtcpserverstreamdriverpermittedpeer".to_owned(), "permittedpeer")]);
        given.extend([("inputtcpmaxsessions".to_owned(), "maxsessions")].into_iter().filter(|_| kind == "imtcp"));
        given.extend([("udpserveraddress".to_owned(), "address")].into_iter().filter(|_| kind == "imudp"));
        for (directive, param) in given {
            if let Some(values) = self.legacy.get(&directive) {
                server.params.insert(param.to_owned(), values.clone());
            }
        }
        self.source.inputs.push(server);
    }

    /// `$InputFileName`, `$InputFileTag` … before `$InputRunFileMonitor`.
    fn file_monitor(&mut self, origin: &Origin) {
        let mut monitor = object(origin, [("type", "imfile")]);
        for (directive, param) in [
            ("inputfilename", "file"),
            ("inputfiletag", "tag"),
            ("inputfileseverity", "severity"),
            ("inputfilefacility", "facility"),
            ("inputfilebindruleset", "ruleset"),
            ("inputfilereadmode", "readmode"),
        ] {
            if let Some(value) = self.legacy(directive) {
                monitor.params.insert(param.to_owned(), vec![value.to_owned()]);
            }
        }
        self.source.inputs.push(monitor);
    }

    /// `UDP, 127.0.0.1, 10.0.0.0/8, *.example.com`
    fn allowed_sender(&mut self, origin: &Origin, value: &str) {
        let mut words = value.split(',').map(str::trim).filter(|word| !word.is_empty());
        let Some(protocol) = words.next() else { return };
        let name = format!("allowedsender.{}", protocol.to_ascii_lowercase());
        let params = Params::from([(name, words.map(str::to_owned).collect())]);
        self.source.globals.push(Object { origin: origin.clone(), params });
    }

    /// `name,file,size,command`
    fn channel(&mut self, origin: &Origin, value: &str) {
        let mut words = value.split(',').map(str::trim);
        if let (Some(name), Some(path)) = (words.next(), words.next()) {
            self.channels.insert(name.to_owned(), path.to_owned());
        }
        if words.next().is_some() {
            self.report.differs(
                origin,
                "the file is written; its largest size and the command run then are not carried over (logrotate)",
            );
        }
    }

    /// `name,"text"[,options]` or `name,=plugin`
    fn legacy_template(&mut self, origin: &Origin, value: &str) {
        let Some((name, rest)) = value.split_once(',') else {
            return self.report.lost(origin, "a template has a name, a comma, and a text in quotes");
        };
        let (name, rest) = (name.trim().to_ascii_lowercase(), rest.trim());
        let (template, options) = match rest.strip_prefix('=') {
            Some(plugin) => (Template::Plugin(plugin.to_owned()), Vec::new()),
            None => match legacy_text(rest) {
                Some((text, options)) => {
                    let options = options.split(',').map(|option| option.trim().to_ascii_lowercase());
                    (Template::Text(text), options.filter(|option| !option.is_empty()).collect())
                }
                None => return self.report.lost(origin, "a template has a name, a comma, and a text in quotes"),
            },
        };
        self.source.templates.insert(name, NamedTemplate { origin: origin.clone(), template, options });
    }
}

fn object<'p>(origin: &Origin, params: impl IntoIterator<Item = (&'p str, &'p str)>) -> Object {
    let params = params.into_iter().map(|(name, value)| (name.to_owned(), vec![value.to_owned()])).collect();
    Object { origin: origin.clone(), params }
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)
}

/// Behind a value, outside of quotes, a comment may stand.
fn without_comment(value: &str) -> &str {
    let mut quoted = false;
    let end = value.char_indices().find(|(at, c)| {
        quoted ^= *c == '"';
        *c == '#' && !quoted && value[..*at].ends_with(char::is_whitespace)
    });
    end.map_or(value, |(at, _)| &value[..at])
}

/// The text in quotes with its escapes, and what stands behind it. Inside of `%…%` a backslash is a property's own.
fn legacy_text(value: &str) -> Option<(String, &str)> {
    let rest = value.strip_prefix('"')?;
    let (mut text, mut chars, mut inside) = (String::new(), rest.char_indices(), false);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' if !inside => return Some((text, &rest[at + 1..])),
            '%' => {
                inside = !inside;
                text.push(c);
            }
            '\\' if !inside => match chars.next()?.1 {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                '7' => text.push('\u{7}'),
                // Not the beginning of a property.
                '%' => text.push_str("\\%"),
                other => text.push(other),
            },
            c => text.push(c),
        }
    }
    None
}
