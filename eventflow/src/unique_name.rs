//! Checks, as a set is compiled, that its events have different names on the wire.

use crate::event::Contains;

/// Checks that no event before the one at `index` has its name on the wire. `events` are the
/// names of the types, each with its name on the wire. An event that the set has twice is said
/// by `Contains`, and not again here.
///
/// # Panics
/// If one has; in a constant, so the text is the compiler's message.
#[track_caller]
#[expect(clippy::panic, reason = "it is evaluated by the compiler only")]
pub const fn assert_unique_name<Set: Contains<E>, E>(
    set: &str,
    events: &[(&str, &str)],
    index: usize,
) {
    let (earlier, rest) = events.split_at(index);
    let Some(((event, name), _)) = rest.split_first() else {
        return;
    };
    let mut earlier = earlier;
    while let Some(((other, other_name), others)) = earlier.split_first() {
        if same(name, other_name) {
            let text = Text::new()
                .push("events `")
                .push(other)
                .push("` and `")
                .push(event)
                .push("` of the set `")
                .push(set)
                .push("` have the same name on the wire, `")
                .push(name)
                .push("`; give one of them another with `#[event(type = \"…\")]`");
            panic!("{}", text.as_str());
        }
        earlier = others;
    }
}

const fn same(one: &str, other: &str) -> bool {
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
