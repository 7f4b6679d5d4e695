//! Events whose handlers take no transaction: they run side by side and hold no connection.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use futures_util::{
    StreamExt,
    stream::{FusedStream, FuturesUnordered, Stream},
};
use tokio::{sync::mpsc, time::Instant};

use super::{engine::Engine, outcome::Outcome};
use crate::inbox::{Inbox, Row};

/// Runs rows side by side and settles those that are done, several at a time.
///
/// A process that dies between a handler's answer and its row's settlement runs the handler again:
/// what it did outside a transaction needs the event id as its idempotency key.
pub(super) async fn run_concurrently<Src, I>(engine: &Engine<Src, I>, rows: Vec<Row>)
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    if !rows.is_empty() {
        finish(engine, calls(engine, rows)).await;
    }
}

/// The calls of rows, which begin when they are asked for what has ended.
pub(super) fn calls<Src, I>(
    engine: &Engine<Src, I>,
    rows: Vec<Row>,
) -> impl FusedStream<Item = (Row, Outcome)> + Send + Unpin
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    Calls {
        waiting: rows.into_iter(),
        begin: move |row| run(engine, row),
        spare: None,
        running: FuturesUnordered::new(),
    }
}

/// Calls side by side. Most end when they are first polled, and leave their place to the next one;
/// only the others are kept.
struct Calls<B, F> {
    waiting: vec::IntoIter<Row>,
    begin: B,
    /// Where the last one ran that has ended at once.
    spare: Option<Pin<Box<F>>>,
    running: FuturesUnordered<Pin<Box<F>>>,
}

impl<B, F> Stream for Calls<B, F>
where
    B: FnMut(Row) -> F + Unpin,
    F: Future,
{
    type Item = F::Output;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let calls = self.get_mut();
        for row in calls.waiting.by_ref() {
            let call = (calls.begin)(row);
            let mut call = match calls.spare.take() {
                Some(mut spare) => {
                    spare.set(call);
                    spare
                }
                None => Box::pin(call),
            };
            match call.as_mut().poll(cx) {
                Poll::Ready(ended) => {
                    calls.spare = Some(call);
                    return Poll::Ready(Some(ended));
                }
                Poll::Pending => calls.running.push(call),
            }
        }
        calls.running.poll_next_unpin(cx)
    }
}

impl<B, F> FusedStream for Calls<B, F>
where
    B: FnMut(Row) -> F + Unpin,
    F: Future,
{
    fn is_terminated(&self) -> bool {
        self.waiting.len() == 0 && self.running.is_empty()
    }
}

/// The calls that end within a time.
pub(super) async fn ended_within(
    time: Duration,
    calls: &mut (impl Stream<Item = (Row, Outcome)> + Unpin),
) -> Vec<(Row, Outcome)> {
    let until = Instant::now() + time;
    let mut ended = Vec::new();
    while let Ok(Some(call)) = tokio::time::timeout_at(until, calls.next()).await {
        ended.push(call);
    }
    ended
}

/// Waits for calls and settles those that have ended, several at a time.
pub(super) async fn finish<Src, I>(
    engine: &Engine<Src, I>,
    calls: impl Stream<Item = (Row, Outcome)> + Send,
) where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    const AT_ONCE: usize = 1_000;

    let (ended, mut waiting) = mpsc::unbounded_channel();
    let calling = async move {
        calls
            .for_each(|call| {
                // The receiver lives as long as this sender.
                _ = ended.send(call);
                std::future::ready(())
            })
            .await;
    };
    // Beside the calls: a database that does not answer must not use up the time of those that
    // still run.
    let settling = async {
        let mut chunk = Vec::new();
        while waiting.recv_many(&mut chunk, AT_ONCE).await > 0 {
            settle(engine, chunk.drain(..)).await;
        }
    };
    tokio::join!(calling, settling);
}

async fn settle<Src, I>(engine: &Engine<Src, I>, calls: impl Iterator<Item = (Row, Outcome)> + Send)
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    let mut settlements = Vec::new();
    let mut back = Vec::new();
    for (row, outcome) in calls {
        match engine.settlement(&row, outcome) {
            Ok(settlement) => settlements.push(settlement),
            Err(error) => {
                engine.note_handed_back(&row, &error);
                back.push(row);
            }
        }
    }
    engine.settle_apart(settlements).await;
    engine.hand_back(&back).await;
}

async fn run<Src, I>(engine: &Engine<Src, I>, row: Row) -> (Row, Outcome)
where
    Src: Send + Sync + 'static,
    I: Inbox,
{
    if engine.stopping.is_cancelled() {
        let stopped = Outcome::HandedBack("the consumer stopped before the event ran".into());
        return (row, stopped);
    }
    let delivery = engine.delivery(&row);
    let watched = engine.watch(&row);
    let outcome = match engine.call(&watched, delivery.clone()).await {
        Ok(call) if engine.held.contains(row.lease) => {
            engine.finish_call(&row, &watched, &delivery, call).await
        }
        Ok(_) => {
            engine.note_lease_lost(row.lease);
            Outcome::HandedBack("another worker has taken over the event".into())
        }
        Err(error) => Outcome::HandedBack(error),
    };
    drop(watched);
    (row, outcome)
}
