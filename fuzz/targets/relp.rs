//! RELP frames: any bytes are a frame, the beginning of one, or wrong; where they are cut makes no difference.
#![no_main]

use libfuzzer_sys::fuzz_target;
use penstock::frame::relp::{Relp, split};

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Relp::Frame(frame) = split(rest) {
        assert!(frame.command.end <= frame.data.start && frame.data.end < frame.length && frame.length <= rest.len());
        assert_eq!(rest[frame.length - 1], b'\n');
        for end in 0..frame.length {
            assert!(matches!(split(&rest[..end]), Relp::Unfinished(_)));
        }
        rest = &rest[frame.length..];
    }
    if let Relp::Unfinished(Some(frame)) = split(rest) {
        assert!(frame.length > rest.len());
    }
});
