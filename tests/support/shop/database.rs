//! The databases that every case runs on, in each mode.

use std::marker::PhantomData;

use eventflow::{
    inbox::Inbox,
    prelude::*,
    router::{Calls, Dispatch},
};
use sqlx::AssertSqlSafe;
use tempfile::TempDir;

use super::{
    OrderPlaced, ParcelShipped, PriceAsked, ShopEvents,
    mode::{InMode, Inline, InlineReplaySafe, Mode, Owned, ReplaySafe},
    script::{Call, Parcel, ParcelScript, Script},
};
use crate::worker::InboxAt;

/// A database with an inbox, and what cases do to it in SQL.
pub trait Database: Sized + Send + Sync + 'static {
    type Inbox: Inbox<Connection = Self::Connection>;
    type Connection: sqlx::Connection<Database: sqlx::Database<Connection = Self::Connection>>;
    type Table: Dispatch<Self::Inbox, Script<Self>> + Calls<OrderPlaced> + Calls<ParcelShipped>;

    /// How its consumers take new events, and what the shop's handlers say.
    const MODE: Mode;

    /// A writing statement that runs until it is stopped.
    const ENDLESS: &'static str;

    /// Reads the seconds from the last failure of each failed row to its next run, as text.
    const WAITS: &'static str;

    /// Makes the inbox refuse the event `refused`.
    const REFUSES: &'static str;

    /// Reads which sessions have a transaction open and do nothing, as text. SQLite lists none: a
    /// transaction that is left open there keeps all others from writing, which shows by itself.
    const IDLE_IN_TRANSACTION: &'static str;

    /// A new database with nothing in it.
    fn create() -> impl Future<Output = Self> + Send;

    fn inbox(&self) -> Self::Inbox;

    /// Where another process finds it.
    fn at(&self) -> InboxAt;

    /// Writes an effect.
    fn write(
        tx: &mut Self::Connection,
        name: &str,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    fn execute(
        tx: &mut Self::Connection,
        sql: &'static str,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Runs a statement beside the consumer.
    fn change(&self, sql: impl Into<String> + Send) -> impl Future<Output = ()> + Send;

    /// Reads one column of text beside the consumer.
    fn texts(&self, sql: impl Into<String> + Send) -> impl Future<Output = Vec<String>> + Send;
}

/// A database whose server a test may start, end and look into.
pub trait OnPostgres: Database<Inbox = PgInbox, Connection = PgConnection> {
    /// A database of a server that the test has started.
    fn of(url: &str) -> impl Future<Output = Self> + Send;

    fn url(&self) -> &str;
}

/// A SQLite file.
#[derive(Debug)]
pub struct Sqlite<M = Owned> {
    inbox: SqliteInbox,
    beside: sqlx::SqlitePool,
    folder: TempDir,
    mode: PhantomData<M>,
}

impl<M> Sqlite<M> {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shop.db");
        let inbox = SqliteInbox::open(&file).await.unwrap();
        let beside = sqlx::SqlitePool::connect(&format!("sqlite:{}", file.display()))
            .await
            .unwrap();
        Self {
            inbox,
            beside,
            folder,
            mode: PhantomData,
        }
    }

    fn at(&self) -> InboxAt {
        InboxAt::Sqlite(self.folder.path().join("shop.db"))
    }
}

/// A database of its own on the shared server.
#[derive(Debug)]
pub struct Postgres<M = Owned> {
    inbox: PgInbox,
    beside: sqlx::PgPool,
    url: String,
    mode: PhantomData<M>,
}

impl<M> Postgres<M> {
    async fn open() -> Self {
        let database = crate::postgres::Database::create().await;
        Self::connect(database.url()).await
    }

    async fn connect(url: &str) -> Self {
        let inbox = PgInbox::connect(url).await.unwrap();
        let beside = sqlx::postgres::PgPoolOptions::new()
            .max_connections(2)
            .connect(url)
            .await
            .unwrap();
        Self {
            inbox,
            beside,
            url: url.to_owned(),
            mode: PhantomData,
        }
    }

    fn at(&self) -> InboxAt {
        InboxAt::Postgres(self.url.clone())
    }
}

impl<M> OnPostgres for Postgres<M>
where
    M: InMode,
    Self: Database<Inbox = PgInbox, Connection = PgConnection>,
{
    async fn of(url: &str) -> Self {
        Self::connect(url).await
    }

    fn url(&self) -> &str {
        &self.url
    }
}

/// A database in each mode that has a table of handlers, in a module of its own.
macro_rules! database {
    (
        $Database:ident, $Inbox:ty, $Connection:ty,
        [$($table:ident: $Mode:ident $(($replay_safe:ident))?,)+],
        $insert:literal, $endless:literal, $waits:literal, $refuses:literal, $idle:literal $(,)?
    ) => {
        $(
            impl Database for $Database<$Mode> {
                type Inbox = $Inbox;
                type Connection = $Connection;
                type Table = $table::Table;

                const MODE: Mode = $Mode::MODE;
                const ENDLESS: &'static str = $endless;
                const WAITS: &'static str = $waits;
                const REFUSES: &'static str = $refuses;
                const IDLE_IN_TRANSACTION: &'static str = $idle;

                async fn create() -> Self {
                    Self::open().await
                }

                fn inbox(&self) -> $Inbox {
                    self.inbox.clone()
                }

                fn at(&self) -> InboxAt {
                    Self::at(self)
                }

                async fn write(tx: &mut $Connection, name: &str) -> Result<(), sqlx::Error> {
                    sqlx::query($insert).bind(name).execute(tx).await?;
                    Ok(())
                }

                async fn execute(
                    tx: &mut $Connection,
                    sql: &'static str,
                ) -> Result<(), sqlx::Error> {
                    sqlx::query(sql).execute(tx).await?;
                    Ok(())
                }

                async fn change(&self, sql: impl Into<String> + Send) {
                    sqlx::query(AssertSqlSafe(sql.into()))
                        .execute(&self.beside)
                        .await
                        .unwrap();
                }

                async fn texts(&self, sql: impl Into<String> + Send) -> Vec<String> {
                    sqlx::query_scalar(AssertSqlSafe(sql.into()))
                        .fetch_all(&self.beside)
                        .await
                        .unwrap()
                }
            }

            pub mod $table {
                use super::*;

                #[handler($($replay_safe)?)]
                pub async fn book_order(
                    event: OrderPlaced,
                    tx: &mut $Connection,
                    outbox: &mut Outbox,
                    State(script): State<Script<$Database<$Mode>>>,
                    meta: &Metadata,
                ) -> Result<(), Failure> {
                    let call = Call {
                        event,
                        meta: meta.clone(),
                        tx,
                        outbox,
                    };
                    script.order(call).await
                }

                #[router(events = ShopEvents, handlers(book_order, print_label), ignore(PriceAsked))]
                #[derive(Debug)]
                pub struct Table;
            }
        )+
    };
}

/// Handles parcels on every database.
#[handler]
pub async fn print_label(
    event: ParcelShipped,
    State(script): State<ParcelScript>,
    meta: &Metadata,
) -> Result<(), Failure> {
    let meta = meta.clone();
    script.parcel(Parcel { event, meta }).await
}

database!(
    Sqlite,
    SqliteInbox,
    SqliteConnection,
    [
        sqlite: Owned,
        sqlite_inline_replay_safe: InlineReplaySafe (replay_safe),
    ],
    "INSERT INTO effects (name) VALUES (?)",
    "INSERT INTO effects (name)
     WITH RECURSIVE count (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count)
     SELECT 'endless' FROM count WHERE n < 0",
    "SELECT CAST((next_retry_at - last_error_at) / 1e6 AS TEXT)
     FROM event_inbox WHERE status = 'failed'",
    "CREATE TRIGGER refuses BEFORE INSERT ON event_inbox WHEN NEW.event_id = 'refused'
     BEGIN SELECT RAISE(ABORT, 'this event is refused'); END",
    "SELECT '' WHERE FALSE"
);

database!(
    Postgres,
    PgInbox,
    PgConnection,
    [
        postgres: Owned,
        postgres_inline: Inline,
        postgres_replay_safe: ReplaySafe (replay_safe),
        postgres_inline_replay_safe: InlineReplaySafe (replay_safe),
    ],
    "INSERT INTO effects (name) VALUES ($1)",
    "INSERT INTO effects (name) SELECT 'endless' FROM pg_sleep(3600)",
    "SELECT CAST(EXTRACT(EPOCH FROM next_retry_at - last_error_at) AS TEXT)
     FROM event_inbox WHERE status = 'failed'",
    "ALTER TABLE event_inbox ADD CONSTRAINT refuses CHECK (event_id <> 'refused')",
    "SELECT pid::text FROM pg_stat_activity
     WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
);
