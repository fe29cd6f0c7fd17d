//! The manual pages and the shells' completions.

use std::fs;
use std::path::Path;

use chrono::{DateTime, Utc};
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::markdown;
use crate::roff::{escaped, quoted};

/// What the definition of the command line does not say.
const BEHIND: &str = include_str!("../penstock.8.in");
const CONFIGURATION: &str = include_str!("../../docs/configuration.md");
const BEHIND_CONFIGURATION: &str = include_str!("../penstock.toml.5.in");

pub fn write(folder: &Path) -> Result<(), String> {
    let put = |name: &str, text: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let date = date()?;
    put("penstock.8", program(&date)?.as_bytes())?;
    put("penstock.toml.5", configuration(&date)?.as_bytes())?;
    for (shell, name) in [(Shell::Bash, "penstock.bash"), (Shell::Fish, "penstock.fish"), (Shell::Zsh, "_penstock")] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut penstock::cli::command(), "penstock", &mut script);
        put(name, &script)?;
    }
    Ok(())
}

/// The same sources give the same pages (SOURCE_DATE_EPOCH, as everywhere where builds are to be repeatable).
fn date() -> Result<String, String> {
    let time = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) => seconds.parse().ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0)),
        Err(_) => Some(Utc::now()),
    };
    time.map(|time| time.format("%Y-%m-%d").to_string()).ok_or_else(|| "SOURCE_DATE_EPOCH is no time".to_owned())
}

fn title(name: &str, section: u8, date: &str) -> String {
    format!(
        ".TH {} {section} {date} {} {}\n",
        quoted(name),
        quoted(concat!("penstock ", env!("CARGO_PKG_VERSION"))),
        quoted("System Administration")
    )
}

fn configuration(date: &str) -> Result<String, String> {
    let name = ".SH NAME\npenstock.toml \\- the configuration of penstock\n";
    let sections = markdown::sections(CONFIGURATION).map_err(|why| format!("docs/configuration.md: {why}"))?;
    Ok(title("penstock.toml", 5, date) + name + &sections + BEHIND_CONFIGURATION)
}

/// One page: a user who looks for a subcommand's option finds it by searching.
fn program(date: &str) -> Result<String, String> {
    let mut root = penstock::cli::command();
    root.build();
    let about = root.get_about().map(ToString::to_string).unwrap_or_default();
    let about = about.trim_end_matches('.');
    let mut page = title("penstock", 8, date);
    page.push_str(&format!(".SH NAME\npenstock \\- {}\n.SH SYNOPSIS\n", escaped(&(about[..1].to_lowercase() + &about[1..]))));
    let commands: Vec<_> = leaves(&root).into_iter().map(without_help).collect();
    let synopses: Result<Vec<_>, _> = commands.iter().map(|command| part(command, Man::render_synopsis_section)).collect();
    page.push_str(&synopses?.join(".br\n"));
    page.push_str(&part(&without_help(root.clone()), Man::render_options_section)?.replacen(".TP", ".SH OPTIONS\n.TP", 1));
    page.push_str(".SH COMMANDS\n");
    for command in &commands {
        page.push_str(&format!(".SS {}\n", quoted(command.get_bin_name().unwrap_or(command.get_name()))));
        page.push_str(&part(command, Man::render_description_section)?);
        page.push_str(&part(command, Man::render_options_section)?);
    }
    Ok(page + BEHIND)
}

/// Commands that do something, and not only have others below them.
fn leaves(command: &Command) -> Vec<Command> {
    if command.get_subcommands().next().is_none() {
        return vec![command.clone()];
    }
    command.get_subcommands().flat_map(leaves).collect()
}

/// That every command has `--help` need not be said of each.
fn without_help(command: Command) -> Command {
    command.mut_arg("help", |help| help.hide(true))
}

/// A section as clap_mangen renders it, without its heading.
fn part(command: &Command, render: fn(&Man, &mut dyn std::io::Write) -> std::io::Result<()>) -> Result<String, String> {
    let mut section = Vec::new();
    render(&Man::new(command.clone()), &mut section).map_err(|error| error.to_string())?;
    let text = String::from_utf8(section).map_err(|error| error.to_string())?;
    let lines = text.lines().filter(|line| !line.starts_with(".SH") && !line.starts_with(".ie") && !line.starts_with(".el"));
    // The lines that are left out define that string, for formatters that have no apostrophe.
    let text: String = lines.map(|line| format!("{}\n", code(&line.replace("\\*(Aq", "\\(aq")))).collect();
    Ok(text.replace("\n.br\n\n.br\n", "\n.sp\n"))
}

/// What stands between backticks in a help is bold in a page.
fn code(line: &str) -> String {
    let parts: Vec<_> = line.split('`').collect();
    if parts.len() % 2 == 0 {
        return line.to_owned();
    }
    parts.iter().enumerate().map(|(at, part)| if at % 2 == 1 { format!("\\fB{part}\\fR") } else { (*part).to_owned() }).collect()
}

/// What is written into docs/configuration.md has to have a form here.
#[test]
fn every_page_can_be_made() {
    let (program, configuration) = (program("2026-11-21"), configuration("2026-11-21"));
    assert!(program.is_ok_and(|page| page.contains(".SS \"penstock queue export\"")));
    assert_eq!(configuration.as_ref().err(), None);
    assert!(configuration.is_ok_and(|page| page.contains(".SH \"[server]\"") && page.contains("\\fB[[output.file]]\\fR")));
}
