//! A chain of three handlers on Postgres, each of which publishes what the next one handles.
//!
//! Each handler leaves one row in `steps` per run that was committed.

use std::collections::{BTreeMap, HashSet};

use eventflow::prelude::*;
use sqlx::PgPool;

use crate::redis::RedisServer;

/// The steps that each order takes, in this order.
pub const STEPS: [&str; 5] = ["placed", "paid", "shipped", "receipted", "closed"];

const CREATE_STEPS: &str = "
    CREATE TABLE steps (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        order_id UUID NOT NULL,
        step TEXT NOT NULL
    )";

macro_rules! events {
    ($($event:ident)+) => {
        $(
            #[derive(Debug, Clone, Serialize, Deserialize, Event)]
            pub struct $event {
                #[event(aggregate_id)]
                pub order_id: Uuid,
            }
        )+
    };
}

events!(Placed Paid Receipted Shipped);

/// What the stream carries.
#[derive(Debug, EventSet)]
pub enum ChainEvents {
    Placed(Placed),
    Paid(Paid),
    Receipted(Receipted),
    Shipped(Shipped),
}

/// Publishes two events: nothing but the relay keeps their order, and an ordered consumer.
#[handler(publishes(Paid, Receipted))]
pub async fn charge(
    event: Placed,
    tx: &mut PgConnection,
    outbox: &mut Outbox,
) -> Result<(), Failure> {
    note(tx, event.order_id, "paid").await?;
    let order_id = event.order_id;
    outbox.publish(&Paid { order_id })?;
    outbox.publish(&Receipted { order_id })?;
    Ok(())
}

#[handler(publishes(Shipped))]
pub async fn ship(event: Paid, tx: &mut PgConnection, outbox: &mut Outbox) -> Result<(), Failure> {
    note(tx, event.order_id, "shipped").await?;
    outbox.publish(&Shipped {
        order_id: event.order_id,
    })?;
    Ok(())
}

#[handler]
pub async fn file(event: Receipted, tx: &mut PgConnection) -> Result<(), Failure> {
    Ok(note(tx, event.order_id, "receipted").await?)
}

#[handler]
pub async fn close(event: Shipped, tx: &mut PgConnection) -> Result<(), Failure> {
    Ok(note(tx, event.order_id, "closed").await?)
}

#[router(events = ChainEvents, handlers(charge, ship, file, close))]
#[derive(Debug)]
pub struct Chain;

async fn note(tx: &mut PgConnection, order_id: Uuid, step: &str) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO steps (order_id, step) VALUES ($1, $2)")
        .bind(order_id)
        .bind(step)
        .execute(tx)
        .await
        .map(|_| ())
}

/// Creates the table of the steps.
pub async fn create_steps(pool: &PgPool) {
    sqlx::query(CREATE_STEPS).execute(pool).await.unwrap();
}

/// Places orders as a web service would: each order and its event in one transaction with its
/// neighbours.
pub async fn place_orders(pool: &PgPool, orders: u32) {
    let mut transaction = pool.begin().await.unwrap();
    for _ in 0..orders {
        let order_id = Uuid::now_v7();
        note(&mut transaction, order_id, "placed").await.unwrap();
        let placed = Placed { order_id };
        Outbox::new(&mut transaction)
            .publish(&placed)
            .await
            .unwrap();
    }
    transaction.commit().await.unwrap();
}

/// How many orders have taken a step.
pub async fn orders_with(pool: &PgPool, step: &str) -> u64 {
    let orders: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM steps WHERE step = $1")
        .bind(step)
        .fetch_one(pool)
        .await
        .unwrap();
    orders.unsigned_abs()
}

/// The orders that did not take each step once, in order, as text.
pub async fn wrong_orders(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT order_id || ': ' || string_agg(step, ', ' ORDER BY id) FROM steps
         GROUP BY order_id HAVING array_agg(step ORDER BY id) <> $1",
    )
    .bind(STEPS.as_slice())
    .fetch_all(pool)
    .await
    .unwrap()
}

/// The events of each order in a stream, by their types: each where it came first.
pub async fn events_of_orders(redis: &RedisServer) -> BTreeMap<String, Vec<String>> {
    let mut seen = HashSet::new();
    let mut orders = BTreeMap::<String, Vec<String>>::new();
    let mut from = "-".to_owned();
    loop {
        let page = ["XRANGE", "work", &from, "+", "COUNT", "1000"];
        let entries: Vec<(String, Vec<String>)> = redis.run(&page).await;
        let Some((last, _)) = entries.last() else {
            return orders;
        };
        from = format!("({last}");
        for (_, fields) in entries {
            let event: Published = serde_json::from_str(&fields[1]).unwrap();
            if seen.insert(event.event_id) {
                let events = orders.entry(event.aggregate_id).or_default();
                events.push(event.event_type);
            }
        }
    }
}

/// What of an entry names the event.
#[derive(Deserialize)]
struct Published {
    event_id: String,
    event_type: String,
    aggregate_id: String,
}
