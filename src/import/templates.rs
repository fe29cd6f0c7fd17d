//! rsyslog's templates as ours.

use std::collections::BTreeMap;

use super::properties::{Extract, Options, Piece, Placeholder, json_text, property, through};
use super::syntax::{self, NamedTemplate, Params, Part, is_on};

/// What stands in variables at a place of the rules, by name; None: something that cannot be carried over.
pub(super) type Variables = BTreeMap<String, Option<Vec<Piece>>>;

/// rsyslog's own templates, in its own language.
pub(super) fn builtin(name: &str) -> Option<Vec<Piece>> {
    let text = match name.to_ascii_uppercase().as_str() {
        "RSYSLOG_FILEFORMAT" => "%timestamp:::date-rfc3339% %hostname% %syslogtag%%msg:::sp-if-no-1st-sp%%msg%\n",
        "RSYSLOG_FORWARDFORMAT" => "<%pri%>%timestamp:::date-rfc3339% %hostname% %syslogtag:1:32%%msg:::sp-if-no-1st-sp%%msg%",
        "RSYSLOG_STDUSRMSGFMT" => " %syslogtag%%msg%\n\r",
        "RSYSLOG_SYSLOGPROTOCOL23FORMAT" => {
            "<%pri%>1 %timestamp:::date-rfc3339% %hostname% %app-name% %procid% %msgid% %structured-data% %msg%\n"
        }
        "RSYSLOG_TRADITIONALFILEFORMAT" | "RSYSLOG_SYSKLOGDFILEFORMAT" => {
            "%timestamp% %hostname% %syslogtag%%msg:::sp-if-no-1st-sp%%msg%\n"
        }
        "RSYSLOG_TRADITIONALFORWARDFORMAT" => "<%pri%>%timestamp% %hostname% %syslogtag:1:32%%msg:::sp-if-no-1st-sp%%msg%",
        "RSYSLOG_WALLFMT" => "\r\n\u{7}Message from syslogd@%hostname% at %timegenerated% ...\r\n %syslogtag%%msg%\n\r",
        _ => return None,
    };
    pieces_of_text(text, &Variables::new(), false).ok().map(joined)
}

/// The template with what is in the variables now.
pub(super) fn translate(template: &NamedTemplate, variables: &Variables) -> Result<Vec<Piece>, String> {
    let has = |wanted: &str| template.options.iter().any(|option| option == wanted);
    let json = has("json");
    if let Some(option) = template.options.iter().find(|option| matches!(option.as_str(), "sql" | "stdsql")) {
        return Err(format!("its option `{option}` is for databases"));
    }
    let pieces = match &template.template {
        syntax::Template::Text(text) => pieces_of_text(text, variables, json)?,
        syntax::Template::List(parts) if has("jsonf") => object_of_list(parts, variables)?,
        syntax::Template::List(parts) => pieces_of_list(parts, variables, json)?,
        syntax::Template::Subtree(root) => subtree(&root.trim_start_matches('$').to_ascii_lowercase(), variables)?,
        syntax::Template::Plugin(name) => return Err(format!("it is made by the module `{name}`")),
    };
    without_space_if_none(pieces)
}

fn without_space_if_none(pieces: Vec<Piece>) -> Result<Vec<Piece>, String> {
    let pieces = joined(pieces);
    if pieces.contains(&Piece::SpaceIfNone) {
        return Err("`sp-if-no-1st-sp` has a counterpart only where `%msg%` follows".to_owned());
    }
    Ok(pieces)
}

/// Neighbours become one: literals, and a message with the blank before it.
fn joined(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (out.last_mut(), piece) {
            (Some(Piece::Literal(before)), Piece::Literal(text)) => before.push_str(&text),
            (Some(last @ Piece::SpaceIfNone), Piece::Field(mut field)) if field == Placeholder::of("msg") => {
                field.filters.push("blank-before".to_owned());
                *last = Piece::Field(field);
            }
            (_, piece) => out.push(piece),
        }
    }
    out
}

/// The value of a property or variable, through the options.
pub(super) fn value(name: &str, options: &Options, variables: &Variables) -> Result<Vec<Piece>, String> {
    let name = name.to_ascii_lowercase();
    if name.trim_start_matches('$') == "myhostname" {
        return through(vec![Piece::Literal(crate::sys::name::of_this_host())], options, &name);
    }
    if name.trim_start_matches('$') == "!metadata!filename" {
        return through(vec![Piece::Field(Placeholder::of("file"))], options, &name);
    }
    if !is_variable(&name) {
        return property(&name, options);
    }
    let bare = name.trim_start_matches('$');
    match variables.get(bare) {
        Some(Some(pieces)) => through(pieces.clone(), options, bare),
        Some(None) => Err(format!("what `${bare}` holds could not be carried over")),
        None if variables.keys().any(|known| known.starts_with(&format!("{bare}!"))) || bare == "!" => subtree(bare, variables),
        // A variable that nobody has set is nothing.
        None if bare.starts_with(['.', '/']) => Ok(Vec::new()),
        None => Err(format!("`${bare}` comes from a module that takes messages apart")),
    }
}

pub(super) fn is_variable(name: &str) -> bool {
    name.trim_start_matches('$').starts_with(['!', '.', '/'])
}

/// The variables below a name, as one JSON object in the order of their names.
fn subtree(root: &str, variables: &Variables) -> Result<Vec<Piece>, String> {
    let prefix = if root == "!" { "!".to_owned() } else { format!("{root}!") };
    let below: BTreeMap<_, _> = variables.iter().filter_map(|(name, value)| Some((name.strip_prefix(&prefix)?, value))).collect();
    let literal = |text: String| Piece::Literal(text);
    let mut pieces = vec![literal("{ ".to_owned())];
    let (mut first, mut done) = (true, Vec::new());
    for (name, value) in &below {
        let (head, is_leaf) = name.split_once('!').map_or((*name, true), |(head, _)| (head, false));
        if done.contains(&head) {
            continue;
        }
        done.push(head);
        let comma = if std::mem::take(&mut first) { "" } else { ", " };
        pieces.push(literal(format!("{comma}\"{}\": ", json_text(head))));
        if is_leaf {
            let inside = value.as_ref().ok_or_else(|| format!("what `{prefix}{name}` holds could not be carried over"))?;
            pieces.push(literal("\"".to_owned()));
            pieces.extend(super::properties::each(inside.clone(), "json-text"));
            pieces.push(literal("\"".to_owned()));
        } else {
            pieces.extend(subtree(&format!("{prefix}{head}"), variables)?);
        }
    }
    pieces.push(literal(" }".to_owned()));
    Ok(pieces)
}

fn pieces_of_text(text: &str, variables: &Variables, json: bool) -> Result<Vec<Piece>, String> {
    let (mut pieces, mut literal, mut rest) = (Vec::new(), String::new(), text);
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            // Everything else has been unescaped where it was read.
            '\\' if rest.starts_with('%') => {
                literal.push('%');
                rest = &rest[1..];
            }
            '%' if rest.starts_with('%') => {
                literal.push('%');
                rest = &rest[1..];
            }
            '%' => {
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                let (name, mut options, after) = replaced(rest)?;
                options.json |= json;
                pieces.extend(value(name, &options, variables)?);
                rest = after;
            }
            c => literal.push(c),
        }
    }
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

/// `name:from:to:options:outname%`
fn replaced(text: &str) -> Result<(&str, Options, &str), String> {
    let wrong = || format!("`%{}` has no end", text.chars().take(30).collect::<String>());
    let end = text.find([':', '%']).ok_or_else(wrong)?;
    let (name, mut rest) = text.split_at(end);
    let mut options = Options::default();
    if let Some(after) = rest.strip_prefix(":R,") {
        let (head, after) = after.split_once(':').ok_or_else(wrong)?;
        let (pattern, after) = after.split_once("--end").ok_or("a pattern without its `--end`")?;
        let words: Vec<_> = head.split(',').collect();
        let group = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        if words.get(3).is_some_and(|at| *at != "0") {
            return Err("another match than the first has no counterpart".to_owned());
        }
        options.regex = Some(Extract {
            extended: words.first().is_some_and(|kind| *kind == "ERE"),
            group,
            no_match: words.get(2).map_or("DFLT", |word| word).to_owned(),
            pattern: pattern.to_owned(),
        });
        rest = after;
    }
    let end = rest.find('%').ok_or_else(wrong)?;
    let (inside, after) = rest.split_at(end);
    let mut parts = inside.strip_prefix(':').unwrap_or(inside).split(':');
    if options.regex.is_none() {
        let (from, to) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        match from.strip_prefix("F,").or((from == "F").then_some("9")) {
            Some(delimiter) => options.column = Some(numbered(delimiter, to)?),
            None => positions(from, to, &mut options)?,
        }
    }
    let (words, out_name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or(name));
    for option in words.split(',') {
        named(option.trim(), out_name, &mut options)?;
    }
    Ok((name, options, &after[1..]))
}

fn numbered(head: &str, number: &str) -> Result<(u8, usize), String> {
    let delimiter = head.parse::<u8>().map_err(|_| format!("the delimiter `{head}` has no counterpart"))?;
    let number = number.parse::<usize>().ok().filter(|number| *number > 0);
    Ok((delimiter, number.ok_or("the number of a field is 1 or more")?))
}

fn positions(from: &str, to: &str, options: &mut Options) -> Result<(), String> {
    let wrong = |text: &str| format!("the position `{text}` has no counterpart");
    if !from.is_empty() {
        options.from = Some(from.parse().map_err(|_| wrong(from))?);
    }
    if !to.is_empty() && to != "$" {
        options.to = Some(to.parse().map_err(|_| wrong(to))?);
    }
    Ok(())
}

/// One of the words behind the positions.
fn named(option: &str, out_name: &str, options: &mut Options) -> Result<(), String> {
    let lower = option.to_ascii_lowercase();
    match lower.as_str() {
        "" | "drop-cc" | "drop-last-lf" | "escape-cc" | "mandatory" | "space-cc" => {}
        "compressspace" => options.squeeze = true,
        "csv" => options.csv = true,
        "date-utc" => options.utc = true,
        "fixed-width" => options.fixed_width = true,
        "json" | "jsonr" => options.json = true,
        "jsonf" | "jsonfr" => options.json_field = Some(out_name.to_owned()),
        "lowercase" => options.lower = true,
        "pos-end-relative" => options.relative_to_end = true,
        "secpath-drop" | "secpath-replace" => options.secure_path = true,
        "sp-if-no-1st-sp" => options.space_if_none = true,
        "uppercase" => options.upper = true,
        _ => match lower.strip_prefix("date-") {
            Some(date) => options.date = Some(date.to_owned()),
            None => return Err(format!("the option `{option}` has no counterpart")),
        },
    }
    Ok(())
}

fn pieces_of_list(parts: &[Part], variables: &Variables, json: bool) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    for part in parts {
        match part {
            Part::Constant(params) => pieces.push(Piece::Literal(constant(params))),
            Part::Property(params) => {
                let mut options = listed(params)?;
                options.json |= json;
                let name = first(params, "name").ok_or("a property has no name")?;
                pieces.extend(value(name, &options, variables)?);
            }
        }
    }
    Ok(pieces)
}

/// `option.jsonf="on"`: the parts are the members of an object.
fn object_of_list(parts: &[Part], variables: &Variables) -> Result<Vec<Piece>, String> {
    let literal = |text: &str| vec![Piece::Literal(text.to_owned())];
    let mut pieces = literal("{");
    for (i, part) in parts.iter().enumerate() {
        pieces.extend(literal(if i > 0 { ", " } else { "" }));
        pieces.extend(match part {
            // With a blank, unlike a property.
            Part::Constant(params) => {
                let (name, value) = (first(params, "outname").unwrap_or_default(), first(params, "value").unwrap_or_default());
                literal(&format!("\"{}\": \"{}\"", json_text(name), json_text(value)))
            }
            property => pieces_of_list(std::slice::from_ref(property), variables, false)?,
        });
    }
    pieces.extend(literal("}\n"));
    Ok(pieces)
}

fn constant(params: &Params) -> String {
    let text = first(params, "value").unwrap_or_default();
    match (first(params, "outname"), first(params, "format")) {
        (Some(name), Some(format)) if format.starts_with("jsonf") => format!("\"{}\":\"{}\"", json_text(name), json_text(text)),
        _ => text.to_owned(),
    }
}

fn first<'p>(params: &'p Params, name: &str) -> Option<&'p str> {
    params.get(name)?.first().map(String::as_str)
}

/// The options of `property(…)` in a list.
fn listed(params: &Params) -> Result<Options, String> {
    let mut options = Options::default();
    let get = |name: &str| first(params, name);
    let out_name = get("outname").or(get("name")).unwrap_or_default().trim_start_matches(['$', '!', '.']);
    positions(get("position.from").unwrap_or_default(), get("position.to").unwrap_or_default(), &mut options)?;
    if let Some(number) = get("field.number") {
        options.column = Some(numbered(get("field.delimiter").unwrap_or("9"), number)?);
    }
    if let Some(pattern) = get("regex.expression") {
        if get("regex.match").is_some_and(|at| at != "0") {
            return Err("another match than the first has no counterpart".to_owned());
        }
        options.regex = Some(Extract {
            extended: get("regex.type").is_some_and(|kind| kind.eq_ignore_ascii_case("ERE")),
            group: get("regex.submatch").and_then(|group| group.parse().ok()).unwrap_or(0),
            no_match: get("regex.nomatchmode").unwrap_or("DFLT").to_owned(),
            pattern: pattern.to_owned(),
        });
    }
    options.relative_to_end = get("position.relativetoend").is_some_and(is_on);
    options.squeeze = get("compressspace").is_some_and(is_on);
    options.fixed_width = get("fixedwidth").is_some_and(is_on);
    options.space_if_none = get("spifno1stsp").is_some_and(is_on);
    options.secure_path = get("securepath").is_some();
    options.utc = get("date.inutc").is_some_and(is_on);
    options.json_bare = get("datatype").is_some_and(|kind| matches!(kind, "number" | "bool"));
    options.date = get("dateformat").map(str::to_ascii_lowercase);
    match get("caseconversion") {
        Some("lower") => options.lower = true,
        Some("upper") => options.upper = true,
        _ => {}
    }
    if let Some(format) = get("format") {
        named(format, out_name, &mut options)?;
    }
    Ok(options)
}

/// As the configuration has it; the line end that every record gets is left out.
pub(super) fn text(pieces: &[Piece]) -> String {
    let braces = |text: &str| text.replace('{', "{{").replace('}', "}}");
    let texts = pieces.iter().map(|piece| match piece {
        Piece::Field(field) => field.text(),
        Piece::Literal(text) => braces(text),
        Piece::SpaceIfNone => String::new(),
    });
    texts.collect()
}
