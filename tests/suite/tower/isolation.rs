//! A call that is cut takes back what it wrote, and nothing that others in its unit wrote.

use std::{sync::Arc, time::Duration};

use eventflow::Report;
use eventflow_tests::shop::{Answer, Call, Database, Script, Shop, names};
use futures_util::{FutureExt, future::pending};
use sqlx::Connection as _;
use tower::timeout::TimeoutLayer;

on_every_database!(
    a_cut_call_takes_back_its_writes,
    a_cut_call_takes_back_its_writes_inside_its_own_begin,
    a_cut_call_that_swallowed_an_error_takes_back_its_writes,
    a_cut_call_that_tried_to_commit_takes_back_its_writes,
    a_cut_call_that_tried_to_roll_back_leaves_the_others,
    a_handler_that_commits_and_says_ok_has_failed,
    a_handler_that_rolls_back_and_says_ok_has_failed,
    a_swallowed_error_keeps_no_half,
);

/// The order that goes wrong in the middle of a unit of seven.
const WRONG: u32 = 3;

/// Runs one unit in which order `WRONG` does `wrong`, and asserts that all others are done.
async fn one_goes_wrong<D, F>(wrong: F) -> (Shop<D>, Report)
where
    D: Database,
    F: for<'a> Fn(Call<'a, D>) -> Answer<'a> + Send + Sync + 'static,
{
    let shop = Shop::<D>::open().await;
    let wrong = Arc::new(wrong);
    let script = Script::<D>::new().on_order(move |mut call| {
        if call.event.number == WRONG {
            return wrong(call);
        }
        async move { call.write().await }.boxed()
    });
    shop.orders(0..7).await;

    let consumer = shop
        .consumer(script)
        .layer(TimeoutLayer::new(Duration::from_millis(300)));
    let consumer = consumer.workers(1).build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!((report.processed, report.failed), (6, 1), "{report}");
    let others = (0..7).filter(|number| *number != WRONG);
    assert_eq!(shop.effects().await, names(others.clone()));
    assert_eq!(shop.event_ids("processed").await, names(others));
    assert_eq!(shop.column("order-3", "retry_count").await, "1");
    (shop, report)
}

async fn message<D: Database>(shop: &Shop<D>) -> String {
    shop.column("order-3", "error_message").await
}

async fn a_cut_call_takes_back_its_writes<D: Database>() {
    let (shop, report) = one_goes_wrong::<D, _>(|mut call| {
        async move {
            call.write().await?;
            pending().await
        }
        .boxed()
    })
    .await;

    assert_eq!(message(&shop).await, "request timed out");
    assert_eq!(report.units_lost, 0);
}

async fn a_cut_call_takes_back_its_writes_inside_its_own_begin<D: Database>() {
    let (shop, _) = one_goes_wrong::<D, _>(|call| {
        async move {
            D::write(call.tx, "before").await?;
            let mut own = call.tx.begin().await?;
            D::write(&mut own, "inside").await?;
            pending().await
        }
        .boxed()
    })
    .await;

    assert_eq!(message(&shop).await, "request timed out");
}

async fn a_cut_call_that_swallowed_an_error_takes_back_its_writes<D: Database>() {
    let (shop, _) = one_goes_wrong::<D, _>(|mut call| {
        async move {
            call.write().await?;
            call.execute("INSERT INTO no_such_table VALUES (1)")
                .await
                .unwrap_err();
            pending().await
        }
        .boxed()
    })
    .await;

    assert_eq!(message(&shop).await, "request timed out");
}

async fn a_cut_call_that_tried_to_commit_takes_back_its_writes<D: Database>() {
    let (shop, _) = one_goes_wrong::<D, _>(|mut call| {
        async move {
            call.write().await?;
            _ = call.execute("COMMIT").await;
            _ = D::write(call.tx, "after the commit").await;
            pending().await
        }
        .boxed()
    })
    .await;

    assert_eq!(message(&shop).await, "request timed out");
}

async fn a_cut_call_that_tried_to_roll_back_leaves_the_others<D: Database>() {
    let (shop, _) = one_goes_wrong::<D, _>(|mut call| {
        async move {
            call.write().await?;
            _ = call.execute("ROLLBACK").await;
            _ = D::write(call.tx, "after the rollback").await;
            pending().await
        }
        .boxed()
    })
    .await;

    assert_eq!(message(&shop).await, "request timed out");
}

async fn a_handler_that_commits_and_says_ok_has_failed<D: Database>() {
    let (shop, report) = one_goes_wrong::<D, _>(|mut call| {
        async move {
            call.write().await?;
            _ = call.execute("COMMIT").await;
            Ok(())
        }
        .boxed()
    })
    .await;

    assert!(!message(&shop).await.is_empty());
    assert!(report.units_lost <= 2, "{report}");
}

async fn a_handler_that_rolls_back_and_says_ok_has_failed<D: Database>() {
    let (shop, _) = one_goes_wrong::<D, _>(|mut call| {
        async move {
            call.write().await?;
            _ = call.execute("ROLLBACK").await;
            _ = D::write(call.tx, "after the rollback").await;
            Ok(())
        }
        .boxed()
    })
    .await;

    assert!(message(&shop).await.contains("must not end it"));
}

/// On SQLite an error aborts the statement only: a handler may swallow it.
async fn a_swallowed_error_keeps_no_half<D: Database>() {
    let shop = Shop::<D>::open().await;
    let script = Script::<D>::new().on_order(|mut call| {
        async move {
            call.write().await?;
            if call.event.number == WRONG {
                _ = call.execute("INSERT INTO no_such_table VALUES (1)").await;
            }
            Ok(())
        }
        .boxed()
    });
    shop.orders(0..7).await;

    let consumer = shop.consumer(script).workers(1).build().unwrap();
    let report = consumer.drain().await.unwrap();

    assert_eq!(report.processed + report.failed, 7);
    assert!(report.processed >= 6, "{report}");
    assert_eq!(shop.effects().await, shop.event_ids("processed").await);
}
