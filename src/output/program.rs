//! `[[output.program]]`: a program that reads lines from its standard input, and is started again when it ends.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::time::timeout;
use toml::Spanned;

use super::lines::Lines;
use super::{Closing, Delivery, DiskPlan, Output, OutputScope, Plan, QueueConfig, Undelivered};
use crate::config::Period;
use crate::queue::{Bounds, Chunk, State, WhenFull};
use crate::sys::{process, reason};
use crate::template::Escaping;

const QUEUE: usize = 16 << 20;
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a program may take to end when its input has, and again after it has been told to.
const LAST_WORDS: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);
const LONGEST_ANSWER: u64 = 4096;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    pub name: String,
    /// The program and its arguments; no shell takes part.
    pub command: Spanned<Vec<String>>,
    pub format: Option<Spanned<String>>,
    /// The program says `OK` on a line when it is ready, and for each line it has taken.
    #[serde(default)]
    pub acknowledge: bool,
    /// It must take or acknowledge a line in this time.
    pub timeout: Option<Period>,
    #[serde(default)]
    pub queue: QueueConfig,
}

pub(super) fn plan(config: &Config, scope: &mut OutputScope<'_, '_>) -> Option<Plan> {
    let command = config.command.as_ref().clone();
    if command.first().is_none_or(|program| !program.starts_with('/')) {
        scope
            .scope
            .error(config.command.span(), "`command` begins with the absolute path of a program: `[\"/usr/bin/cat\", \"-n\"]`");
    }
    let (acknowledge, deadline) = (config.acknowledge, config.timeout.map_or(TIMEOUT, |period| period.0));
    let mut plan = Plan {
        name: config.name.as_str().into(),
        kind: "program",
        place: command.join(" "),
        disk: Some(DiskPlan::standard()),
        print: format!("{command:?} {acknowledge} {deadline:?}"),
        ..Plan::of(
            scope.format(config.format.as_ref(), "file", Escaping::Line)?,
            Bounds::new(QUEUE, WhenFull::DropNewest),
            Box::new(move |_| {
                Box::new(Program { command: command.clone(), acknowledge, deadline, running: None, lines: Lines::default() })
            }),
        )
    };
    config.queue.apply(&mut plan, scope.scope);
    Some(plan)
}

struct Program {
    command: Vec<String>,
    acknowledge: bool,
    deadline: Duration,
    running: Option<Running>,
    lines: Lines,
}

struct Running {
    child: Child,
    input: Option<Sender>,
    /// Where it acknowledges.
    answers: Option<BufReader<Receiver>>,
}

impl Output for Program {
    fn deliver<'a>(&'a mut self, batch: &'a mut [Chunk]) -> Delivery<'a> {
        Box::pin(async move {
            let result = if self.acknowledge { self.acknowledged(batch).await } else { self.write(batch).await };
            result.map_err(|error| {
                let what = self.say(&error);
                self.running = None;
                Undelivered::Retry(format!("{}: {what}", self.command[0]))
            })
        })
    }

    fn given_up(&mut self) {
        self.lines.given_up();
    }

    fn close(&mut self) -> Closing<'_> {
        Box::pin(async move {
            if let Some(running) = &mut self.running {
                running.input = None;
                let until = Instant::now() + LAST_WORDS;
                while Instant::now() < until && matches!(running.child.try_wait(), Ok(None)) {
                    tokio::time::sleep(LOOK).await;
                }
            }
        })
    }
}

impl Program {
    async fn write(&mut self, batch: &mut [Chunk]) -> io::Result<()> {
        for chunk in batch {
            while chunk.pending() > 0 {
                let before = chunk.pending();
                let (deadline, lines) = (self.deadline, &mut self.lines);
                let running = started(&mut self.running, &self.command, false, lines)?;
                let input = running.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
                let written = timeout(deadline, lines.write(chunk, input)).await;
                match written {
                    Ok(result) => result?,
                    // Slow is not dead.
                    Err(_) if chunk.pending() < before => {}
                    Err(_) => return Err(io::ErrorKind::TimedOut.into()),
                }
            }
        }
        Ok(())
    }

    /// One line, and its answer.
    async fn acknowledged(&mut self, batch: &mut [Chunk]) -> io::Result<()> {
        if self.running.is_none() {
            let running = started(&mut self.running, &self.command, true, &mut self.lines)?;
            timeout(self.deadline, running.answer()).await??;
        }
        let running = self.running.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        for chunk in batch {
            loop {
                let next = chunk.to_send().next().map(|(record, sent)| (record, sent.body));
                let Some((record, body)) = next else { break };
                timeout(self.deadline, running.ask(body.of(&chunk.bytes))).await??;
                chunk.settle(record, State::Delivered);
            }
        }
        Ok(())
    }

    /// Why it took no more: that it has ended, and how, says more than a broken pipe.
    fn say(&mut self, error: &io::Error) -> String {
        let until = Instant::now() + LOOK;
        while let Some(running) = &mut self.running {
            match running.child.try_wait() {
                Ok(Some(status)) => return format!("it ended ({status})"),
                Ok(None) if error.kind() == io::ErrorKind::BrokenPipe && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(1))
                }
                _ => break,
            }
        }
        match error.kind() {
            io::ErrorKind::TimedOut => format!("it took nothing for {:?}", self.deadline),
            _ => reason(error),
        }
    }
}

fn started<'r>(
    running: &'r mut Option<Running>,
    command: &[String],
    answers: bool,
    lines: &mut Lines,
) -> io::Result<&'r mut Running> {
    if let Some(running) = running {
        return Ok(running);
    }
    lines.anew();
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(if answers { Stdio::piped() } else { Stdio::null() })
        .spawn()?;
    let input = child.stdin.take().map(|input| Sender::from_owned_fd(OwnedFd::from(input))).transpose();
    let output = child.stdout.take().map(|output| Receiver::from_owned_fd(OwnedFd::from(output))).transpose();
    let started = running.insert(Running { child, input: input?, answers: output?.map(BufReader::new) });
    Ok(started)
}

impl Running {
    async fn ask(&mut self, line: &[u8]) -> io::Result<()> {
        use tokio::io::AsyncWriteExt;
        self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.write_all(line).await?;
        self.answer().await
    }

    async fn answer(&mut self) -> io::Result<()> {
        let mut line = String::new();
        let answers = self.answers.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        match answers.take(LONGEST_ANSWER).read_line(&mut line).await? {
            0 => Err(io::ErrorKind::BrokenPipe.into()),
            _ if line.trim_end() == "OK" => Ok(()),
            _ => Err(io::Error::other(format!("it answered `{}`, not `OK`", line.trim_end().escape_debug()))),
        }
    }
}

impl Drop for Running {
    /// Its input ends, then it is told to end, then it has to.
    fn drop(&mut self) {
        self.input = None;
        for signal in [None, Some(libc::SIGTERM), Some(libc::SIGKILL)] {
            if let Some(signal) = signal {
                let _ = process::signal(self.child.id(), signal);
            }
            let until = Instant::now() + LAST_WORDS;
            while Instant::now() < until {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(LOOK);
            }
        }
    }
}
