//! The consumer: what becomes of events, whatever their handlers and the processes do.

mod answers;
mod arrivals;
mod drains;
mod failures;
mod groups;
mod health;
mod hostile;
mod infrastructure;
mod leases;
pub(crate) mod logs;
mod loops;
mod lost_leases;
mod maintenance;
mod settings;
mod shares;
mod stopping;
mod unknown;
mod waking;

use std::time::Duration;

/// No condition of a test takes as long as this.
const DEADLINE: Duration = Duration::from_secs(20);
