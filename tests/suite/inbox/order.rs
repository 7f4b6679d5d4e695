//! Order per aggregate: any sequence of calls leaves the rows as a plain model in memory says; who may
//! store them; and how a table comes to it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use eventflow::{
    Envelope,
    inbox::{Admission, Arrival, Due, Inbox, Lease, Order, OrderPolicy, Status},
    prelude::*,
};
use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed, TestCaseError, TestRunner},
};
use tokio::{runtime::Runtime, sync::Notify};

use super::{
    CONSUMER, dying,
    fixture::{Fixture, Postgres, Sqlite, on_each_database},
    holder, settlement,
};

on_each_database!(
    only_the_one_reader_stores,
    a_reader_that_gives_up_is_followed_at_once,
    the_right_to_read_is_for_all_streams_or_none,
    a_table_of_the_version_before_gets_its_order,
    a_turn_that_was_lost_past_the_inbox_is_passed_on,
    rows_that_wait_are_due_where_no_order_is_kept,
);

/// The last day on which anything can be due; what is due later waits for its turn.
const LAST_DAY: i64 = 253_402_214_400_000_000;

#[derive(Serialize, Deserialize, Event)]
struct StockCounted {
    #[event(aggregate_id)]
    shelf: Uuid,
}

fn ordered<I: Inbox>(inbox: &I, policy: OrderPolicy) -> I {
    inbox.in_order(Order {
        policy,
        passed: Arc::new(Notify::new()),
    })
}

fn streams() -> Vec<Arc<str>> {
    vec![Arc::from("orders")]
}

fn arrival(shelf: usize, event_id: &str, admission: Admission) -> Arrival {
    let event = StockCounted {
        shelf: Uuid::from_u128(u128::try_from(shelf).unwrap() + 1),
    };
    Arrival {
        id: Uuid::now_v7(),
        envelope: Envelope::new(&event).unwrap().with_event_id(event_id),
        raw: None,
        admission,
        max_retries: 0,
    }
}

fn run(shelf: usize, event_id: &str) -> Arrival {
    arrival(shelf, event_id, Admission::Run)
}

/// The state of each row, and whether it waits for its turn.
async fn observe<F: Fixture>(fixture: &F) -> BTreeMap<String, (String, bool)> {
    #[derive(serde::Deserialize)]
    struct Seen {
        event_id: String,
        status: String,
        due: i64,
    }

    let sql = format!(
        "SELECT CAST({object}('event_id', event_id, 'status', status, 'due', {due}) AS TEXT)
         FROM event_inbox",
        object = F::JSON_OBJECT,
        due = F::micros("COALESCE(next_retry_at, received_at)"),
    );
    let rows = fixture.texts(&sql).await;
    let rows = rows.iter().map(|row| {
        let seen: Seen = serde_json::from_str(row).unwrap();
        let waits = (LAST_DAY..i64::MAX).contains(&seen.due);
        (seen.event_id, (seen.status, waits))
    });
    rows.collect()
}

async fn only_the_one_reader_stores(fixture: impl Fixture) {
    let inbox = ordered(fixture.inbox(), OrderPolicy::Block);
    let stopped = dying("stopped");
    let stale = inbox.acquire_reading(&stopped, &streams()).await.unwrap();
    let stale = stale.unwrap();
    let new = holder("new");
    // SQLite tells milliseconds apart.
    tokio::time::sleep(Duration::from_millis(2)).await;
    let reader = inbox.acquire_reading(&new, &streams()).await.unwrap();
    let reader = reader.unwrap();

    let refused = inbox
        .insert_in_order(&stopped, &stale, vec![run(0, "1")])
        .await
        .unwrap();

    assert!(refused.is_none());
    assert!(observe(&fixture).await.is_empty());
    assert!(!inbox.extend_reading(&stopped, &stale).await.unwrap());
    // A reader that is no more gives up what it does not have.
    inbox.release_reading(&stopped, &stale).await.unwrap();
    assert!(inbox.extend_reading(&new, &reader).await.unwrap());
    let stored = inbox
        .insert_in_order(&new, &reader, vec![run(0, "1")])
        .await
        .unwrap();
    assert_eq!(stored.unwrap().rows.len(), 1);
}

async fn a_reader_that_gives_up_is_followed_at_once(fixture: impl Fixture) {
    let inbox = ordered(fixture.inbox(), OrderPolicy::Block);
    let (one, two) = (holder("one"), holder("two"));
    let reader = inbox.acquire_reading(&one, &streams()).await.unwrap();
    let reader = reader.unwrap();
    assert!(
        inbox
            .acquire_reading(&two, &streams())
            .await
            .unwrap()
            .is_none()
    );

    inbox.release_reading(&one, &reader).await.unwrap();

    let next = inbox.acquire_reading(&two, &streams()).await.unwrap();
    assert!(next.is_some());
    let late = inbox
        .insert_in_order(&one, &reader, vec![run(0, "1")])
        .await;
    assert!(late.unwrap().is_none());
}

async fn the_right_to_read_is_for_all_streams_or_none(fixture: impl Fixture) {
    let inbox = fixture.inbox();
    let both: Vec<Arc<str>> = vec![Arc::from("payments"), Arc::from("orders")];
    let reader = inbox
        .acquire_reading(&holder("one"), &[Arc::from("payments")])
        .await
        .unwrap();
    let reader = reader.unwrap();

    let refused = inbox.acquire_reading(&holder("two"), &both).await.unwrap();

    assert!(refused.is_none());
    let orders = inbox.acquire_reading(&holder("three"), &streams()).await;
    let orders = orders.unwrap().unwrap();
    for (name, lease) in [("one", reader), ("three", orders)] {
        inbox.release_reading(&holder(name), &lease).await.unwrap();
    }
    let granted = inbox.acquire_reading(&holder("two"), &both).await.unwrap();
    assert!(granted.is_some());
}

async fn a_table_of_the_version_before_gets_its_order<F: Fixture>(fixture: F) {
    let inbox = fixture.inbox();
    super::insert(inbox, &holder("a"), &["old"]).await;
    for change in [
        "DROP INDEX ix_event_inbox_turn",
        "DROP INDEX ix_event_inbox_held",
        "ALTER TABLE event_inbox DROP COLUMN position",
        "DROP TABLE event_inbox_leases",
        "UPDATE event_inbox_migrations SET version = 1",
    ] {
        fixture.change(change).await;
    }
    // SQLite has it as a table, Postgres as a sequence of the column.
    if F::JSON_OBJECT == "json_object" {
        fixture.change("DROP TABLE event_inbox_positions").await;
    }
    let missing = inbox.check_schema().await.unwrap_err();
    assert!(missing.to_string().contains("`position`"), "{missing}");

    inbox.migrate().await.unwrap();

    let versions = "SELECT CAST(version AS TEXT) FROM event_inbox_migrations ORDER BY version";
    assert_eq!(fixture.texts(versions).await, ["1", "2"]);
    inbox.migrate().await.unwrap();
    let inbox = ordered(inbox, OrderPolicy::Block);
    let one = holder("one");
    let reader = inbox.acquire_reading(&one, &streams()).await.unwrap();
    let arrivals = vec![run(0, "1"), run(0, "2"), run(0, "old")];
    let stored = inbox
        .insert_in_order(&one, &reader.unwrap(), arrivals)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((stored.rows.len(), stored.duplicates.len()), (1, 1));
    assert_eq!(inbox.counts(CONSUMER).await.unwrap().processing, 2);
}

/// Rows of an aggregate, of which the first runs.
async fn three_in_order(inbox: &impl Inbox) -> Lease {
    let one = holder("one");
    let reader = inbox.acquire_reading(&one, &streams()).await.unwrap();
    let arrivals = vec![run(0, "1"), run(0, "2"), run(0, "3")];
    let stored = inbox
        .insert_in_order(&one, &reader.unwrap(), arrivals)
        .await
        .unwrap();
    stored.unwrap().rows[0].lease
}

async fn a_turn_that_was_lost_past_the_inbox_is_passed_on(fixture: impl Fixture) {
    let inbox = ordered(fixture.inbox(), OrderPolicy::Block);
    three_in_order(&inbox).await;
    fixture
        .change("DELETE FROM event_inbox WHERE event_id = '1'")
        .await;
    assert_eq!(
        inbox.claim(&holder("b"), Due::Now, 9).await.unwrap().len(),
        0
    );

    assert_eq!(inbox.pass_turns(CONSUMER).await.unwrap(), 1);

    assert_eq!(inbox.pass_turns(CONSUMER).await.unwrap(), 0);
    let claimed = inbox.claim(&holder("b"), Due::Now, 9).await.unwrap();
    assert_eq!(claimed[0].envelope.metadata().event_id, "2");
    assert_eq!(inbox.pass_turns(CONSUMER).await.unwrap(), 0);
}

async fn rows_that_wait_are_due_where_no_order_is_kept(fixture: impl Fixture) {
    let inbox = ordered(fixture.inbox(), OrderPolicy::Block);
    three_in_order(&inbox).await;
    let plain = fixture.inbox();
    assert_eq!(
        plain
            .claim(&holder("b"), Due::Later, 9)
            .await
            .unwrap()
            .len(),
        0
    );
    assert_eq!(plain.unpark(CONSUMER, None).await.unwrap(), 0);
    assert_eq!(plain.backlog(CONSUMER, 9).await.unwrap(), 0);
    assert_eq!(plain.next_due(CONSUMER).await.unwrap(), None);

    assert_eq!(plain.leave_order(CONSUMER).await.unwrap(), 2);

    assert_eq!(
        plain.claim(&holder("b"), Due::Now, 9).await.unwrap().len(),
        2
    );
}

#[test]
fn postgres_keeps_the_order_that_the_model_says() {
    check(60, Postgres::start());
}

#[test]
fn sqlite_keeps_the_order_that_the_model_says() {
    check(250, Sqlite::in_memory());
}

fn check<F: Fixture>(cases: u32, start: impl Future<Output = F>) {
    let seed = std::env::var("PROPTEST_RNG_SEED").map_or_else(
        |_| u64::from_le_bytes(*Uuid::new_v4().as_bytes().first_chunk().unwrap()),
        |seed| seed.parse().expect("the seed is a number"),
    );
    let runtime = Runtime::new().unwrap();
    let fixture = runtime.block_on(start);
    let mut runner = TestRunner::new(Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    });
    let policies = prop_oneof![
        Just(OrderPolicy::Block),
        Just(OrderPolicy::Skip),
        Just(OrderPolicy::Park)
    ];
    let steps = proptest::collection::vec(step(), 1..40);
    let checked = runner.run(&(policies, steps), |(policy, steps)| {
        runtime.block_on(take_all(&fixture, policy, steps))
    });
    if let Err(error) = checked {
        panic!("with PROPTEST_RNG_SEED={seed}: {error}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Shelves, and whether their event is of a known type.
    Insert(Vec<(usize, Kind)>),
    Claim(u32),
    Settle(usize, Status),
    Release(usize),
    Requeue(Vec<usize>),
    Discard(usize),
    Unpark,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Run,
    Wait,
    Unknown,
    Left,
    /// Its event is there already, or comes twice.
    Again(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        6 => Just(Kind::Run),
        2 => Just(Kind::Wait),
        1 => Just(Kind::Unknown),
        1 => Just(Kind::Left),
        1 => any::<usize>().prop_map(Kind::Again),
    ];
    let status = prop_oneof![
        4 => Just(Status::Processed),
        2 => Just(Status::Failed),
        2 => Just(Status::DeadLetter),
        1 => Just(Status::Pending),
    ];
    prop_oneof![
        3 => proptest::collection::vec((0_usize..3, kind), 1..6).prop_map(Step::Insert),
        3 => (1_u32..4).prop_map(Step::Claim),
        6 => (any::<usize>(), status).prop_map(|(pick, status)| Step::Settle(pick, status)),
        1 => any::<usize>().prop_map(Step::Release),
        2 => proptest::collection::vec(any::<usize>(), 1..4).prop_map(Step::Requeue),
        1 => any::<usize>().prop_map(Step::Discard),
        1 => Just(Step::Unpark),
    ]
}

/// What a row of the model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waits,
    Due,
    Failed,
    Left,
    Runs(i64),
    Done,
    /// It holds up those behind it.
    Holds,
    /// It does not.
    Passed,
    Parked,
}

#[derive(Debug)]
struct Row {
    id: Uuid,
    event_id: String,
    shelf: usize,
    /// A run of it has failed.
    has_failed: bool,
    state: State,
}

impl Row {
    fn is_unfinished(&self) -> bool {
        !matches!(
            self.state,
            State::Done | State::Holds | State::Passed | State::Parked
        )
    }

    fn is_dead(&self) -> bool {
        matches!(self.state, State::Holds | State::Passed | State::Parked)
    }

    fn observed(&self) -> (String, bool) {
        let status = match self.state {
            State::Waits | State::Due | State::Left => "pending",
            State::Failed => "failed",
            State::Runs(_) => "processing",
            State::Done => "processed",
            State::Holds | State::Passed | State::Parked => "dead_letter",
        };
        let waits = matches!(self.state, State::Waits | State::Parked);
        (status.to_owned(), waits)
    }
}

/// The rows in the order of the stream.
#[derive(Debug)]
struct Model {
    policy: OrderPolicy,
    rows: Vec<Row>,
    inserted: usize,
    tokens: HashMap<Uuid, i64>,
}

impl Model {
    fn dead(&self) -> State {
        match self.policy {
            OrderPolicy::Skip => State::Passed,
            _ => State::Holds,
        }
    }

    fn enters(&self, shelf: usize, kind: Kind) -> State {
        let mut of_shelf = self.rows.iter().filter(|row| row.shelf == shelf);
        let is_held = of_shelf.clone().any(|row| row.state == State::Holds);
        match kind {
            Kind::Unknown => self.dead(),
            Kind::Left => State::Left,
            _ if is_held && self.policy == OrderPolicy::Park => State::Parked,
            _ if is_held || of_shelf.any(Row::is_unfinished) => State::Waits,
            Kind::Wait => State::Due,
            _ => State::Runs(1),
        }
    }

    /// Gives the turn to who is next on a shelf.
    fn pass(&mut self, shelf: usize) {
        let of_shelf: Vec<usize> = (0..self.rows.len())
            .filter(|&row| self.rows[row].shelf == shelf)
            .collect();
        let next = of_shelf
            .iter()
            .copied()
            .find(|&row| self.rows[row].state == State::Waits);
        let Some(next) = next else {
            return;
        };
        let may_another = of_shelf.iter().any(|&row| {
            matches!(
                self.rows[row].state,
                State::Due | State::Failed | State::Runs(_)
            )
        });
        let is_held = of_shelf
            .iter()
            .any(|&row| row < next && matches!(self.rows[row].state, State::Left | State::Holds));
        if !may_another && !is_held {
            self.rows[next].state = State::Due;
        }
    }

    fn park(&mut self, shelf: usize) {
        if self.policy != OrderPolicy::Park {
            return;
        }
        let mut is_held = false;
        for row in self.rows.iter_mut().filter(|row| row.shelf == shelf) {
            if is_held && row.state == State::Waits {
                row.state = State::Parked;
            }
            is_held |= row.state == State::Holds;
        }
    }

    fn running(&self) -> Vec<usize> {
        let running =
            (0..self.rows.len()).filter(|&row| matches!(self.rows[row].state, State::Runs(_)));
        running.collect()
    }

    /// That at most one event of each shelf may run, that it is the first one but for those that were
    /// requeued behind it, and that none waits for nobody.
    fn holds(&self) -> Result<(), TestCaseError> {
        for shelf in 0..3 {
            let of_shelf = || self.rows.iter().filter(|row| row.shelf == shelf);
            let may_run =
                |row: &&Row| matches!(row.state, State::Due | State::Failed | State::Runs(_));
            prop_assert!(of_shelf().filter(may_run).count() <= 1, "{self:?}");
            let waits = of_shelf().position(|row| row.state == State::Waits);
            if let Some(waits) = waits {
                let is_held = of_shelf()
                    .take(waits)
                    .any(|row| matches!(row.state, State::Left | State::Holds));
                prop_assert!(is_held || of_shelf().any(|row| may_run(&row)), "{self:?}");
            }
        }
        Ok(())
    }
}

async fn take_all<F: Fixture>(
    fixture: &F,
    policy: OrderPolicy,
    steps: Vec<Step>,
) -> Result<(), TestCaseError> {
    fixture.change("DELETE FROM event_inbox").await;
    fixture.change("DELETE FROM event_inbox_leases").await;
    let inbox = ordered(fixture.inbox(), policy);
    let mut model = Model {
        policy,
        rows: Vec::new(),
        inserted: 0,
        tokens: HashMap::new(),
    };
    let reader = inbox.acquire_reading(&holder("a"), &streams()).await;
    let reader = reader.unwrap().unwrap();
    for step in steps {
        take(&inbox, &reader, &mut model, step.clone()).await?;
        let expected: BTreeMap<_, _> = model
            .rows
            .iter()
            .map(|row| (row.event_id.clone(), row.observed()))
            .collect();
        prop_assert_eq!(observe(fixture).await, expected, "after {:?}", step);
        model.holds()?;
        prop_assert_eq!(inbox.pass_turns(CONSUMER).await.unwrap(), 0);
        // What was requeued behind a dead letter by one who knows no policy.
        for shelf in 0..3 {
            model.park(shelf);
        }
    }
    Ok(())
}

async fn take(
    inbox: &impl Inbox,
    reader: &eventflow::inbox::ReaderLease,
    model: &mut Model,
    step: Step,
) -> Result<(), TestCaseError> {
    let a = holder("a");
    match step {
        Step::Insert(events) => {
            let mut arrivals = Vec::new();
            let mut duplicates = Vec::new();
            for (shelf, kind) in events {
                if let Kind::Again(pick) = kind
                    && let Some(index) = pick.checked_rem(model.rows.len())
                {
                    let event_id = model.rows[index].event_id.clone();
                    let again = run(shelf, &event_id);
                    duplicates.push(again.id);
                    arrivals.push(again);
                    continue;
                }
                let admission = match kind {
                    Kind::Run | Kind::Again(_) => Admission::Run,
                    Kind::Wait => Admission::Wait,
                    Kind::Unknown => Admission::DeadLetter("unknown".to_owned()),
                    Kind::Left => Admission::Park,
                };
                model.inserted += 1;
                let event_id = format!("{:03}", model.inserted);
                let arrival = arrival(shelf, &event_id, admission);
                let state = model.enters(shelf, kind);
                model.tokens.insert(arrival.id, 1);
                model.rows.push(Row {
                    id: arrival.id,
                    event_id,
                    shelf,
                    has_failed: false,
                    state,
                });
                arrivals.push(arrival);
            }
            let stored = inbox.insert_in_order(&a, reader, arrivals).await.unwrap();
            let stored = stored.unwrap();
            prop_assert_eq!(stored.duplicates, duplicates);
            for row in &stored.rows {
                let known = model.rows.iter().find(|known| known.id == row.lease.id);
                prop_assert_eq!(known.unwrap().state, State::Runs(row.lease.token));
            }
        }
        Step::Claim(limit) => {
            let claimed = inbox.claim(&a, Due::Later, limit).await.unwrap();
            let due = model
                .rows
                .iter()
                .filter(|row| matches!(row.state, State::Due | State::Failed));
            let most = usize::try_from(limit).unwrap();
            prop_assert_eq!(claimed.len(), due.count().min(most));
            for row in claimed {
                let known = model.rows.iter_mut().find(|known| known.id == row.lease.id);
                let known = known.unwrap();
                prop_assert!(
                    matches!(known.state, State::Due | State::Failed),
                    "{known:?}"
                );
                known.state = State::Runs(row.lease.token);
            }
        }
        Step::Settle(pick, status) => {
            let running = model.running();
            let Some(index) = pick.checked_rem(running.len()) else {
                return Ok(());
            };
            let dead = model.dead();
            let row = &mut model.rows[running[index]];
            let State::Runs(token) = row.state else {
                return Ok(());
            };
            let mut settled = settlement(Lease { id: row.id, token }, status);
            settled.retry_count = i32::from(row.has_failed || status == Status::Failed);
            row.has_failed |= status == Status::Failed;
            let shelf = row.shelf;
            row.state = match status {
                Status::Processed => State::Done,
                Status::Failed => State::Failed,
                Status::Pending => State::Left,
                _ => dead,
            };
            if status != Status::Failed {
                model.pass(shelf);
                model.park(shelf);
            }
            // As a unit of work does it, and as it is done without one.
            let held = if pick % 2 == 0 {
                super::settle(inbox, &[settled]).await
            } else {
                inbox.settle(&a, &[settled]).await.unwrap()
            };
            prop_assert_eq!(held.len(), 1);
        }
        Step::Release(pick) => {
            let running = model.running();
            let Some(index) = pick.checked_rem(running.len()) else {
                return Ok(());
            };
            let row = &mut model.rows[running[index]];
            let State::Runs(token) = row.state else {
                return Ok(());
            };
            let lease = Lease { id: row.id, token };
            row.state = if row.has_failed {
                State::Failed
            } else {
                State::Due
            };
            let released = inbox.release(vec![lease], Duration::ZERO).await.unwrap();
            prop_assert_eq!(released, 1);
        }
        Step::Requeue(picks) => {
            let dead: Vec<usize> = (0..model.rows.len())
                .filter(|&row| model.rows[row].is_dead())
                .collect();
            let mut ids = Vec::new();
            for pick in picks {
                if let Some(index) = pick.checked_rem(dead.len()) {
                    let row = &mut model.rows[dead[index]];
                    ids.push(row.id);
                    row.state = State::Waits;
                    row.has_failed = false;
                }
            }
            for shelf in 0..3 {
                if model
                    .rows
                    .iter()
                    .any(|row| row.shelf == shelf && ids.contains(&row.id))
                {
                    model.pass(shelf);
                }
            }
            // By one who knows nothing of an order, as an operator does.
            let requeued = inbox.requeue(CONSUMER, &ids).await.unwrap();
            ids.sort();
            ids.dedup();
            prop_assert_eq!(requeued, u64::try_from(ids.len()).unwrap());
        }
        Step::Discard(pick) => {
            let dead: Vec<usize> = (0..model.rows.len())
                .filter(|&row| model.rows[row].is_dead())
                .collect();
            let Some(index) = pick.checked_rem(dead.len()) else {
                return Ok(());
            };
            let row = model.rows.remove(dead[index]);
            model.pass(row.shelf);
            prop_assert_eq!(inbox.discard(CONSUMER, &[row.id]).await.unwrap(), 1);
        }
        Step::Unpark => {
            let mut unparked = 0;
            for row in &mut model.rows {
                if row.state == State::Left {
                    row.state = State::Waits;
                    unparked += 1;
                }
            }
            for shelf in 0..3 {
                model.pass(shelf);
            }
            prop_assert_eq!(inbox.unpark(CONSUMER, None).await.unwrap(), unparked);
        }
    }
    Ok(())
}
