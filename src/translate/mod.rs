//! What other loggers send, as messages: a pickled or urlencoded record of Python's logging, an object of JSON. Each becomes a
//! frame of RFC 5424 in an arena, with the object behind it, so that everything after it is as for any other message.
//!
//! Functions of bytes: nothing that comes is ever executed, and all is bounded in size, depth and number.

mod form;
mod frame;
mod literal;
mod logrecord;
mod object;
mod percent;
pub mod pickle;
mod timestamp;
mod value;

pub use form::pairs;
pub use frame::{Options, Translated};
pub use logrecord::{from_form, from_pickle};
pub use object::{Mapping, Target, from_object};

use crate::message::{Facility, Grammar, Zone};
use crate::parse;

/// The property of a fuzz target: whatever comes as a pickle, a form or an object becomes a well-formed message with a valid
/// object behind it, in bounded time.
///
/// # Panics
/// When the property does not hold.
pub fn is_total(bytes: &[u8]) {
    let options = Options { facility: Facility(1), zone: Zone::Local, max_message: 16 << 10 };
    let mut arena = Vec::new();
    let mut translated = vec![from_pickle(bytes, &options, &mut arena), from_form(&pairs(bytes), &options, &mut arena)];
    if let Some(object) = parse::json::object(bytes) {
        translated.extend(from_object(object, &Mapping::default(), &options, &mut arena));
    }
    for Translated { frame, .. } in translated {
        let fields = parse::parse(frame.span.of(&arena), &parse::Options::default());
        assert_eq!(fields.grammar, Grammar::Rfc5424);
        if !frame.json.is_empty() {
            let json = std::str::from_utf8(frame.json.of(&arena)).expect("UTF-8");
            serde_json::from_str::<serde::de::IgnoredAny>(json).expect("JSON");
        }
    }
}
