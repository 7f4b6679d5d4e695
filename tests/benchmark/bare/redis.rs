//! Reading a Redis stream as one consumer of its group.

use deadpool_redis::redis::{
    AsyncConnectionConfig, Client, Value, aio::MultiplexedConnection, cmd, from_redis_value,
};

use super::BATCH;
use crate::{
    Result,
    event::{GROUP, STREAM},
};

/// An entry of the stream.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: String,
    /// The value of its only field.
    pub(super) data: Vec<u8>,
}

/// One consumer of the group.
#[derive(Debug)]
pub(super) struct Reader {
    connection: MultiplexedConnection,
    name: String,
}

pub(super) async fn create_group(client: &Client) -> Result<()> {
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut command = cmd("XGROUP");
    command.arg("CREATE").arg(STREAM).arg(GROUP);
    command.arg("0").arg("MKSTREAM");
    Ok(command.exec_async(&mut connection).await?)
}

impl Reader {
    pub(super) async fn connect(client: &Client, name: String) -> Result<Self> {
        // Who waits is answered when an entry comes, however late.
        let patient = AsyncConnectionConfig::new().set_response_timeout(None);
        let connection = client.get_multiplexed_async_connection_with_config(&patient);
        Ok(Self {
            connection: connection.await?,
            name,
        })
    }

    /// Reads the next batch; none if nothing waits.
    pub(super) async fn read(&mut self) -> Result<Vec<Entry>> {
        self.read_with(&[]).await
    }

    /// Reads the next batch, and waits for it.
    pub(super) async fn wait(&mut self) -> Result<Vec<Entry>> {
        self.read_with(&["BLOCK", "0"]).await
    }

    async fn read_with(&mut self, options: &[&str]) -> Result<Vec<Entry>> {
        let reply: Value = cmd("XREADGROUP")
            .arg("GROUP")
            .arg(GROUP)
            .arg(&self.name)
            .arg("COUNT")
            .arg(BATCH)
            .arg(options)
            .arg("STREAMS")
            .arg(STREAM)
            .arg(">")
            .query_async(&mut self.connection)
            .await?;
        let Some(stream) = list(reply)?.pop() else {
            return Ok(Vec::new());
        };
        let entries = list(stream)?.pop().map(list).transpose()?;
        entries.into_iter().flatten().map(entry).collect()
    }

    pub(super) async fn acknowledge(&mut self, entries: &[Entry]) -> Result<()> {
        let mut command = cmd("XACK");
        command.arg(STREAM).arg(GROUP);
        for entry in entries {
            command.arg(&entry.id);
        }
        Ok(command.exec_async(&mut self.connection).await?)
    }
}

fn entry(entry: Value) -> Result<Entry> {
    let mut parts = list(entry)?.into_iter();
    let (Some(id), Some(fields)) = (parts.next(), parts.next()) else {
        return Err("an entry has no fields".into());
    };
    match list(fields)?.pop() {
        Some(Value::BulkString(data)) => Ok(Entry {
            id: from_redis_value(id)?,
            data,
        }),
        _ => Err("an entry has no data".into()),
    }
}

fn list(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(values) => Ok(values),
        Value::Nil => Ok(Vec::new()),
        other => Err(format!("{other:?} is no list").into()),
    }
}
