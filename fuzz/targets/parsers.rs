//! Every byte string is a message, and nothing of its text is lost.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| penstock::parse::is_total(frame));
