//! Any text is a configuration with a plan, or every one of its errors has a place inside the file.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use penstock::config::{Errors, Loaded, plan};

/// Users, groups and certificates are looked up on this machine: what may hang or differ is left out.
const NOT_HERE: [&str; 3] = ["/dev/", "/proc/", "/sys/"];

fuzz_target!(|text: &str| -> Corpus {
    if NOT_HERE.iter().any(|path| text.contains(path)) {
        return Corpus::Reject;
    }
    match Loaded::of_text(text).and_then(|loaded| plan(&loaded)) {
        Ok(plan) => {
            let outputs = plan.outputs.len();
            assert!(!plan.inputs.is_empty() && !plan.routes.is_empty());
            assert!(plan.routes.iter().all(|route| !route.to.is_empty() && route.to.iter().all(|to| *to < outputs)));
            lie_inside(&Errors(plan.warnings), text);
        }
        Err(errors) => {
            assert!(!errors.0.is_empty());
            lie_inside(&errors, text);
        }
    }
    Corpus::Keep
});

/// Line and column are those of a character, or of the end of a line or of the file.
fn lie_inside(errors: &Errors, text: &str) {
    for problem in &errors.0 {
        assert!(!problem.what.is_empty());
        let Some((line, column)) = problem.place else { continue };
        // What `lines` does not count: the empty one behind the last line feed.
        let found = text.split('\n').nth(line.wrapping_sub(1));
        let found = found.unwrap_or_else(|| panic!("{problem}: there are {} lines", text.split('\n').count()));
        assert!(
            (1..=found.chars().count() + 1).contains(&column),
            "{problem}: the line has {} characters",
            found.chars().count()
        );
    }
}
