use eventflow::{PublishError, prelude::*};

#[derive(Event)]
struct OrderCreated;

#[derive(Event)]
struct OrderPaid;

#[handler]
async fn in_the_call(_: OrderCreated, outbox: &mut Outbox) -> Result<(), PublishError> {
    tokio::spawn(async {});
    outbox.publish(&OrderPaid)
}

async fn before_the_commit(mut transaction: sqlx::PgTransaction<'_>) -> eventflow::Result<()> {
    let mut outbox = Outbox::new(&mut transaction);
    outbox.publish(&OrderPaid).await?;
    transaction.commit().await.ok();
    Ok(())
}

fn main() {
    _ = before_the_commit;
}
