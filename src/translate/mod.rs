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
