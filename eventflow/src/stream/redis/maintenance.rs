//! What a stream needs now and then: trimming, and a group without the names of the dead.
//!
//! What is checked and what is done on it are one script each, so that nothing comes in between; nodes
//! that do it at once find it done. The commands are those of Redis 6.2. How often it is done is the
//! consumer's part.

use std::{sync::Arc, time::Duration};

use deadpool_redis::redis::{Cmd, Value, cmd};

use super::{
    failure::Failure,
    reader::{Reader, millis},
    server::Server,
};
use crate::error::Result;

const TRIM: &str = include_str!("trim.lua");
const REMOVE_IDLE: &str = include_str!("remove_idle.lua");

/// How many entries one script trims at most: it keeps the server from everything else meanwhile.
const TRIMMED_AT_ONCE: u32 = 10_000;

/// Behind every entry. The greatest id itself would mean new entries.
const BEHIND_ALL: &str = "18446744073709551615-0";

/// What is to be maintained.
#[derive(Debug)]
pub(super) struct Maintenance {
    pub(super) trims: bool,
    pub(super) removes_after: Option<Duration>,
}

impl Default for Maintenance {
    fn default() -> Self {
        Self {
            trims: false,
            removes_after: Some(Duration::from_hours(1)),
        }
    }
}

impl Maintenance {
    /// Maintains every stream; answers the first error when it has tried them all.
    pub(super) async fn run(
        &self,
        server: &Server,
        reader: &Reader,
        streams: &[Arc<str>],
    ) -> Result<()> {
        let mut all = Ok(());
        for stream in streams {
            all = all.and(self.run_on(server, reader, stream).await);
        }
        all
    }

    async fn run_on(&self, server: &Server, reader: &Reader, stream: &str) -> Result<()> {
        if !keep_name(server, reader, stream).await? {
            // The reader makes the group again.
            return Ok(());
        }
        let mut both = Ok(());
        if let Some(idle) = self.removes_after {
            both = remove_idle(server, reader, stream, idle).await;
        }
        if self.trims {
            both = both.and(trim(server, stream).await);
        }
        both
    }
}

/// Marks this consumer's name as in use; answers whether the group is there.
///
/// Until Redis 7.2 the server itself does so only when a read finds something.
async fn keep_name(server: &Server, reader: &Reader, stream: &str) -> Result<bool> {
    let action = format!("marking the consumer's name on stream `{stream}`");
    let mut command = cmd("XREADGROUP");
    command
        .arg("GROUP")
        .arg(reader.group())
        .arg(reader.consumer())
        .arg("COUNT")
        .arg(1)
        .arg("STREAMS")
        .arg(stream)
        .arg(BEHIND_ALL);
    match server.run::<Value>(&action, &command).await? {
        Ok(_) => Ok(true),
        Err(error) if Failure::of(&error) == Failure::NoGroup => Ok(false),
        Err(error) => Err(server.error(&action, error)),
    }
}

async fn remove_idle(server: &Server, reader: &Reader, stream: &str, idle: Duration) -> Result<()> {
    let group = reader.group();
    let action = format!("removing idle consumers of group `{group}` on stream `{stream}`");
    let mut command = script(REMOVE_IDLE, stream);
    command.arg(group).arg(reader.consumer()).arg(millis(idle));
    let removed = server.run::<u64>(&action, &command).await?;
    let removed = removed.map_err(|error| server.error(&action, error))?;
    if removed > 0 {
        tracing::info!(
            stream,
            group,
            consumers = removed,
            "removed the names of idle consumers from the group"
        );
    }
    Ok(())
}

async fn trim(server: &Server, stream: &str) -> Result<()> {
    let action = format!("trimming stream `{stream}`");
    let mut command = script(TRIM, stream);
    command.arg(TRIMMED_AT_ONCE);
    loop {
        let trimmed = server.run::<u64>(&action, &command).await?;
        let trimmed = trimmed.map_err(|error| server.error(&action, error))?;
        if trimmed == 0 {
            return Ok(());
        }
        tracing::debug!(
            stream,
            entries = trimmed,
            "trimmed entries that every group has acknowledged"
        );
    }
}

/// Runs a script on a stream. It is sent as text: short, seldom, and no server has to remember it.
fn script(text: &str, stream: &str) -> Cmd {
    let mut command = cmd("EVAL");
    command.arg(text).arg(1).arg(stream);
    command
}
