//! The depth of JSON text, measured before any parser sees it.

/// Whether objects and arrays nest at most `limit` deep.
///
/// Says nothing about whether the text is JSON; a parser that skips values without a limit of its
/// own is safe on what passes.
pub(super) fn nests_within(text: &str, limit: usize) -> bool {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => {
                bytes.next();
            }
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > limit {
                    return false;
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
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
            assert!(nests_within(text, depth), "{text}");
            assert!(depth == 0 || !nests_within(text, depth - 1), "{text}");
        }
    }
}
