//! Inboxes: one conformance suite on both databases, and what only one of them can do.

mod adoption;
mod rows;
mod units;

use std::time::Duration;

use eventflow::{
    Envelope,
    inbox::{Admission, Arrival, Holder, Inbox, Lease, Settlement, Status},
    prelude::*,
};
use eventflow_tests::postgres::Database;
use sqlx::{Connection as _, Executor as _};

/// How long a condition may take to come true.
const DEADLINE: Duration = Duration::from_secs(20);

const CONSUMER: &str = "billing";

/// A database with an inbox and a table `effect (name)`, as the cases need it.
trait Fixture: Sized {
    type Inbox: Inbox;

    /// A statement that runs for minutes.
    const ENDLESS: &str;

    async fn start() -> Self;

    fn inbox(&self) -> &Self::Inbox;

    /// Runs a statement as a handler would.
    async fn run(
        connection: &mut <Self::Inbox as Inbox>::Connection,
        sql: &'static str,
    ) -> Result<(), sqlx::Error>;

    /// Begins a transaction as a handler would, and runs a statement in it.
    async fn run_nested(
        connection: &mut <Self::Inbox as Inbox>::Connection,
        sql: &'static str,
    ) -> Result<(), sqlx::Error>;

    /// What was stored, in order.
    async fn effects(&self) -> Vec<String>;
}

struct Postgres {
    database: Database,
    inbox: PgInbox,
}

impl Fixture for Postgres {
    type Inbox = PgInbox;

    const ENDLESS: &str = "SELECT pg_sleep(600)";

    async fn start() -> Self {
        let database = Database::create().await;
        let inbox = PgInbox::connect(database.url()).await.unwrap();
        inbox.migrate().await.unwrap();
        let mut connection = PgConnection::connect(database.url()).await.unwrap();
        let table = "CREATE TABLE effect (name TEXT NOT NULL)";
        connection.execute(table).await.unwrap();
        Self { database, inbox }
    }

    fn inbox(&self) -> &PgInbox {
        &self.inbox
    }

    async fn run(connection: &mut PgConnection, sql: &'static str) -> Result<(), sqlx::Error> {
        connection.execute(sql).await.map(drop)
    }

    async fn run_nested(
        connection: &mut PgConnection,
        sql: &'static str,
    ) -> Result<(), sqlx::Error> {
        let mut nested = connection.begin().await?;
        nested.execute(sql).await?;
        nested.commit().await
    }

    async fn effects(&self) -> Vec<String> {
        let mut connection = PgConnection::connect(self.database.url()).await.unwrap();
        sqlx::query_scalar("SELECT name FROM effect ORDER BY name")
            .fetch_all(&mut connection)
            .await
            .unwrap()
    }
}

struct Sqlite {
    inbox: SqliteInbox,
}

impl Fixture for Sqlite {
    type Inbox = SqliteInbox;

    const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
        SELECT COUNT(*) FROM n WHERE i < 0";

    async fn start() -> Self {
        let inbox = SqliteInbox::in_memory().await.unwrap();
        inbox.migrate().await.unwrap();
        let table = "CREATE TABLE effect (name TEXT NOT NULL)";
        inbox.pool().execute(table).await.unwrap();
        Self { inbox }
    }

    fn inbox(&self) -> &SqliteInbox {
        &self.inbox
    }

    async fn run(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), sqlx::Error> {
        connection.execute(sql).await.map(drop)
    }

    async fn run_nested(
        connection: &mut SqliteConnection,
        sql: &'static str,
    ) -> Result<(), sqlx::Error> {
        let mut nested = connection.begin().await?;
        nested.execute(sql).await?;
        nested.commit().await
    }

    async fn effects(&self) -> Vec<String> {
        sqlx::query_scalar("SELECT name FROM effect ORDER BY name")
            .fetch_all(self.inbox.pool())
            .await
            .unwrap()
    }
}

#[derive(Serialize, Deserialize, Event)]
struct OrderPaid {}

fn holder(name: &str) -> Holder {
    Holder {
        consumer: CONSUMER.to_owned(),
        name: name.to_owned(),
        lease: Duration::from_mins(1),
    }
}

/// A holder whose leases have lapsed when it gets them.
fn dying(name: &str) -> Holder {
    Holder {
        lease: Duration::ZERO,
        ..holder(name)
    }
}

fn arrival(event_id: &str) -> Arrival {
    let envelope = Envelope::new(&OrderPaid {})
        .unwrap()
        .with_event_id(event_id);
    Arrival {
        id: Uuid::now_v7(),
        metadata: envelope.metadata().clone(),
        payload: envelope.payload().clone(),
        raw: None,
        admission: Admission::Run,
        max_retries: 3,
    }
}

fn settlement(lease: Lease, status: Status) -> Settlement {
    Settlement {
        lease,
        status,
        retry_count: i32::from(status == Status::Failed),
        delay: Duration::ZERO,
        error_message: (status != Status::Processed).then(|| "out of stock".to_owned()),
    }
}

async fn insert(inbox: &impl Inbox, holder: &Holder, ids: &[&str]) -> Vec<Lease> {
    let arrivals = ids.iter().map(|id| arrival(id)).collect();
    let insertion = inbox.insert(holder, arrivals).await.unwrap();
    insertion.rows.iter().map(|row| row.lease).collect()
}

/// Settles rows in a unit of its own; answers the claims that held.
async fn settle(inbox: &impl Inbox, settlements: &[Settlement]) -> Vec<Lease> {
    use eventflow::inbox::Unit as _;

    let mut unit = inbox.begin().await.unwrap();
    let held = unit.settle(settlements).await.unwrap();
    unit.commit().await.unwrap();
    held
}

/// Runs each case on both databases.
macro_rules! on_both_databases {
    ($($case:ident,)+) => {
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(<super::Postgres as super::Fixture>::start().await).await;
            })+
        }
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(<super::Sqlite as super::Fixture>::start().await).await;
            })+
        }
    };
}
use on_both_databases;
