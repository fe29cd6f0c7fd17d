//! Who wrote what of the program, for /usr/share/doc/penstock/copyright: every crate that is linked, with its licence.
//!
//! What is linked says `cargo tree` (the edges of `cargo metadata` have optional crates too that nothing switches on), where
//! its sources are `cargo metadata`; who has the rights, and the licences' texts, the crates' own files. A text that many share word for word is there once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

const OWN: &str = env!("CARGO_PKG_NAME");
const HEAD: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: penstock\n";
/// Debian has it in every system, and wants it named and not repeated.
const APACHE: &str =
    " On Debian systems the text of the Apache License, Version 2.0, is in\n /usr/share/common-licenses/Apache-2.0.\n";

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    authors: Vec<String>,
    manifest_path: String,
}

/// Text → the crates that have it.
type Texts = BTreeMap<String, BTreeSet<String>>;

pub fn text() -> Result<String, String> {
    let metadata = cargo(&["metadata", "--locked", "--format-version", "1"])?;
    let metadata: Metadata = serde_json::from_str(&metadata).map_err(|error| format!("cargo metadata: {error}"))?;
    let linked = cargo(&["tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}"])?;
    let linked: BTreeSet<_> = linked.lines().filter_map(name_and_version).collect();
    let mut crates: Vec<_> = metadata.packages.iter().filter(|package| linked.contains(&key(package))).collect();
    if crates.len() < linked.len() {
        return Err("cargo tree names what cargo metadata does not know".to_owned());
    }
    crates.sort_by_key(|package| (package.name != OWN, &package.name, &package.version));
    let (mut out, mut texts) = (HEAD.to_owned(), Texts::new());
    for package in crates {
        out.push_str(&stanza(package, &mut texts)?);
    }
    for (text, names) in texts {
        let names: Vec<_> = names.into_iter().collect();
        let names = filled(&format!("Of {}:", names.join(", ")));
        out.push_str(&format!("\nLicense: {}\n{names} .\n{text}", called(&text)));
    }
    Ok(format!("{out}\nLicense: Apache-2.0\n{APACHE}"))
}

fn cargo(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("cargo").args(arguments).output().map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    String::from_utf8(output.stdout).map_err(|error| format!("cargo: {error}"))
}

/// Of `name v1.2.3 (where)`.
fn name_and_version(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split(' ');
    Some((words.next()?, words.next()?.strip_prefix('v')?))
}

fn key(package: &Package) -> (&str, &str) {
    (&package.name, &package.version)
}

fn stanza(package: &Package, texts: &mut Texts) -> Result<String, String> {
    let label = format!("{} {}", package.name, package.version);
    let licence = package.license.as_ref().ok_or_else(|| format!("{label} names no licence"))?;
    let folder = Path::new(&package.manifest_path).parent().unwrap_or(Path::new("."));
    let mut holders = BTreeSet::new();
    for (name, text) in licence_files(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        holders.extend(text.lines().filter_map(holder));
        if !is_apache(&text) {
            texts.entry(body(&text)).or_default().insert(format!("{} ({name})", package.name));
        }
    }
    if holders.is_empty() {
        holders.extend(package.authors.iter().cloned());
    }
    if holders.is_empty() {
        holders.insert(format!("the authors of {}", package.name));
    }
    let files = if package.name == OWN { "*".to_owned() } else { format!("crates/{}-{}/*", package.name, package.version) };
    let holders: Vec<_> = holders.into_iter().collect();
    Ok(format!("\nFiles: {files}\nCopyright: {}\nLicense: {}\n", holders.join("\n           "), short(licence)))
}

fn licence_files(folder: &Path) -> std::io::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let upper = name.to_ascii_uppercase();
        let named =
            ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"].iter().any(|word| upper.starts_with(word));
        if named && entry.file_type()?.is_file() {
            found.push((name, String::from_utf8_lossy(&fs::read(entry.path())?).into_owned()));
        }
    }
    found.sort();
    Ok(found)
}

/// `Copyright (c) 2016 The Authors` as a line of its own, and not a word in a sentence.
fn holder(line: &str) -> Option<String> {
    let text = line.trim().trim_start_matches(['/', '*', ' ']);
    let said = text.strip_prefix("Copyright ").or_else(|| text.strip_prefix("COPYRIGHT "))?;
    let said = said.trim_start_matches("(c) ").trim_start_matches("(C) ").trim_start_matches("© ");
    let dated = said.starts_with(|first: char| first.is_ascii_digit()) || said.starts_with("The ") || text.contains("(c)");
    (dated && !text.contains("[yyyy]") && !text.contains("{yyyy}")).then(|| said.trim().to_owned())
}

/// The licence itself, and nothing of the crate's own before it.
fn is_apache(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.next() == Some("Apache License") && lines.next().is_some_and(|line| line.starts_with("Version 2.0"))
}

/// Without the names of who has the rights, which stand with the crate; each paragraph is indented as the format wants it.
fn body(text: &str) -> String {
    let text = &without_apache(text);
    let title = |line: &str| matches!(line.trim(), "MIT License" | "The MIT License (MIT)" | "The MIT License");
    let kept = text.lines().filter(|line| holder(line).is_none() && !title(line));
    let lines: Vec<_> = kept.map(str::trim).collect();
    let paragraphs = lines.split(|line| line.is_empty()).filter(|lines| !lines.is_empty());
    paragraphs.map(|lines| filled(&lines.join(" "))).collect::<Vec<_>>().join(" .\n")
}

/// Where it stands among other licences, too, Debian's copy is named instead.
fn without_apache(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    let begins = |at: usize| is_apache(&lines[at..].join("\n"));
    let ends = |line: &&str| line.trim() == "END OF TERMS AND CONDITIONS";
    let (mut out, mut at) = (Vec::new(), 0);
    while at < lines.len() {
        let length = lines[at..].iter().position(ends).filter(|_| lines[at].trim() == "Apache License" && begins(at));
        match length {
            Some(_) => out.push("(The Apache License, Version 2.0: /usr/share/common-licenses/Apache-2.0)"),
            None => out.push(lines[at]),
        }
        at += length.map_or(1, |length| length + 1);
    }
    out.join("\n")
}

/// Lines of 78 columns.
fn filled(text: &str) -> String {
    let (mut out, mut column) = (String::new(), 0);
    for word in text.split_whitespace() {
        if column > 0 && column + 1 + word.chars().count() > 78 {
            out.push('\n');
            column = 0;
        }
        out.push(' ');
        out.push_str(word);
        column += 1 + word.chars().count();
    }
    out + "\n"
}

/// As the format names a text by what is in it.
fn called(text: &str) -> &'static str {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let known = [
        ("Apache License", "other-several"),
        ("Boost Software License", "BSL-1.0"),
        ("UNICODE LICENSE", "Unicode-3.0"),
        ("Permission is hereby granted, free of charge", "MIT"),
        ("Neither the name", "BSD-3-Clause"),
        ("Redistribution and use", "BSD-2-Clause"),
        ("Permission to use, copy, modify, and/or distribute", "ISC"),
        ("released into the public domain", "Unlicense"),
        ("This software is provided 'as-is'", "Zlib"),
    ];
    known.iter().find(|(mark, _)| words.contains(mark)).map_or("other", |(_, name)| name)
}

/// SPDX's expression in the format's words.
fn short(licence: &str) -> String {
    licence.replace('/', " or ").replace(" OR ", " or ").replace(" AND ", " and ").replace(" WITH ", " with ")
}

#[test]
fn a_holder_is_a_line_and_not_a_sentence() {
    assert_eq!(holder("// Copyright (c) 2016 Nobody").as_deref(), Some("2016 Nobody"));
    assert_eq!(holder("Copyright 2020 The Authors.").as_deref(), Some("2020 The Authors."));
    assert_eq!(holder("   Copyright [yyyy] [name of copyright owner]"), None);
    assert_eq!(holder("Copyright License. Subject to the terms"), None);
}

#[test]
fn a_text_that_two_have_is_one() {
    let (one, two) =
        ("MIT License\n\nCopyright (c) 2001 A\n\nPermission is\ngranted", "Copyright (c) 2002 B\n\nPermission\nis granted\n");
    assert_eq!((body(one), body(one)), (body(two), " Permission is granted\n".to_owned()));
}
