//! Row P5: the database takes too long for what the inbox asks, or says nothing any more.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use eventflow::{Consumer, PgInbox};
use eventflow_tests::{
    eventually,
    postgres::PostgresServer,
    proxy::Proxy,
    running::Running,
    shop::{OnPostgres, Script, Shop, names, router},
};
use futures_util::FutureExt;

use super::DEADLINE;

on_postgres!(p5_a_batch_that_takes_too_long_is_stored_later);

owned_at_birth_on_postgres!(
    p5_connections_that_say_nothing_any_more_are_given_up,
    // Inline the statement that stores an event settles it.
    p5_a_settlement_that_takes_too_long_costs_no_attempt,
);

// In one mode, as it takes a minute there.
in_some_modes!(
    inline
    [postgres: Postgres<Inline>,]
    [p5_connections_that_say_nothing_any_more_are_given_up]
);

/// A consumer of the shop on an inbox whose statements may take this long.
async fn consumer<D: OnPostgres>(
    shop: &Shop<D>,
    url: &str,
    limit: Duration,
    script: Script<D>,
) -> Running {
    let inbox = PgInbox::builder(url).statement_timeout(limit);
    let inbox = inbox.connect().await.unwrap();
    let consumer = Consumer::builder(shop.stream.clone(), inbox, router(script));
    let consumer = D::MODE.set(consumer);
    let consumer = consumer.workers(1).poll_interval(Duration::from_millis(20));
    Running::start(consumer.build().unwrap())
}

/// Lets the first statements that write rows of this status take longer than they may.
async fn slow(shop: &Shop<impl OnPostgres>, statements: u32, when: &str, status: &str) {
    for sql in [
        "CREATE SEQUENCE slow".to_owned(),
        format!(
            "CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN
                IF NEW.status = '{status}' AND nextval('slow') <= {statements} THEN
                    PERFORM pg_sleep(60);
                END IF;
                RETURN NEW;
             END $$"
        ),
        format!(
            "CREATE TRIGGER be_slow {when} ON event_inbox
             FOR EACH ROW EXECUTE FUNCTION be_slow()"
        ),
    ] {
        shop.database.change(&sql).await;
    }
}

const LIMIT: Duration = Duration::from_millis(300);

/// A statement that took too long says nothing about the events that it carries.
async fn p5_a_batch_that_takes_too_long_is_stored_later<D: OnPostgres>() {
    let shop = Shop::<D>::open().await;
    // Inline it is stored first when that has failed.
    let (times, status) = if D::MODE.inline {
        (1, "processed")
    } else {
        (3, "processing")
    };
    slow(&shop, times, "BEFORE INSERT", status).await;
    shop.orders(0..2).await;

    let running = consumer(&shop, shop.database.url(), LIMIT, Script::new()).await;

    eventually(DEADLINE, async || shop.counts().await.processed == 2).await;
    eventually(DEADLINE, async || shop.stream.pending() == 0).await;
    let report = running.stop().await;
    assert_eq!((report.stored, report.malformed), (2, 0), "{report}");
    assert_eq!(shop.effects().await, names(0..2));
}

async fn p5_a_settlement_that_takes_too_long_costs_no_attempt<D: OnPostgres>() {
    let shop = Shop::<D>::open().await;
    slow(&shop, 2, "BEFORE UPDATE", "processed").await;
    shop.orders(0..1).await;

    let running = consumer(&shop, shop.database.url(), LIMIT, Script::new()).await;

    eventually(DEADLINE, async || shop.counts().await.processed == 1).await;
    let report = running.stop().await;
    assert_eq!((report.failed, report.units_lost), (0, 2), "{report}");
    assert_eq!(shop.column("order-0", "retry_count").await, "0");
    assert_eq!(shop.effects().await, names(0..1));
}

/// The network has lost every connection, and neither side is told.
async fn p5_connections_that_say_nothing_any_more_are_given_up<D: OnPostgres>() {
    let server = PostgresServer::start().await;
    let url = server.create_database().await;
    let shop = Shop::on(D::of(&url).await).await;
    let proxy = Arc::new(Proxy::start(server.port()).await);
    let loses = Arc::new(AtomicBool::new(true));
    let script = Script::<D>::new().on_order({
        let (proxy, loses) = (Arc::clone(&proxy), Arc::clone(&loses));
        move |mut call| {
            let loses = call.event.number == 1 && loses.swap(false, Ordering::SeqCst);
            let proxy = Arc::clone(&proxy);
            async move {
                call.write().await?;
                if loses {
                    proxy.forget();
                }
                Ok(())
            }
            .boxed()
        }
    });
    let running = consumer(&shop, &proxy.url(&url), Duration::from_secs(1), script).await;

    shop.orders(0..3).await;

    eventually(DEADLINE, async || !loses.load(Ordering::SeqCst)).await;
    shop.orders(3..5).await;
    // Inline the lost session keeps the rows that it has inserted, until the server ends it: after a
    // minute in which it has said nothing.
    let deadline = DEADLINE + DEADLINE;
    eventually(deadline, async || shop.counts().await.processed == 5).await;
    eventually(DEADLINE, async || shop.stream.pending() == 0).await;
    let report = running.stop().await;
    assert_eq!(report.failed, 0, "{report}");
    assert_eq!(shop.effects().await, names(0..5));
}
