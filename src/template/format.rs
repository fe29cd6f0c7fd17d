//! The formats an output can name: `rfc5424`, `rfc3164`, `file`, `json`, `raw`, or a template of the configuration.

use super::clock::{Grain, Stamp};
use super::field::{Moment, Of, Wall};
use super::field::{number, tag};
use super::{Escaping, Scratch, Template, json};
use crate::message::{Grammar, Message};

/// How a message becomes the bytes of a record, without its frame.
#[derive(Clone, Debug)]
pub struct Format {
    kind: Kind,
    escaping: Escaping,
    /// The RFC 3339 time of the message and of its receipt.
    moments: [Moment; 2],
}

#[derive(Clone, Debug)]
enum Kind {
    File,
    Json,
    Raw,
    Rfc3164,
    Rfc5424,
    Template(Template),
}

impl Format {
    pub const NAMES: [&'static str; 5] = ["file", "json", "raw", "rfc3164", "rfc5424"];

    /// One of [`Format::NAMES`].
    pub fn builtin(name: &str, escaping: Escaping) -> Option<Self> {
        let kind = match name {
            "file" => Kind::File,
            "json" => Kind::Json,
            "raw" => Kind::Raw,
            "rfc3164" => Kind::Rfc3164,
            "rfc5424" => Kind::Rfc5424,
            _ => return None,
        };
        Some(Self::new(kind, escaping))
    }

    pub fn template(template: Template) -> Self {
        let escaping = template.escaping;
        Self::new(Kind::Template(template), escaping)
    }

    fn new(kind: Kind, escaping: Escaping) -> Self {
        let moments = [Of::Message, Of::Receipt].map(|of| Moment::new(of, None, Wall::Own));
        Self { kind, escaping, moments }
    }

    /// Appends the message's rendering to `out`.
    pub fn render(&self, message: &Message<'_>, scratch: &mut Scratch, out: &mut Vec<u8>) {
        match &self.kind {
            Kind::File => self.bsd(message, scratch, out),
            Kind::Json => json::object(message, &mut scratch.clock, self.slots(), out),
            Kind::Raw => self.escaping.append(message.raw, out),
            Kind::Rfc3164 => {
                pri(message, out);
                self.bsd(message, scratch, out);
            }
            Kind::Rfc5424 => self.rfc5424(message, scratch, out),
            Kind::Template(template) => template.render(message, scratch, out),
        }
    }

    fn slots(&self) -> [(usize, Grain); 2] {
        [self.moments[0].slot(), self.moments[1].slot()]
    }

    /// `TIMESTAMP SP HOSTNAME SP [TAG SP] MSG`, as /var/log has it.
    fn bsd(&self, message: &Message<'_>, scratch: &mut Scratch, out: &mut Vec<u8>) {
        scratch.clock.bsd(Stamp::of(message), out);
        out.push(b' ');
        self.escaping.append(message.hostname(), out);
        out.push(b' ');
        let start = out.len();
        tag(message, out);
        if out.len() > start {
            self.escaping.in_place(start, out);
            out.push(b' ');
        }
        self.escaping.append(message.fields.message, out);
    }

    /// A message that came as RFC 5424 and names its host goes on as it came: a relay alters nothing it need not.
    fn rfc5424(&self, message: &Message<'_>, scratch: &mut Scratch, out: &mut Vec<u8>) {
        let fields = &message.fields;
        if fields.grammar == Grammar::Rfc5424 && !fields.hostname.is_empty() {
            return self.escaping.append(message.raw, out);
        }
        pri(message, out);
        out.extend_from_slice(b"1 ");
        self.moments[0].append(message, &mut scratch.clock, out);
        for (value, longest) in [(message.hostname(), 255), (fields.app_name, 48), (fields.proc_id, 128), (fields.msg_id, 32)] {
            out.push(b' ');
            header_field(value, longest, out);
        }
        out.push(b' ');
        self.escaping.append(if fields.structured_data.is_empty() { b"-" } else { fields.structured_data }, out);
        if !fields.message.is_empty() {
            out.push(b' ');
            self.escaping.append(fields.message, out);
        }
    }
}

fn pri(message: &Message<'_>, out: &mut Vec<u8>) {
    out.push(b'<');
    number(u32::from(message.fields.priority.value()), out);
    out.push(b'>');
}

/// `NILVALUE / 1*LONGEST PRINTUSASCII`: what else came is shown as `_` (RFC 5424, section 6).
pub fn header_field(value: &[u8], longest: usize, out: &mut Vec<u8>) {
    if value.is_empty() {
        return out.push(b'-');
    }
    let value = &value[..value.len().min(longest)];
    out.extend(value.iter().map(|b| if b.is_ascii_graphic() { *b } else { b'_' }));
}
