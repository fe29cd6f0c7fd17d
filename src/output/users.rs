//! `[[output.users]]`: what those who are logged in see on their terminals, as of old for emergencies.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use toml::Spanned;

use super::{Delivery, Output, OutputScope, Plan, QueueConfig};
use crate::queue::{Bounds, Chunk, WhenFull};
use crate::route::Envelope;
use crate::sys::terminals::{self, Terminal};
use crate::template::{Escaping, Format, Template};

const QUEUE: usize = 1 << 20;
/// For everybody: with a bell, and a line that says what it is.
const WALL: &str = "\r\n\u{7}Message from syslogd@{hostname} at {received:%b %e %H:%M:%S} ...\r\n {tag}{msg}\n\r";
/// For those who asked for it.
const NOTE: &str = " {tag}{msg}\n\r";

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    pub name: String,
    /// Users, or `*` for everybody.
    pub to: Spanned<Vec<String>>,
    pub format: Option<Spanned<String>>,
    #[serde(default)]
    pub queue: QueueConfig,
}

pub(super) fn plan(config: &Config, scope: &mut OutputScope<'_, '_>) -> Option<Plan> {
    let users = config.to.as_ref().clone();
    if users.is_empty() {
        scope.scope.error(config.to.span(), "`to` names nobody: users, or `*` for everybody");
    }
    let format = match &config.format {
        Some(format) => scope.format(Some(format), "file", Escaping::Line)?,
        None => {
            let text = if users.iter().any(|user| user == "*") { WALL } else { NOTE };
            Format::template(Template::compile(text, Escaping::Line).expect("the text is ours"))
        }
    };
    let mut plan = Plan {
        name: config.name.as_str().into(),
        kind: "users",
        place: users.join(", "),
        envelope: Envelope::Datagram,
        print: users.join(","),
        ..Plan::of(format, Bounds::new(QUEUE, WhenFull::DropNewest), Box::new(move |_| Box::new(Users { users: users.clone() })))
    };
    config.queue.apply(&mut plan, scope.scope);
    Some(plan)
}

struct Users {
    users: Vec<String>,
}

impl Output for Users {
    /// Nobody is waited for: a terminal that takes nothing now, or that refuses messages (mesg(1)), gets nothing.
    fn deliver<'a>(&'a mut self, batch: &'a mut [Chunk]) -> Delivery<'a> {
        for terminal in terminals::all().iter().filter(|terminal| self.wants(terminal)) {
            let path = Path::new("/dev").join(&terminal.line);
            let bodies = batch.iter().flat_map(|chunk| chunk.to_send().map(|(_, record)| record.body.of(&chunk.bytes)));
            show(&path, bodies);
        }
        batch.iter_mut().for_each(Chunk::settle_all);
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Users {
    fn wants(&self, terminal: &Terminal) -> bool {
        self.users.iter().any(|user| user == "*" || *user == terminal.user)
    }
}

fn show<'b>(path: &Path, bodies: impl Iterator<Item = &'b [u8]>) {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW;
    let Ok(mut terminal) = OpenOptions::new().write(true).custom_flags(flags).open(path) else { return };
    if terminal.metadata().is_ok_and(|data| data.file_type().is_char_device()) {
        for body in bodies {
            let _ = terminal.write(body);
        }
    }
}
