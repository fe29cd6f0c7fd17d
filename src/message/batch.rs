//! What one read of a socket gave: many frames in one arena that does not move while they are looked at.

use std::sync::Arc;

use super::{Origin, Received, Span};

/// One message's bytes in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub span: Span,
    /// Index into [`Batch::origins`]; always 0 on a stream.
    pub origin: u32,
    /// Longer than `max-message`: what is here is its beginning.
    pub truncated: bool,
    /// The object that the message was made of, where it came as one; else empty.
    pub json: Span,
}

impl Frame {
    /// A whole message of the first origin.
    pub fn of(span: Span) -> Self {
        Self { span, origin: 0, truncated: false, json: Span::default() }
    }
}

/// Borrowed from the reader's arena: no copy is made between the kernel's and the rendered record.
pub struct Batch<'a> {
    pub arena: &'a [u8],
    pub frames: &'a [Frame],
    pub origins: &'a [Arc<Origin>],
    /// One clock reading for all of them.
    pub received: &'a Received,
}
