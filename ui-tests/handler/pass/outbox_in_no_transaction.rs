use eventflow::prelude::*;

#[derive(Event)]
struct OrderPaid;

async fn in_a_transaction(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
    let mut transaction = pool.begin().await?;
    Outbox::new(&mut transaction).publish(&OrderPaid).await?;
    Ok(transaction.commit().await?)
}

fn main() {
    _ = in_a_transaction;
}
