use eventflow::prelude::*;

#[derive(Event)]
struct OrderPaid;

async fn in_no_transaction(mut pool: sqlx::PgPool) {
    let _outbox = Outbox::new(&mut pool);
}

fn main() {}
