//! `/metrics` and `/health` over HTTP/1.1.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::Registry;

/// Scrapers come one at a time; this many are an accident.
const CONNECTIONS: usize = 64;
const HEADER_DEADLINE: Duration = Duration::from_secs(10);

/// Serves until it is aborted. A connection that cannot be accepted is forgotten: the scraper comes again.
pub async fn serve(listener: TcpListener, registry: Arc<Registry>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let registry = registry.clone();
                tokio::spawn(async move {
                    connection(stream, registry).await;
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn connection(stream: TcpStream, registry: Arc<Registry>) {
    let service = service_fn(move |request| {
        let response = answer(&request, &registry);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_DEADLINE);
    // A scraper that breaks off is no event.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

fn answer(request: &Request<Incoming>, registry: &Arc<Registry>) -> Response<Body> {
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let mut response = Response::new(Body::from(registry.text()));
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        (&Method::GET | &Method::HEAD, "/health") => Response::new(Body::from("ok\n".to_owned())),
        (&Method::GET | &Method::HEAD, _) => status(StatusCode::NOT_FOUND, "there is /metrics and /health\n"),
        _ => status(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n"),
    }
}

fn status(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(text.to_owned()));
    *response.status_mut() = status;
    response
}

type Body = http_body_util::Full<Bytes>;
