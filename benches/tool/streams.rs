//! Streams of lines, plain or TLS: a thread for each connection, large reads, whole lines handed on.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use socket2::{Domain, Socket, Type};
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::Listen;

const BLOCK: usize = 128 << 10;
/// Hundreds of connections come at once.
const BACKLOG: i32 = 4096;

/// Takes connections until the process is ended; each gives its whole lines to `take`.
pub fn serve(listen: &Listen, take: impl Fn(&[u8]) -> io::Result<()> + Send + Sync + 'static) -> crate::Outcome {
    let tls = match (&listen.certificate, &listen.key) {
        (Some(certificate), Some(key)) => Some(Arc::new(tls(certificate, key)?)),
        _ => None,
    };
    let take = Arc::new(take);
    let listener = listener(listen.address)?;
    loop {
        let (stream, _) = listener.accept()?;
        let (tls, take) = (tls.clone(), take.clone());
        thread::spawn(move || {
            // A connection that breaks is seen by what is missing.
            let _ = match tls {
                Some(tls) => encrypted(stream, tls, &*take),
                None => lines(stream, &*take),
            };
        });
    }
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn encrypted(stream: TcpStream, tls: Arc<ServerConfig>, take: &dyn Fn(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let connection = ServerConnection::new(tls).map_err(io::Error::other)?;
    lines(StreamOwned::new(connection, stream), take)
}

fn lines(mut stream: impl Read, take: &dyn Fn(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    let mut kept = 0;
    loop {
        let count = stream.read(&mut block[kept..])?;
        if count == 0 {
            return Ok(());
        }
        let end = kept + count;
        // A block without an end of a line is a line too long to be kept.
        let whole = memchr::memrchr(b'\n', &block[kept..end]).map_or(if end == BLOCK { end } else { 0 }, |at| kept + at + 1);
        if whole > 0 {
            take(&block[..whole])?;
            block.copy_within(whole..end, 0);
        }
        kept = end - whole;
    }
}

fn tls(certificate: &Path, key: &Path) -> Result<ServerConfig, Box<dyn std::error::Error>> {
    let pem = |path: &Path| std::fs::read(path).map(io::Cursor::new);
    let chain: Vec<CertificateDer<'static>> = rustls_pemfile::certs(&mut pem(certificate)?).collect::<Result<_, _>>()?;
    let key: PrivateKeyDer<'static> = rustls_pemfile::private_key(&mut pem(key)?)?.ok_or("there is no key")?;
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key)?;
    config.send_tls13_tickets = 0;
    Ok(config)
}
