//! What handlers publish commits with their writes, or not at all.

use std::{
    future::{pending, ready},
    time::Duration,
};

use eventflow::{Failure, Report, prelude::*};
use eventflow_tests::{
    eventually,
    gate::Gate,
    running::Running,
    shop::{Answer, Call, Database, OnPostgres, ParcelShipped, Script, Shop, names, order, soon},
    worker::InboxAt,
};
use futures_util::FutureExt;

use super::outgoing;

const DEADLINE: Duration = Duration::from_secs(20);

/// Longer than a handler takes that does not hang.
const HANDLER_TIMEOUT: Duration = Duration::from_secs(1);

on_every_database!(
    what_handlers_publish_is_in_the_outbox_in_their_order,
    an_event_inherits_its_conversation_and_names_its_cause,
    what_a_failed_run_has_published_is_gone,
    what_a_dead_letter_has_published_is_gone,
    what_a_call_that_is_cut_has_published_is_gone,
    what_a_call_that_panics_has_published_is_gone,
    a_delayed_event_has_its_time,
    nothing_is_published_before_the_commit,
);

on_postgres!(
    what_a_call_that_swallows_an_sql_error_has_published_is_gone,
    what_a_unit_publishes_is_inserted_by_one_statement,
);

/// Publishes one event with the effect.
async fn ship<D: Database>(call: &mut Call<'_, D>) -> Result<(), Failure> {
    call.write().await?;
    let number = call.event.number;
    call.outbox.publish(&ParcelShipped { number })?;
    Ok(())
}

async fn what_handlers_publish_is_in_the_outbox_in_their_order<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.orders(0..20).await;
    let script = Script::new().on_order(|mut call| {
        async move {
            ship(&mut call).await?;
            let number = call.event.number + 100;
            call.outbox.publish(&ParcelShipped { number })?;
            Ok(())
        }
        .boxed()
    });

    let report = shop
        .consumer(script)
        .workers(1)
        .build()
        .unwrap()
        .drain()
        .await
        .unwrap();

    assert_eq!((report.processed, report.published), (20, 40), "{report}");
    assert_eq!(outgoing(&shop, "event_type").await, ["ParcelShipped"; 40]);
    assert_eq!(outgoing(&shop, "status").await, ["pending"; 40]);
    let causes = outgoing(&shop, "causation_id").await;
    let numbers = outgoing(&shop, "payload ->> 'number'").await;
    let pairs = causes.chunks(2).zip(numbers.chunks(2));
    for (causes, numbers) in pairs {
        let cause = causes[0].strip_prefix("order-").unwrap();
        assert_eq!(causes[0], causes[1]);
        assert_eq!(numbers[0], cause);
        assert_eq!(
            numbers[1].parse::<u32>().unwrap(),
            100 + cause.parse::<u32>().unwrap()
        );
    }
    let mut ids = outgoing(&shop, "event_id").await;
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 40, "each event has an id of its own");
}

async fn an_event_inherits_its_conversation_and_names_its_cause<D: Database>() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    let shop = Shop::<D>::open().await;
    let cause = order(7)
        .with_correlation_id("checkout-7")
        .with_traceparent(TRACE);
    shop.stream.send(&[cause, order(8)]).await.unwrap();
    let script = Script::new().on_order(|mut call| async move { ship(&mut call).await }.boxed());

    shop.consumer(script)
        .workers(1)
        .build()
        .unwrap()
        .drain()
        .await
        .unwrap();

    assert_eq!(
        outgoing(&shop, "causation_id").await,
        ["order-7", "order-8"]
    );
    // Who begins a conversation gives it its name.
    assert_eq!(
        outgoing(&shop, "correlation_id").await,
        ["checkout-7", "order-8"]
    );
    let traces = outgoing(&shop, "headers ->> 'traceparent'").await;
    assert_eq!(traces, [TRACE, ""]);
}

async fn what_a_failed_run_has_published_is_gone<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.orders(0..10).await;
    let script = Script::new().on_order(|mut call| {
        async move {
            ship(&mut call).await?;
            match (call.event.number, call.meta.attempt) {
                (4 | 7, 1) => Err(Failure::retry("the belt stands still")),
                _ => Ok(()),
            }
        }
        .boxed()
    });
    let running = Running::start(shop.consumer(script).backoff(soon()).build().unwrap());

    eventually(DEADLINE, async || shop.counts().await.processed == 10).await;
    let report = running.stop().await;

    assert_eq!((report.failed, report.published), (2, 10), "{report}");
    let mut causes = outgoing(&shop, "causation_id").await;
    causes.sort();
    assert_eq!(causes, names(0..10));
    assert_eq!(shop.effects().await, names(0..10));
}

/// The second of three handlers publishes and then goes wrong; the others' events are published.
async fn one_goes_wrong<D, F>(wrong: F) -> Report
where
    D: Database,
    F: for<'a> Fn(Call<'a, D>) -> Answer<'a> + Clone + Send + Sync + 'static,
{
    let shop = Shop::<D>::open().await;
    shop.orders(0..3).await;
    let script = Script::new().on_order(move |mut call| {
        let wrong = wrong.clone();
        async move {
            ship(&mut call).await?;
            match call.event.number {
                1 => wrong(call).await,
                _ => Ok(()),
            }
        }
        .boxed()
    });
    let consumer = shop.consumer(script).handler_timeout(HANDLER_TIMEOUT);

    let report = consumer.build().unwrap().drain().await.unwrap();

    assert_eq!(report.published, 2, "{report}");
    let mut causes = outgoing(&shop, "causation_id").await;
    causes.sort();
    assert_eq!(causes, ["order-0", "order-2"]);
    report
}

async fn what_a_dead_letter_has_published_is_gone<D: Database>() {
    let report =
        one_goes_wrong::<D, _>(|_| ready(Err(Failure::dead_letter("no such shelf"))).boxed()).await;

    assert_eq!(report.dead_lettered, 1, "{report}");
}

async fn what_a_call_that_is_cut_has_published_is_gone<D: Database>() {
    let report = one_goes_wrong::<D, _>(|_| pending().boxed()).await;

    assert_eq!(report.failed, 1, "{report}");
}

async fn what_a_call_that_panics_has_published_is_gone<D: Database>() {
    let report =
        one_goes_wrong::<D, _>(|_| async { panic!("no one expects this number") }.boxed()).await;

    assert_eq!(report.failed, 1, "{report}");
}

async fn what_a_call_that_swallows_an_sql_error_has_published_is_gone<D: OnPostgres>() {
    let report = one_goes_wrong::<D, _>(swallow).await;

    assert_eq!(report.failed, 1, "{report}");
}

fn swallow<D: Database>(mut call: Call<'_, D>) -> Answer<'_> {
    async move {
        call.execute("SELECT 1 / 0").await.unwrap_err();
        Ok(())
    }
    .boxed()
}

async fn what_a_unit_publishes_is_inserted_by_one_statement<D: OnPostgres>() {
    let shop = Shop::<D>::open().await;
    for sql in [
        "CREATE TABLE inserts (events BIGINT, transaction BIGINT)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN INSERT INTO inserts SELECT count(*), txid_current() FROM added; RETURN NULL; END $$",
        "CREATE TRIGGER note AFTER INSERT ON event_outbox REFERENCING NEW TABLE AS added
         FOR EACH STATEMENT EXECUTE FUNCTION note()",
    ] {
        shop.database.change(sql).await;
    }
    shop.orders(0..20).await;
    let script = Script::new().on_order(|mut call| async move { ship(&mut call).await }.boxed());

    let consumer = shop.consumer(script).workers(1);
    consumer.build().unwrap().drain().await.unwrap();

    let once = "SELECT concat(sum(events), ' in ', count(*) - count(DISTINCT transaction))
        FROM inserts";
    assert_eq!(shop.database.texts(once).await, ["20 in 0"]);
}

async fn a_delayed_event_has_its_time<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.orders(0..1).await;
    let script = Script::new().on_order(|call| {
        async move {
            let parcel = ParcelShipped { number: 1 };
            let in_a_day = Duration::from_hours(24);
            call.outbox.publish(&parcel)?;
            call.outbox.publish_in(in_a_day, &parcel)?;
            call.outbox
                .publish_at("2099-05-01T12:00:00Z".parse().unwrap(), &parcel)?;
            Ok(())
        }
        .boxed()
    });

    shop.consumer(script)
        .workers(1)
        .build()
        .unwrap()
        .drain()
        .await
        .unwrap();

    let delays = match shop.database.at() {
        InboxAt::Sqlite(_) => "round((publish_at - created_at) / 3600e6) || ' hours'",
        InboxAt::Postgres(_) => {
            "round(extract(epoch FROM publish_at - created_at) / 3600) || ' hours'"
        }
    };
    let delays = outgoing(&shop, delays).await;
    assert_eq!(delays[0], "");
    assert!(
        ["24 hours", "24.0 hours"].contains(&delays[1].as_str()),
        "{delays:?}"
    );
    let years = "SELECT CAST(COUNT(*) AS TEXT) FROM event_outbox WHERE publish_at = ";
    let time = match shop.database.at() {
        InboxAt::Sqlite(_) => "4081320000000000",
        InboxAt::Postgres(_) => "'2099-05-01T12:00:00Z'",
    };
    let there = shop.database.texts(format!("{years}{time}")).await;
    assert_eq!(there, ["1"]);
}

async fn nothing_is_published_before_the_commit<D: Database>() {
    let shop = Shop::<D>::open().await;
    shop.orders(0..1).await;
    let gate = Gate::new();
    let waits = gate.clone();
    let script = Script::new().on_order(move |mut call| {
        let gate = waits.clone();
        async move {
            ship(&mut call).await?;
            gate.pass().await;
            Ok(())
        }
        .boxed()
    });
    let running = Running::start(shop.consumer(script).build().unwrap());

    gate.entered().await;
    assert!(outgoing(&shop, "event_id").await.is_empty());
    gate.open();
    eventually(DEADLINE, async || {
        outgoing(&shop, "event_id").await.len() == 1
    })
    .await;
    running.stop().await;
}
