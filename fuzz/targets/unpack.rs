//! A compressed stream: any bytes are unpacked in bounded steps or refused; what was packed comes out as it went in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use penstock::net::compression::{Packer, Unpacker};

const STEP: usize = 1 << 10;
/// A few bytes can stand for very many: the rest is for patience.
const STEPS: usize = 1 << 10;

fuzz_target!(|bytes: &[u8]| {
    let (mut unpacker, mut out) = (Unpacker::new().expect("memory"), Vec::new());
    for part in bytes.chunks(100) {
        unpacker.packed().extend_from_slice(part);
        for _ in 0..STEPS {
            out.clear();
            match unpacker.unpack(STEP, &mut out) {
                Ok(count) => assert!(count == out.len() && count <= STEP),
                Err(_) => break,
            }
            if out.is_empty() {
                break;
            }
        }
    }
    let (mut packer, mut unpacker, mut packed) = (Packer::new().expect("memory"), Unpacker::new().expect("memory"), Vec::new());
    packer.pack(bytes, &mut packed).expect("packed");
    unpacker.packed().extend_from_slice(&packed);
    out.clear();
    while unpacker.unpack(STEP, &mut out).expect("unpacked") > 0 {}
    assert_eq!(out, bytes);
});
