//! The depth of JSON text, measured before any parser sees it.

use memchr::{memchr2, memchr2_iter};

/// Whether objects and arrays nest at most `limit` deep.
///
/// Says nothing about whether the text is JSON; a parser that skips values without a limit of its
/// own is safe on what passes.
pub(super) fn nests_within(text: &str, limit: usize) -> bool {
    // Most text has not even so many brackets, which are counted faster than followed.
    let brackets = memchr2_iter(b'{', b'[', text.as_bytes()).take(limit.saturating_add(1));
    brackets.count() <= limit || is_followed_within(text, limit)
}

fn is_followed_within(text: &str, limit: usize) -> bool {
    let mut depth = 0_usize;
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'"' => rest = after_string(after),
            b'{' | b'[' => {
                depth += 1;
                if depth > limit {
                    return false;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

/// What follows the string that has begun.
fn after_string(mut rest: &[u8]) -> &[u8] {
    while let Some(end) = memchr2(b'"', b'\\', rest) {
        let (escaped, after) = (rest.get(end) == Some(&b'\\'), end + 1);
        rest = rest.get(after + usize::from(escaped)..).unwrap_or_default();
        if !escaped {
            return rest;
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_strings() {
        for (text, depth) in [
            ("{}", 1),
            ("7", 0),
            (r#"{"a":[{}]}"#, 3),
            (r#"{"a":"[[[["}"#, 1),
            (r#"{"a":"\"[[["}"#, 1),
            (r#"{"a":"\\","b":[]}"#, 2),
            ("[[],[],[]]", 2),
        ] {
            for within in [nests_within, is_followed_within] {
                assert!(within(text, depth), "{text}");
                assert!(depth == 0 || !within(text, depth - 1), "{text}");
            }
        }
    }
}
