//! The names of peers: from the table `hostnames` at once, from reverse DNS when it answers. No message waits for it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::{Settings, Shared};
use crate::config::HostTable;
use crate::message::{Origin, Sender};
use crate::sys::name;

/// Questions that wait; beyond it a sender keeps its address until it is seen again.
const WAITING: usize = 1024;
/// Answers remembered, and for how long.
const ANSWERS: usize = 10_000;
const KEEP: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub struct Names {
    table: ArcSwap<HostTable>,
    /// Stands for the peer of a unix socket.
    local: String,
    /// Started with the first question.
    resolver: LazyLock<Mutex<SyncSender<Arc<Origin>>>>,
}

impl Names {
    pub fn new(table: HostTable) -> Self {
        Self { table: ArcSwap::from_pointee(table), local: name::of_this_host(), resolver: LazyLock::new(start_resolver) }
    }

    /// Later origins get their names from this table.
    pub fn replace(&self, table: HostTable) {
        self.table.store(Arc::new(table));
    }

    pub(super) fn origin(&self, shared: &Shared, settings: &Settings, peer: Option<IpAddr>) -> Arc<Origin> {
        let origin = Origin::new(shared.name.clone(), peer, &self.local, settings.zone);
        let Some(address) = origin.peer else {
            return Arc::new(origin);
        };
        if let Some(name) = self.table.load().get(&address) {
            let _ = origin.name.set(name.clone());
            return Arc::new(origin);
        }
        let origin = Arc::new(origin);
        if settings.reverse_dns {
            let resolver = self.resolver.lock().unwrap_or_else(PoisonError::into_inner);
            // A full line of questions leaves the address.
            let _ = resolver.try_send(origin.clone());
        }
        origin
    }

    /// The origin of what a process of this host has sent.
    pub(super) fn of_sender(&self, shared: &Shared, settings: &Settings, sender: Sender) -> Arc<Origin> {
        let origin = Origin::new(shared.name.clone(), None, &self.local, settings.zone);
        Arc::new(Origin { sender: Some(Box::new(sender)), ..origin })
    }

    /// The origin of what is read from a place.
    pub(super) fn of_source(&self, shared: &Shared, settings: &Settings, sender: Option<Sender>) -> Arc<Origin> {
        let origin = Origin::new(shared.name.clone(), None, &self.local, settings.zone);
        Arc::new(Origin { sender: sender.map(Box::new), is_source: true, ..origin })
    }
}

fn start_resolver() -> Mutex<SyncSender<Arc<Origin>>> {
    let (questions, inbox) = sync_channel(WAITING);
    let started = std::thread::Builder::new().name("resolver".to_owned()).spawn(move || resolve(&inbox));
    if let Err(error) = started {
        tracing::error!("reverse DNS is off: no thread could be started: {error}");
    }
    Mutex::new(questions)
}

/// Answers until nobody can ask any more.
fn resolve(inbox: &Receiver<Arc<Origin>>) {
    let mut answers: HashMap<IpAddr, (Instant, Option<Box<str>>)> = HashMap::new();
    while let Ok(origin) = inbox.recv() {
        let Some(address) = origin.peer else { continue };
        if answers.len() >= ANSWERS {
            answers.clear();
        }
        let fresh = answers.get(&address).filter(|(asked, _)| asked.elapsed() < KEEP);
        let name = match fresh {
            Some((_, name)) => name.clone(),
            None => {
                let name = name::of_address(address).map(Into::into);
                answers.insert(address, (Instant::now(), name.clone()));
                name
            }
        };
        if let Some(name) = name {
            let _ = origin.name.set(name);
        }
    }
}
