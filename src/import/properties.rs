//! rsyslog's properties and what their replacer does, as our fields and filters.

use super::patterns;

/// A part of a template of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Field(Placeholder),
    Literal(String),
    /// `sp-if-no-1st-sp`: a blank, where the message does not begin with one.
    SpaceIfNone,
}

/// `{name:format|filter|filter}`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Placeholder {
    pub name: String,
    pub format: Option<String>,
    pub filters: Vec<String>,
}

/// What a property is made into, by either way of writing it.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    pub from: Option<usize>,
    /// None: to the end.
    pub to: Option<usize>,
    pub relative_to_end: bool,
    pub column: Option<(u8, usize)>,
    pub regex: Option<Extract>,
    /// `rfc3339`, `mysql`, `year` …
    pub date: Option<String>,
    pub utc: bool,
    pub lower: bool,
    pub upper: bool,
    pub squeeze: bool,
    pub space_if_none: bool,
    pub fixed_width: bool,
    pub secure_path: bool,
    pub csv: bool,
    pub json: bool,
    /// `"name":"value"` with this name.
    pub json_field: Option<String>,
    /// A number or literal of JSON, without quotes.
    pub json_bare: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Extract {
    pub extended: bool,
    pub group: usize,
    pub no_match: String,
    pub pattern: String,
}

impl Placeholder {
    pub(super) fn of(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    fn with(mut self, filters: &[&str]) -> Self {
        self.filters.extend(filters.iter().map(|filter| (*filter).to_owned()));
        self
    }

    /// A sender's time as its own wall shows it; ours as this host's.
    fn formatted(name: &str, format: &str, utc: bool) -> Self {
        let wall = if utc { Some("utc") } else { (name == "timestamp").then_some("own") };
        let filters = wall.map(str::to_owned).into_iter().collect();
        Self { name: name.to_owned(), format: Some(format.to_owned()), filters }
    }

    /// As a condition has it: no format.
    pub(super) fn left(&self) -> Option<String> {
        let time = matches!(self.name.as_str(), "received" | "timestamp");
        (self.format.is_none() && !time)
            .then(|| std::iter::once(&self.name).chain(&self.filters).cloned().collect::<Vec<_>>().join("|"))
    }

    pub(super) fn text(&self) -> String {
        let format = self.format.iter().map(|format| format!(":{format}"));
        // It is what stands for an absent field anyway.
        let filters = if self.filters == ["default:-"] { &[] } else { &*self.filters };
        let filters = filters.iter().map(|filter| format!("|{filter}"));
        format!("{{{}{}}}", self.name, format.chain(filters).collect::<String>())
    }
}

/// A filter's argument in quotes.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The pieces of a property by its name in small letters, through its options.
pub(super) fn property(name: &str, options: &Options) -> Result<Vec<Piece>, String> {
    if options.space_if_none {
        return match name {
            "msg" => Ok(vec![Piece::SpaceIfNone]),
            other => Err(format!("`sp-if-no-1st-sp` of `{other}`: only of `msg` it has a counterpart")),
        };
    }
    let pieces = if let Some(moment) = moment(name, options)? { vec![Piece::Field(moment)] } else { plain(name)? };
    through(pieces, options, name)
}

/// The filters of the options, over what the pieces are.
pub(super) fn through(mut pieces: Vec<Piece>, options: &Options, name: &str) -> Result<Vec<Piece>, String> {
    if options.fixed_width || options.relative_to_end {
        return Err("a fixed width, or a position from the end, has no counterpart".to_owned());
    }
    for filter in cuts(options)? {
        pieces = cut(pieces, &filter)?;
    }
    if options.secure_path && matches!(name, "msg" | "rawmsg") {
        pieces = each(pieces, "secure-path");
    }
    for (wanted, filter) in [(options.lower, "lower"), (options.upper, "upper"), (options.squeeze, "squeeze")] {
        if wanted {
            pieces = each(pieces, filter);
        }
    }
    if options.csv {
        pieces = enclosed("\"", each(pieces, "csv"), "\"");
    }
    if let Some(name) = &options.json_field {
        let quote = if options.json_bare { "" } else { "\"" };
        return Ok(enclosed(&format!("\"{name}\":{quote}"), each(pieces, "json-text"), quote));
    }
    if options.json {
        pieces = each(pieces, "json-text");
    }
    Ok(pieces)
}

fn enclosed(before: &str, pieces: Vec<Piece>, after: &str) -> Vec<Piece> {
    let literal = |text: &str| Piece::Literal(text.to_owned());
    [vec![literal(before)], pieces, vec![literal(after)]].concat()
}

/// The options that take a part, as filters.
fn cuts(options: &Options) -> Result<Vec<String>, String> {
    let mut filters = Vec::new();
    if let Some((delimiter, number)) = options.column {
        let delimiter = char::from(delimiter).to_string();
        filters.push(format!("column:{number}:{}", quoted(&delimiter)));
        filters.push(format!("default:{}", quoted("**FIELD NOT FOUND**")));
        return Ok(filters);
    }
    if options.from.is_some() || options.to.is_some() {
        let to = options.to.map(|to| to.to_string()).unwrap_or_default();
        filters.push(format!("bytes:{}-{to}", options.from.unwrap_or(1).max(1)));
    }
    if let Some(extract) = &options.regex {
        let pattern = patterns::group(&extract.pattern, extract.extended, extract.group)?;
        let no_match = match extract.no_match.to_ascii_uppercase().as_str() {
            "BLANK" => "",
            "FIELD" => {
                filters.push(format!("match-or-all:{}", quoted(&pattern.text)));
                return Ok(filters);
            }
            "ZERO" => "0",
            _ => "**NO MATCH**",
        };
        filters.push(format!("match:{}", quoted(&pattern.text)));
        filters.push(format!("default:{}", quoted(no_match)));
    }
    Ok(filters)
}

/// A filter that needs the whole value.
pub(super) fn cut(mut pieces: Vec<Piece>, filter: &str) -> Result<Vec<Piece>, String> {
    match &mut *pieces {
        [Piece::Field(field)] => {
            field.filters.push(filter.to_owned());
            Ok(pieces)
        }
        [] => Ok(pieces),
        _ => Err("a part of a text that is put together has no counterpart".to_owned()),
    }
}

/// A filter that acts octet by octet.
pub(super) fn each(pieces: Vec<Piece>, filter: &str) -> Vec<Piece> {
    pieces
        .into_iter()
        .map(|piece| match piece {
            Piece::Field(field) => Piece::Field(field.with(&[filter])),
            Piece::Literal(text) => Piece::Literal(match filter {
                "lower" => text.to_ascii_lowercase(),
                "upper" => text.to_ascii_uppercase(),
                "csv" => text.replace('"', "\"\""),
                "json-text" => json_text(&text),
                _ => text,
            }),
            other => other,
        })
        .collect()
}

pub(super) fn json_text(text: &str) -> String {
    let mut out = Vec::new();
    crate::template::json_string(text.as_bytes(), &mut out);
    String::from_utf8_lossy(&out[1..out.len() - 1]).into_owned()
}

fn plain(name: &str) -> Result<Vec<Piece>, String> {
    let absent = |name: &str, nil: &str| Placeholder::of(name).with(&[&format!("default:{nil}")]);
    let field = match name.trim_start_matches('$') {
        "app-name" => absent("app-name", "-"),
        "fromhost" => Placeholder::of("peer-name"),
        "fromhost-ip" => Placeholder::of("peer"),
        "hostname" | "source" => Placeholder::of("hostname"),
        "inputname" => Placeholder::of("input"),
        "msg" => Placeholder::of("msg"),
        "msgid" => absent("msg-id", "-"),
        "pri" => Placeholder::of("pri"),
        "procid" => absent("proc-id", "-"),
        "programname" => absent("app-name", "\"\""),
        "protocol-version" => absent("version", "0"),
        "rawmsg" => Placeholder::of("raw"),
        "rawmsg-after-pri" => Placeholder::of("after-pri"),
        "structured-data" => absent("structured-data", "-"),
        "syslogfacility" => Placeholder::of("facility").with(&["number"]),
        "syslogfacility-text" => Placeholder::of("facility"),
        "syslogpriority" | "syslogseverity" => Placeholder::of("severity").with(&["number"]),
        "syslogpriority-text" | "syslogseverity-text" => Placeholder::of("severity"),
        "syslogtag" => Placeholder::of("syslogtag"),
        "pri-text" => {
            let field = |name| Piece::Field(Placeholder::of(name));
            return Ok(vec![field("facility"), Piece::Literal(".".to_owned()), field("severity")]);
        }
        "iut" => return Ok(vec![Piece::Literal("1".to_owned())]),
        "bom" => return Ok(vec![Piece::Literal("\u{FEFF}".to_owned())]),
        other => return Err(format!("there is no field for the property `{other}`")),
    };
    Ok(vec![Piece::Field(field)])
}

/// `timereported`, `timegenerated`, `$now` and the like.
fn moment(name: &str, options: &Options) -> Result<Option<Placeholder>, String> {
    let bare = name.trim_start_matches('$');
    let (system, utc) = bare.strip_suffix("-utc").map_or((bare, false), |bare| (bare, true));
    let format = match system {
        "day" => "%d",
        "hour" => "%H",
        "minute" => "%M",
        "month" => "%m",
        "now" => "%Y-%m-%d",
        "year" => "%Y",
        "hhour" | "qhour" | "wday" | "now-unixtimestamp" => return Err(format!("there is no field for `{name}`")),
        _ => {
            let of = match bare {
                "timegenerated" => "received",
                "timereported" | "timestamp" => "timestamp",
                _ => return Ok(None),
            };
            return dated(of, options).map(Some);
        }
    };
    Ok(Some(Placeholder::formatted("received", format, utc)))
}

fn dated(of: &str, options: &Options) -> Result<Placeholder, String> {
    let format = match options.date.as_deref().unwrap_or("rfc3164") {
        "rfc3339" => {
            let filters = if options.utc { vec!["utc".to_owned()] } else { Vec::new() };
            return Ok(Placeholder { name: of.to_owned(), format: None, filters });
        }
        "day" => "%d",
        "hour" => "%H",
        "minute" => "%M",
        "month" => "%m",
        "mysql" => "%Y%m%d%H%M%S",
        "ordinal" => "%j",
        "pgsql" => "%Y-%m-%d %H:%M:%S",
        "rfc3164" | "rfc3164-buggyday" => "%b %e %H:%M:%S",
        "second" => "%S",
        "unixtimestamp" => "%s",
        "wday" => "%w",
        "wdayname" => "%a",
        "week" => "%V",
        "year" => "%Y",
        other => return Err(format!("there is no format for `date-{other}`")),
    };
    Ok(Placeholder::formatted(of, format, options.utc))
}
