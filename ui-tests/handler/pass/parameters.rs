use eventflow::{
    handler::{FromDelivery, Handle, Handler, HandlerParam},
    inbox::{PgInbox, SqliteInbox},
    prelude::*,
};

#[derive(Event)]
struct OrderCreated;

#[derive(Clone)]
struct Mailer;

#[derive(Clone)]
struct App {
    mailer: Mailer,
}

impl FromRef<App> for Mailer {
    fn from_ref(app: &App) -> Self {
        app.mailer.clone()
    }
}

struct Tenant;

impl HandlerParam for Tenant {}

impl<I: Inbox, S: Sync> FromDelivery<I, S> for Tenant {
    async fn from_delivery(_: &Delivery<I>, _: &S) -> Result<Self, Failure> {
        Ok(Self)
    }
}

#[handler]
async fn everything(
    _: OrderCreated,
    State(mailer): State<Mailer>,
    mut tx: &mut PgConnection,
    #[allow(unused_variables)] meta: &Metadata,
    _envelope: &Envelope,
    _tenant: Tenant,
    State(App { mailer: _ }): State<App>,
) -> Result<(), Failure> {
    let _ = (mailer, &mut tx);
    Ok(())
}

#[handler]
async fn on_sqlite(_: OrderCreated, _: &mut SqliteConnection) {}

#[handler]
async fn without_transaction(_: OrderCreated, _: State<App>) {}

#[handler]
async fn any_event(_: Envelope) {}

fn runs_on<I: Inbox, H: Handle<I, App>>() {}

fn main() {
    runs_on::<PgInbox, everything>();
    runs_on::<SqliteInbox, on_sqlite>();
    runs_on::<PgInbox, without_transaction>();
    runs_on::<SqliteInbox, any_event>();
    assert!(everything::TRANSACTIONAL);
    assert!(on_sqlite::TRANSACTIONAL);
    assert!(!without_transaction::TRANSACTIONAL);
    assert_eq!(everything::NAME, "everything");
}
