//! Any text compiles to a selector or is refused at a place inside it, and what compiled answers for every priority.
#![no_main]

use libfuzzer_sys::fuzz_target;
use penstock::message::Priority;
use penstock::route::Selector;

fuzz_target!(|text: &str| match Selector::compile(text) {
    Err(error) => assert!(error.offset <= text.len() && text.is_char_boundary(error.offset)),
    Ok(selector) => {
        let taken =
            |selector: &Selector| (0..=191).filter_map(Priority::new).filter(|priority| selector.takes(*priority)).count();
        // One `;` may stand at the end.
        let text = text.trim_end().strip_suffix(';').unwrap_or(text);
        let and = |more| Selector::compile(&format!("{text};{more}")).expect("what compiled alone compiles with more behind it");
        let (everything_added, everything_removed) = (and("*.*"), and("*.none"));
        assert!(taken(&selector) <= taken(&everything_added));
        assert_eq!((taken(&everything_added), taken(&everything_removed)), (192, 0));
    }
});
