//! Actions of one word: `-/var/log/x`, `@@host:514`, `|/dev/xconsole`, `:omusrmsg:*`, `~`.

use super::super::report::Origin;
use super::cursor::Wrong;
use super::files::Reader;
use super::{Object, Params, Statement};

impl Reader<'_> {
    pub(super) fn legacy_action(&mut self, origin: Origin, text: &str) -> Result<Vec<Statement>, Wrong> {
        let text = text.trim();
        if matches!(text, "~" | "stop") {
            return Ok(vec![Statement::Stop]);
        }
        let (target, template) = match text.split_once(';') {
            Some((target, template)) => (target.trim_end(), template.split_whitespace().next()),
            None => (text, None),
        };
        let mut params = parse(target, &self.channels)?;
        if let Some(template) = template {
            params.insert("template".to_owned(), vec![template.to_owned()]);
        }
        let mut object = Object { origin, params };
        self.with_settings(&mut object);
        Ok(vec![self.with_module_defaults(object)])
    }

    /// What the directives before have set; some hold for the next action only.
    fn with_settings(&mut self, object: &mut Object) {
        const FILE: [(&str, &str); 10] = [
            ("createdirs", "createdirs"),
            ("dircreatemode", "dircreatemode"),
            ("dirgroup", "dirgroup"),
            ("dirowner", "dirowner"),
            ("dynafilecachesize", "dynafilecachesize"),
            ("actionfileenablesync", "sync"),
            ("filecreatemode", "filecreatemode"),
            ("filegroup", "filegroup"),
            ("fileowner", "fileowner"),
            ("umask", "umask"),
        ];
        const FORWARD: [(&str, &str); 6] = [
            ("actionsendstreamdriver", "streamdriver"),
            ("actionsendstreamdriverauthmode", "streamdriverauthmode"),
            ("actionsendstreamdrivermode", "streamdrivermode"),
            ("actionsendstreamdriverpermittedpeer", "streamdriverpermittedpeers"),
            ("actionsendtcprebindinterval", "rebindinterval"),
            ("actionsendudprebindinterval", "rebindinterval"),
        ];
        let kind = object.kind();
        let table: &[_] = match kind.as_str() {
            "omfile" | "ompipe" => &FILE,
            "omfwd" => &FORWARD,
            _ => &[],
        };
        for (directive, param) in table {
            if let Some(values) = self.legacy.get(*directive) {
                object.params.entry((*param).to_owned()).or_insert(values.clone());
            }
        }
        let next: Vec<_> = self.legacy.keys().filter(|name| next_action(name).is_some()).cloned().collect();
        for directive in next {
            let Some(param) = next_action(&directive) else { continue };
            // This one holds until it is switched off.
            let stays = param == "action.execonlywhenpreviousissuspended";
            let values = if stays { self.legacy.get(&directive).cloned() } else { self.legacy.remove(&directive) };
            object.params.extend(values.map(|values| (param, values)));
        }
        if self.legacy_is_on("omitlocallogging") {
            object.params.insert("omitlocallogging".to_owned(), vec!["on".to_owned()]);
        }
    }
}

/// The parameter that a directive sets for the next action alone.
fn next_action(directive: &str) -> Option<String> {
    let queue = directive.strip_prefix("actionqueue").map(|rest| format!("queue.{rest}"));
    let action = || {
        let rest = directive.strip_prefix("action")?;
        matches!(
            rest,
            "execonlywhenpreviousissuspended"
                | "execonlyonceeveryinterval"
                | "execonlyeverynthtime"
                | "execonlyeverynthtimetimeout"
                | "resumeinterval"
                | "resumeretrycount"
                | "writeallmarkmessages"
        )
        .then(|| format!("action.{rest}"))
    };
    queue.or_else(action)
}

fn params<const N: usize>(pairs: [(&str, &str); N]) -> Params {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), vec![value.to_owned()])).collect()
}

fn parse(target: &str, channels: &std::collections::BTreeMap<String, String>) -> Result<Params, Wrong> {
    let word = target.split_whitespace().next().unwrap_or_default();
    if let Some(rest) = target.strip_prefix("@@") {
        return forward(rest, "tcp");
    }
    if let Some(rest) = target.strip_prefix('@') {
        return forward(rest, "udp");
    }
    if let Some(path) = word.strip_prefix('|') {
        let path = if path.is_empty() { target[1..].trim() } else { path };
        return Ok(params([("type", "ompipe"), ("pipe", path)]));
    }
    if let Some(program) = target.strip_prefix('^') {
        return Ok(params([("type", "omprog-shell"), ("binary", program.trim())]));
    }
    if let Some(name) = word.strip_prefix("?").or(word.strip_prefix("-?")) {
        return Ok(params([("type", "omfile"), ("dynafile", name)]));
    }
    if let Some(name) = word.strip_prefix(":omfile:$").or(word.strip_prefix('$')) {
        let path = channels.get(name).ok_or_else(|| format!("no output channel is called `{name}`"))?;
        return Ok(params([("type", "omfile"), ("file", path)]));
    }
    if let Some(path) = word.strip_prefix('-').filter(|path| path.starts_with('/')) {
        return Ok(params([("type", "omfile"), ("file", path)]));
    }
    if word.starts_with('/') {
        return Ok(params([("type", "omfile"), ("file", word)]));
    }
    if let Some(rest) = target.strip_prefix(':') {
        let (module, argument) = rest.split_once(':').ok_or_else(|| format!("`{target}` is no action"))?;
        return module_action(module, argument.trim());
    }
    let is_user = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.*".contains(c));
    if !target.is_empty() && target.split(',').all(|name| is_user(name.trim())) {
        return Ok(params([("type", "omusrmsg"), ("users", target)]));
    }
    Err(format!("`{target}` is no action"))
}

fn module_action(module: &str, argument: &str) -> Result<Params, Wrong> {
    match module.to_ascii_lowercase().as_str() {
        "omusrmsg" => Ok(params([("type", "omusrmsg"), ("users", argument)])),
        "omrelp" => {
            let (host, port) = host_and_port(argument);
            Ok(params([("type", "omrelp"), ("target", host), ("port", port.unwrap_or("514"))]))
        }
        other => Ok(params([("type", other), ("argument", argument)])),
    }
}

/// `[(options)]host[:port]`
fn forward(text: &str, protocol: &str) -> Result<Params, Wrong> {
    let (options, target) = match text.strip_prefix('(') {
        Some(rest) => rest.split_once(')').ok_or_else(|| format!("`{text}` has options without their `)`"))?,
        None => ("", text),
    };
    let target = target.split_whitespace().next().unwrap_or_default();
    let (host, port) = host_and_port(target);
    let mut params = params([("type", "omfwd"), ("target", host), ("protocol", protocol), ("port", port.unwrap_or("514"))]);
    for option in options.split(',') {
        match option.trim().as_bytes() {
            [b'o', ..] => drop(params.insert("tcp_framing".to_owned(), vec!["octet-counted".to_owned()])),
            [b'z', level @ ..] => {
                params.insert("ziplevel".to_owned(), vec![String::from_utf8_lossy(level).into_owned()]);
            }
            _ => {}
        }
    }
    Ok(params)
}

/// `host`, `host:port`, `[v6]:port`
fn host_and_port(text: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, rest.strip_prefix(':'));
    }
    match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    }
}
