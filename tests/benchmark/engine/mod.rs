//! The consumer under measure, with the settings that a consumer has unless told otherwise.

mod flood;
mod trickle;

use eventflow::{RedisStream, Result};

pub(crate) use self::{flood::flood, trickle::trickle};
use crate::event::{GROUP, STREAM};

async fn redis_stream(url: &str) -> Result<RedisStream> {
    let stream = RedisStream::builder(url).stream(STREAM).group(GROUP);
    stream.connect().await
}
