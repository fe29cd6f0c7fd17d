//! What a client is told: a status that says what it can do, and an object that says why.

use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT_ENCODING, ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};

use super::auth::Credentials;
use crate::metrics::Answered;
use crate::template::json_string;

pub(super) type Body = Full<Bytes>;

/// Some seconds later it may be taken.
const RETRY: HeaderValue = HeaderValue::from_static("1");
const RETRY_LATER: HeaderValue = HeaderValue::from_static("5");

pub(super) struct Answer {
    pub(super) status: Answered,
    code: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Vec<u8>,
}

/// A record that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    /// Counted from 1.
    pub(super) record: usize,
    /// In the body, counted from 1; the column in octets.
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) what: String,
}

impl Bad {
    fn object(&self, out: &mut Vec<u8>) {
        let Self { record, line, column, what } = self;
        out.extend_from_slice(format!("{{\"record\":{record},\"line\":{line},\"column\":{column},\"error\":").as_bytes());
        json_string(what.as_bytes(), out);
        out.push(b'}');
    }
}

impl Answer {
    fn new(status: Answered, code: StatusCode, what: &str) -> Self {
        let mut body = b"{\"error\":".to_vec();
        json_string(what.as_bytes(), &mut body);
        body.extend_from_slice(b"}\n");
        Self { status, code, headers: Vec::new(), body }
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Every output has so many messages; so many others were none, of which some are named.
    pub(super) fn accepted(count: usize, refused: usize, bad: &[Bad]) -> Self {
        let mut body = format!("{{\"accepted\":{count}").into_bytes();
        if refused > 0 {
            body.extend_from_slice(format!(",\"refused\":{refused},\"errors\":[").as_bytes());
            for (i, bad) in bad.iter().enumerate() {
                body.extend_from_slice(if i > 0 { b"," } else { b"" });
                bad.object(&mut body);
            }
            body.push(b']');
        }
        body.extend_from_slice(b"}\n");
        Self { status: Answered::Accepted, code: StatusCode::OK, headers: Vec::new(), body }
    }

    pub(super) fn bad(what: String) -> Self {
        Self::new(Answered::Bad, StatusCode::BAD_REQUEST, &what)
    }

    /// Nothing of the request was taken.
    pub(super) fn bad_record(bad: &Bad) -> Self {
        let mut body = Vec::new();
        bad.object(&mut body);
        body.push(b'\n');
        Self { body, ..Self::new(Answered::Bad, StatusCode::BAD_REQUEST, "") }
    }

    pub(super) fn elsewhere(paths: &[String]) -> Self {
        Self::new(Answered::Unknown, StatusCode::NOT_FOUND, &format!("logs are taken at {}", paths.join(", ")))
    }

    pub(super) fn full(what: &str) -> Self {
        Self::new(Answered::Full, StatusCode::TOO_MANY_REQUESTS, what).with(RETRY_AFTER, RETRY)
    }

    /// It was taken, and nobody can say by when the outputs will have it.
    pub(super) fn late() -> Self {
        Self::new(
            Answered::Late,
            StatusCode::SERVICE_UNAVAILABLE,
            "it is not safe yet; with the same Idempotency-Key it comes once",
        )
        .with(RETRY_AFTER, RETRY_LATER)
    }

    pub(super) fn method() -> Self {
        Self::new(Answered::Unknown, StatusCode::METHOD_NOT_ALLOWED, "POST is expected, or GET with `msg=`")
            .with(ALLOW, HeaderValue::from_static("POST, PUT, GET"))
    }

    pub(super) fn reused() -> Self {
        let what = "this Idempotency-Key came with another body before";
        Self::new(Answered::Bad, StatusCode::UNPROCESSABLE_ENTITY, what)
    }

    pub(super) fn slow(within: Duration) -> Self {
        let what = format!("the body did not come within {} seconds", within.as_secs_f32());
        Self::new(Answered::Bad, StatusCode::REQUEST_TIMEOUT, &what)
    }

    pub(super) fn stopping() -> Self {
        Self::new(Answered::Late, StatusCode::SERVICE_UNAVAILABLE, "the server is stopping").with(RETRY_AFTER, RETRY_LATER)
    }

    pub(super) fn too_large(most: usize) -> Self {
        let what = format!("a body, unpacked too, may have {most} octets (max-body)");
        Self::new(Answered::TooLarge, StatusCode::PAYLOAD_TOO_LARGE, &what)
    }

    pub(super) fn unauthorized(credentials: &Credentials) -> Self {
        let answer = Self::new(Answered::Unauthorized, StatusCode::UNAUTHORIZED, "no token or password that is known");
        let challenge = |answer: Self, is_asked: bool, text| match is_asked {
            true => answer.with(WWW_AUTHENTICATE, HeaderValue::from_static(text)),
            false => answer,
        };
        let answer = challenge(answer, credentials.tokens.is_some(), "Bearer realm=\"penstock\"");
        challenge(answer, credentials.passwords.is_some(), "Basic realm=\"penstock\", charset=\"UTF-8\"")
    }

    pub(super) fn unsupported(encoding: &str) -> Self {
        let what = format!("the encoding `{encoding}` is not known: there is gzip, deflate, zstd");
        Self::new(Answered::Bad, StatusCode::UNSUPPORTED_MEDIA_TYPE, &what)
            .with(ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate, zstd"))
    }

    /// The same request is under way.
    pub(super) fn waiting() -> Self {
        let what = "a request with this Idempotency-Key is not safe yet";
        Self::new(Answered::Late, StatusCode::CONFLICT, what).with(RETRY_AFTER, RETRY)
    }
}

impl From<Answer> for Response<Body> {
    fn from(answer: Answer) -> Self {
        let mut response = Response::new(Full::from(answer.body));
        *response.status_mut() = answer.code;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in answer.headers {
            headers.append(name, value);
        }
        response
    }
}
