//! An event is stored while the one before it is settled: whoever of the two comes first, its turn is not
//! lost.

use std::pin::pin;

use eventflow::{
    Inbox as _, Source as _,
    inbox::{Due, OrderedInbox as _},
};
use eventflow_tests::{
    eventually,
    shop::{Database as _, GROUP, Owned, Postgres, Shop},
    worker::InboxAt,
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::{DEADLINE, another, arrival, in_order, open, processed};

/// What a transaction waits for at the server until the test lets it go on.
const GATE: &str = "4711";

/// Has those who do what the trigger says stand still, as long as the connection is open.
async fn shut_gate(shop: &Shop<Postgres<Owned>>, trigger: &str) -> PgConnection {
    let stand_still = format!(
        "CREATE FUNCTION stand_still() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN PERFORM pg_advisory_xact_lock({GATE}); RETURN NULL; END $$"
    );
    shop.database.change(&stand_still).await;
    shop.database.change(trigger).await;
    let InboxAt::Postgres(url) = shop.database.at() else {
        unreachable!("the shop is on Postgres");
    };
    let mut gate = PgConnection::connect(&url).await.unwrap();
    let shut = format!("SELECT pg_advisory_lock({GATE})");
    gate.execute(AssertSqlSafe(shut)).await.unwrap();
    gate
}

/// Waits until so many transactions stand still: at the gate, or for the order.
async fn stand_still(shop: &Shop<Postgres<Owned>>, transactions: usize) {
    let waiting = "SELECT CAST(pid AS TEXT) FROM pg_locks JOIN pg_database ON database = oid
        WHERE NOT granted AND locktype = 'advisory' AND datname = current_database()";
    eventually(DEADLINE, async || {
        shop.database.texts(waiting).await.len() == transactions
    })
    .await;
}

/// An event is stored while the one before it is settled; `lingers` says which of the two stands still at
/// the server, after it has looked and before it commits. The other one begins meanwhile, and waits for it
/// or is done.
async fn meets_a_settlement(lingers: &str) {
    let shop = open::<Postgres<Owned>>().await;
    let inbox = in_order(&shop);
    let holder = another();
    let reader = inbox.acquire_reading(&holder, &shop.stream.streams()).await;
    let reader = reader.unwrap().unwrap();
    let store = async |number| {
        let arrivals = vec![arrival(0, number)];
        let stored = inbox.insert_in_order(&holder, &reader, arrivals).await;
        assert!(stored.unwrap().is_some());
    };
    store(0).await;
    let first = inbox.claim(&holder, Due::Now, 9).await.unwrap();
    let settle = async || {
        let settled = inbox.settle(&holder, &[processed(first[0].lease)]).await;
        assert_eq!(settled.unwrap().len(), 1);
    };
    let gate = shut_gate(&shop, lingers).await;
    let waiting = async |transactions| stand_still(&shop, transactions).await;
    let store_first = lingers.contains("AFTER INSERT");
    let lingering = async {
        if store_first {
            store(1).await;
        } else {
            settle().await;
        }
    };
    let beside = async {
        waiting(1).await;
        let other = async {
            if store_first {
                settle().await;
            } else {
                store(1).await;
            }
        };
        let mut other = pin!(other);
        tokio::select! {
            () = &mut other => drop(gate),
            () = waiting(2) => {
                drop(gate);
                other.await;
            }
        }
    };
    tokio::join!(lingering, beside);

    assert_eq!(
        inbox.pass_turns(GROUP).await.unwrap(),
        0,
        "its turn was lost"
    );
    let next = inbox.claim(&holder, Due::Now, 9).await.unwrap();
    assert_eq!(next.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_whose_store_lingers_while_the_one_before_it_is_settled_has_its_turn() {
    meets_a_settlement(
        "CREATE TRIGGER stand_still AFTER INSERT ON event_inbox EXECUTE FUNCTION stand_still()",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_stored_while_the_settlement_before_it_lingers_has_its_turn() {
    meets_a_settlement(
        "CREATE CONSTRAINT TRIGGER stand_still AFTER UPDATE ON event_inbox
         DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
         WHEN (NEW.status = 'processed') EXECUTE FUNCTION stand_still()",
    )
    .await;
}
