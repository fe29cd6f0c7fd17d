//! Any configuration of rsyslog becomes TOML, with or without what it says.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    penstock::import::must_not_panic(text);
});
