//! The folders of the queues on disk: `STATE-DIR/queues/KIND.NAME`.

use std::io;
use std::path::{Path, PathBuf};

/// One folder, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueueFolder {
    pub name: String,
    pub kind: String,
    pub path: PathBuf,
}

/// Where the output has its queue.
pub fn folder(state_dir: &Path, kind: &str, name: &str) -> PathBuf {
    state_dir.join("queues").join(encoded(kind, name))
}

/// Where what the output gives up is kept.
pub fn dead_letters(state_dir: &Path, kind: &str, name: &str) -> PathBuf {
    state_dir.join("dead-letters").join(encoded(kind, name) + ".jsonl")
}

fn encoded(kind: &str, name: &str) -> String {
    let mut file_name = format!("{kind}.");
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => file_name.push(char::from(byte)),
            other => file_name.push_str(&format!("%{other:02x}")),
        }
    }
    file_name
}

/// All that are there, in the order of their names.
pub fn list(state_dir: &Path) -> io::Result<Vec<QueueFolder>> {
    let entries = match std::fs::read_dir(state_dir.join("queues")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry?;
        let file_name = entry.file_name();
        let named =
            file_name.to_str().and_then(|text| text.split_once('.')).and_then(|(kind, name)| Some((kind, decoded(name)?)));
        if let Some((kind, name)) = named {
            folders.push(QueueFolder { name, kind: kind.to_owned(), path: entry.path() });
        }
    }
    folders.sort();
    Ok(folders)
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_has_a_folder_of_its_own() {
        let state = tempfile::tempdir().expect("a folder");
        assert_eq!(list(state.path()).expect("none"), []);
        let names = ["upstream", "../x", "a.b", "größe 100%", ""];
        for name in names {
            std::fs::create_dir_all(folder(state.path(), "forward", name)).expect("made");
        }
        let mut found: Vec<_> = list(state.path()).expect("a list").into_iter().map(|folder| folder.name).collect();
        found.sort();
        let mut expected = names.map(str::to_owned);
        expected.sort();
        assert_eq!(found, expected);
    }
}
