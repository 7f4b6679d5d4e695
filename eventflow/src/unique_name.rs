//! Checks, as a set is compiled, that its events have different names on the wire.

use crate::event::Contains;

/// Which of a set's `COUNT` events have the name of one before them.
///
/// The compiler evaluates this for every set, and is slow at it, so the names are not compared
/// each with each, but with those of the same hash.
#[derive(Debug)]
pub struct UniqueNames<'a, const COUNT: usize> {
    set: &'a str,
    /// The names of the types, each with its name on the wire.
    events: &'a [(&'a str, &'a str); COUNT],
    /// The place of an earlier event with the name of the one here; its own if there is none.
    same: [usize; COUNT],
}

#[expect(
    clippy::indexing_slicing,
    reason = "constants have no `get`; every place is below `COUNT`"
)]
impl<'a, const COUNT: usize> UniqueNames<'a, COUNT> {
    /// Compares the names. An event that the set has twice is said by `Contains`: then the set
    /// fails the bound, and nothing is said again here.
    pub const fn of<Set: Contains<Event>, Event>(
        set: &'a str,
        events: &'a [(&'a str, &'a str); COUNT],
    ) -> Self {
        // Per hash the last event that has it, and per event the one before it with its hash.
        let mut last = [COUNT; COUNT];
        let mut before = [COUNT; COUNT];
        let mut same = [COUNT; COUNT];
        let mut index = 0;
        while index < COUNT {
            let name = events[index].1;
            let hash = hash(name) % COUNT;
            let mut other = last[hash];
            while other < COUNT && !equal(name, events[other].1) {
                other = before[other];
            }
            same[index] = if other < COUNT { same[other] } else { index };
            before[index] = last[hash];
            last[hash] = index;
            index += 1;
        }
        Self { set, events, same }
    }

    /// Checks that no event before the one at `index` has its name.
    ///
    /// # Panics
    /// If one has; in a constant, so the text is the compiler's message.
    #[track_caller]
    #[expect(clippy::panic, reason = "it is evaluated by the compiler only")]
    pub const fn assert(&self, index: usize) {
        let first = self.same[index];
        if first == index {
            return;
        }
        let (event, name) = self.events[index];
        let text = Text::new()
            .push("events `")
            .push(self.events[first].0)
            .push("` and `")
            .push(event)
            .push("` of the set `")
            .push(self.set)
            .push("` have the same name on the wire, `")
            .push(name)
            .push("`; give one of them another with `#[event(type = \"…\")]`");
        panic!("{}", text.as_str());
    }
}

/// FNV-1a, as far as a `usize` goes.
const fn hash(name: &str) -> usize {
    let mut hash: usize = 0x811c_9dc5;
    let mut bytes = name.as_bytes();
    while let Some((byte, rest)) = bytes.split_first() {
        hash = (hash ^ *byte as usize).wrapping_mul(0x0100_0193);
        bytes = rest;
    }
    hash
}

const fn equal(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    while let (Some((a, one_rest)), Some((b, other_rest))) =
        (one.split_first(), other.split_first())
    {
        if *a != *b {
            return false;
        }
        (one, other) = (one_rest, other_rest);
    }
    true
}

/// Text that is put together in a constant, where there is no `format!`.
struct Text {
    bytes: [u8; Self::CAPACITY],
    length: usize,
}

impl Text {
    /// Enough for three long paths and a wire name; what is beyond is cut.
    const CAPACITY: usize = 2048;

    const fn new() -> Self {
        Self {
            bytes: [0; Self::CAPACITY],
            length: 0,
        }
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "constants have no `get_mut`; the place is checked"
    )]
    const fn push(mut self, text: &str) -> Self {
        if self.length + text.len() > Self::CAPACITY {
            return self;
        }
        let mut bytes = text.as_bytes();
        while let Some((byte, rest)) = bytes.split_first() {
            self.bytes[self.length] = *byte;
            self.length += 1;
            bytes = rest;
        }
        self
    }

    const fn as_str(&self) -> &str {
        let (text, _) = self.bytes.split_at(self.length);
        match std::str::from_utf8(text) {
            Ok(text) => text,
            Err(_) => "two events of a set have the same name on the wire",
        }
    }
}
