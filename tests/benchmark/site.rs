//! Where a run takes place: a fresh database and a stream, and what is found there afterwards.

use std::collections::HashMap;

use deadpool_redis::redis::{self, aio::MultiplexedConnection};
use eventflow::{outbox::PgOutbox, prelude::*};
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;

use crate::{
    Result,
    bench::Servers,
    event::{self, GROUP, STREAM},
    job::{Place, Work},
    service::{COUNT_RESERVATIONS, CREATE_RESERVATIONS},
};

/// A new database on the servers, and the only stream there.
pub(crate) struct ServerSite {
    place: Place,
    url: String,
    inbox: PgInbox,
    database: PgConnection,
    redis: MultiplexedConnection,
}

/// A new file.
pub(crate) struct SqliteSite {
    folder: TempDir,
    inbox: SqliteInbox,
}

/// What a run has left behind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Done {
    processed: u64,
    unacknowledged: u64,
    /// In all, and of different events.
    reservations: (i64, i64),
}

impl ServerSite {
    /// Makes a database with its tables, and fills the stream.
    pub(crate) async fn create(servers: &Servers, events: u32) -> Result<Self> {
        let url = servers.postgres.create_database().await;
        let inbox = PgInbox::connect(&url).await?;
        inbox.migrate().await?;
        let mut database = PgConnection::connect(&url).await?;
        sqlx::query(CREATE_RESERVATIONS)
            .execute(&mut database)
            .await?;
        let mut redis = servers.redis.connection().await;
        redis::cmd("FLUSHALL").exec_async(&mut redis).await?;
        event::publish(&mut redis, events).await?;
        // So that each run begins with an empty log, and none meets another's checkpoint.
        sqlx::query("CHECKPOINT").execute(&mut database).await?;
        let place = Place::Servers {
            redis: servers.redis.url(),
            postgres: url.clone(),
        };
        Ok(Self {
            place,
            url,
            inbox,
            database,
            redis,
        })
    }

    pub(crate) fn place(&self) -> Place {
        self.place.clone()
    }

    /// Fills the outbox.
    pub(crate) async fn publish(&mut self, events: u32) -> Result<PgOutbox> {
        const PUBLISH: &str = "
            INSERT INTO event_outbox (
                event_id, event_type, aggregate_id, occurred_on, payload, payload_bytes)
            SELECT number::text, 'OrderCreated', md5((number % 1000)::text)::uuid, now(), payload,
                octet_length(payload::text)
            FROM generate_series(1, $1::bigint) AS number, json_build_object(
                'order_id', gen_random_uuid(), 'number', number, 'sku', 'blue-suede-shoes-43',
                'quantity', 1 + number % 7) AS payload";

        let outbox = self.inbox.outbox();
        outbox.migrate().await?;
        let publish = sqlx::query(PUBLISH).bind(i64::from(events));
        publish.execute(&mut self.database).await?;
        for settle in ["VACUUM ANALYZE event_outbox", "CHECKPOINT"] {
            sqlx::query(settle).execute(&mut self.database).await?;
        }
        Ok(outbox)
    }

    /// The stream, to publish to.
    pub(crate) async fn sink(&self, servers: &Servers) -> Result<RedisStream> {
        let stream = RedisStream::builder(servers.redis.url()).stream(STREAM);
        Ok(stream.connect().await?)
    }

    pub(crate) async fn done(&mut self) -> Result<Done> {
        let reservations = sqlx::query_as(COUNT_RESERVATIONS);
        Ok(Done {
            processed: self.inbox.counts(GROUP).await?.processed,
            unacknowledged: unacknowledged(&mut self.redis).await?,
            reservations: reservations.fetch_one(&mut self.database).await?,
        })
    }

    /// How many seconds lie between the first row's arrival and the last one's end.
    pub(crate) async fn span(&mut self) -> Result<f64> {
        let span = "SELECT EXTRACT(EPOCH FROM max(processed_at) - min(received_at))::float8
            FROM event_inbox";
        Ok(sqlx::query_scalar(span)
            .fetch_one(&mut self.database)
            .await?)
    }

    /// Drops the database.
    pub(crate) async fn remove(self, servers: &Servers) -> Result<()> {
        self.database.close().await?;
        servers.drop_database(&self.url).await;
        Ok(())
    }
}

impl SqliteSite {
    pub(crate) async fn create() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("eventflow-bench-")
            .tempdir()?;
        let inbox = SqliteInbox::open(folder.path().join("inbox.db")).await?;
        inbox.migrate().await?;
        sqlx::query(CREATE_RESERVATIONS)
            .execute(inbox.pool())
            .await?;
        Ok(Self { folder, inbox })
    }

    pub(crate) fn place(&self) -> Place {
        Place::Sqlite {
            file: self.folder.path().join("inbox.db"),
        }
    }

    pub(crate) async fn done(&self) -> Result<Done> {
        let reservations = sqlx::query_as(COUNT_RESERVATIONS);
        Ok(Done {
            processed: self.inbox.counts(GROUP).await?.processed,
            // The stream has ended with its process.
            unacknowledged: 0,
            reservations: reservations.fetch_one(self.inbox.pool()).await?,
        })
    }
}

impl Done {
    /// What so many events have to leave behind.
    pub(crate) fn all(events: u32, work: Work) -> Self {
        let reservations = match work {
            Work::Nothing => 0,
            Work::Insert => i64::from(events),
        };
        Self {
            processed: events.into(),
            unacknowledged: 0,
            reservations: (reservations, reservations),
        }
    }

    /// Whether all of that was done, at least once.
    pub(crate) fn is_at_least(&self, all: &Self) -> bool {
        let (_, events) = self.reservations;
        let (_, all_events) = all.reservations;
        let is_stored = (self.processed, self.unacknowledged) == (all.processed, 0);
        is_stored && events == all_events
    }

    /// How many reservations are of an event that has another.
    pub(crate) fn twice(&self) -> i64 {
        let (reservations, events) = self.reservations;
        reservations - events
    }
}

/// How many entries the groups have read and not acknowledged.
async fn unacknowledged(redis: &mut MultiplexedConnection) -> Result<u64> {
    let mut command = redis::cmd("XINFO");
    command.arg("GROUPS").arg(STREAM);
    let groups: Vec<HashMap<String, redis::Value>> = command.query_async(redis).await?;
    let mut sum = 0;
    for mut group in groups {
        let pending = group.remove("pending").ok_or("a group has no count")?;
        sum += redis::from_redis_value::<u64>(pending)?;
    }
    Ok(sum)
}
