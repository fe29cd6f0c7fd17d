//! Markdown as docs/configuration.md is written → man(7).
//!
//! Headings, paragraphs, tables of keys, blocks of code; `code`, **bold** and links. What else Markdown has is refused, so
//! that a page never shows it raw.

use crate::roff::{escaped, line, quoted};

/// The text below the title; a section for each heading.
pub fn sections(markdown: &str) -> Result<String, String> {
    let mut out = String::from(".SH DESCRIPTION\n");
    let mut lines = markdown.lines().peekable();
    while let Some(first) = lines.next() {
        if first.is_empty() || first.starts_with("# ") {
            continue;
        } else if let Some(heading) = first.strip_prefix("## ") {
            out.push_str(&format!(".SH {}\n", quoted(&titled(heading))));
        } else if let Some(heading) = first.strip_prefix("### ") {
            out.push_str(&format!(".SS {}\n", quoted(&heading.replace('`', ""))));
        } else if first.starts_with("```") {
            begin_paragraph(&mut out);
            out.push_str(".RS 4\n.nf\n");
            lines.by_ref().take_while(|next| !next.starts_with("```")).for_each(|next| out.push_str(&line(&escaped(next))));
            out.push_str(".fi\n.RE\n");
        } else if first.starts_with('|') {
            let mut rows = vec![cells(first)];
            while let Some(next) = lines.next_if(|next| next.starts_with('|')) {
                rows.push(cells(next));
            }
            out.push_str(&table(&rows)?);
        } else if first.starts_with(['#', '>', '*', '-', '+', '<', '!', ' ']) && !first.starts_with("**") {
            return Err(format!("the page has no form for `{first}`"));
        } else {
            // What is opened in one line may end in the next.
            let mut paragraph = first.to_owned();
            while let Some(next) = lines.next_if(|next| !next.is_empty() && !next.starts_with('|') && !next.starts_with("```")) {
                paragraph.push(' ');
                paragraph.push_str(next);
            }
            begin_paragraph(&mut out);
            out.push_str(&line(&inline(&paragraph)?));
        }
    }
    Ok(out)
}

/// A section begins one, too.
fn begin_paragraph(out: &mut String) {
    if !out.lines().last().is_some_and(|last| last.starts_with(".S")) {
        out.push_str(".PP\n");
    }
}

/// Sections are in capitals; keys are as they are written.
fn titled(heading: &str) -> String {
    if heading.starts_with('`') { heading.replace('`', "") } else { heading.to_uppercase() }
}

/// A `|` in code ends no cell.
fn cells(row: &str) -> Vec<String> {
    let (mut cells, mut code) = (vec![String::new()], false);
    for character in row.trim().trim_start_matches('|').chars() {
        code ^= character == '`';
        match cells.last_mut() {
            Some(cell) if character != '|' || code => cell.push(character),
            _ => cells.push(String::new()),
        }
    }
    cells.pop();
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}

/// The first column is the term; a default stands behind what is said of the key.
fn table(rows: &[Vec<String>]) -> Result<String, String> {
    let [head, _, body @ ..] = rows else {
        return Err(format!("no table: {rows:?}"));
    };
    let mut out = String::new();
    for row in body {
        let (term, default, text) = match (row.as_slice(), head.get(1).map(String::as_str)) {
            ([term, text], _) => (term, "", text.as_str()),
            ([term, default, text], Some("default")) => (term, default.as_str(), text.as_str()),
            _ => return Err(format!("a row of {} columns: {row:?}", row.len())),
        };
        let text = match (text, default) {
            ("", "") => return Err(format!("nothing is said of {term}")),
            (text, "") => text.to_owned(),
            ("", default) => format!("Default: {default}."),
            (text, default) => format!("{} Default: {default}.", ended(text)),
        };
        out.push_str(&format!(".TP\n{}{}", line(&inline(term)?), line(&inline(&text)?)));
    }
    Ok(out)
}

fn ended(text: &str) -> String {
    if text.ends_with(['.', '!', '?']) { text.to_owned() } else { format!("{text}.") }
}

/// `code` and **bold** are bold, of a link its text is shown.
pub fn inline(text: &str) -> Result<String, String> {
    let unpaired = || format!("what is opened here does not end: {text}");
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['`', '*', '[']) {
        out.push_str(&escaped(&rest[..at]));
        rest = &rest[at..];
        if let Some(code) = rest.strip_prefix('`') {
            let (code, after) = code.split_once('`').ok_or_else(unpaired)?;
            out.push_str(&format!("\\fB{}\\fR", escaped(code)));
            rest = after;
        } else if let Some(bold) = rest.strip_prefix("**") {
            let (bold, after) = bold.split_once("**").ok_or_else(unpaired)?;
            out.push_str(&format!("\\fB{}\\fR", escaped(&bold.replace('`', ""))));
            rest = after;
        } else if let Some((shown, after)) = link(rest) {
            out.push_str(&escaped(shown));
            rest = after;
        } else {
            out.push_str(&escaped(&rest[..1]));
            rest = &rest[1..];
        }
    }
    Ok(out + &escaped(rest))
}

/// `[shown](where)`, and what comes after it.
fn link(text: &str) -> Option<(&str, &str)> {
    let (shown, after) = text.strip_prefix('[')?.split_once("](")?;
    let (_, after) = after.split_once(')')?;
    (!shown.contains(['[', ']'])).then_some((shown, after))
}

#[test]
fn a_table_is_a_list_of_terms() {
    let rows = "| key | default | |\n|---|---|---|\n| `size` | `\"1GiB\"` | octets |\n| `a|b` | | [see](x.md) |\n";
    let expected = ".SH DESCRIPTION\n.TP\n\\fBsize\\fR\noctets. Default: \\fB\\(dq1GiB\\(dq\\fR.\n.TP\n\\fBa|b\\fR\nsee\n";
    assert_eq!(sections(rows).as_deref(), Ok(expected));
}

#[test]
fn what_has_no_form_is_refused() {
    assert!(sections("text `open\n").is_err() && sections("> quoted\n").is_err() && sections("#### deep\n").is_err());
}
