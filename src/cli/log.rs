//! The server's own log on stderr: plain lines with a time, or, under systemd, lines with the journal's priority
//! prefixes (sd-daemon(3)), whose time the journal knows better.

use std::fmt;

use chrono::Local;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

struct Line {
    to_journal: bool,
}

pub(super) fn start() {
    let to_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    tracing_subscriber::fmt().with_max_level(Level::INFO).with_writer(std::io::stderr).event_format(Line { to_journal }).init();
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (number, name) = match *event.metadata().level() {
            Level::ERROR => (3, "error"),
            Level::WARN => (4, "warning"),
            Level::INFO => (6, "info"),
            Level::DEBUG | Level::TRACE => (7, "debug"),
        };
        if self.to_journal {
            write!(writer, "<{number}>")?;
        } else {
            write!(writer, "{} {name}: ", Local::now().format("%Y-%m-%dT%H:%M:%S%.3f"))?;
        }
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
