use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::*;

fn store(base: &Path, max_open: usize) -> Store {
    Store::new(Settings {
        base: base.to_owned(),
        mode: 0o640,
        owner: None,
        group: None,
        dir_mode: 0o750,
        dir_owner: None,
        dir_group: None,
        max_open,
        new_files: 1000,
        sync: Sync::None,
    })
}

fn chunk(base: &Path, records: &[(&str, &str)]) -> Chunk {
    let mut chunk = Chunk::default();
    for (path, body) in records {
        chunk.add(format!("{}/{path}", base.display()).as_bytes(), body.as_bytes(), 6);
    }
    chunk
}

#[test]
fn records_go_to_their_files_in_order_however_few_may_be_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = folder.path().join("not/yet/there");
    let mut store = store(&base, 2);
    let texts: Vec<_> = (0..60).map(|i| (format!("host{}/{}.log", i % 5, i % 2), format!("{i}\n"))).collect();
    let records: Vec<_> = texts.iter().map(|(path, body)| (path.as_str(), body.as_str())).collect();
    let mut batch = [chunk(&base, &records[..30]), chunk(&base, &records[30..])];
    store.write(&mut batch).expect("written");
    assert_eq!(batch.iter().map(Chunk::pending).sum::<usize>(), 0);
    assert_eq!(fs::read_to_string(base.join("host0/0.log")).expect("a file"), "0\n10\n20\n30\n40\n50\n");
    let mode = |path: &str| fs::metadata(base.join(path)).expect("metadata").permissions().mode() & 0o777;
    assert_eq!((mode("host0"), mode("host0/0.log")), (0o750, 0o640));
    assert!(store.slots.len() <= 2);
}

#[test]
fn a_link_or_folder_in_the_way_sends_records_to_the_fall_back_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (base, outside) = (folder.path().join("logs"), folder.path().join("outside"));
    fs::create_dir_all(base.join("dir.log")).expect("a folder");
    fs::create_dir(&outside).expect("a folder");
    symlink(&outside, base.join("host")).expect("a link");
    symlink(outside.join("target"), base.join("link.log")).expect("a link");
    let mut store = store(&base, 10);
    let mut batch = [chunk(
        &base,
        &[("host/a.log", "1\n"), ("link.log", "2\n"), ("dir.log", "3\n"), ("../escape.log", "4\n"), ("good.log", "5\n")],
    )];
    store.write(&mut batch).expect("written");
    assert_eq!(fs::read_dir(&outside).expect("a folder").count(), 0, "nothing left the folder");
    assert!(!folder.path().join("escape.log").exists());
    assert_eq!(fs::read_to_string(base.join("penstock-redirected.log")).expect("a file"), "1\n2\n3\n4\n");
    assert_eq!(fs::read_to_string(base.join("good.log")).expect("a file"), "5\n");
    assert_eq!(store.take_redirected(), 4);
}

#[test]
fn more_new_files_than_allowed_share_the_fall_back_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = store(folder.path(), 10);
    store.settings.new_files = 2;
    let mut batch = [chunk(folder.path(), &[("a", "1\n"), ("b", "2\n"), ("c", "3\n"), ("a", "4\n")])];
    let result = store.write(&mut batch);
    assert!(folder.path().join("b").exists() && !folder.path().join("c").exists());
    assert!(result.is_ok(), "the fall-back file does not count: {result:?}");
}

#[test]
fn a_folder_taken_away_is_made_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = folder.path().join("logs");
    let mut store = store(&base, 10);
    store.write(&mut [chunk(&base, &[("a", "1\n")])]).expect("written");
    fs::remove_dir_all(&base).expect("removed");
    store.write(&mut [chunk(&base, &[("b", "2\n")])]).expect("written");
    store.close_all();
    store.write(&mut [chunk(&base, &[("a", "3\n")])]).expect("written");
    assert_eq!(fs::read_to_string(base.join("a")).expect("a file"), "3\n");
}

/// More than goes with one write, and one record that is more alone.
#[test]
fn many_records_of_one_file_are_all_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = store(folder.path(), 10);
    let body = "x".repeat(99) + "\n";
    let huge = "y".repeat(200_000) + "\n";
    let mut records: Vec<_> = (0..5000).map(|_| ("one.log", body.as_str())).collect();
    records.insert(1000, ("one.log", &huge));
    store.write(&mut [chunk(folder.path(), &records)]).expect("written");
    let expected = [body.repeat(1000), huge.clone(), body.repeat(4000)].concat();
    assert!(fs::read_to_string(folder.path().join("one.log")).expect("a file") == expected, "all of them in their order");
}

#[test]
fn a_line_that_was_cut_stays_a_line_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = folder.path();
    for (before, after) in [("", "2\n"), ("1\n", "1\n2\n"), ("half a li", "half a li\n2\n")] {
        fs::write(base.join("a.log"), before).expect("written");
        store(base, 10).write(&mut [chunk(base, &[("a.log", "2\n")])]).expect("written");
        assert_eq!(fs::read_to_string(base.join("a.log")).expect("a file"), after);
    }
}
