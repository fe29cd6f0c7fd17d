//! `[[output.stdout]]`: lines on the standard output, for trying things out and for containers.

use std::io::{self, Write};

use toml::Spanned;

use super::{Delivery, Output, OutputScope, Plan, QueueConfig, Undelivered};
use crate::queue::{Bounds, Chunk, State, WhenFull};
use crate::sys::reason;
use crate::template::Escaping;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    pub name: String,
    pub format: Option<Spanned<String>>,
    #[serde(default)]
    pub queue: QueueConfig,
}

pub(super) fn plan(config: &Config, scope: &mut OutputScope<'_, '_>) -> Option<Plan> {
    let mut plan = Plan {
        name: config.name.as_str().into(),
        kind: "stdout",
        place: "standard output".to_owned(),
        ..Plan::of(
            scope.format(config.format.as_ref(), "file", Escaping::Line)?,
            Bounds::new(16 << 20, WhenFull::Block),
            Box::new(|_| Box::new(Stdout { written: 0, is_cut: false })),
        )
    };
    config.queue.apply(&mut plan, scope.scope);
    Some(plan)
}

struct Stdout {
    /// Bytes of the first unsettled record that are out already.
    written: usize,
    /// The last line has no end, and gets none.
    is_cut: bool,
}

impl Output for Stdout {
    fn deliver<'a>(&'a mut self, batch: &'a mut [Chunk]) -> Delivery<'a> {
        let result = batch.iter_mut().try_for_each(|chunk| self.write(chunk));
        let result = result.map_err(|error| Undelivered::Retry(format!("standard output: {}", reason(&error))));
        Box::pin(std::future::ready(result))
    }

    fn given_up(&mut self) {
        self.is_cut |= std::mem::take(&mut self.written) > 0;
    }
}

impl Stdout {
    fn write(&mut self, chunk: &mut Chunk) -> io::Result<()> {
        if self.is_cut {
            write_all(b"\n", &mut 0)?;
            self.is_cut = false;
        }
        while let Some(run) = chunk.first_run() {
            let mut at = run.bytes.start as usize + self.written;
            let result = write_all(&chunk.bytes[..run.bytes.end as usize], &mut at);
            self.written = chunk.settle_up_to(&run, at, State::Delivered);
            result?;
        }
        io::stdout().flush()
    }
}

/// Writes from `at` on, and moves it as far as that went.
fn write_all(bytes: &[u8], at: &mut usize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    while *at < bytes.len() {
        match out.write(&bytes[*at..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => *at += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
