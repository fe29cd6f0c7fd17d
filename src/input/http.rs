//! `[[input.http]]`: POST of JSON, lines of JSON, text or syslog, and what Python's `HTTPHandler` sends; HTTP/1.1 and HTTP/2.
//!
//! A request is taken whole or not at all, and answered with 200 when every output that takes its messages has them for
//! good: written, delivered, or in its queue on disk. Whoever gets another answer keeps what it has sent.

mod answer;
mod auth;
mod body;
mod config;
mod intake;
mod keys;

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::EXPECT;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, oneshot};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until, timeout};

use super::stream::Connection;
use super::{Settings, Shared};
use crate::message::{Batch, Received};
use crate::metrics::Answered;
use crate::queue::{Acceptance, Receipt};
use crate::route::Touched;
use crate::warn_limited;

use answer::{Answer, Body};
use intake::{Intake, Kind};
use keys::{Reserved, Seen};

pub use config::Http;
pub(super) use config::{Config, plan};
pub use keys::Keys;

/// All headers of a request.
const HEADER_BYTES: u32 = 32 << 10;
/// Requests of one HTTP/2 connection at a time.
const STREAMS: u32 = 64;
/// A stop waits so long for what has been taken to become safe.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// Messages handed to the pipeline at a time: others have their turn in between.
const SLICE: usize = 1024;

/// A connection's requests, of which HTTP/2 has several at a time.
struct Session {
    connection: Connection,
    /// Requests under way, and when the last one ended.
    open: Cell<usize>,
    since: Cell<Instant>,
}

/// Runs what HTTP/2 has besides, on this thread.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output: 'static> + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}

/// Serves the connection to its end.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin + 'static>(stream: S, connection: Connection) {
    let shared = connection.shared.clone();
    let idle = shared.settings.load().idle.unwrap_or(config::IDLE);
    let session = Rc::new(Session { connection, open: Cell::new(0), since: Cell::new(Instant::now()) });
    let mut http = auto::Builder::new(Local);
    http.http1().timer(TokioTimer::new()).header_read_timeout(idle).max_buf_size(HEADER_BYTES as usize);
    http.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS).max_header_list_size(HEADER_BYTES);
    let service = service_fn(|request| {
        let session = session.clone();
        async move { Ok::<_, Infallible>(session.answer(request).await) }
    });
    let serving = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let stopped = shared.stop.cancelled();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            biased;
            // A client that breaks off is no event.
            _ = serving.as_mut() => return,
            () = &mut stopped => break,
            () = sleep_until(session.since.get() + idle) => {
                if session.open.get() == 0 && session.since.get().elapsed() >= idle {
                    break;
                }
                session.since.set(Instant::now());
            }
        }
    }
    serving.as_mut().graceful_shutdown();
    let _ = timeout(LAST_ANSWERS, serving).await;
}

/// Counts a request for as long as it is under way; a client may reset it at any time.
struct Open<'s>(&'s Session);

impl<'s> Open<'s> {
    fn new(session: &'s Session) -> Self {
        session.open.set(session.open.get() + 1);
        Self(session)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.since.set(Instant::now());
    }
}

impl Session {
    async fn answer(self: &Rc<Self>, request: Request<Incoming>) -> Response<Body> {
        let _open = Open::new(self);
        let (shared, settings) = (&self.connection.shared, self.connection.shared.settings.load_full());
        let Some(http) = settings.http.clone() else {
            return Answer::stopping().into();
        };
        let (parts, mut incoming) = request.into_parts();
        let asked = Asked { parts: &parts, settings: &settings, http: &http };
        let answer = match self.take(&asked, &mut incoming).await {
            Ok(answer) | Err(answer) => answer,
        };
        if answer.status != Answered::Accepted && !parts.headers.contains_key(EXPECT) {
            // A client that is still sending would not read the answer; one that asks first has not begun.
            body::drain(&mut incoming, &http).await;
        }
        if answer.status == Answered::Unauthorized {
            let peer = &self.connection.origin.peer_text;
            warn_limited!(shared.log.protocol, "input `{}`: {peer} was refused: no token or password that is known", shared.name);
        }
        shared.counters.requests[answer.status as usize].add(1);
        answer.into()
    }

    async fn take(self: &Rc<Self>, asked: &Asked<'_>, incoming: &mut Incoming) -> Result<Answer, Answer> {
        let Asked { parts, settings, http } = *asked;
        let shared = &self.connection.shared;
        asked.is_for_us()?;
        let who = auth::identify(&http.credentials, &parts.headers).ok_or_else(|| Answer::unauthorized(&http.credentials))?;
        if shared.stop.is_cancelled() {
            return Err(Answer::stopping());
        }
        if self.is_full() {
            return Err(Answer::full("the queue of an output is full"));
        }
        let query = parts.uri.query().unwrap_or_default().as_bytes();
        let read = match parts.method {
            Method::GET => body::Read::of_query(query),
            _ => body::read(&parts.headers, incoming, http).await?,
        };
        let key = keys::of(&parts.headers, &who)?.map(|key| keys::reserve(shared, key, read.print()));
        let reserved = match key.transpose() {
            Ok(reserved) => reserved,
            Err(Seen::Safe(key, accepted)) => {
                note(shared, key).await;
                return Ok(Answer::accepted(accepted, 0, &[]));
            }
            Err(Seen::Waiting) => return Err(Answer::waiting()),
            Err(Seen::Other) => return Err(Answer::reused()),
        };
        let kind = Kind::of(parts, read.bytes())?;
        let intake = Intake::read(kind, read, settings, http, Kind::wants_partial(query)).await?;
        let accepted = Answer::accepted(intake.frames.len(), intake.refused, &intake.bad);
        // Whatever becomes of the client: what has begun is done to its end, and remembered.
        let (told, is_safe) = oneshot::channel();
        spawn_local(Handing { session: self.clone(), settings: settings.clone(), intake, reserved }.run(told));
        match timeout(http.answer, is_safe).await {
            Ok(Ok(true)) => Ok(accepted),
            _ => Err(Answer::late()),
        }
    }

    /// What this input's last messages went to can take no more.
    fn is_full(&self) -> bool {
        let worker = &self.connection.worker;
        worker.touched_last.borrow().get(&self.connection.shared.name).is_some_and(|touched| worker.is_blocked(touched))
    }
}

/// A request that is handed to the pipeline.
struct Handing {
    session: Rc<Session>,
    settings: Arc<Settings>,
    intake: Intake,
    reserved: Option<Reserved>,
}

/// Writes down that what a key came with is safe.
async fn note(shared: &Arc<Shared>, key: keys::Key) {
    let shared = shared.clone();
    // A disk may hang; the thread's other connections must not.
    let _ = tokio::task::spawn_blocking(move || shared.keys.note(key)).await;
}

impl Handing {
    /// Tells when every output has it, if the client still waits then. At a stop the daemon notes what has become safe later.
    async fn run(self, told: oneshot::Sender<bool>) {
        let safe = Arc::new(Notify::new());
        let acceptance = self.process(&safe).await;
        let key = self.reserved.map(|reserved| reserved.keep(self.intake.frames.len(), acceptance.clone()));
        let shared = self.session.connection.shared.clone();
        // A stop waits for connections, and not for a queue that may be full for ever.
        drop((self.session, self.intake));
        safe.notified().await;
        if let Some(key) = key.filter(|_| acceptance.is_given()) {
            note(&shared, key).await;
        }
        let _ = told.send(acceptance.is_given());
    }

    /// `safe` is told when the outputs have all of it.
    async fn process(&self, safe: &Arc<Notify>) -> Acceptance {
        let (receipt, acceptance) = Receipt::new(safe.clone());
        let Connection { shared, worker, origin, .. } = &self.session.connection;
        let received = Received::now();
        for frames in self.intake.frames.chunks(SLICE) {
            let mut touched = Touched::default();
            let origins = std::slice::from_ref(origin);
            let batch = Batch { arena: &self.intake.arena, frames, origins, received: &received };
            worker.process(shared, &self.settings, &batch, &mut touched, Some(receipt.clone()));
            worker.touched_last.borrow_mut().insert(shared.name.clone(), touched);
            tokio::task::yield_now().await;
        }
        acceptance
    }
}

/// A request without its body.
#[derive(Clone, Copy)]
struct Asked<'r> {
    parts: &'r hyper::http::request::Parts,
    settings: &'r Arc<Settings>,
    http: &'r Http,
}

impl Asked<'_> {
    fn is_for_us(&self) -> Result<(), Answer> {
        let path = self.parts.uri.path();
        if !self.http.paths.iter().any(|own| **own == *path) {
            return Err(Answer::elsewhere(&self.http.paths));
        }
        let has_query = self.parts.uri.query().is_some();
        match self.parts.method {
            Method::POST | Method::PUT => Ok(()),
            Method::GET if has_query => Ok(()),
            _ => Err(Answer::method()),
        }
    }
}
