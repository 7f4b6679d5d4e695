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

struct Mailer;

struct App;

impl FromRef<App> for Mailer {
    fn from_ref(_app: &App) -> Self {
        Self
    }
}

#[handler]
async fn send_mail(_event: OrderPaid, State(_): State<Mailer>) {}

#[router(events = OrderEvents, handlers(reserve_stock, send_mail))]
struct Orders;

fn consume<I: Inbox>(_inbox: I, _service: impl Service<Delivery<I>>) {}

fn on_postgres(inbox: eventflow::inbox::PgInbox) {
    consume(inbox, Orders::new(App));
}

fn main() {
    let _ = on_postgres;
}
