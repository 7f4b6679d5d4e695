//! When a failed event runs next.

use std::time::Duration;

/// The schedule of retries: doubling from `base`, capped at `cap`, with full jitter.
///
/// The n-th failed run waits between zero and `min(cap, base × 2ⁿ⁻¹)`. Full jitter spreads a
/// herd of events that failed together; see
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    jitter: bool,
}

impl Backoff {
    /// 60 s, doubling, capped at 15 min, with full jitter.
    pub const DEFAULT: Self = Self::new(Duration::from_mins(1), Duration::from_mins(15));

    /// `base` after the first failed run, doubling, never more than `cap`, with full jitter.
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self {
            base,
            cap,
            jitter: true,
        }
    }

    /// Waits the whole time instead of a random part of it.
    #[must_use]
    pub const fn without_jitter(mut self) -> Self {
        self.jitter = false;
        self
    }

    /// The longest wait after the n-th failed run, counted from 1.
    pub fn ceiling(&self, failed_runs: u32) -> Duration {
        let doublings = failed_runs.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.cap)
    }

    /// The wait after the n-th failed run, counted from 1.
    pub fn delay(&self, failed_runs: u32) -> Duration {
        let ceiling = self.ceiling(failed_runs);
        if self.jitter {
            ceiling.mul_f64(fastrand::f64())
        } else {
            ceiling
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_from_a_minute_to_a_quarter_of_an_hour() {
        let minutes: Vec<_> = (1..=7)
            .map(|run| Backoff::DEFAULT.ceiling(run).as_secs() / 60)
            .collect();

        assert_eq!(minutes, [1, 2, 4, 8, 15, 15, 15]);
    }

    #[test]
    fn never_overflows() {
        assert_eq!(Backoff::DEFAULT.ceiling(u32::MAX), Duration::from_mins(15));
    }

    #[test]
    fn jitter_spreads_over_the_whole_wait() {
        let delays: Vec<_> = (0..1000).map(|_| Backoff::DEFAULT.delay(2)).collect();

        assert!(delays.iter().all(|delay| *delay <= Duration::from_mins(2)));
        assert!(delays.iter().any(|delay| *delay < Duration::from_secs(30)));
        assert!(delays.iter().any(|delay| *delay > Duration::from_secs(90)));
    }
}
