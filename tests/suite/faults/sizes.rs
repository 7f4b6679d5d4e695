//! M4: what is too large or too deep. Every limit is looked at before anything is parsed.

use std::time::Duration;

use deadpool_redis::redis;
use eventflow_tests::{
    eventually,
    shop::{Database, OnPostgres},
    site::Site,
    work::WorkRequested,
    worker::Worker,
};

use super::redis_shop::{Fields, ORDER_ID, RedisShop, data, good_order, order};

on_every_database!(
    m4_what_is_too_large_or_too_deep_is_kept_and_what_just_fits_is_handled,
    m4_of_an_entry_beyond_any_limit_the_beginning_is_kept,
);

on_postgres!(m4_a_flood_of_malformed_entries_neither_grows_memory_nor_blocks_others,);

const MIB: usize = 1024 * 1024;

/// A payload of exactly so many bytes.
fn payload_of(bytes: usize) -> String {
    let members = format!(r#""order_id":"{ORDER_ID}","number":1,"filling":"#);
    let filling = bytes - members.len() - r#"{""}"#.len();
    format!(r#"{{{members}"{}"}}"#, "x".repeat(filling))
}

fn payload_with(member: &str) -> String {
    format!(r#"{{"order_id":"{ORDER_ID}","number":1,{member}}}"#)
}

/// A member that nests a payload this deep.
fn nested(levels: usize) -> String {
    let inner = levels - 1;
    format!(r#""deep":{}{}"#, "[".repeat(inner), "]".repeat(inner))
}

fn in_data(event_id: &str, payload: &str) -> Fields {
    data(format!(
        r#"{{"event_id":"{event_id}","event_type":"OrderPlaced","aggregate_id":"{ORDER_ID}","occurred_on":"2026-01-01T00:00:00Z","payload":{payload}}}"#
    ))
}

async fn m4_what_is_too_large_or_too_deep_is_kept_and_what_just_fits_is_handled<D: Database>() {
    let shop = RedisShop::<D>::open().await;
    let keys = |count| {
        let keys: Vec<_> = (0..count).map(|n| format!(r#""{n}":1"#)).collect();
        keys.join(",")
    };
    let limit = "the limit is 1048576";
    let refused = [
        (order("1", payload_of(MIB + 1)), limit),
        (in_data("2", &payload_of(MIB + 1)), limit),
        (in_data("3", &payload_of(3 * MIB)), "the limit is 1114112"),
        (order("4", payload_with(&keys(1_000_000))), limit),
        (
            order("5", payload_with(&nested(128))),
            "field `payload`: nests deeper than 127 levels",
        ),
        (
            in_data("6", &payload_with(&nested(128))),
            "field `data`: nests deeper than 128 levels",
        ),
        (
            order("7", "[".repeat(MIB)),
            "field `payload`: nests deeper than 127 levels",
        ),
    ];
    let entries = refused.clone().map(|(fields, _)| fields);
    let ids = shop.add(&entries).await;
    shop.add(&[
        order("flat", payload_of(MIB)),
        in_data("data", &payload_of(MIB)),
        order("deep", payload_with(&nested(127))),
        order("keys", payload_with(&keys(100_000))),
    ])
    .await;

    let report = shop.drain().await;

    assert_eq!((report.malformed, report.processed), (7, 4), "{report}");
    assert_eq!(shop.shop.effects().await, ["data", "deep", "flat", "keys"]);
    for ((fields, reason), id) in refused.iter().zip(&ids) {
        let event_id = format!("malformed:shop/{id}");
        let message = shop.shop.column(&event_id, "error_message").await;
        assert!(message.contains(reason), "{message}");
        let event_type = shop.shop.column(&event_id, "event_type").await;
        // What nests too deep is not parsed, not even for its type.
        let expected = if message.starts_with("field `data`: nests") {
            "malformed"
        } else {
            "OrderPlaced"
        };
        assert_eq!(event_type, expected, "{message}");
        let (_, value) = fields.last().unwrap();
        let raw = shop.raw(id).await;
        assert!(raw.windows(value.len()).any(|bytes| bytes == value));
    }
    assert_eq!(shop.pending().await, 0);
}

/// Redis takes values of 512 MiB, and no statement does.
async fn m4_of_an_entry_beyond_any_limit_the_beginning_is_kept<D: Database>() {
    let shop = RedisShop::<D>::open().await;
    let huge = shop.add_filled("data", 64 * MIB).await;
    let large = shop.add_filled("data", 16 * MIB).await;
    let other = shop.add_filled("other", 16 * MIB).await;
    shop.add(&[good_order("good")]).await;

    let report = shop.drain().await;

    assert_eq!((report.malformed, report.processed), (3, 1), "{report}");
    assert_eq!(shop.raw(&huge).await, vec![b'x'; 64 * 1024]);
    assert_eq!(shop.raw(&large).await, vec![b'x'; 16 * MIB]);
    assert_eq!(shop.raw(&other).await.len(), 64 * 1024);
    let message = async |id| {
        let event_id = format!("malformed:shop/{id}");
        shop.shop.column(&event_id, "error_message").await
    };
    assert_eq!(
        message(&huge).await,
        "field `data`: is 67108864 bytes long; the limit is 1114112; of the entry's 67108868 bytes the first 65536 are kept"
    );
    assert_eq!(
        message(&large).await,
        "field `data`: is 16777216 bytes long; the limit is 1114112"
    );
    assert_eq!(shop.pending().await, 0);
}

/// Adds entries that nobody can read: many small ones, and so many that are too large, one behind
/// the other.
async fn flood(site: &Site<impl OnPostgres>, small: u32, large: u32) {
    let mut connection = site.redis.connection().await;
    connection.set_response_timeout(Duration::from_mins(1));
    let _: () = redis::cmd("EVAL")
        .arg(
            "for n = 1, ARGV[1] do redis.call('XADD', 'work', '*', 'data', string.rep('x', n % 500)) end
             local large = string.rep('x', 200000)
             for n = 1, ARGV[2] do redis.call('XADD', 'work', '*', 'data', large) end",
        )
        .arg((0, small, large))
        .query_async(&mut connection)
        .await
        .unwrap();
}

/// The most memory that a process has had so far, in bytes.
fn peak_of(process: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.unwrap().trim_end_matches("kB").trim();
    peak.parse::<usize>().unwrap() * 1024
}

/// A worker has no more of a flood in memory than what it reads at once, in a few copies, however long
/// the flood is; and what can be read in the midst of it is handled.
async fn m4_a_flood_of_malformed_entries_neither_grows_memory_nor_blocks_others<D: OnPostgres>() {
    const PATIENCE: Duration = Duration::from_mins(4);
    const MIB: usize = 1024 * 1024;

    let site = Site::<D>::start().await;
    let mut config = site.worker();
    config.claim_idle = Duration::from_mins(5);
    let mut worker = Worker::start(&config);
    let mut ids = Vec::new();
    let mut peaks = Vec::new();
    let mut kept = 0;
    for large in [250, 750] {
        // Half of the flood is before the events, half behind them.
        flood(&site, 250, large / 2).await;
        let events = (0..25).map(|_| WorkRequested::taking(0));
        ids.extend(site.publish(events).await);
        flood(&site, 250, large / 2).await;
        ids.sort();
        eventually(PATIENCE, async || site.rows("processed").await == ids).await;
        kept += 500 + u64::from(large);
        eventually(PATIENCE, async || {
            let letters =
                "SELECT CAST(COUNT(*) AS TEXT) FROM event_inbox WHERE status = 'dead_letter'";
            site.database.texts(letters).await == [kept.to_string()]
        })
        .await;
        site.await_acknowledged("billing").await;
        peaks.push(peak_of(worker.id()));
    }
    let report = worker.stop().await;

    assert_eq!(report.count("malformed"), kept);
    assert_eq!(site.effects().await, ids);
    // The floods were of 50 and 150 MB; whole batches are read now and then in either.
    let [first, second] = peaks[..] else { panic!() };
    assert!(second < first + 48 * MIB && second < 144 * MIB, "{peaks:?}");
}
