use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[derive(Event)]
struct OrderPaid;

#[handler]
async fn in_a_task(_: OrderCreated, outbox: &mut Outbox) {
    tokio::spawn(async move { outbox.publish(&OrderPaid).is_ok() });
}

async fn after_the_commit(mut transaction: sqlx::PgTransaction<'_>) -> eventflow::Result<()> {
    let mut outbox = Outbox::new(&mut transaction);
    transaction.commit().await.ok();
    outbox.publish(&OrderPaid).await
}

fn main() {}
