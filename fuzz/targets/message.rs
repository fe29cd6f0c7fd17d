//! A message for the targets that need one.

use penstock::message::{Message, Origin, Received, Zone};
use penstock::parse::{Options, parse};

/// With structured data, so that a path into it finds something.
const TYPICAL: &[u8] = b"<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog 12 ID47 \
[exampleSDID@32473 iut=\"3\" eventSource=\"Appli\\\"cation\" eventID=\"1011\"] \xEF\xBB\xBFAn application event\nlog entry \x1b\xff";

/// Does something with a message whose bytes are `raw`, or a typical one where those are none.
pub fn with(raw: &[u8], then: impl FnOnce(&Message<'_>)) {
    let raw = if raw.is_empty() { TYPICAL } else { raw };
    let origin = Origin::new("udp".into(), Some([192, 0, 2, 1].into()), "localhost", Zone::parse("utc").expect("a zone"));
    let received = Received::now();
    let fields = parse(raw, &Options::default());
    then(&Message { raw, fields, origin: &origin, received: &received, truncated: false, json: b"" });
}

/// The text of the configuration, and after a NUL the bytes of a message.
pub fn parted(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, b""),
    }
}
