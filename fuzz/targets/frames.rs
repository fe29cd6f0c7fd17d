//! However a stream is cut, its frames are the same: for each of the four framings.
//!
//! The first octet says the framing and how many cuts follow it; the rest is the stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use penstock::frame::{Framing, cuts_do_not_matter};

const FRAMINGS: [Framing; 4] = [Framing::Auto, Framing::Newline, Framing::Nul, Framing::OctetCounted];
/// The smallest that the configuration allows, so that overlong frames are met often.
const MAX_MESSAGE: usize = 480;

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let framing = FRAMINGS[usize::from(choice & 3)];
    let (cuts, stream) = rest.split_at(rest.len().min(usize::from(choice >> 2)));
    cuts_do_not_matter(stream, cuts, framing, MAX_MESSAGE);
});
