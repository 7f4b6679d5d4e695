//! Units of work: what a handler does wrong takes nothing of its neighbours'.

use std::time::Duration;

use eventflow::inbox::{LossKind, Unit};

use super::{
    Fixture, Inbox, Status, fixture::Postgres, holder, insert, on_each_database, settlement,
};

on_each_database! {
    a_failed_attempt_is_rolled_back_and_the_others_commit,
    a_cut_query_is_stopped_and_the_others_commit,
    a_call_cut_in_its_own_transaction_stores_nothing,
    a_nested_transaction_commits_with_the_unit,
    a_handlers_commit_stores_nothing,
    a_handlers_rollback_loses_the_unit,
    a_dropped_unit_stores_nothing_and_the_next_begins,
}

/// By this it would never be settled, and run again for ever.
#[tokio::test]
async fn a_handler_that_changes_a_row_of_the_inbox_fails() {
    let fixture = Postgres::start().await;
    let leases = insert(fixture.inbox(), &holder("a"), &["1", "2"]).await;
    let settlements = [0, 1].map(|row| settlement(leases[row], Status::Processed));
    let mut unit = fixture.inbox().begin().await.unwrap();
    let change = "UPDATE event_inbox SET status = 'processed' WHERE event_id = '1'";
    Postgres::run(unit.connection(), change).await.unwrap();

    let lost = unit.settle(&holder("a"), &settlements).await.unwrap_err();

    assert_eq!(lost.kind(), LossKind::Handler, "{lost}");
    drop(unit);
    assert_eq!(
        fixture
            .inbox()
            .counts(super::CONSUMER)
            .await
            .unwrap()
            .processing,
        2
    );
}

async fn a_failed_attempt_is_rolled_back_and_the_others_commit<F: Fixture>(fixture: F) {
    let leases = insert(fixture.inbox(), &holder("a"), &["1"]).await;
    let mut unit = fixture.inbox().begin().await.unwrap();
    for (name, succeeds) in [
        ("INSERT INTO effect VALUES ('kept')", true),
        ("INSERT INTO effect VALUES ('lost')", false),
    ] {
        unit.savepoint().await.unwrap();
        F::run(unit.connection(), name).await.unwrap();
        if succeeds {
            assert!(unit.release().await.unwrap());
        } else {
            unit.rollback(false).await.unwrap();
        }
    }
    let settled = unit
        .settle(&holder("a"), &[settlement(leases[0], Status::Processed)])
        .await;
    unit.commit().await.unwrap();

    assert_eq!(settled.unwrap(), leases);
    assert_eq!(fixture.effects().await, ["kept"]);
}

async fn a_cut_query_is_stopped_and_the_others_commit<F: Fixture>(fixture: F) {
    let mut unit = fixture.inbox().begin().await.unwrap();
    unit.savepoint().await.unwrap();
    F::run(unit.connection(), "INSERT INTO effect VALUES ('lost')")
        .await
        .unwrap();
    let query = F::run(unit.connection(), F::ENDLESS);

    let cut = tokio::time::timeout(Duration::from_millis(50), query).await;
    let stopped = tokio::time::timeout(super::DEADLINE, unit.rollback(true)).await;

    assert!(cut.is_err());
    stopped.expect("the query was not stopped").unwrap();
    F::run(unit.connection(), "INSERT INTO effect VALUES ('kept')")
        .await
        .unwrap();
    assert!(unit.release().await.unwrap());
    unit.commit().await.unwrap();
    assert_eq!(fixture.effects().await, ["kept"]);
}

async fn a_call_cut_in_its_own_transaction_stores_nothing<F: Fixture>(fixture: F) {
    for cut_after in (0..40).map(|step| Duration::from_micros(step * 25)) {
        let mut unit = fixture.inbox().begin().await.unwrap();
        unit.savepoint().await.unwrap();
        let call = async {
            loop {
                F::run_nested(unit.connection(), "INSERT INTO effect VALUES ('lost')").await?;
            }
            #[expect(unreachable_code, reason = "names the type of the error")]
            Ok::<(), sqlx::Error>(())
        };
        drop(tokio::time::timeout(cut_after, call).await);

        if unit.rollback(true).await.is_ok() {
            unit.commit().await.unwrap();
        }
    }

    assert!(fixture.effects().await.is_empty());
}

async fn a_nested_transaction_commits_with_the_unit<F: Fixture>(fixture: F) {
    let mut unit = fixture.inbox().begin().await.unwrap();
    unit.savepoint().await.unwrap();
    F::run_nested(unit.connection(), "INSERT INTO effect VALUES ('kept')")
        .await
        .unwrap();
    assert!(unit.release().await.unwrap());
    unit.commit().await.unwrap();

    assert_eq!(fixture.effects().await, ["kept"]);
}

async fn a_handlers_commit_stores_nothing<F: Fixture>(fixture: F) {
    let mut unit = fixture.inbox().begin().await.unwrap();
    unit.savepoint().await.unwrap();
    F::run(unit.connection(), "INSERT INTO effect VALUES ('lost')")
        .await
        .unwrap();

    F::run(unit.connection(), "COMMIT").await.unwrap_err();
    F::run(unit.connection(), "INSERT INTO effect VALUES ('after')")
        .await
        .unwrap_err();

    assert_eq!(unit.release().await.unwrap_err().kind(), LossKind::Handler);
    drop(unit);
    assert!(fixture.effects().await.is_empty());
}

async fn a_handlers_rollback_loses_the_unit<F: Fixture>(fixture: F) {
    let mut unit = fixture.inbox().begin().await.unwrap();
    unit.savepoint().await.unwrap();

    F::run(unit.connection(), "ROLLBACK").await.unwrap();
    F::run(unit.connection(), "INSERT INTO effect VALUES ('after')")
        .await
        .unwrap_err();

    assert_eq!(unit.release().await.unwrap_err().kind(), LossKind::Handler);
    drop(unit);
    assert!(fixture.effects().await.is_empty());
}

async fn a_dropped_unit_stores_nothing_and_the_next_begins<F: Fixture>(fixture: F) {
    for _ in 0..20 {
        let mut unit = fixture.inbox().begin().await.unwrap();
        F::run(unit.connection(), "INSERT INTO effect VALUES ('lost')")
            .await
            .unwrap();
    }
    let unit = fixture.inbox().begin().await.unwrap();
    unit.commit().await.unwrap();

    assert!(fixture.effects().await.is_empty());
}

#[tokio::test]
async fn a_swallowed_error_fails_the_attempt_on_postgres() {
    let fixture = Postgres::start().await;
    let mut unit = fixture.inbox().begin().await.unwrap();
    unit.savepoint().await.unwrap();
    Postgres::run(unit.connection(), "INSERT INTO effect VALUES (NULL)")
        .await
        .unwrap_err();

    assert!(!unit.release().await.unwrap());
    Postgres::run(unit.connection(), "INSERT INTO effect VALUES ('kept')")
        .await
        .unwrap();
    unit.commit().await.unwrap();
    assert_eq!(fixture.effects().await, ["kept"]);
}
