//! The queue in memory.

use std::sync::Arc;

use super::*;

fn chunk(texts: &[&str], severity: u8) -> Chunk {
    let mut chunk = Chunk::default();
    for text in texts {
        chunk.add(b"", text.as_bytes(), severity);
    }
    chunk
}

fn queue(size: usize, when_full: WhenFull) -> Arc<Queue> {
    Arc::new(Queue::new(Bounds::new(size, when_full)))
}

async fn looked(queue: &Queue) -> Vec<Chunk> {
    let mut batch = Vec::new();
    assert!(queue.look(&mut batch, Linger::not_at_all(), usize::MAX).await);
    batch
}

#[tokio::test]
async fn little_is_put_together_and_counts_until_it_is_acknowledged() {
    let queue = queue(1 << 20, WhenFull::Block);
    for text in ["a", "b"] {
        assert!(queue.push(&mut chunk(&[text], 6)));
    }
    let mut batch = looked(&queue).await;
    assert!(queue.push(&mut chunk(&["c"], 6)));
    queue.lend_now(&mut batch, usize::MAX);
    let texts: Vec<_> = batch.iter().map(|chunk| chunk.bytes.clone()).collect();
    assert_eq!(texts, [b"ab".to_vec(), b"c".to_vec()], "what is lent is left alone");
    batch[1].settle_all();
    queue.acknowledge(&mut batch);
    assert_eq!((batch.len(), queue.fill(), queue.counters.delivered.get()), (1, batch[0].cost(), 1));
    batch[0].settle_all();
    queue.acknowledge(&mut batch);
    assert_eq!((queue.fill(), queue.counters.delivered.get()), (0, 3));
}

/// Neither readers nor the shedding must wait for a driver that waits for more than the queue may hold.
#[tokio::test(start_paused = true)]
async fn a_lingering_driver_wants_no_more_than_half_of_what_fits() {
    for shed in [None, Some(Shed { above: 30_000, severity: 7 })] {
        let queue =
            Queue::new(Bounds { size: 40_000, when_full: WhenFull::Block, patience: Duration::ZERO, shed, deadline: None });
        let (mut batch, start) = (Vec::new(), Instant::now());
        for _ in 0..3 {
            assert!(queue.push(&mut chunk(&["x".repeat(7_000).as_str()], 6)));
        }
        assert!(queue.look(&mut batch, Linger::for_up_to(Duration::from_secs(9), 1 << 20), usize::MAX).await);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}

#[tokio::test]
async fn a_full_queue_blocks_or_drops_as_it_is_told() {
    let blocking = queue(300, WhenFull::Block);
    let text = "x".repeat(200);
    assert!(blocking.push(&mut chunk(&[&text], 6)));
    let mut second = chunk(&[&text], 6);
    assert!(!blocking.push(&mut second));
    assert_eq!(second.pending(), 1, "a refused chunk keeps its records");
    let waiting = tokio::spawn({
        let queue = blocking.clone();
        async move { queue.room(200).await }
    });
    let mut batch = looked(&blocking).await;
    tokio::task::yield_now().await;
    batch.iter_mut().for_each(Chunk::settle_all);
    blocking.acknowledge(&mut batch);
    waiting.await.expect("the reader goes on");
    assert!(blocking.push(&mut second));

    let dropping = queue(300, WhenFull::DropNewest);
    for _ in 0..3 {
        assert!(dropping.push(&mut chunk(&[&text], 6)));
    }
    assert_eq!(dropping.counters.dropped_full.get(), 2);
    assert_eq!(looked(&dropping).await.len(), 1);
}

/// A reader that was told there is room while its chunk did not fit would turn in circles.
#[tokio::test]
async fn room_is_room_for_the_very_chunk_that_waits() {
    let queue = queue(300, WhenFull::Block);
    assert!(queue.push(&mut chunk(&[&"x".repeat(150)], 6)));
    let mut large = chunk(&[&"x".repeat(150)], 6);
    assert!(!queue.push(&mut large));
    let cost = large.cost();
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.room(cost).await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished(), "a smaller one would fit");
    let mut batch = looked(&queue).await;
    batch.iter_mut().for_each(Chunk::settle_all);
    queue.acknowledge(&mut batch);
    waiting.await.expect("it goes on");
    assert!(queue.push(&mut large));
}

#[tokio::test]
async fn above_the_mark_only_the_severe_are_taken() {
    let queue = queue(1 << 20, WhenFull::Block);
    queue.configure(Bounds {
        size: 1 << 20,
        when_full: WhenFull::Block,
        patience: Duration::ZERO,
        shed: Some(Shed { above: 10, severity: 6 }),
        deadline: None,
    });
    assert!(queue.push(&mut chunk(&["first"], 7)));
    assert!(queue.push(&mut chunk(&["debug"], 7)));
    assert!(queue.push(&mut chunk(&["error"], 3)));
    assert_eq!(queue.counters.dropped_shed.get(), 1);
    let kept: usize = looked(&queue).await.iter().map(Chunk::pending).sum();
    assert_eq!(kept, 2);
}

#[tokio::test(start_paused = true)]
async fn a_lingering_driver_is_woken_by_enough_or_by_time() {
    let queue = queue(1 << 20, WhenFull::Block);
    let looking = |linger| {
        let queue = queue.clone();
        tokio::spawn(async move {
            let mut batch = Vec::new();
            queue.look(&mut batch, linger, usize::MAX).await.then_some(batch.len())
        })
    };
    let by_time = looking(Linger::for_up_to(Duration::from_millis(100), 1 << 20));
    tokio::task::yield_now().await;
    assert!(queue.push(&mut chunk(&["a"], 6)));
    assert_eq!(by_time.await.expect("no panic"), Some(1));
    let by_size = looking(Linger::for_up_to(Duration::from_secs(3600), 400));
    tokio::task::yield_now().await;
    for _ in 0..5 {
        assert!(queue.push(&mut chunk(&[&"x".repeat(100)], 6)));
    }
    assert!(by_size.await.expect("no panic").is_some());
    queue.close();
    let mut rest = Vec::new();
    while queue.look(&mut rest, Linger::not_at_all(), usize::MAX).await {}
}

/// What is given up at a stop is still with its sender, if nobody tells it otherwise.
#[tokio::test]
async fn messages_that_are_given_up_have_no_receipt() {
    for (closed, given) in [(true, false), (false, true)] {
        let queue = queue(1 << 20, WhenFull::DropNewest);
        let (receipt, acceptance) = Receipt::new(Arc::default());
        let mut waiting = chunk(&["a"], 6);
        waiting.receipts.push(receipt.clone());
        assert!(queue.push(&mut waiting));
        if closed {
            queue.close();
            let mut late = chunk(&["b"], 6);
            late.receipts.push(receipt);
            assert!(queue.push(&mut late));
            assert_eq!((queue.abandon(), queue.counters.dropped_stop.get()), (1, 1));
        } else {
            drop(receipt);
            let mut batch = looked(&queue).await;
            batch[0].settle_all();
            queue.acknowledge(&mut batch);
        }
        assert_eq!(acceptance.is_given(), given);
    }
}
