use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[derive(EventSet)]
enum OrderEvents {
    Created(OrderCreated),
}

#[handler]
#[rustfmt::skip]
async fn reserve_stock(
    _event: OrderCreated,
    _tx: &mut PgConnection,
    _meta: &Metadata,
    State(()): State<()>, State(()): State<()>, State(()): State<()>, State(()): State<()>,
    State(()): State<()>, State(()): State<()>, State(()): State<()>, State(()): State<()>,
    State(()): State<()>, State(()): State<()>, State(()): State<()>, State(()): State<()>,
    _envelope: &Envelope,
) {}

#[router(events = OrderEvents, handlers(reserve_stock))]
struct Orders;

fn main() {
    let _ = Orders::builder::<eventflow::inbox::PgInbox, ()>(())
        .layer(reserve_stock, TraceLayer::new())
        .build();
}
