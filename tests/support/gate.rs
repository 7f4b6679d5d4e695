//! Where handlers wait until a test lets them go on.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::{Notify, Semaphore};
use tower::util::MapFutureLayer;

/// Tells that a handler runs, which then waits until it may go on.
#[derive(Debug, Clone)]
pub struct Gate {
    entered: Arc<Notify>,
    open: Arc<Semaphore>,
}

impl Gate {
    #[expect(clippy::new_without_default, reason = "a closed gate is no default")]
    pub fn new() -> Self {
        Self {
            entered: Arc::default(),
            open: Arc::new(Semaphore::new(0)),
        }
    }

    /// Waits until the handler may go on.
    pub async fn pass(self) {
        self.entered.notify_one();
        self.open.acquire().await.unwrap().forget();
    }

    /// A layer whose call number `nth`, counted from 1, waits here before its handler asks for the
    /// transaction.
    pub fn holding_back<T: 'static>(
        &self,
        nth: usize,
    ) -> MapFutureLayer<impl Fn(BoxFuture<'static, T>) -> BoxFuture<'static, T> + Clone + use<T>>
    {
        let (gate, calls) = (self.clone(), Arc::new(AtomicUsize::new(0)));
        MapFutureLayer::new(move |call: BoxFuture<'static, T>| {
            if calls.fetch_add(1, Ordering::SeqCst) + 1 != nth {
                return call;
            }
            let gate = gate.clone();
            async move {
                gate.pass().await;
                call.await
            }
            .boxed()
        })
    }

    /// Waits until a handler waits here.
    pub async fn entered(&self) {
        self.entered.notified().await;
    }

    /// Lets one handler go on.
    pub fn let_one_pass(&self) {
        self.open.add_permits(1);
    }

    /// Lets all go on that wait, or will.
    pub fn open(&self) {
        self.open.add_permits(Semaphore::MAX_PERMITS / 2);
    }
}
