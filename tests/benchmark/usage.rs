//! What this process has used.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::Result;

#[derive(Debug)]
pub(crate) struct Usage {
    pub(crate) time: Instant,
    /// The CPU time of all its threads.
    pub(crate) cpu: Duration,
    /// The most memory that it had at once.
    pub(crate) peak_bytes: u64,
}

impl Usage {
    pub(crate) fn now() -> Result<Self> {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Ok(Self {
            time: Instant::now(),
            cpu: Duration::new(cpu.tv_sec.try_into()?, cpu.tv_nsec.try_into()?),
            peak_bytes: status("VmHWM")?,
        })
    }
}

/// A size that the system tells of this process.
fn status(name: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kibibytes = status.lines().find_map(|line| {
        let size = line.strip_prefix(name)?.strip_prefix(':')?;
        size.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    let kibibytes = kibibytes.ok_or_else(|| format!("the system does not tell {name}"))?;
    Ok(kibibytes * 1024)
}
