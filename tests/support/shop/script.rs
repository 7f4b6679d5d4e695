//! What the shop's handlers do in a test.

use std::{fmt, sync::Arc};

use eventflow::prelude::*;
use futures_util::{FutureExt, future::BoxFuture};

use super::{Database, OrderPlaced, ParcelShipped};
use crate::gate::Gate;

/// What a handler answers.
pub type Answer<'a> = BoxFuture<'a, Result<(), Failure>>;

type OnOrder<D> = dyn for<'a> Fn(Call<'a, D>) -> Answer<'a> + Send + Sync;
type OnParcel = dyn Fn(Parcel) -> Answer<'static> + Send + Sync;

/// One call of the handler of orders, inside its transaction.
pub struct Call<'a, D: Database> {
    pub event: OrderPlaced,
    pub meta: Metadata,
    pub tx: &'a mut D::Connection,
    pub outbox: &'a mut Outbox,
}

impl<D: Database> Call<'_, D> {
    /// Writes an effect that is named after the event.
    pub async fn write(&mut self) -> Result<(), Failure> {
        D::write(self.tx, &self.meta.event_id).await?;
        Ok(())
    }

    /// Runs any statement.
    pub async fn execute(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        D::execute(self.tx, sql).await
    }
}

impl<D: Database> fmt::Debug for Call<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Call").field(&self.meta).finish()
    }
}

/// One call of the handler of parcels.
#[derive(Debug)]
pub struct Parcel {
    pub event: ParcelShipped,
    pub meta: Metadata,
}

/// What the handlers do: orders write their effect, parcels nothing, unless a test says otherwise.
pub struct Script<D: Database> {
    on_order: Arc<OnOrder<D>>,
    on_parcel: ParcelScript,
}

/// The part of a [`Script`] that needs no database.
#[derive(Clone)]
pub struct ParcelScript(Arc<OnParcel>);

impl<D: Database> Script<D> {
    pub fn new() -> Self {
        Self {
            on_order: Arc::new(|mut call: Call<'_, D>| async move { call.write().await }.boxed()),
            on_parcel: ParcelScript(Arc::new(|_| async { Ok(()) }.boxed())),
        }
    }

    /// Says what becomes of an order.
    #[must_use]
    pub fn on_order<F>(mut self, on_order: F) -> Self
    where
        F: for<'a> Fn(Call<'a, D>) -> Answer<'a> + Send + Sync + 'static,
    {
        self.on_order = Arc::new(on_order);
        self
    }

    /// Says what becomes of a parcel.
    #[must_use]
    pub fn on_parcel<F>(mut self, on_parcel: F) -> Self
    where
        F: Fn(Parcel) -> Answer<'static> + Send + Sync + 'static,
    {
        self.on_parcel = ParcelScript(Arc::new(on_parcel));
        self
    }

    /// Orders write their effect and then wait at the gate.
    #[must_use]
    pub fn orders_wait_at(self, gate: &Gate) -> Self {
        let gate = gate.clone();
        self.on_order(move |mut call| {
            let gate = gate.clone();
            async move {
                call.write().await?;
                gate.pass().await;
                Ok(())
            }
            .boxed()
        })
    }

    /// Parcels wait at the gate.
    #[must_use]
    pub fn parcels_wait_at(self, gate: &Gate) -> Self {
        let gate = gate.clone();
        self.on_parcel(move |_| gate.clone().pass().map(Ok).boxed())
    }

    pub(super) fn order<'a>(&self, call: Call<'a, D>) -> Answer<'a> {
        (self.on_order)(call)
    }
}

impl ParcelScript {
    pub(super) fn parcel(&self, parcel: Parcel) -> Answer<'static> {
        (self.0)(parcel)
    }
}

impl fmt::Debug for ParcelScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ParcelScript")
    }
}

impl<D: Database> FromRef<Script<D>> for ParcelScript {
    fn from_ref(script: &Script<D>) -> Self {
        script.on_parcel.clone()
    }
}

impl<D: Database> Clone for Script<D> {
    fn clone(&self) -> Self {
        Self {
            on_order: Arc::clone(&self.on_order),
            on_parcel: self.on_parcel.clone(),
        }
    }
}

impl<D: Database> Default for Script<D> {
    fn default() -> Self {
        Self::new()
    }
}

impl<D: Database> fmt::Debug for Script<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}
