//! Whether units run without a savepoint for each event.
//!
//! A failure then takes back the whole unit, and its events run again with savepoints: worth it only
//! while failures are rare.

use std::sync::atomic::{AtomicU32, Ordering};

/// How many units in a row run with savepoints when failures are frequent.
const LONGEST_PAUSE: u32 = 256;

/// Optimism that failures make smaller.
#[derive(Debug, Default)]
pub(super) struct Optimism {
    /// How many units more run with savepoints.
    paused: AtomicU32,
    /// For how many units the last failure has paused it.
    pause: AtomicU32,
}

impl Optimism {
    /// Whether the next unit may run without savepoints.
    pub(super) fn holds(&self) -> bool {
        let taken = self
            .paused
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paused| {
                paused.checked_sub(1)
            });
        taken.is_err()
    }

    /// A unit without savepoints was committed.
    pub(super) fn note_success(&self) {
        let pause = self.pause.load(Ordering::Relaxed);
        self.pause.store(pause / 2, Ordering::Relaxed);
    }

    /// A unit without savepoints was taken back.
    pub(super) fn note_failure(&self) {
        let pause = self.pause.load(Ordering::Relaxed);
        let pause = pause.saturating_mul(2).clamp(1, LONGEST_PAUSE);
        self.pause.store(pause, Ordering::Relaxed);
        self.paused.store(pause, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paused_units(optimism: &Optimism) -> u32 {
        let mut units = 0;
        while !optimism.holds() {
            units += 1;
        }
        units
    }

    #[test]
    fn failures_in_a_row_pause_it_for_longer_each_time() {
        let optimism = Optimism::default();
        assert_eq!(paused_units(&optimism), 0);

        let pauses = [(); 10].map(|()| {
            optimism.note_failure();
            paused_units(&optimism)
        });

        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 256]);
    }

    #[test]
    fn success_makes_the_next_pause_shorter() {
        let optimism = Optimism::default();
        for _ in 0..4 {
            optimism.note_failure();
        }

        optimism.note_success();
        optimism.note_success();
        optimism.note_failure();

        assert_eq!(paused_units(&optimism), 4);
    }
}
