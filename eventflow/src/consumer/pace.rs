//! How long rows take the workers, which tells how many a worker takes at once.
//!
//! A share that is small leaves rows for the other workers, and costs a commit of its own.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Rows that take a worker no longer than this are not split: they would be done hardly sooner, by more
/// commits.
const SHORT: Duration = Duration::from_millis(20);

/// A new time counts one part in so many.
const PARTS: u64 = 4;

/// The mean time of a row, its part of the unit and of the commit included.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// In nanoseconds; zero until rows were run.
    per_row: AtomicU64,
}

impl Pace {
    /// Notes how long it took a worker to run and settle so many rows.
    pub(super) fn note(&self, rows: usize, time: Duration) {
        let rows = u128::try_from(rows.max(1)).unwrap_or(u128::MAX);
        let time = u64::try_from(time.as_nanos() / rows).unwrap_or(u64::MAX);
        let mean = match self.per_row.load(Ordering::Relaxed) {
            0 => time,
            mean => mean - mean / PARTS + time / PARTS,
        };
        // That workers overwrite each other's times does no harm.
        self.per_row.store(mean.max(1), Ordering::Relaxed);
    }

    /// Forgets it: rows have become slow.
    pub(super) fn forget(&self) {
        self.per_row.store(0, Ordering::Relaxed);
    }

    /// How many of the rows that wait a worker takes: its part of them, or as many as take a short time.
    pub(super) fn share(&self, waiting: usize, workers: usize) -> usize {
        let part = waiting.div_ceil(workers.max(1));
        part.max(self.rows_in(SHORT)).min(waiting)
    }

    fn rows_in(&self, time: Duration) -> usize {
        let rows = match self.per_row.load(Ordering::Relaxed) {
            0 => 0,
            per_row => time.as_nanos() / u128::from(per_row),
        };
        usize::try_from(rows).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_split_until_a_row_is_known_to_be_quick() {
        let pace = Pace::default();
        assert_eq!(pace.share(100, 4), 25);
        pace.note(25, Duration::from_millis(1));
        assert_eq!(pace.share(100, 4), 100);
        assert_eq!(pace.share(1_000, 4), 500);
    }

    #[test]
    fn slow_rows_are_split_again() {
        let pace = Pace::default();
        pace.note(100, Duration::from_millis(1));
        pace.note(1, Duration::from_secs(1));
        assert_eq!(pace.share(100, 4), 25);
        assert_eq!(pace.share(3, 4), 1);
    }

    #[test]
    fn what_has_become_slow_is_split_at_once() {
        let pace = Pace::default();
        pace.note(100, Duration::from_millis(1));
        pace.forget();
        assert_eq!(pace.share(100, 4), 25);
    }

    #[test]
    fn one_slow_row_is_forgotten_among_quick_ones() {
        let pace = Pace::default();
        pace.note(1, Duration::from_secs(1));
        for _ in 0..50 {
            pace.note(25, Duration::from_millis(1));
        }
        assert_eq!(pace.share(100, 4), 100);
    }

    #[test]
    fn no_time_and_all_time_are_times() {
        let pace = Pace::default();
        pace.note(0, Duration::MAX);
        assert_eq!(pace.share(9, 4), 3);
        let pace = Pace::default();
        pace.note(9, Duration::ZERO);
        assert_eq!(pace.share(9, 4), 9);
        assert_eq!(pace.share(9, 0), 9);
    }
}
