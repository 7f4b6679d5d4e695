//! The model: what each call does to the rows.

use std::collections::{BTreeMap, BTreeSet};

use eventflow::inbox::{Due, Insertion, Lease, Recovery, Row as Given, Settlement, Status};
use proptest::prelude::*;
use uuid::Uuid;

use super::{
    CONSUMERS, Checked, HOUR,
    observed::Observed,
    row::{Row, State, Wait},
    step::{MALFORMED, New, Next, Passage, Pick},
};

/// The consumer's index and the event's id.
pub(super) type Key = (usize, String);

/// The rows, and every lease that was given.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) rows: BTreeMap<Key, Row>,
    leases: Vec<Lease>,
}

impl Table {
    pub(super) fn insert(
        &mut self,
        consumer: usize,
        holder: usize,
        events: &[New],
        answer: &Insertion,
    ) -> Checked {
        let (mut entered, mut duplicates) = (Vec::new(), 0);
        for event in events {
            let key = (consumer, event.event_id());
            if self.rows.contains_key(&key) {
                duplicates += 1;
                continue;
            }
            let mut state = State::new(event.enters);
            match event.enters {
                Status::Pending => state.wait = Some(Wait::Parked),
                Status::DeadLetter => state.error = Some(MALFORMED.to_owned()),
                _ => {
                    state.own(holder);
                    entered.push(key.1.clone());
                }
            }
            let row = Row {
                id: Uuid::nil(),
                event_type: event.event_type,
                max_retries: event.max_retries,
                state,
                due: 0,
                locked_until: None,
            };
            self.rows.insert(key, row);
        }
        prop_assert_eq!(answer.duplicates.len(), duplicates);
        let given = answer.rows.iter().map(event_id);
        prop_assert_eq!(given.collect::<Vec<_>>(), entered);
        self.leases.extend(answer.rows.iter().map(|row| row.lease));
        Ok(())
    }

    pub(super) fn claim(
        &mut self,
        consumer: usize,
        holder: usize,
        due: Due,
        limit: u32,
        claimed: &[Given],
    ) -> Checked {
        let mut waiting: Vec<(&Key, &mut Row)> = self
            .rows
            .iter_mut()
            .filter(|((owner, _), row)| {
                *owner == consumer
                    && match row.state.wait {
                        Some(Wait::Over) => true,
                        Some(Wait::Hour) => due == Due::Later,
                        Some(Wait::Parked) | None => false,
                    }
            })
            .collect();
        waiting.sort_by_key(|(_, row)| (row.due, row.id));
        waiting.truncate(usize::try_from(limit).unwrap());
        prop_assert_eq!(claimed.len(), waiting.len());
        for ((key, row), given) in waiting.into_iter().zip(claimed) {
            row.state.own(holder);
            row.state.recovering = false;
            prop_assert_eq!(&key.1, &event_id(given));
            prop_assert_eq!(given.lease.token, row.state.token);
            prop_assert_eq!(given.retry_count, row.state.retry_count);
            self.leases.push(given.lease);
        }
        Ok(())
    }

    /// Settlements of the picked leases, at most one for a row.
    pub(super) fn settlements(&self, picks: &[(Pick, Next)]) -> Vec<Settlement> {
        let mut named = BTreeSet::new();
        let mut settlements = Vec::new();
        for &(pick, next) in picks {
            let Some(&lease) = nth(&self.leases, pick) else {
                break;
            };
            if !named.insert(lease.id) {
                continue;
            }
            let fails = matches!(next.status, Status::Failed | Status::DeadLetter);
            let row = self.rows.values().find(|row| row.id == lease.id);
            settlements.push(Settlement {
                lease,
                status: next.status,
                retry_count: row.map_or(0, |row| row.state.retry_count) + i32::from(fails),
                delay: if next.later {
                    HOUR
                } else {
                    std::time::Duration::ZERO
                },
                error_message: fails.then(|| "out of stock".to_owned()),
            });
        }
        settlements
    }

    /// Answers the leases that held.
    pub(super) fn settle(&mut self, settlements: &[Settlement]) -> Vec<Lease> {
        let mut held = Vec::new();
        for settlement in settlements {
            let Some(row) = self.owned(settlement.lease) else {
                continue;
            };
            held.push(settlement.lease);
            row.state.disown(settlement.status);
            row.state.retry_count = settlement.retry_count;
            row.state.error.clone_from(&settlement.error_message);
            row.state.wait = match settlement.status {
                Status::Failed if settlement.delay.is_zero() => Some(Wait::Over),
                Status::Failed => Some(Wait::Hour),
                Status::Pending => Some(Wait::Parked),
                _ => None,
            };
        }
        held
    }

    pub(super) fn recover(
        &mut self,
        consumer: usize,
        holder: usize,
        recovery: &Recovery,
    ) -> Checked {
        let lapsed = self
            .rows
            .iter_mut()
            .filter(|((owner, _), row)| *owner == consumer && row.state.lapsed);
        let Some((key, row)) = lapsed.min_by_key(|(_, row)| (row.locked_until, row.id)) else {
            prop_assert!(matches!(recovery, Recovery::None), "{recovery:?}");
            return Ok(());
        };
        let alone = row.state.recovering;
        let last = row.max_retries > 0 && row.state.retry_count + 1 >= row.max_retries;
        row.state.own(holder);
        row.state.recovering = true;
        if alone {
            row.state.retry_count += 1;
            row.state.error = Some(
                "crash_loop: the process that ran the event alone ended without an answer"
                    .to_owned(),
            );
        }
        match recovery {
            Recovery::Run(given) if !(alone && last) => {
                prop_assert_eq!(&key.1, &event_id(given));
                prop_assert_eq!(given.retry_count, row.state.retry_count);
                self.leases.push(given.lease);
            }
            Recovery::DeadLetter(metadata) if alone && last => {
                prop_assert_eq!(&key.1, &metadata.event_id);
                row.state.disown(Status::DeadLetter);
            }
            other => prop_assert!(false, "{key:?} was recovered as {other:?}"),
        }
        Ok(())
    }

    /// Answers the leases that the holder still has.
    pub(super) fn extend(&mut self, holder: usize, leases: &[Lease]) -> Vec<Lease> {
        let held = |lease: &&Lease| match self.owned(**lease) {
            Some(row) if row.state.holder == Some(holder) => {
                row.state.lapsed = false;
                true
            }
            _ => false,
        };
        leases.iter().filter(held).copied().collect()
    }

    pub(super) fn release(&mut self, leases: &[Lease], later: bool) -> u64 {
        let mut released = 0;
        for &lease in leases {
            if let Some(row) = self.owned(lease) {
                row.state.disown(match row.state.retry_count {
                    0 => Status::Pending,
                    _ => Status::Failed,
                });
                row.state.wait = Some(if later { Wait::Hour } else { Wait::Over });
                released += 1;
            }
        }
        released
    }

    /// Lets time pass for one row; answers which of its times moves into the past.
    pub(super) fn pass(&mut self, passage: Passage) -> Option<(Uuid, &'static str)> {
        let (pick, is_meant): (_, fn(&State) -> bool) = match passage {
            Passage::Lapse(pick) => (pick, |state| state.status == Status::Processing),
            Passage::Elapse(pick) => (pick, |state| state.wait == Some(Wait::Hour)),
            Passage::Age(pick) => (pick, State::is_finished),
        };
        let mut rows: Vec<_> = self.rows.values_mut().collect();
        rows.retain(|row| is_meant(&row.state));
        let index = pick.checked_rem(rows.len())?;
        let row = rows.swap_remove(index);
        let column = match passage {
            Passage::Lapse(_) => {
                row.state.lapsed = true;
                "locked_until"
            }
            Passage::Elapse(_) => {
                row.state.wait = Some(Wait::Over);
                "next_retry_at"
            }
            Passage::Age(_) => {
                row.state.old = true;
                match row.state.status {
                    Status::Processed => "processed_at",
                    _ => "last_error_at",
                }
            }
        };
        Some((row.id, column))
    }

    pub(super) fn leases(&self, picks: &[Pick]) -> Vec<Lease> {
        let mut picked = Vec::new();
        for lease in picks.iter().filter_map(|&pick| nth(&self.leases, pick)) {
            if !picked.contains(lease) {
                picked.push(*lease);
            }
        }
        picked
    }

    pub(super) fn ids(&self, picks: &[Pick]) -> Vec<Uuid> {
        let rows: Vec<_> = self.rows.values().map(|row| row.id).collect();
        picks
            .iter()
            .filter_map(|&pick| nth(&rows, pick).copied())
            .collect()
    }

    /// Compares all rows with the table's, and takes from them what orders rows.
    pub(super) fn compare(&mut self, observed: Vec<Observed>) -> Checked {
        prop_assert_eq!(observed.len(), self.rows.len());
        for seen in observed {
            let consumer = CONSUMERS.iter().position(|name| *name == seen.consumer);
            let key = (consumer.unwrap(), seen.event_id.clone());
            let Some(row) = self.rows.get_mut(&key) else {
                prop_assert!(false, "{key:?} is in the table only");
                return Ok(());
            };
            prop_assert_eq!(&State::of(&seen), &row.state, "{:?}", key);
            prop_assert_eq!(seen.max_retries, row.max_retries);
            prop_assert!(row.id.is_nil() || row.id == seen.id, "{key:?} has a new id");
            row.id = seen.id;
            row.due = seen.due;
            row.locked_until = seen.locked_until;
        }
        Ok(())
    }

    pub(super) fn rows_of(&mut self, consumer: usize) -> impl Iterator<Item = &mut Row> {
        let rows = self.rows.iter_mut();
        rows.filter(move |((owner, _), _)| *owner == consumer)
            .map(|(_, row)| row)
    }

    /// The row of a lease that holds.
    fn owned(&mut self, lease: Lease) -> Option<&mut Row> {
        self.rows.values_mut().find(|row| {
            row.id == lease.id
                && row.state.token == lease.token
                && row.state.status == Status::Processing
        })
    }
}

fn nth<T>(values: &[T], pick: Pick) -> Option<&T> {
    values.get(pick.checked_rem(values.len())?)
}

fn event_id(row: &Given) -> String {
    row.envelope.metadata().event_id.clone()
}
