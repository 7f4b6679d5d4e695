//! Rows that another session of Postgres has locked: which statements wait, and in which order.

use std::{sync::Arc, time::Duration};

use eventflow::{
    inbox::{
        Due, Inbox as _, Lease, Order, OrderPolicy, OrderedInbox as _, Recovery, Retention,
        Unit as _,
    },
    prelude::*,
};
use eventflow_tests::eventually;
use futures_util::{FutureExt as _, future::BoxFuture};
use sqlx::{Connection as _, Executor as _, Postgres as Pg, Transaction};

use super::{
    CONSUMER, DEADLINE, Status, arrival,
    fixture::{Fixture, Postgres},
    holder, insert, settle, settlement,
};

/// Locks the row of one event until the answer ends.
async fn lock<'c>(connection: &'c mut PgConnection, event_id: &str) -> Transaction<'c, Pg> {
    let mut transaction = connection.begin().await.unwrap();
    lock_now(&mut transaction, event_id).await.unwrap();
    transaction
}

/// Locks the row of one event, or fails at once.
async fn lock_now(connection: &mut PgConnection, event_id: &str) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT FROM event_inbox WHERE event_id = $1 FOR UPDATE NOWAIT")
        .bind(event_id)
        .execute(connection)
        .await
        .map(drop)
}

#[tokio::test]
async fn leases_are_extended_beside_a_row_that_is_locked() {
    let fixture = Postgres::start().await;
    let inbox = fixture.inbox();
    let short = Duration::from_mins(1);
    let leases = insert(inbox, &holder("a"), &["locked", "free-1", "free-2"]).await;
    let mut other = PgConnection::connect(fixture.database.url()).await.unwrap();
    let locked = lock(&mut other, "locked").await;

    let mut longer = holder("a");
    longer.lease = short * 60;
    let mut held = inbox.extend(&longer, leases.clone()).await.unwrap();
    drop(locked);

    held.sort_by_key(|lease| lease.id);
    assert_eq!(held, leases, "a locked row is still held");
    let far = "SELECT event_id FROM event_inbox
        WHERE locked_until > now() + INTERVAL '30 minutes' ORDER BY event_id";
    assert_eq!(fixture.texts(far).await, ["free-1", "free-2"]);
}

#[tokio::test]
async fn a_locked_row_of_another_holder_is_not_held() {
    let fixture = Postgres::start().await;
    let inbox = fixture.inbox();
    let lease = insert(inbox, &holder("a"), &["locked"]).await[0];
    fixture
        .change("UPDATE event_inbox SET lock_token = lock_token + 1, locked_by = 'b'")
        .await;
    let mut other = PgConnection::connect(fixture.database.url()).await.unwrap();
    let _locked = lock(&mut other, "locked").await;

    assert!(
        inbox
            .extend(&holder("a"), vec![lease])
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_locked_row_is_neither_claimed_nor_recovered_nor_purged() {
    let fixture = Postgres::start().await;
    let inbox = fixture.inbox();
    let leases = insert(inbox, &holder("a"), &["waits", "lapsed", "old"]).await;
    inbox
        .release(vec![leases[0]], Duration::ZERO)
        .await
        .unwrap();
    settle(inbox, &[settlement(leases[2], Status::Processed)]).await;
    fixture
        .change("UPDATE event_inbox SET locked_until = now() WHERE event_id = 'lapsed'")
        .await;
    let mut other = PgConnection::connect(fixture.database.url()).await.unwrap();
    let mut locked = lock(&mut other, "waits").await;
    lock_now(&mut locked, "lapsed").await.unwrap();
    lock_now(&mut locked, "old").await.unwrap();

    assert!(
        inbox
            .claim(&holder("b"), Due::Now, 9)
            .await
            .unwrap()
            .is_empty()
    );
    let recovered = inbox.recover(&holder("b")).await.unwrap();
    assert!(matches!(recovered, Recovery::None));
    let retention = Retention {
        processed: Duration::ZERO,
        dead_letter: Duration::ZERO,
    };
    assert_eq!(inbox.purge(CONSUMER, retention, 9).await.unwrap(), 0);
}

type Change = fn(PgInbox, Vec<Lease>) -> BoxFuture<'static, u64>;

/// Makes new sessions read tables as they lie: an index would give the rows in order by chance.
async fn without_indexes(fixture: &Postgres) {
    for scan in [
        "enable_indexscan",
        "enable_bitmapscan",
        "enable_indexonlyscan",
    ] {
        fixture
            .change(&format!(
                "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {scan} = off',
                    current_database()); END $$"
            ))
            .await;
    }
}

/// A session of this database waits for a lock.
const WAITING: &str = "SELECT 'waits' FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE NOT granted AND datname = current_database()";

/// A change of two rows waits for the first of them before it locks the second.
async fn locks_in_order(status: Option<Status>, change: Change) {
    let fixture = Postgres::start().await;
    without_indexes(&fixture).await;
    let builder = PgInbox::builder(fixture.database.url()).lock_timeout(Duration::ZERO);
    let inbox = builder.connect().await.unwrap();
    let leases = insert(&inbox, &holder("a"), &["1", "2"]).await;
    if let Some(status) = status {
        let settlements = leases.iter().map(|&lease| settlement(lease, status));
        settle(&inbox, &settlements.collect::<Vec<_>>()).await;
    }
    // Now the second row lies before the first.
    fixture
        .change("UPDATE event_inbox SET stream_id = stream_id WHERE event_id = '1'")
        .await;
    let mut other = PgConnection::connect(fixture.database.url()).await.unwrap();
    let mut locked = lock(&mut other, "1").await;

    let changed = tokio::spawn(change(inbox.clone(), leases));
    eventually(DEADLINE, async || !fixture.texts(WAITING).await.is_empty()).await;

    lock_now(&mut locked, "2").await.unwrap();
    drop(locked);
    other.execute("SELECT 1").await.unwrap();
    assert_eq!(changed.await.unwrap(), 2);
}

#[tokio::test]
async fn a_settlement_locks_in_order() {
    locks_in_order(None, |inbox, leases| {
        async move {
            let settlements: Vec<_> = leases
                .into_iter()
                .rev()
                .map(|lease| settlement(lease, Status::Failed))
                .collect();
            u64::try_from(settle(&inbox, &settlements).await.len()).unwrap()
        }
        .boxed()
    })
    .await;
}

#[tokio::test]
async fn a_release_locks_in_order() {
    locks_in_order(None, |inbox, mut leases| {
        leases.reverse();
        async move { inbox.release(leases, Duration::ZERO).await.unwrap() }.boxed()
    })
    .await;
}

#[tokio::test]
async fn an_unpark_locks_in_order() {
    locks_in_order(Some(Status::Pending), |inbox, _| {
        async move { inbox.unpark(CONSUMER, None).await.unwrap() }.boxed()
    })
    .await;
}

#[tokio::test]
async fn a_requeue_locks_in_order() {
    locks_in_order(Some(Status::DeadLetter), |inbox, leases| {
        async move {
            let ids = [leases[1].id, leases[0].id];
            inbox.requeue(CONSUMER, &ids).await.unwrap()
        }
        .boxed()
    })
    .await;
}

#[tokio::test]
async fn a_discard_locks_in_order() {
    locks_in_order(Some(Status::DeadLetter), |inbox, leases| {
        async move {
            let ids = [leases[1].id, leases[0].id];
            inbox.discard(CONSUMER, &ids).await.unwrap()
        }
        .boxed()
    })
    .await;
}

/// Two nodes may read the same events in different orders: a node that died left some of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_in_opposite_orders_do_not_wait_for_each_other() {
    let fixture = Postgres::start().await;
    for round in 0..20 {
        let batch = || (0..200).map(|id| arrival(&format!("{round}-{id}")));
        let inserts = [batch().collect(), batch().rev().collect()].map(|arrivals| {
            let inbox = fixture.inbox().clone();
            tokio::spawn(async move { inbox.insert(&holder("a"), arrivals).await })
        });

        let mut entered = 0;
        for insert in inserts {
            entered += insert.await.unwrap().unwrap().rows.len();
        }
        assert_eq!(entered, 200);
    }
}

/// An extension locks the leases one after the other, so that a store which did it in another order
/// could wait for it in a circle.
#[tokio::test]
async fn a_store_in_order_locks_the_leases_in_the_order_of_their_names() {
    let fixture = Postgres::start().await;
    without_indexes(&fixture).await;
    let builder = PgInbox::builder(fixture.database.url()).lock_timeout(Duration::ZERO);
    let inbox = builder.connect().await.unwrap();
    let streams = ["B", "a"].map(Arc::from);
    let reader = inbox.acquire_reading(&holder("a"), &streams).await.unwrap();
    let reader = reader.unwrap();
    // Now the second lease lies before the first.
    fixture
        .change("UPDATE event_inbox_leases SET holder = holder WHERE name LIKE '%B%'")
        .await;
    let mut other = PgConnection::connect(fixture.database.url()).await.unwrap();
    let lease = |name: &str| {
        let sql = "SELECT FROM event_inbox_leases WHERE name LIKE '%' || $1 || '\" for%'
            FOR UPDATE NOWAIT";
        sqlx::query(sql).bind(name.to_owned())
    };
    let mut locked = other.begin().await.unwrap();
    let first = lease("B").execute(&mut *locked).await.unwrap();
    assert_eq!(first.rows_affected(), 1);

    let stored = tokio::spawn(async move {
        let arrivals = vec![arrival("1")];
        let stored = inbox.insert_in_order(&holder("a"), &reader, arrivals).await;
        stored.unwrap().unwrap().rows.len()
    });
    eventually(DEADLINE, async || !fixture.texts(WAITING).await.is_empty()).await;

    let second = lease("a").execute(&mut *locked).await.unwrap();
    assert_eq!(second.rows_affected(), 1);
    locked.rollback().await.unwrap();
    assert_eq!(stored.await.unwrap(), 1);
}

/// Nobody stores in order while another is between settling and its commit.
#[tokio::test]
async fn a_unit_that_stands_still_before_its_commit_stops_the_order_for_seconds_only() {
    let fixture = Postgres::start().await;
    let builder = PgInbox::builder(fixture.database.url()).lock_timeout(Duration::ZERO);
    let inbox = builder.connect().await.unwrap().in_order(Order {
        policy: OrderPolicy::Block,
        passed: Arc::default(),
    });
    let a = holder("a");
    let reader = inbox.acquire_reading(&a, &[Arc::from("orders")]).await;
    let reader = reader.unwrap().unwrap();
    let store = async |id| {
        let stored = inbox.insert_in_order(&a, &reader, vec![arrival(id)]).await;
        stored.unwrap().unwrap().rows
    };
    let lease = store("1").await[0].lease;
    let mut still = inbox.begin().await.unwrap();
    let processed = [settlement(lease, Status::Processed)];
    assert_eq!(still.settle(&a, &processed).await.unwrap(), [lease]);

    let stored = tokio::time::timeout(DEADLINE, store("2")).await;

    assert_eq!(stored.unwrap().len(), 1);
    still.commit().await.unwrap_err();
    let first = "SELECT status FROM event_inbox WHERE event_id = '1'";
    assert_eq!(fixture.texts(first).await, ["processing"]);
}
