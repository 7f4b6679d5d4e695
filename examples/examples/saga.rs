//! A saga of three services in one program: order, payment, shipment.
//!
//! Each service's handler writes its own rows and publishes what the next one handles, both in one
//! transaction. A card that is refused is compensated: the stock that was reserved goes back. It needs
//! nothing installed: the stream is in memory, the database a SQLite file.
//!
//! ```sh
//! cargo run --example saga
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what it did")]

use std::time::Duration;

use eventflow::prelude::*;
use sqlx::{Row as _, SqlitePool};

/// A customer has checked out; the stock is reserved.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
struct OrderPlaced {
    #[event(aggregate_id)]
    order_id: Uuid,
    customer: String,
    cents: i64,
}

/// The card was charged.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
struct OrderPaid {
    #[event(aggregate_id)]
    order_id: Uuid,
}

/// The card was refused.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
struct PaymentRefused {
    #[event(aggregate_id)]
    order_id: Uuid,
    reason: String,
}

/// The parcel is on its way.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
struct OrderShipped {
    #[event(aggregate_id)]
    order_id: Uuid,
}

/// Everything that stream `orders` carries.
#[derive(Debug, EventSet)]
enum OrderEvents {
    Placed(OrderPlaced),
    Paid(OrderPaid),
    Refused(PaymentRefused),
    Shipped(OrderShipped),
}

/// Payment: charges the card, or says why not.
#[handler(publishes(OrderPaid, PaymentRefused))]
async fn charge_card(
    event: OrderPlaced,
    tx: &mut SqliteConnection,
    outbox: &mut Outbox,
) -> Result<(), Failure> {
    let order_id = event.order_id;
    let charged =
        sqlx::query("UPDATE cards SET cents = cents - ? WHERE customer = ? AND cents >= ?")
            .bind(event.cents)
            .bind(&event.customer)
            .bind(event.cents)
            .execute(tx)
            .await?;
    if charged.rows_affected() == 1 {
        outbox.publish(&OrderPaid { order_id })?;
    } else {
        let reason = format!("the card of {} has less than that", event.customer);
        outbox.publish(&PaymentRefused { order_id, reason })?;
    }
    Ok(())
}

/// Shipment: hands the parcel to the carrier.
#[handler(publishes(OrderShipped))]
async fn ship(
    event: OrderPaid,
    tx: &mut SqliteConnection,
    outbox: &mut Outbox,
) -> Result<(), Failure> {
    let order_id = event.order_id;
    sqlx::query("INSERT INTO parcels (order_id) VALUES (?)")
        .bind(order_id.to_string())
        .execute(tx)
        .await?;
    outbox.publish(&OrderShipped { order_id })?;
    Ok(())
}

/// Order: the end of the good way.
#[handler]
async fn close(event: OrderShipped, tx: &mut SqliteConnection) -> Result<(), Failure> {
    end(tx, event.order_id, "shipped").await
}

/// Order: compensates what a refused card has left, the reserved stock.
#[handler]
async fn give_stock_back(event: PaymentRefused, tx: &mut SqliteConnection) -> Result<(), Failure> {
    sqlx::query("UPDATE stock SET pieces = pieces + 1")
        .execute(&mut *tx)
        .await?;
    end(tx, event.order_id, &format!("cancelled: {}", event.reason)).await
}

async fn end(tx: &mut SqliteConnection, order_id: Uuid, state: &str) -> Result<(), Failure> {
    sqlx::query("UPDATE orders SET state = ? WHERE order_id = ?")
        .bind(state)
        .bind(order_id.to_string())
        .execute(tx)
        .await?;
    Ok(())
}

#[router(events = OrderEvents, handlers(charge_card, ship, close, give_stock_back))]
struct Saga;

/// What a web request does: its own rows, and the event that tells of them, in one transaction.
async fn place_order(pool: &SqlitePool, customer: &str, cents: i64) -> Result<(), Error> {
    let order_id = Uuid::now_v7();
    let mut transaction = pool.begin().await?;
    sqlx::query("UPDATE stock SET pieces = pieces - 1")
        .execute(&mut *transaction)
        .await?;
    sqlx::query("INSERT INTO orders (order_id, customer, state) VALUES (?, ?, 'placed')")
        .bind(order_id.to_string())
        .bind(customer)
        .execute(&mut *transaction)
        .await?;
    let placed = OrderPlaced {
        order_id,
        customer: customer.to_owned(),
        cents,
    };
    Outbox::new(&mut transaction).publish(&placed).await?;
    transaction.commit().await?;
    Ok(())
}

type Error = Box<dyn std::error::Error>;

const TABLES: &str = "
    CREATE TABLE orders (order_id TEXT PRIMARY KEY, customer TEXT, state TEXT);
    CREATE TABLE stock (pieces INTEGER);
    INSERT INTO stock VALUES (10);
    CREATE TABLE cards (customer TEXT PRIMARY KEY, cents INTEGER);
    INSERT INTO cards VALUES ('Ada', 10000), ('Ben', 500);
    CREATE TABLE parcels (order_id TEXT PRIMARY KEY)";

#[tokio::main]
async fn main() -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let inbox = SqliteInbox::open(folder.path().join("shop.db")).await?;
    let outbox = inbox.outbox();
    inbox.migrate().await?;
    outbox.migrate().await?;
    let pool = inbox.pool().clone();
    sqlx::raw_sql(TABLES).execute(&pool).await?;

    // One program: the relay publishes to the stream that the consumer reads.
    let stream = MemoryStream::new("orders").group("shop");
    let consumer = Consumer::builder(stream.clone(), inbox, Saga::new(()))
        .outbox(outbox.clone())
        .build()?;
    let relay = Relay::builder(outbox, stream).build()?;
    let (stop, stopped) = tokio::sync::watch::channel(());
    let until_stopped = |mut stopped: tokio::sync::watch::Receiver<()>| async move {
        _ = stopped.changed().await;
    };
    let consuming = tokio::spawn(consumer.run_until(until_stopped(stopped.clone())));
    let relaying = tokio::spawn(relay.run_until(until_stopped(stopped)));

    for (customer, cents) in [("Ada", 1999), ("Ben", 4999), ("Ada", 2999), ("Ben", 250)] {
        place_order(&pool, customer, cents).await?;
    }

    let under_way = "SELECT COUNT(*) FROM orders WHERE state = 'placed'";
    while sqlx::query_scalar::<_, i64>(under_way)
        .fetch_one(&pool)
        .await?
        > 0
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.send(())?;
    let (handled, sent) = (consuming.await??, relaying.await??);

    let orders = sqlx::query("SELECT customer, state FROM orders ORDER BY order_id");
    for order in orders.fetch_all(&pool).await? {
        println!("{:<4} {}", order.get::<&str, _>(0), order.get::<&str, _>(1));
    }
    let count = |sql| sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool);
    println!(
        "\n{} parcels, {} pieces left of 10",
        count("SELECT COUNT(*) FROM parcels").await?,
        count("SELECT pieces FROM stock").await?,
    );
    println!(
        "{} events published, {} handled",
        sent.published, handled.processed
    );
    Ok(())
}
