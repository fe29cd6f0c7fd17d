//! JSON (RFC 8259): always valid, whatever bytes came.

use super::clock::{Clock, Grain, Stamp};
use super::field::Wall;
use super::structured::Structured;
use crate::message::{Message, Timestamp};
use crate::parse::structured_data;

/// One object: the keys are the field names with `_`, what is absent is left out.
pub(super) fn object(message: &Message<'_>, clock: &mut Clock, slots: [(usize, Grain); 2], out: &mut Vec<u8>) {
    let fields = &message.fields;
    out.push(b'{');
    if fields.timestamp != Timestamp::Absent {
        key("timestamp", out);
        moment(Stamp::of(message), clock, slots[0], out);
    }
    key("received", out);
    moment(Stamp::received(message), clock, slots[1], out);
    pair("facility", fields.priority.facility().name().as_bytes(), out);
    pair("severity", fields.priority.severity().name().as_bytes(), out);
    pair("hostname", message.hostname(), out);
    pair("app_name", fields.app_name, out);
    pair("proc_id", fields.proc_id, out);
    pair("msg_id", fields.msg_id, out);
    // What an object was made of says the same, with its types.
    if !fields.structured_data.is_empty() && message.json.is_empty() {
        key("structured_data", out);
        elements(fields.structured_data, out);
    }
    let structured = Structured::of(message);
    if !structured.is_some_and(|structured| structured.is_text(message)) {
        key("message", out);
        string(fields.message, out);
    }
    if let Some(structured) = structured {
        key("json", out);
        structured.object(out);
    }
    pair("peer", message.origin.peer_text.as_bytes(), out);
    pair("input", message.origin.input.as_bytes(), out);
    if message.truncated {
        out.extend_from_slice(b",\"truncated\":true");
    }
    out.push(b'}');
}

fn moment(stamp: Stamp<'_>, clock: &mut Clock, slot: (usize, Grain), out: &mut Vec<u8>) {
    out.push(b'"');
    clock.append(stamp, slot, None, Wall::Own, out);
    out.push(b'"');
}

fn key(name: &str, out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn pair(name: &str, value: &[u8], out: &mut Vec<u8>) {
    if !value.is_empty() {
        key(name, out);
        string(value, out);
    }
}

/// Among so many parameters repeated names are found; comparing each with each must not cost a second.
const COMPARED: usize = 32;

/// An object of objects. A parameter that occurs more than once (section 6.3.3 allows it) becomes an array.
fn elements(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'{');
    for (i, element) in structured_data::elements(text).enumerate() {
        comma(i, out);
        string(element.id, out);
        out.extend_from_slice(b":{");
        let mut written = 0;
        for (n, param) in element.params().enumerate() {
            if n < COMPARED && element.params().take(n).any(|earlier| earlier.name == param.name) {
                continue;
            }
            comma(written, out);
            written += 1;
            string(param.name, out);
            out.push(b':');
            match n < COMPARED {
                true => values(element.params().take(COMPARED).filter(|other| other.name == param.name), out),
                false => value(param, out),
            }
        }
        out.push(b'}');
    }
    out.push(b'}');
}

fn values<'b>(mut params: impl Iterator<Item = structured_data::Param<'b>>, out: &mut Vec<u8>) {
    let Some(first) = params.next() else { return };
    let Some(second) = params.next() else { return value(first, out) };
    out.push(b'[');
    value(first, out);
    for param in std::iter::once(second).chain(params) {
        out.push(b',');
        value(param, out);
    }
    out.push(b']');
}

fn value(param: structured_data::Param<'_>, out: &mut Vec<u8>) {
    out.push(b'"');
    param.pieces().for_each(|piece| content(piece, out));
    out.push(b'"');
}

fn comma(before: usize, out: &mut Vec<u8>) {
    if before > 0 {
        out.push(b',');
    }
}

/// A JSON string with its quotes; what is no UTF-8 becomes U+FFFD.
pub fn string(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    content(bytes, out);
    out.push(b'"');
}

/// What stands between the quotes of [`string`].
pub(super) fn content(bytes: &[u8], out: &mut Vec<u8>) {
    if needs_no_escape(bytes) && std::str::from_utf8(bytes).is_ok() {
        return out.extend_from_slice(bytes);
    }
    for chunk in bytes.utf8_chunks() {
        escaped(chunk.valid(), out);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{FFFD}".as_bytes());
        }
    }
}

/// Branch-free, so that the compiler makes vectors of it.
fn needs_no_escape(bytes: &[u8]) -> bool {
    !bytes.iter().fold(false, |found, b| found | (*b < 0x20) | (*b == b'"') | (*b == b'\\') | (*b == 0x7F))
}

fn escaped(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let replacement: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 | 0x7F => b"",
            _ => continue,
        };
        out.extend_from_slice(&bytes[from..at]);
        from = at + 1;
        out.extend_from_slice(replacement);
        if replacement.is_empty() {
            const HEX: [u8; 16] = *b"0123456789abcdef";
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
    out.extend_from_slice(&bytes[from..]);
}
