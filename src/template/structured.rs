//! What a message says as keys and values: the object that it came as, or its text, where that is JSON or logfmt. Taken apart
//! only for those who ask: `{json.user.id}`, `{trace-id}`, and the format `json`.

use super::field::inner_tag;
use super::json::{content, string};
use crate::message::{Grammar, Message};
use crate::parse::{json, logfmt, structured_data};

#[derive(Clone, Copy, Debug)]
pub(super) enum Structured<'b> {
    Json(&'b str),
    Logfmt(&'b [u8]),
}

/// By which names the two go among those who log them: OpenTelemetry, ECS, Datadog, and what people write by hand.
const SPAN_ID: [&str; 7] = ["span_id", "spanId", "span.id", "otelSpanID", "dd.span_id", "SpanId", "spanid"];
const TRACE_ID: [&str; 7] = ["trace_id", "traceId", "trace.id", "otelTraceID", "dd.trace_id", "TraceId", "traceid"];
/// W3C Trace Context, section 3.2: `00-<trace-id>-<parent-id>-01`.
const TRACE_PARENT: &str = "traceparent";

/// Which part of a trace is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Span,
    Trace,
}

impl Part {
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Span => &SPAN_ID,
            Self::Trace => &TRACE_ID,
        }
    }

    fn of_parent(self, parent: &[u8]) -> Option<&[u8]> {
        let mut parts = parent.split(|byte| *byte == b'-').skip(1);
        let (trace, span) = (parts.next()?, parts.next()?);
        let part = match self {
            Self::Span => span,
            Self::Trace => trace,
        };
        Some(part)
    }
}

impl<'b> Structured<'b> {
    /// None for a text of any other kind.
    pub(super) fn of(message: &Message<'b>) -> Option<Self> {
        if !message.json.is_empty() {
            return std::str::from_utf8(message.json).ok().map(Self::Json);
        }
        // Python's `ident` stands in the text itself.
        let tag = if message.fields.grammar == Grammar::Headerless { inner_tag(message) } else { 0 };
        let text = message.fields.message[tag..].trim_ascii_start();
        match text.first()? {
            b'{' | b'@' => json::object(text).map(Self::Json),
            _ => logfmt::is_logfmt(text).then_some(Self::Logfmt(text)),
        }
    }

    /// Appends the value at a path; nothing where there is none.
    pub(super) fn append(self, path: &str, out: &mut Vec<u8>) {
        match self {
            Self::Json(object) => {
                if let Some(value) = json::find(object, path) {
                    out.extend_from_slice(json::plain(value).as_bytes());
                }
            }
            Self::Logfmt(text) => {
                if let Some(pair) = logfmt::find(text, path.as_bytes()) {
                    pair.plain(out);
                }
            }
        }
    }

    /// Appends all of it as one JSON object on one line.
    pub(super) fn object(self, out: &mut Vec<u8>) {
        match self {
            Self::Json(object) => json::compact(object.as_bytes(), out),
            Self::Logfmt(text) => {
                out.push(b'{');
                for (i, pair) in logfmt::pairs(text).enumerate() {
                    out.extend_from_slice(if i > 0 { b"," } else { b"" });
                    string(pair.key, out);
                    out.extend_from_slice(b":\"");
                    let mut value = Vec::new();
                    pair.plain(&mut value);
                    content(&value, out);
                    out.push(b'"');
                }
                out.push(b'}');
            }
        }
    }

    /// The text of the message says nothing else.
    pub(super) fn is_text(self, message: &Message<'_>) -> bool {
        matches!(self, Self::Json(_)) && (message.json.is_empty() || message.json == message.fields.message)
    }
}

/// Appends the trace's or span's number: from the keys and values, or else from structured data.
pub(super) fn trace(part: Part, message: &Message<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    if let Some(structured) = Structured::of(message) {
        for name in part.names() {
            structured.append(name, out);
            if out.len() > start {
                return;
            }
        }
        let mut parent = Vec::new();
        structured.append(TRACE_PARENT, &mut parent);
        out.extend_from_slice(part.of_parent(&parent).unwrap_or_default());
        if out.len() > start {
            return;
        }
    }
    let params =
        || structured_data::elements(message.fields.structured_data).flat_map(|element| element.params().collect::<Vec<_>>());
    let named = |param: &structured_data::Param<'_>| part.names().iter().any(|name| name.as_bytes() == param.name);
    if let Some(param) = params().find(named) {
        param.pieces().for_each(|piece| out.extend_from_slice(piece));
    } else if let Some(param) = params().find(|param| param.name == TRACE_PARENT.as_bytes()) {
        out.extend_from_slice(part.of_parent(param.escaped).unwrap_or_default());
    }
}
