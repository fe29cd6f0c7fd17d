//! What was given up, one JSON object a line with the reason: for the administrator to look at, and to send by hand.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};

use crate::message::SEVERITIES;
use crate::metrics::Limited;
use crate::queue::Chunk;
use crate::route::Envelope;
use crate::sys::file::end_line;
use crate::sys::reason;
use crate::template::json_string;
use crate::warn_limited;

/// A file that has grown to this becomes `NAME.1`, in the place of an older one.
const SIZE: u64 = 64 << 20;

/// The letters of an output, and where they are.
#[derive(Debug)]
pub struct DeadLetters {
    /// None: nowhere.
    path: Option<PathBuf>,
    /// With its size.
    file: Option<(File, u64)>,
    log: Limited,
    lines: Vec<u8>,
}

impl DeadLetters {
    pub fn at(path: Option<PathBuf>) -> Self {
        Self { path, file: None, log: Limited::default(), lines: Vec::new() }
    }

    pub(super) fn reopen(&mut self) {
        self.file = None;
    }

    /// Notes the records of the chunks that have been refused since the last time.
    pub(super) fn keep(&mut self, output: &str, batch: &mut [Chunk]) {
        let count: usize = batch.iter().map(|chunk| chunk.refused.len()).sum();
        let Some((_, why)) = batch.iter().find_map(|chunk| chunk.refused.first()).cloned() else { return };
        let now = Utc::now();
        self.lines.clear();
        for chunk in batch {
            for (record, why) in std::mem::take(&mut chunk.refused) {
                letter(chunk, record, &why, output, now, &mut self.lines);
            }
        }
        let fate = match self.path.clone().map(|path| (self.write(&path), path)) {
            Some((Ok(()), path)) => format!("kept in {}", path.display()),
            Some((Err(error), path)) => format!("lost: {}: {}", path.display(), reason(&error)),
            None => "lost: `dead-letters` in `queue` names no file".to_owned(),
        };
        warn_limited!(self.log, "output `{output}`: {count} messages are given up ({why}) and {fate}");
        // Once grown for many, memory is given back.
        self.lines.clear();
        self.lines.shrink_to(1 << 20);
    }

    fn write(&mut self, path: &Path) -> io::Result<()> {
        if self.file.as_ref().is_some_and(|(_, size)| *size >= SIZE) {
            let mut old = path.as_os_str().to_owned();
            old.push(".1");
            // Where it cannot be renamed, or has been, the letters go on.
            let _ = std::fs::rename(path, old);
            self.file = None;
        }
        let (mut file, size) = match self.file.take() {
            Some(open) => open,
            None => open(path)?,
        };
        file.write_all(&self.lines)?;
        self.file = Some((file, size + self.lines.len() as u64));
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    }
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)?;
    let size = end_line(&file)?;
    Ok((file, size))
}

fn letter(chunk: &Chunk, record: usize, why: &str, output: &str, now: DateTime<Utc>, out: &mut Vec<u8>) {
    let record = &chunk.records[record];
    let accepted = DateTime::from_timestamp(i64::from(chunk.accepted), 0).filter(|_| chunk.accepted > 0);
    let body = record.body.of(&chunk.bytes);
    let text = Envelope::of_form(chunk.form).map_or(body, |envelope| envelope.opened(body));
    let mut member = |key: &str, value: &[u8]| {
        out.extend_from_slice(key.as_bytes());
        json_string(value, out);
    };
    let shown = |moment: DateTime<Utc>| moment.to_rfc3339_opts(SecondsFormat::Secs, true);
    member("{\"given_up\":", shown(now).as_bytes());
    if let Some(accepted) = accepted {
        member(",\"accepted\":", shown(accepted).as_bytes());
    }
    member(",\"output\":", output.as_bytes());
    member(",\"reason\":", why.as_bytes());
    member(",\"severity\":", SEVERITIES.get(usize::from(record.severity)).copied().unwrap_or("?").as_bytes());
    if record.address.start < record.address.end {
        member(",\"address\":", record.address.of(&chunk.bytes));
    }
    member(",\"message\":", text);
    out.extend_from_slice(b"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::State;

    #[test]
    fn each_letter_is_a_line_with_its_reason() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("dead-letters/forward.up.jsonl");
        let mut letters = DeadLetters::at(Some(path.clone()));
        let mut chunk = Chunk::default();
        (chunk.form, chunk.accepted) = (Envelope::OctetCounted as u8, 1_800_000_000);
        chunk.add(b"", b"3 one", 6);
        chunk.add(b"", b"9 \"t\xffwo\"\n..", 3);
        chunk.refuse(1, State::Rejected, "500 too long".into());
        letters.keep("up", std::slice::from_mut(&mut chunk));
        letters.keep("up", std::slice::from_mut(&mut chunk));
        let text = std::fs::read_to_string(path).expect("a file");
        let (head, rest) = text.split_once(",\"accepted\":").expect("an object");
        assert!(head.starts_with("{\"given_up\":\"20") && head.ends_with("Z\""), "{head}");
        assert_eq!(
            rest,
            "\"2027-01-15T08:00:00Z\",\"output\":\"up\",\"reason\":\"500 too long\",\"severity\":\"err\",\
             \"message\":\"\\\"t\u{fffd}wo\\\"\\n..\"}\n"
        );
    }
}
