//! How long rows take the workers, which tells how many a worker takes at once.
//!
//! A share that is small leaves rows for the other workers, and costs a commit of its own.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::unit::UNIT_TIME;

/// Rows that take a worker no longer than this are not split: they would be done hardly sooner, by more
/// commits.
const SHORT: Duration = Duration::from_millis(50);

/// A new time counts one part in so many.
const PARTS: u64 = 4;

/// The mean time of a row, its part of the unit and of the commit included.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// In nanoseconds; zero until rows were run.
    per_row: AtomicU64,
}

impl Pace {
    /// Notes how long it took a worker to run and settle so many rows. Of a share that outlasts a unit some
    /// may have gone back to the queue, so it says nothing.
    pub(super) fn note(&self, rows: usize, time: Duration) {
        if time >= UNIT_TIME {
            return self.forget();
        }
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

    /// How many of 100 rows one of four workers takes after these times of shares, in milliseconds.
    fn share_after(shares: &[(usize, u64)]) -> usize {
        let pace = Pace::default();
        for (rows, time) in shares {
            pace.note(*rows, Duration::from_millis(*time));
        }
        pace.share(100, 4)
    }

    #[test]
    fn rows_are_split_unless_they_are_quick() {
        assert_eq!(share_after(&[]), 25);
        assert_eq!(share_after(&[(25, 1)]), 100);
        assert_eq!(share_after(&[(25, 25)]), 50);
        assert_eq!(share_after(&[(100, 1), (1, 900)]), 25);
    }

    #[test]
    fn a_share_that_outlasts_a_unit_says_nothing() {
        assert_eq!(share_after(&[(10_000, 999)]), 100);
        assert_eq!(share_after(&[(100, 1), (10_000, 1_000)]), 25);
    }

    #[test]
    fn one_slow_row_among_quick_ones_is_soon_made_up_for() {
        let mut shares = vec![(1, 900)];
        shares.extend([(25, 1); 50]);
        assert_eq!(share_after(&shares), 100);
    }

    #[test]
    fn a_share_is_a_part_at_least_and_no_more_than_waits() {
        let pace = Pace::default();
        assert_eq!(pace.share(3, 4), 1);
        assert_eq!(pace.share(9, 0), 9);
        pace.note(25, Duration::from_millis(1));
        assert_eq!(pace.share(2_000, 4), 1_250);
        assert_eq!(pace.share(9, 4), 9);
        pace.forget();
        assert_eq!(pace.share(100, 4), 25);
    }

    #[test]
    fn no_time_and_all_time_are_times() {
        let pace = Pace::default();
        pace.note(0, Duration::MAX);
        assert_eq!(pace.share(9, 4), 3);
        let pace = Pace::default();
        pace.note(9, Duration::ZERO);
        assert_eq!(pace.share(9, 4), 9);
    }
}
