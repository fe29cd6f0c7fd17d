//! `penstock verify`: files against their chains.

use std::path::PathBuf;

use clap::Args;

use super::{Exit, Failure};
use crate::output::{SealKey, Verdict, verify};
use crate::sys::reason;

/// Names the first line of a sealed file that was changed, removed or moved
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// PEM: the public key of those who sealed, or the private one
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Files whose chains (FILE.chain) stand beside them, packed or not
    #[arg(required = true)]
    file: Vec<PathBuf>,
}

pub(super) fn main(arguments: &Arguments) -> Result<(), Failure> {
    let key = SealKey::read(&arguments.key).map_err(|what| Failure::new(Exit::Usage, what))?;
    let (mut verdicts, mut wrong) = (Vec::new(), 0);
    for path in &arguments.file {
        match verify(path, &key) {
            Ok(verdict) => {
                wrong += usize::from(verdict.finding.is_some());
                println!("{}: {}", path.display(), said(&verdict));
                verdict.remarks.iter().for_each(|remark| println!("{}: {remark}", path.display()));
                verdicts.push((path, verdict));
            }
            Err(error) => {
                wrong += 1;
                println!("{}: cannot be verified: {}", path.display(), reason(&error));
            }
        }
    }
    for gap in gaps(&verdicts) {
        wrong += 1;
        println!("{gap}");
    }
    match wrong {
        0 => Ok(()),
        n => Err(Failure::new(Exit::Data, format!("{n} of {} findings are not good", arguments.file.len()))),
    }
}

fn said(verdict: &Verdict) -> String {
    let mut said = match &verdict.finding {
        Some(finding) => format!("NOT as it was written: {finding}; {} lines before that are good", verdict.sealed),
        None => format!("good: {} lines are as they were written", verdict.sealed),
    };
    if let Some(until) = &verdict.until {
        said += &format!(", sealed {until}");
    }
    if verdict.before > 0 {
        said += &format!("; {} lines are older than the chain", verdict.before);
    }
    if verdict.unsealed > 0 {
        said += &format!("; {} lines are not sealed: the server is still writing, or has crashed", verdict.unsealed);
    }
    said
}

/// Files of one name follow each other: each knows the last seal of the one before. The oldest need not be there any
/// more; what is missing between two of them was taken away.
fn gaps(verdicts: &[(&PathBuf, Verdict)]) -> Vec<String> {
    let has_follower = |verdict: &Verdict| {
        verdicts.iter().any(|(_, other)| other.name == verdict.name && other.after.as_ref() == Some(&verdict.last))
    };
    let is_there =
        |verdict: &Verdict, last: &String| verdicts.iter().any(|(_, other)| other.name == verdict.name && other.last == *last);
    let mut gaps = Vec::new();
    for (path, verdict) in verdicts {
        let Some(after) = verdict.after.as_ref().filter(|after| !is_there(verdict, after)) else { continue };
        // Only where one is older can something be missing between them.
        let is_older = |of: &Verdict| of.closed.is_some_and(|closed| verdict.closed.is_none_or(|own| closed < own));
        let before = verdicts.iter().filter(|(_, of)| of.name == verdict.name && !has_follower(of) && is_older(of));
        // Of one that is not good the last seal is not known.
        if before.clone().any(|(_, of)| of.finding.is_some()) {
            continue;
        }
        if let Some((before, _)) = before.max_by_key(|(_, of)| of.closed) {
            gaps.push(format!(
                "{}: the file before it is not {}: one that stood between them is missing (its last seal is {}…)",
                path.display(),
                before.display(),
                &after[..after.len().min(16)]
            ));
        }
    }
    gaps
}
