use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::super::period::Every;
use super::super::rotation::Rotation;
use super::*;

fn settings(base: &Path, max_open: usize) -> Settings {
    Settings {
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
        rotation: None,
        names: None,
        seal: None,
    }
}

fn store(base: &Path, max_open: usize) -> Store {
    Store::new(Arc::new(settings(base, max_open)))
}

fn rotating(base: &Path, rotation: Rotation) -> Store {
    Store::new(Arc::new(Settings { rotation: Some(rotation), ..settings(base, 10) }))
}

/// The closed files of a name, oldest first, and the one that is written.
fn family(base: &Path, name: &str) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(base)
        .expect("a folder")
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|file| file.starts_with(name) && file != name)
        .map(|file| (names::closed(&file.as_bytes()[name.len() + 1..]).expect("a closed file"), file))
        .collect();
    names.sort();
    names.into_iter().map(|(_, file)| file).chain([name.to_owned()]).collect()
}

fn contents(base: &Path, name: &str) -> Vec<String> {
    family(base, name).iter().map(|file| fs::read_to_string(base.join(file)).expect("a file")).collect()
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
    let mut store = Store::new(Arc::new(Settings { new_files: 2, ..settings(folder.path(), 10) }));
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

#[test]
fn a_file_is_closed_before_it_grows_too_large() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = folder.path();
    let mut store = rotating(base, Rotation { size: Some(10), ..Rotation::default() });
    let huge = "x".repeat(200_000) + "\n";
    let records = ["1234\n", "5678\n", "9\n", &huge, "a\n", "b\n"].map(|body| ("x.log", body));
    store.write(&mut [chunk(base, &records)]).expect("written");
    assert_eq!(contents(base, "x.log"), ["1234\n5678\n", "9\n", &huge, "a\nb\n"]);
    // What was there before counts.
    store.close_all();
    store.write(&mut [chunk(base, &[("x.log", "1234567\n")])]).expect("written");
    assert_eq!(contents(base, "x.log")[3..], ["a\nb\n", "1234567\n"]);
    assert_eq!(store.take_rotated(), 4);
}

#[test]
fn at_the_end_of_a_period_files_are_closed_open_or_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = folder.path();
    let mut store = rotating(base, Rotation { every: Some(Every::Day), ..Rotation::default() });
    let records = [("open.log", "1\n"), ("closed.log", "1\n"), ("quiet.log", "1\n")];
    store.write(&mut [chunk(base, &records)]).expect("written");
    let tomorrow = store.period.expect("a period").end;
    store.turn(tomorrow);
    store.write_out(&mut [], &mut None);
    assert_eq!(family(base, "open.log").len(), 1, "it is of yesterday, and nobody has come");
    store.period = Some(Period { start: Utc::now(), end: tomorrow });
    store.write(&mut [chunk(base, &[("open.log", "2\n")])]).expect("written");
    assert_eq!(contents(base, "open.log"), ["1\n", "2\n"]);
    assert_eq!((store.close_stale_from(0), store.close_stale_from(2), store.close_stale_from(3)), (Some(2), Some(3), None));
    assert_eq!(family(base, "quiet.log").len(), 2);
    // Of the day before, and found by whoever comes.
    for name in ["closed.log", "quiet.log"] {
        fs::write(base.join(name), "2\n").expect("written");
        let file = fs::File::options().write(true).open(base.join(name)).expect("a file");
        file.set_modified(SystemTime::now() - Duration::from_secs(86400)).expect("set");
    }
    store.close_all();
    store.period = Some(Period::around(Utc::now(), Every::Day));
    store.write(&mut [chunk(base, &[("closed.log", "3\n")])]).expect("written");
    assert_eq!(contents(base, "closed.log"), ["1\n", "2\n", "3\n"]);
    let path = base.join("quiet.log");
    // Not while somebody writes to it.
    let writer = fs::File::options().append(true).open(&path).expect("a file");
    store.close_for_good(path.as_os_str().as_encoded_bytes());
    assert!(path.exists());
    drop(writer);
    store.close_for_good(path.as_os_str().as_encoded_bytes());
    assert_eq!(family(base, "quiet.log").len(), 3);
    assert!(!path.exists());
    store.close_for_good(base.join("closed.log").as_os_str().as_encoded_bytes());
    assert_eq!(contents(base, "closed.log").len(), 3, "what is of today stays");
}

/// Nobody else's mistake loses a line: what cannot be renamed is written on.
#[test]
fn a_file_that_cannot_be_closed_is_written_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = folder.path();
    let mut store = rotating(base, Rotation { size: Some(10), ..Rotation::default() });
    store.write(&mut [chunk(base, &[("x.log", "12345678\n")])]).expect("written");
    store.slots[0].name = c"no/such/folder".into();
    store.write(&mut [chunk(base, &[("x.log", "2\n"), ("x.log", "345678901234\n")])]).expect("written");
    assert_eq!(contents(base, "x.log"), ["12345678\n2\n345678901234\n"]);
    store.slots[0].name = c"x.log".into();
    store.slots[0].stuck = Some(Instant::now());
    store.write(&mut [chunk(base, &[("x.log", "4\n")])]).expect("written");
    assert_eq!(contents(base, "x.log"), ["12345678\n2\n345678901234\n", "4\n"]);
}
