//! Names → addresses, by the system's resolver.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use tokio::sync::{Semaphore, oneshot};

/// Threads that may look up at a time.
static PLACES: Semaphore = Semaphore::const_new(64);

/// The addresses of a host, by name or number. The resolver may hang, and a server may have all the threads it can get: each
/// look-up has a thread of its own, and none to be had is an error like any other.
pub async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    // A resolver that hangs gets no more of them.
    let place = PLACES.try_acquire().map_err(|_| io::Error::other("too many look-ups are not answered"))?;
    let (answer, asked) = oneshot::channel();
    let host = host.to_owned();
    std::thread::Builder::new().name("look-up".to_owned()).spawn(move || {
        // Nobody may wait for it any more.
        let _place = place;
        let _ = answer.send((host.as_str(), port).to_socket_addrs().map(Iterator::collect));
    })?;
    asked.await.unwrap_or_else(|_| Err(io::Error::other("the look-up of its name broke off")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_and_numbers_have_addresses() {
        for host in ["127.0.0.1", "localhost"] {
            let addresses = lookup(host, 514).await.expect("an address");
            assert!(addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 514), "{addresses:?}");
        }
        assert!(lookup("no such host", 514).await.is_err());
    }
}
