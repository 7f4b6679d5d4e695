//! Publishing: what handlers and transactions of one's own write into the outbox, and what of it stays.
//! What the relay makes of it is shown elsewhere.

mod chain;
mod handlers;
mod refusals;
mod table;
mod transactions;
mod waking;

use eventflow_tests::shop::{Database, Shop};

/// One column of what is in the outbox, as text, in its order; empty where it is NULL.
async fn outgoing<D: Database>(shop: &Shop<D>, column: &str) -> Vec<String> {
    let sql = format!("SELECT COALESCE(CAST({column} AS TEXT), '') FROM event_outbox ORDER BY id");
    shop.database.texts(sql).await
}
