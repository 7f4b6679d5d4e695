//! The places of event types in a table, found by a hash that the compiler has made.
//!
//! A `match` on names compares one after the other: with hundreds of them that takes longer than
//! the call.

/// The event types of a table, each with its place. Called by generated code.
///
/// Each type stands in the first free slot from the one that its hash names. At most half of the
/// slots are taken, so a search soon meets its type or a free slot.
#[doc(hidden)]
#[derive(Debug)]
pub struct Places<const SLOTS: usize> {
    types: &'static [&'static str],
    slots: [usize; SLOTS],
}

/// The slot of no type.
const FREE: usize = usize::MAX;

impl<const SLOTS: usize> Places<SLOTS> {
    /// Places these types, which are at most half as many as there are slots. `SLOTS` is a power of
    /// two.
    #[expect(
        clippy::indexing_slicing,
        reason = "it is evaluated by the compiler only"
    )]
    pub const fn of(types: &'static [&'static str]) -> Self {
        let mut slots = [FREE; SLOTS];
        let mut place = 0;
        while place < types.len() {
            let mut slot = Self::slot(types[place]);
            while slots[slot] != FREE {
                slot = Self::after(slot);
            }
            slots[slot] = place;
            place += 1;
        }
        Self { types, slots }
    }

    /// The place of an event type; `None` if the table does not name it.
    pub fn find(&self, event_type: &str) -> Option<usize> {
        let mut slot = Self::slot(event_type);
        loop {
            let place = *self.slots.get(slot)?;
            // The last of them: a free slot names no type.
            if *self.types.get(place)? == event_type {
                return Some(place);
            }
            slot = Self::after(slot);
        }
    }

    const fn slot(event_type: &str) -> usize {
        hash(event_type.as_bytes()) & (SLOTS - 1)
    }

    const fn after(slot: usize) -> usize {
        (slot + 1) & (SLOTS - 1)
    }
}

/// Mixes eight bytes at a time. Whoever names event types is no adversary: they stand in the
/// program.
const fn hash(text: &[u8]) -> usize {
    let mut hash = text.len() as u64;
    let mut rest = text;
    while let Some((eight, after)) = rest.split_first_chunk() {
        hash = mix(hash, u64::from_le_bytes(*eight));
        rest = after;
    }
    let mut last = 0;
    if let Some((four, after)) = rest.split_first_chunk() {
        last = u32::from_le_bytes(*four) as u64;
        rest = after;
    }
    while let Some((byte, after)) = rest.split_first() {
        last = (last << 8) | *byte as u64;
        rest = after;
    }
    hash = mix(hash, last);
    // A product's upper bits depend on all that was mixed.
    (hash >> 40) as usize
}

const fn mix(hash: u64, more: u64) -> u64 {
    (hash.rotate_left(5) ^ more).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_found_at_its_place_and_no_other() {
        const TYPES: [&str; 8] = [
            "",
            "Paid",
            "OrderPaid",
            "OrderCreated",
            "OrderCancelled",
            "com.example.orders.created.v1",
            "com.example.orders.created.v2",
            "com.example.orders.updated.v1",
        ];
        static PLACES: Places<16> = Places::of(&TYPES);

        for (place, event_type) in TYPES.iter().enumerate() {
            assert_eq!(PLACES.find(event_type), Some(place), "{event_type}");
        }
        for unknown in ["Order", "OrderPaid ", "orderpaid", "com.example.orders"] {
            assert_eq!(PLACES.find(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_table_without_types_finds_none() {
        static PLACES: Places<1> = Places::of(&[]);

        assert_eq!(PLACES.find(""), None);
        assert_eq!(PLACES.find("OrderPaid"), None);
    }

    #[test]
    fn the_first_of_two_equal_types_is_found() {
        static PLACES: Places<4> = Places::of(&["OrderPaid", "OrderPaid"]);

        assert_eq!(PLACES.find("OrderPaid"), Some(0));
    }
}
