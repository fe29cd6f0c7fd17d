//! Bodies: read and unpacked within bounds of size, time and memory.

use std::io::{self, Read as _};
use std::time::Duration;

use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::{Body as _, Incoming};
use hyper::header::CONTENT_ENCODING;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::answer::Answer;
use super::config::{Http, PAGE};
use super::keys;

/// Unpacked at a time; others have their turn in between.
const STEP: usize = 256 << 10;
/// zstd's window, which is memory: 8 MiB, as RFC 8878, section 3.1.1.1.2 asks of everybody.
const WINDOW_LOG: u32 = 23;
/// A client that was refused may still be sending.
const DRAINING: Duration = Duration::from_secs(5);

/// A body, and the room that it takes.
pub(super) struct Read {
    bytes: Vec<u8>,
    room: Option<Room>,
}

impl Read {
    pub(super) fn of_query(query: &[u8]) -> Self {
        Self { bytes: query.to_vec(), room: None }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn into_parts(self) -> (Vec<u8>, Option<Room>) {
        (self.bytes, self.room)
    }

    pub(super) fn print(&self) -> u128 {
        keys::print(&self.bytes)
    }
}

/// What is taken of the memory for all requests, until it is dropped.
pub(super) struct Room {
    permit: OwnedSemaphorePermit,
    pages: usize,
}

impl Room {
    fn new(http: &Http) -> Result<Self, Answer> {
        let permit = http.room.clone().try_acquire_owned().map_err(|_| no_room())?;
        Ok(Self { permit, pages: 1 })
    }

    /// So much is needed in all.
    pub(super) fn grow(&mut self, bytes: usize, http: &Http) -> Result<(), Answer> {
        let pages = bytes.div_ceil(PAGE);
        let Some(more) = pages.checked_sub(self.pages).filter(|more| *more > 0) else { return Ok(()) };
        // One that would not fit even if it were alone may not try again.
        if bytes > http.most_room {
            return Err(Answer::too_large(http.max_body));
        }
        let permits = u32::try_from(more).map_err(|_| no_room())?;
        self.permit.merge(http.room.clone().try_acquire_many_owned(permits).map_err(|_| no_room())?);
        self.pages = pages;
        Ok(())
    }
}

fn no_room() -> Answer {
    Answer::full("too many requests are on their way at once")
}

fn too_large(http: &Http) -> Answer {
    Answer::too_large(http.max_body)
}

/// Reads the body and unpacks it.
pub(super) async fn read(headers: &HeaderMap, incoming: &mut Incoming, http: &Http) -> Result<Read, Answer> {
    if incoming.size_hint().lower() > http.max_body as u64 {
        return Err(too_large(http));
    }
    let mut room = Room::new(http)?;
    let reading = receive(incoming, &mut room, http);
    let packed = timeout(http.body, reading).await.map_err(|_| Answer::slow(http.body))??;
    let encoding = headers.get(CONTENT_ENCODING).map(|value| value.as_bytes().trim_ascii().to_ascii_lowercase());
    let bytes = match encoding.as_deref() {
        None | Some(b"" | b"identity") => packed,
        Some(b"gzip" | b"x-gzip") => unpack(MultiGzDecoder::new(&*packed), packed.len(), &mut room, http).await?,
        // RFC 9110, section 8.4.1.2 means zlib, and some send it bare.
        Some(b"deflate") if is_zlib(&packed) => unpack(ZlibDecoder::new(&*packed), packed.len(), &mut room, http).await?,
        Some(b"deflate") => unpack(DeflateDecoder::new(&*packed), packed.len(), &mut room, http).await?,
        Some(b"zstd") => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(&*packed).map_err(|error| broken(&error))?;
            decoder.window_log_max(WINDOW_LOG).map_err(|error| broken(&error))?;
            unpack(decoder, packed.len(), &mut room, http).await?
        }
        Some(other) => return Err(Answer::unsupported(&String::from_utf8_lossy(other))),
    };
    Ok(Read { bytes, room: Some(room) })
}

async fn receive(incoming: &mut Incoming, room: &mut Room, http: &Http) -> Result<Vec<u8>, Answer> {
    let mut bytes = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|_| Answer::bad("the body broke off".to_owned()))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > http.max_body {
            return Err(too_large(http));
        }
        room.grow(bytes.len() + data.len(), http)?;
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

fn is_zlib(packed: &[u8]) -> bool {
    matches!(packed, [first, second, ..] if first & 15 == 8 && u16::from_be_bytes([*first, *second]) % 31 == 0)
}

async fn unpack(mut reader: impl io::Read, packed: usize, room: &mut Room, http: &Http) -> Result<Vec<u8>, Answer> {
    let mut bytes = Vec::new();
    loop {
        // One more octet than fits shows that there are more.
        let step = STEP.min(http.max_body + 1 - bytes.len());
        room.grow(packed + bytes.len() + step, http)?;
        let count = (&mut reader).take(step as u64).read_to_end(&mut bytes).map_err(|error| broken(&error))?;
        if bytes.len() > http.max_body {
            return Err(too_large(http));
        }
        if count == 0 {
            return Ok(bytes);
        }
        tokio::task::yield_now().await;
    }
}

fn broken(error: &io::Error) -> Answer {
    Answer::bad(format!("the body cannot be unpacked: {error}"))
}

/// Takes what a refused client still sends, within bounds, so that it reads its answer.
pub(super) async fn drain(incoming: &mut Incoming, http: &Http) {
    let draining = async {
        let mut left = http.max_body;
        while let Some(Ok(frame)) = incoming.frame().await {
            let length = frame.data_ref().map_or(0, |data| data.len());
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    let _ = timeout(DRAINING, draining).await;
}
