//! The modes: what is particular to each. What all have in common is shown by the other suites, whose
//! cases run in every mode.

mod backlog;
mod leftovers;
mod mixed;
mod one_transaction;
mod optimism;

use std::time::Duration;

use eventflow_tests::{
    shop::{Database, Shop},
    worker::InboxAt,
};

/// No condition of a test takes as long as this.
const DEADLINE: Duration = Duration::from_secs(20);

/// Long enough for what must not happen.
const A_WHILE: Duration = Duration::from_millis(300);

/// Has the database note in table `states` each state that a row is written in.
async fn note_states<D: Database>(shop: &Shop<D>) {
    let create = "CREATE TABLE states (event_id TEXT NOT NULL, status TEXT NOT NULL)";
    shop.database.change(create).await;
    let note = "INSERT INTO states VALUES (NEW.event_id, NEW.status)";
    match shop.database.at() {
        InboxAt::Sqlite(_) => {
            for event in ["INSERT", "UPDATE"] {
                let trigger = format!(
                    "CREATE TRIGGER note_{event} AFTER {event} ON event_inbox BEGIN {note}; END"
                );
                shop.database.change(trigger).await;
            }
        }
        InboxAt::Postgres(_) => {
            let function = format!(
                "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN {note}; RETURN NULL; END $$"
            );
            shop.database.change(function).await;
            let trigger = "CREATE TRIGGER note AFTER INSERT OR UPDATE ON event_inbox
                FOR EACH ROW EXECUTE FUNCTION note()";
            shop.database.change(trigger).await;
        }
    }
}

/// In which states the row of an event was written, one after the other.
async fn states_of<D: Database>(shop: &Shop<D>, event_id: &str) -> Vec<String> {
    let order = match shop.database.at() {
        InboxAt::Sqlite(_) => "rowid",
        InboxAt::Postgres(_) => "ctid",
    };
    let states =
        format!("SELECT status FROM states WHERE event_id = '{event_id}' ORDER BY {order}");
    shop.database.texts(states).await
}
