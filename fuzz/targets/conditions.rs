//! Any text compiles to a condition or is refused at a place inside it; what compiled can be evaluated and explained.
#![no_main]

mod message;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (text, raw) = message::parted(data);
    let Ok(text) = std::str::from_utf8(text) else { return };
    message::with(raw, |message| penstock::route::condition_must_not_panic(text, message));
});
