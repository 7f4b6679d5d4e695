//! The README's commands, as a stranger runs them.

use std::{process::Stdio, time::Duration};

use eventflow_tests::eventually;
use tokio::process::Command;

use super::Site;

fn example(name: &str) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["run", "--quiet", "--locked", "--example", name, "--"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quickstart_prints_what_the_readme_says() {
    let output = example("quickstart").output().await.unwrap();

    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let readme = include_str!("../../../README.md");
    assert!(
        readme.contains(printed.trim()),
        "the README does not have this:\n{printed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_saga_ships_three_orders_and_compensates_one() {
    let output = example("saga").output().await.unwrap();

    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        printed.trim(),
        "Ada  shipped
Ben  cancelled: the card of Ben has less than that
Ada  shipped
Ben  shipped

3 parcels, 7 pieces left of 10
11 events published, 11 handled"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_handles_what_the_publisher_and_redis_cli_send() {
    let site = Site::without_inbox().await;
    let redis = site.redis.url();
    let service = example("orders")
        .args(["--redis", &redis, "--postgres", site.database.url()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let published = example("publish")
        .args(["--redis", &redis, "--count", "100"])
        .output()
        .await
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&published.stdout),
        "published 160 events of 100 orders\n"
    );
    for line in readme_commands("redis-cli XADD orders ") {
        let _: String = site
            .redis
            .run(&line.iter().map(String::as_str).collect::<Vec<_>>())
            .await;
    }

    // 100 created, 50 paid, and the two by hand; the 10 cancelled ones leave no row.
    eventually(Duration::from_mins(1), async || {
        let processed: Result<i64, _> =
            sqlx::query_scalar("SELECT count(*) FROM event_inbox WHERE status = 'processed'")
                .fetch_one(&site.pool)
                .await;
        processed.is_ok_and(|processed| processed == 152)
    })
    .await;
    interrupt(&service).await;
    let output = service.wait_with_output().await.unwrap();

    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("processed           152"), "{printed}");
    assert!(printed.contains("ignored              10"), "{printed}");
    let reserved: i64 = sqlx::query_scalar("SELECT sum(quantity)::bigint FROM reservations")
        .fetch_one(&site.pool)
        .await
        .unwrap();
    assert_eq!(reserved, 201, "199 by the publisher, 2 by hand");
}

/// The words of the README's commands that begin so, as a shell splits them.
fn readme_commands(beginning: &str) -> Vec<Vec<String>> {
    let readme = include_str!("../../../README.md");
    let commands: Vec<Vec<String>> = readme
        .lines()
        .filter_map(|line| {
            line.strip_prefix("redis-cli ")
                .filter(|_| line.starts_with(beginning))
        })
        .map(|line| {
            line.split('\'')
                .enumerate()
                .flat_map(|(part, text)| -> Vec<String> {
                    if part % 2 == 1 {
                        vec![text.to_owned()]
                    } else {
                        text.split_whitespace().map(str::to_owned).collect()
                    }
                })
                .collect()
        })
        .collect();
    assert_eq!(commands.len(), 2, "the README shows both entry styles");
    commands
}

/// Presses Ctrl-C: `cargo run` has become the service by now.
async fn interrupt(service: &tokio::process::Child) {
    let process = service.id().expect("the service runs");
    let status = Command::new("sh")
        .args(["-c", &format!("kill -INT {process}")])
        .status()
        .await
        .unwrap();
    assert!(status.success(), "the service did not run any more");
}
