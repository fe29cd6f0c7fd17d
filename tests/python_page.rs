//! docs/python.md is true: each of its blocks runs with the real library against a real server, and so does each loss it speaks of.

mod common;

use std::path::Path;
use std::process::Command;

use common::{PENSTOCK, has};

/// Of `PENSTOCK_PYTHONS`, or the one at hand: `tests/page/run.py --help` says how to try others.
#[test]
fn every_block_of_the_page_does_what_it_says() {
    if !has("python3") || !has("openssl") {
        return;
    }
    let pythons = std::env::var("PENSTOCK_PYTHONS").unwrap_or_else(|_| "python3".to_owned());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for python in pythons.split_whitespace() {
        let libraries = root.join("target/python-page");
        let mut page = Command::new(python);
        page.arg(root.join("tests/page/run.py")).args(["--penstock", PENSTOCK, "--python", python, "--venv"]).arg(&libraries);
        let is_strict = std::env::var_os("PENSTOCK_REQUIRE_PEERS").is_some();
        let output = page.args(is_strict.then_some("--strict")).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{python}: {said}");
        assert!(said.contains("as the page says"), "{python}: {said}");
        for skipped in said.lines().filter(|line| line.contains("skipped")) {
            eprintln!("SKIPPED {python}: {skipped}");
        }
    }
}
