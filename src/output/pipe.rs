//! `[[output.pipe]]`: a named pipe, or a device such as a console.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::unix::pipe::Sender;
use tokio::time::timeout;
use toml::Spanned;

use super::lines::Lines;
use super::{Delivery, Output, OutputScope, Plan, QueueConfig, Undelivered};
use crate::queue::{Bounds, Chunk, WhenFull};
use crate::sys::{reason, socket};
use crate::template::Escaping;

/// Nobody reads: what waits is held in the queue, and the others do not wait.
const QUEUE: usize = 1 << 20;
/// A reader that takes nothing for so long is said to.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    pub name: String,
    pub path: Spanned<PathBuf>,
    pub format: Option<Spanned<String>>,
    #[serde(default)]
    pub queue: QueueConfig,
}

pub(super) fn plan(config: &Config, scope: &mut OutputScope<'_, '_>) -> Option<Plan> {
    let path = config.path.as_ref().clone();
    if !path.is_absolute() {
        scope.scope.error(config.path.span(), "an absolute path is expected");
    }
    let mut plan = Plan {
        name: config.name.as_str().into(),
        kind: "pipe",
        place: path.display().to_string(),
        print: path.display().to_string(),
        ..Plan::of(
            scope.format(config.format.as_ref(), "file", Escaping::Line)?,
            Bounds::new(QUEUE, WhenFull::DropNewest),
            Box::new(move |_| Box::new(Pipe { path: path.clone(), open: None, lines: Lines::default() })),
        )
    };
    config.queue.apply(&mut plan, scope.scope);
    Some(plan)
}

struct Pipe {
    path: PathBuf,
    open: Option<Sender>,
    lines: Lines,
}

impl Output for Pipe {
    fn deliver<'a>(&'a mut self, batch: &'a mut [Chunk]) -> Delivery<'a> {
        Box::pin(async move {
            let result = match timeout(PATIENCE, self.write(batch)).await {
                Ok(result) => result.map_err(|error| {
                    self.open = None;
                    reason(&error)
                }),
                Err(_) => {
                    self.reopen();
                    Err(format!("nothing was read from it for {} seconds", PATIENCE.as_secs()))
                }
            };
            result.map_err(|what| Undelivered::Retry(format!("{}: {what}", self.path.display())))
        })
    }

    fn given_up(&mut self) {
        self.lines.given_up();
    }

    /// What is in a pipe that nobody reads now would go with it: only another pipe in its place is opened.
    fn reopen(&mut self) {
        if let (Some(open), Ok(path)) = (&self.open, std::fs::metadata(&self.path)) {
            let same = socket::identity(open.as_fd()).is_ok_and(|identity| identity == (path.dev(), path.ino()));
            self.open = self.open.take().filter(|_| same);
        }
    }
}

impl Pipe {
    async fn write(&mut self, batch: &mut [Chunk]) -> io::Result<()> {
        for chunk in batch {
            let sink = match &mut self.open {
                Some(sink) => sink,
                closed => {
                    self.lines.anew();
                    closed.insert(open(&self.path)?)
                }
            };
            self.lines.write(chunk, sink).await?;
        }
        Ok(())
    }
}

/// A pipe is opened for reading, too: it can then be filled before somebody reads, and keeps what one reader has left for
/// the next.
fn open(path: &Path) -> io::Result<Sender> {
    let kind = std::fs::metadata(path)?.file_type();
    if !kind.is_fifo() && !kind.is_char_device() {
        return Err(io::Error::other("is neither a pipe nor a device"));
    }
    // O_NOCTTY: a terminal must not become ours.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(kind.is_fifo()).write(true).custom_flags(flags).open(path)?;
    Sender::from_file_unchecked(file)
}
