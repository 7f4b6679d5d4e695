//! What a failed event, and a dead letter, means for those behind it.

use eventflow::{Inbox as _, inbox::OrderPolicy};
use eventflow_tests::shop::{Database, GROUP, Script, Shop, Sqlite};
use tracing::Level;

use crate::consumer::logs::capture;

use super::{Switch, consumer, drain, handled, open, publish, refusing};

on_every_database!(
    a_blocked_aggregate_goes_on_when_its_dead_letter_is_requeued,
    a_blocked_aggregate_goes_on_when_its_dead_letter_is_discarded,
    a_dead_letter_is_skipped_and_runs_next_when_it_is_requeued,
    the_rest_of_an_aggregate_is_parked_behind_its_dead_letter,
    parked_events_that_are_requeued_run_in_their_order,
    an_event_of_an_unknown_type_holds_its_aggregate_up,
    a_handler_that_ends_its_process_too_often_holds_its_aggregate_up,
);

const EVENTS: [(u32, u32); 5] = [(0, 0), (0, 1), (1, 0), (0, 2), (1, 1)];

/// Handles [`EVENTS`], of which `000/000` is refused.
async fn refuse_the_first<D: Database>(policy: OrderPolicy) -> (Shop<D>, Switch) {
    let shop = open::<D>().await;
    publish(&shop, EVENTS).await;
    let switch = Switch::on();
    let script = refusing(&["000/000"], &switch);

    let report = drain(consumer(&shop, "a", script).order_policy(policy)).await;

    assert_eq!((report.stored, report.dead_lettered), (5, 1), "{report}");
    assert_eq!(shop.stream.pending(), 0);
    assert_eq!(handled(&shop).await[&1], [0, 1]);
    switch.turn_off();
    (shop, switch)
}

async fn requeue<D: Database>(shop: &Shop<D>, event_ids: &[&str]) -> u64 {
    let letters = shop.dead_letters().await;
    let ids: Vec<_> = letters
        .iter()
        .filter(|letter| event_ids.contains(&&*letter.envelope.metadata().event_id))
        .map(|letter| letter.id)
        .collect();
    assert_eq!(ids.len(), event_ids.len());
    shop.inbox().requeue(GROUP, &ids).await.unwrap()
}

async fn discard<D: Database>(shop: &Shop<D>, event_id: &str) {
    let letters = shop.dead_letters().await;
    let letter = letters
        .iter()
        .find(|letter| letter.envelope.metadata().event_id == event_id);
    let discarded = shop.inbox().discard(GROUP, &[letter.unwrap().id]).await;
    assert_eq!(discarded.unwrap(), 1);
}

#[tokio::test]
async fn it_is_logged_which_dead_letter_holds_which_aggregate_up() {
    for (policy, times) in [
        (OrderPolicy::Block, 1),
        (OrderPolicy::Park, 1),
        (OrderPolicy::Skip, 0),
    ] {
        let (_here, lines) = capture(Level::WARN);

        refuse_the_first::<Sqlite>(policy).await;

        let text = lines.text();
        let held_up: Vec<_> = text
            .lines()
            .filter(|line| line.contains("holds up the later events"))
            .collect();
        assert_eq!(held_up.len(), times, "{text}");
        for line in held_up {
            let aggregate = uuid::Uuid::from_u128(1).to_string();
            assert!(
                line.contains("000/000") && line.contains(&aggregate),
                "{line}"
            );
        }
    }
}

async fn a_blocked_aggregate_goes_on_when_its_dead_letter_is_requeued<D: Database>() {
    let (shop, _) = refuse_the_first::<D>(OrderPolicy::Block).await;
    assert_eq!(shop.event_ids("pending").await, ["000/001", "000/002"]);
    publish(&shop, [(0, 3)]).await;
    let report = drain(consumer(&shop, "a", Script::new())).await;
    assert_eq!((report.stored, report.processed), (1, 0), "{report}");

    assert_eq!(requeue(&shop, &["000/000"]).await, 1);
    drain(consumer(&shop, "a", Script::new())).await;

    assert_eq!(handled(&shop).await[&0], [0, 1, 2, 3]);
}

async fn a_blocked_aggregate_goes_on_when_its_dead_letter_is_discarded<D: Database>() {
    let (shop, _) = refuse_the_first::<D>(OrderPolicy::Block).await;

    discard(&shop, "000/000").await;
    drain(consumer(&shop, "a", Script::new())).await;

    assert_eq!(handled(&shop).await[&0], [1, 2]);
}

async fn a_dead_letter_is_skipped_and_runs_next_when_it_is_requeued<D: Database>() {
    let (shop, _) = refuse_the_first::<D>(OrderPolicy::Skip).await;
    assert_eq!(handled(&shop).await[&0], [1, 2]);
    publish(&shop, [(0, 3)]).await;

    requeue(&shop, &["000/000"]).await;
    drain(consumer(&shop, "a", Script::new()).order_policy(OrderPolicy::Skip)).await;

    assert_eq!(handled(&shop).await[&0], [1, 2, 0, 3]);
}

async fn the_rest_of_an_aggregate_is_parked_behind_its_dead_letter<D: Database>() {
    let (shop, _) = refuse_the_first::<D>(OrderPolicy::Park).await;
    publish(&shop, [(0, 3)]).await;
    drain(consumer(&shop, "a", Script::new()).order_policy(OrderPolicy::Park)).await;

    let dead = ["000/000", "000/001", "000/002", "000/003"];
    assert_eq!(shop.event_ids("dead_letter").await, dead);
    for event_id in &dead[1..] {
        let reason = shop.column(event_id, "error_message").await;
        let expected = "parked behind event `000/000` of its aggregate, which is a dead letter";
        assert_eq!(reason, expected);
    }
    discard(&shop, "000/000").await;
    publish(&shop, [(0, 4)]).await;
    drain(consumer(&shop, "a", Script::new()).order_policy(OrderPolicy::Park)).await;
    assert_eq!(handled(&shop).await[&0], [4]);
    assert_eq!(shop.event_ids("dead_letter").await, dead[1..]);
}

async fn parked_events_that_are_requeued_run_in_their_order<D: Database>() {
    let (shop, _) = refuse_the_first::<D>(OrderPolicy::Park).await;

    let requeued = requeue(&shop, &["000/002", "000/000", "000/001"]).await;
    drain(consumer(&shop, "a", Script::new()).order_policy(OrderPolicy::Park)).await;

    assert_eq!(requeued, 3);
    assert_eq!(handled(&shop).await[&0], [0, 1, 2]);
}

async fn an_event_of_an_unknown_type_holds_its_aggregate_up<D: Database>() {
    use eventflow::{Sink as _, prelude::*};

    #[derive(Serialize, Deserialize, Event)]
    struct OrderReturned {
        #[event(aggregate_id)]
        order_id: Uuid,
    }

    let shop = open::<D>().await;
    let returned = OrderReturned {
        order_id: Uuid::from_u128(1),
    };
    shop.stream.publish(&returned).await.unwrap();
    publish(&shop, EVENTS).await;

    let report = drain(consumer(&shop, "a", Script::new())).await;

    assert_eq!((report.unknown, report.processed), (1, 2), "{report}");
    let letters = shop.dead_letters().await;
    shop.inbox().discard(GROUP, &[letters[0].id]).await.unwrap();
    drain(consumer(&shop, "a", Script::new())).await;
    assert_eq!(handled(&shop).await[&0], [0, 1, 2]);
}

async fn a_handler_that_ends_its_process_too_often_holds_its_aggregate_up<D: Database>() {
    let (shop, _) = refuse_the_first::<D>(OrderPolicy::Block).await;
    requeue(&shop, &["000/000"]).await;
    // As processes leave it that it has ended.
    shop.database
        .change(
            "UPDATE event_inbox SET status = 'processing', retry_count = 2, lock_token = 7,
                recovering = TRUE, locked_until = NULL
             WHERE event_id = '000/000'",
        )
        .await;

    let report = drain(consumer(&shop, "a", Script::new())).await;
    assert_eq!((report.crash_looped, report.processed), (1, 0), "{report}");

    requeue(&shop, &["000/000"]).await;
    shop.database
        .change(
            "UPDATE event_inbox SET status = 'processing', retry_count = 2, lock_token = 7,
                recovering = TRUE, locked_until = NULL
             WHERE event_id = '000/000'",
        )
        .await;
    let skipping = consumer(&shop, "a", Script::new()).order_policy(OrderPolicy::Skip);
    let report = drain(skipping).await;
    assert_eq!((report.crash_looped, report.processed), (1, 2), "{report}");
    assert_eq!(handled(&shop).await[&0], [1, 2]);
}
