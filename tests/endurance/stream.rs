//! What the soak reads in Redis beside the workers and past their proxy.

use std::collections::BTreeMap;

use deadpool_redis::redis::{
    Client, Cmd, FromRedisValue,
    aio::MultiplexedConnection,
    cmd,
    streams::{StreamInfoGroupsReply, StreamInfoStreamReply},
};

use crate::message::Fields;

/// How many entries one answer has.
const PAGE: usize = 1000;

#[derive(Debug)]
pub(crate) struct Stream(MultiplexedConnection);

impl Stream {
    pub(crate) async fn open(redis: &str) -> Self {
        let client = Client::open(redis).unwrap();
        Self(client.get_multiplexed_async_connection().await.unwrap())
    }

    /// All entries, with their fields in order.
    pub(crate) async fn entries(&mut self) -> Vec<(String, Fields)> {
        let mut entries = Vec::new();
        let mut from = "-".to_owned();
        loop {
            let page: Vec<(String, Vec<Vec<u8>>)> = self
                .run(
                    cmd("XRANGE")
                        .arg("work")
                        .arg(&from)
                        .arg("+")
                        .arg("COUNT")
                        .arg(PAGE),
                )
                .await;
            let Some((last, _)) = page.last() else {
                return entries;
            };
            from = format!("({last}");
            entries.extend(page.into_iter().map(|(id, texts)| {
                let (fields, rest) = texts.as_chunks::<2>();
                assert!(rest.is_empty(), "a name without a value in {id}");
                let pair = |[name, value]: &[Vec<u8>; 2]| (name.clone(), value.clone());
                (id, fields.iter().map(pair).collect())
            }));
        }
    }

    /// What the group has not read, and what it has not acknowledged; empty if there is nothing.
    pub(crate) async fn left(&mut self) -> Vec<String> {
        let stream: StreamInfoStreamReply = self.run(cmd("XINFO").arg("STREAM").arg("work")).await;
        let groups: StreamInfoGroupsReply = self.run(cmd("XINFO").arg("GROUPS").arg("work")).await;
        let [group] = groups.groups.as_slice() else {
            return vec![format!("not one group: {groups:?}")];
        };
        let mut left = Vec::new();
        if group.last_delivered_id != stream.last_generated_id {
            left.push(format!(
                "read up to {} of {}",
                group.last_delivered_id, stream.last_generated_id
            ));
        }
        if group.pending > 0 {
            let pending: Vec<(String, String, u64, u64)> = self
                .run(
                    cmd("XPENDING")
                        .arg("work")
                        .arg(&group.name)
                        .arg("-")
                        .arg("+")
                        .arg(PAGE),
                )
                .await;
            let mut readers = BTreeMap::<_, u64>::new();
            for (_, reader, ..) in pending {
                *readers.entry(reader).or_default() += 1;
            }
            left.push(format!("{} pending: {readers:?}", group.pending));
        }
        left
    }

    async fn run<T: FromRedisValue>(&mut self, command: &Cmd) -> T {
        command.query_async(&mut self.0).await.unwrap()
    }
}
