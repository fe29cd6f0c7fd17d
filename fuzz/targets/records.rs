//! Records of other loggers: any bytes become well-formed messages, and a pickle is read or refused in bounded memory.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    penstock::translate::pickle::must_not_panic(bytes);
    penstock::translate::is_total(bytes);
});
