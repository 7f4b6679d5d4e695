use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[derive(Event)]
struct OrderPaid;

#[derive(EventSet)]
enum OrderEvents {
    Created(OrderCreated),
    Paid(OrderPaid),
}

#[handler]
async fn reserve_stock(_event: OrderCreated) {}

use eventflow::{inbox::PgInbox, router::Router};

#[derive(Clone)]
struct Mailer;

#[handler]
async fn charge_card(
    _event: OrderPaid,
    _tx: &mut PgConnection,
    _meta: &Metadata,
    State(_): State<Mailer>,
) -> Result<(), Failure> {
    Ok(())
}

#[handler]
async fn on_other(_event: Envelope) {}

#[router(events = OrderEvents, handlers(reserve_stock, charge_card), fallback(on_other))]
struct Orders;

fn consume<I: Inbox>(_inbox: I, _service: impl Service<Delivery<I>>) {}

fn on_postgres(inbox: PgInbox) {
    let orders = Orders::builder(Mailer)
        .layer(reserve_stock, TraceLayer::new())
        .layer(charge_card, TraceLayer::new())
        .build();
    consume(inbox, orders);
}

fn main() {
    let _ = on_postgres;
    let _: Router<Orders, PgInbox, Mailer> = Orders::builder(Mailer)
        .layer(charge_card, TraceLayer::new())
        .layer(charge_card, TraceLayer::new())
        .layer(on_other, TraceLayer::new())
        .build();
}
