use super::*;
use crate::output::Delivery;
use crate::queue::{Bounds, WhenFull};
use std::sync::Mutex;

/// Fails a number of times, delivering one record each time; then takes everything.
struct Stubborn {
    failures: usize,
    taken: Arc<Mutex<Vec<String>>>,
}

impl Output for Stubborn {
    fn deliver<'a>(&'a mut self, batch: &'a mut [Chunk]) -> Delivery<'a> {
        Box::pin(async move {
            let fails = self.failures > 0;
            self.failures = self.failures.saturating_sub(1);
            let mut left = if fails { 1 } else { usize::MAX };
            for chunk in batch {
                let pending: Vec<_> = chunk.to_send().map(|(i, record)| (i, record.body)).take(left).collect();
                for (i, body) in pending {
                    self.taken.lock().expect("no panic").push(String::from_utf8_lossy(body.of(&chunk.bytes)).into_owned());
                    chunk.settle(i, State::Delivered);
                    left -= 1;
                }
            }
            if fails { Err(Undelivered::Retry("not yet".to_owned())) } else { Ok(()) }
        })
    }
}

fn started(failures: usize) -> (Arc<Queue>, Arc<Mutex<Vec<String>>>, Handle) {
    let queue = Arc::new(Queue::new(Bounds::new(1 << 20, WhenFull::Block)));
    let taken = Arc::new(Mutex::new(Vec::new()));
    let output = Box::new(Stubborn { failures, taken: taken.clone() });
    let handle = start("test".into(), output, queue.clone(), None, DeadLetters::at(None), Arc::default()).expect("a thread");
    (queue, taken, handle)
}

#[test]
fn what_failed_is_delivered_once_and_in_order() {
    let (queue, taken, handle) = started(3);
    for i in 0..10 {
        let mut chunk = Chunk::default();
        chunk.add(b"", format!("{i}").as_bytes(), 6);
        assert!(queue.push(&mut chunk));
    }
    queue.close();
    handle.thread.join().expect("no panic");
    let expected: Vec<_> = (0..10).map(|i| i.to_string()).collect();
    assert_eq!(*taken.lock().expect("no panic"), expected);
    assert_eq!((queue.counters.delivered.get(), queue.fill()), (10, 0));
}

#[test]
fn what_is_abandoned_is_counted() {
    let (queue, _, handle) = started(usize::MAX);
    let mut chunk = Chunk::default();
    (0..5_000).for_each(|_| chunk.add(b"", b"x", 6));
    assert!(queue.push(&mut chunk));
    handle.command(Command::Abandon);
    handle.thread.join().expect("no panic");
    assert!(queue.counters.dropped_stop.get() > 4_000);
}
