//! Typed handlers over a SQLite file and a stream in memory: nothing to install.
//!
//! ```sh
//! cargo run --example quickstart
//! ```
//!
//! Publishes orders, some of them twice, a payment that fails twice and then succeeds, a parcel
//! that always fails, and an entry that nobody can read; then prints what became of each kind.

#![allow(clippy::print_stdout, reason = "an example shows what it did")]

use std::time::Duration;

use eventflow::{Report, inbox::backoff::Backoff, prelude::*};
use sqlx::Row as _;

#[derive(Debug, Serialize, Deserialize, Event)]
struct OrderPlaced {
    #[event(aggregate_id)]
    order_id: Uuid,
    total: i64,
}

#[derive(Debug, Serialize, Deserialize, Event)]
struct PaymentRequested {
    #[event(aggregate_id)]
    order_id: Uuid,
}

#[derive(Debug, Serialize, Deserialize, Event)]
struct ParcelShipped {
    #[event(aggregate_id)]
    order_id: Uuid,
}

#[derive(EventSet)]
enum ShopEvents {
    Placed(OrderPlaced),
    Payment(PaymentRequested),
    Shipped(ParcelShipped),
}

/// Its writes and the row's state commit together: no order is ever counted twice.
#[handler]
async fn book_order(event: OrderPlaced, tx: &mut SqliteConnection) -> Result<(), Failure> {
    sqlx::query("INSERT INTO sales (order_id, total) VALUES (?, ?)")
        .bind(event.order_id.to_string())
        .bind(event.total)
        .execute(tx)
        .await?;
    Ok(())
}

#[handler]
async fn take_payment(_event: PaymentRequested, meta: &Metadata) -> Result<(), Failure> {
    if meta.attempt < 3 {
        return Err(Failure::retry("the bank does not answer"));
    }
    Ok(())
}

#[handler]
async fn print_label(_event: ParcelShipped) -> Result<(), Failure> {
    Err(Failure::retry("the label printer is off"))
}

#[router(events = ShopEvents, handlers(book_order, take_payment, print_label))]
struct Shop;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("shop.db");
    let inbox = SqliteInbox::open(&file).await?;
    inbox.migrate().await?;
    let shop = sqlx::SqlitePool::connect(&format!("sqlite:{}", file.display())).await?;
    sqlx::query("CREATE TABLE sales (order_id TEXT PRIMARY KEY, total INTEGER) STRICT")
        .execute(&shop)
        .await?;

    let stream = MemoryStream::new("shop").group("accounts");
    publish(&stream).await?;

    let consumer = Consumer::builder(stream, inbox, Shop::new(()))
        .backoff(Backoff::new(
            Duration::from_millis(50),
            Duration::from_secs(1),
        ))
        .build()?;
    let report = consumer.drain_scheduled().await?;

    print_table(&shop, &report).await?;
    let booked: i64 = sqlx::query_scalar("SELECT count(*) FROM sales")
        .fetch_one(&shop)
        .await?;
    println!("{booked} orders are booked, each once");
    Ok(())
}

/// Publishes 28 entries, five of them for the second time.
async fn publish(stream: &MemoryStream) -> Result<(), Box<dyn std::error::Error>> {
    for number in 0..20 {
        let order = OrderPlaced {
            order_id: Uuid::now_v7(),
            total: 1999,
        };
        let envelope = Envelope::new(&order)?;
        let copies = if number < 5 { 2 } else { 1 };
        stream.send(&vec![envelope; copies]).await?;
    }
    let order_id = Uuid::now_v7();
    stream.publish(&PaymentRequested { order_id }).await?;
    stream.publish(&ParcelShipped { order_id }).await?;
    stream.publish_raw([("data", "this is no JSON")]);
    Ok(())
}

async fn print_table(
    shop: &sqlx::SqlitePool,
    report: &Report,
) -> Result<(), Box<dyn std::error::Error>> {
    println!("event             processed  dead letter  runs  why");
    let rows = sqlx::query(
        "SELECT event_type,
                count(*) FILTER (WHERE status = 'processed') AS processed,
                count(*) FILTER (WHERE status = 'dead_letter') AS dead_letter,
                sum(retry_count + (status = 'processed')) AS runs,
                coalesce(max(error_message), '') AS why
         FROM event_inbox GROUP BY event_type ORDER BY min(received_at)",
    )
    .fetch_all(shop)
    .await?;
    let (mut processed, mut dead_letters) = (0, 0);
    for row in rows {
        let name: &str = row.get("event_type");
        let (done, dead): (i64, i64) = (row.get("processed"), row.get("dead_letter"));
        let (runs, why): (i64, &str) = (row.get("runs"), row.get("why"));
        let line = format!("{name:<18}{done:>9}{dead:>13}{runs:>6}  {why}");
        println!("{}", line.trim_end());
        processed += done;
        dead_letters += dead;
    }
    let (read, duplicates) = (report.read, report.duplicates);
    println!(
        "\n{read} entries = {processed} processed + {dead_letters} dead letters + {duplicates} duplicates"
    );
    Ok(())
}
