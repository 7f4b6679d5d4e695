//! How long a claim and an insert take, beside how much lies in the table.

use std::time::{Duration, Instant};

use eventflow::{
    inbox::{Admission, Arrival, Due, Holder},
    prelude::*,
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::{
    Result,
    bench::{Bench, Servers},
    event::{GROUP, OrderCreated},
    figures::Figures,
    line::{Goal, Line},
    load::Load,
};

/// As many rows as a consumer claims at once unless told otherwise.
const CLAIMED: u32 = 100;

/// Inserts into one table in a run, of as many rows, of which the median counts.
const INSERTS: u32 = 20;

/// Claims of one table in a run, of which the median counts. All runs together leave half of the few
/// rows.
const fn claims(runs: u32) -> u32 {
    FEW.0 / CLAIMED / 2 / runs + 1
}

/// Due rows and processed ones.
const FEW: (u32, u32) = (10_000, 0);
const MANY_DUE: (u32, u32) = (1_000_000, 0);
const MANY_KEPT: (u32, u32) = (10_000, 5_000_000);

/// A table, and the consumer that claims its rows.
struct Inboxes {
    url: String,
    inbox: PgInbox,
    holder: Holder,
}

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let mut inboxes = Vec::new();
    for (due, kept) in [FEW, MANY_DUE, MANY_KEPT] {
        let message = format!("filling a table: {due} due and {kept} processed");
        bench.progress.say(message);
        inboxes.push(Inboxes::create(&bench.servers, due, kept).await?);
    }
    bench.progress.say("claims and inserts");
    let load = Load::start()?;
    let (mut claimed, mut inserted) = (Vec::new(), Vec::new());
    for _ in 0..bench.runs {
        let (mut claim, mut insert) = (Vec::new(), Vec::new());
        for inbox in &inboxes {
            claim.push(inbox.claim(claims(bench.runs)).await?);
            insert.push(inbox.insert().await?);
        }
        claimed.push(claim);
        inserted.push(insert);
    }
    let foreign = load.shares()?.foreign;
    for inbox in inboxes {
        bench.servers.drop_database(&inbox.url).await;
    }

    let compared = |metric: &str, times: &[Vec<f64>], place: usize| {
        let pairs = times
            .iter()
            .filter_map(|run| match (run.get(place), run.first()) {
                (Some(many), Some(few)) => Some((*many, *few)),
                _ => None,
            });
        Line::beside("W5", metric, "ms", pairs).foreign([foreign])
    };
    let most = Goal::RatioAtMost;
    Ok(vec![
        compared("claim of 100, 1M due: to 10k due", &claimed, 1).goal(most(1.5)),
        compared(
            "claim of 100, 10k due and 5M kept: to none kept",
            &claimed,
            2,
        )
        .goal(most(1.2)),
        compared("insert of 100, 5M kept: to none kept", &inserted, 2),
    ])
}

impl Inboxes {
    async fn create(servers: &Servers, due: u32, kept: u32) -> Result<Self> {
        let url = servers.postgres.create_database().await;
        let inbox = PgInbox::connect(&url).await?;
        inbox.migrate().await?;
        let mut database = PgConnection::connect(&url).await?;
        // In the order of their ids, as rows are that arrive one after the other.
        fill(&mut database, kept, "processed", "received_at").await?;
        fill(&mut database, due, "pending", "NULL").await?;
        // As the server does by itself in time.
        database.execute("VACUUM ANALYZE event_inbox").await?;
        database.execute("CHECKPOINT").await?;
        database.close().await?;
        let holder = Holder {
            consumer: GROUP.to_owned(),
            name: "claiming".to_owned(),
            lease: Duration::from_mins(1),
        };
        Ok(Self { url, inbox, holder })
    }

    /// Claims rows some times, and answers how many milliseconds that took in the median.
    async fn claim(&self, claims: u32) -> Result<f64> {
        let mut times = Vec::new();
        for _ in 0..claims {
            let begun = Instant::now();
            let rows = self.inbox.claim(&self.holder, Due::Now, CLAIMED).await?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
            if u32::try_from(rows.len())? != CLAIMED {
                return Err(format!("{} rows were claimed", rows.len()).into());
            }
        }
        Ok(Figures::new(times).median())
    }

    /// As [`claim`](Self::claim), for inserts, whose rows are born leased and not claimed.
    async fn insert(&self) -> Result<f64> {
        let mut times = Vec::new();
        for _ in 0..INSERTS {
            let arrivals: Result<Vec<Arrival>> = (0..CLAIMED).map(arrival).collect();
            let arrivals = arrivals?;
            let begun = Instant::now();
            self.inbox.insert(&self.holder, arrivals).await?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        Ok(Figures::new(times).median())
    }
}

fn arrival(number: u32) -> Result<Arrival> {
    Ok(Arrival {
        id: Uuid::now_v7(),
        envelope: OrderCreated::new(number).envelope()?,
        raw: None,
        admission: Admission::Run,
        max_retries: 3,
    })
}

/// Writes so many rows, received one after the other a millisecond apart.
async fn fill(
    database: &mut PgConnection,
    rows: u32,
    status: &str,
    processed_at: &str,
) -> Result<()> {
    let sql = format!(
        r#"INSERT INTO event_inbox (
            id, event_id, stream_id, event_type, aggregate_id, occurred_on, payload, status,
            received_at, processed_at, consumer)
        SELECT id, id::text, '1700000000000-0', 'OrderCreated', gen_random_uuid(), received_at,
            '{{"order_id": "018bcfe5-687b-7000-8000-000000000000", "sku": "blue-suede-shoes-43"}}',
            '{status}', received_at, {processed_at}, '{GROUP}'
        FROM (
            SELECT
                (lpad(to_hex(number), 12, '0') || right(md5('{status}' || number), 20))::uuid AS id,
                now() - INTERVAL '1 day' + number * INTERVAL '1 millisecond' AS received_at
            FROM generate_series(1, {rows}) AS numbers(number)) AS events"#
    );
    database.execute(AssertSqlSafe(sql)).await?;
    Ok(())
}
