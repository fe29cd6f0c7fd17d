//! A hop between two servers that breaks connections when it is told to.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// Passes bytes on in both directions.
pub struct Proxy {
    pub port: u16,
    open: Arc<Mutex<Vec<TcpStream>>>,
    stalled: Arc<AtomicBool>,
    /// Octets from the clients to the server.
    passed: Arc<AtomicU64>,
}

impl Proxy {
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let stalled = Arc::<AtomicBool>::default();
        let passed = Arc::<AtomicU64>::default();
        let (known, stalls, counts) = (open.clone(), stalled.clone(), passed.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if stalls.load(SeqCst) {
                    known.lock().expect("no panic").push(client);
                    continue;
                }
                let Ok(server) = TcpStream::connect(target) else { continue };
                known.lock().expect("no panic").extend([&client, &server].map(|stream| stream.try_clone().expect("a handle")));
                let (to, from) = (server.try_clone().expect("a handle"), client.try_clone().expect("a handle"));
                let counts = counts.clone();
                std::thread::spawn(move || pump(from, to, &counts));
                std::thread::spawn(move || pump(server, client, &AtomicU64::new(0)));
            }
        });
        Self { port, open, stalled, passed }
    }

    pub fn passed(&self) -> u64 {
        self.passed.load(SeqCst)
    }

    /// Breaks what is open now, in the middle of whatever goes through it; how many connections.
    pub fn cut(&self) -> usize {
        let broken: Vec<_> = self.open.lock().expect("no panic").drain(..).collect();
        broken.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        broken.len() / 2
    }

    /// From now on what is accepted is not read, or is passed on again; what is open is broken.
    pub fn stall(&self, stalled: bool) {
        self.stalled.store(stalled, SeqCst);
        self.cut();
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, count_of: &AtomicU64) {
    let mut bytes = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        count_of.fetch_add(count as u64, SeqCst);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
