//! Rows as Postgres gives them, and what its JSONB refuses.

use sqlx::{Row as _, postgres::PgRow};

use crate::inbox::{Lease, record::Record};

/// Reads the columns that make an event and its claim.
pub(super) fn record(row: &PgRow) -> Result<Record, sqlx::Error> {
    Ok(Record {
        id: row.try_get(0)?,
        token: row.try_get(1)?,
        event_id: row.try_get(2)?,
        stream_id: row.try_get(3)?,
        event_type: row.try_get(4)?,
        aggregate_id: row.try_get(5)?,
        correlation_id: row.try_get(6)?,
        causation_id: row.try_get(7)?,
        occurred_on: row.try_get(8)?,
        payload: row.try_get(9)?,
        headers: row.try_get(10)?,
        raw: row.try_get(11)?,
        retry_count: row.try_get(12)?,
        max_retries: row.try_get(13)?,
    })
}

/// Reads `id, lock_token`.
pub(super) fn lease(row: &PgRow) -> Result<Lease, sqlx::Error> {
    Ok(Lease {
        id: row.try_get(0)?,
        token: row.try_get(1)?,
    })
}

/// Whether JSONB may refuse a JSON text: an escaped NUL, half a surrogate pair, or a number beyond
/// the range of `numeric`.
///
/// Errs on the side of refusing: such a payload is kept as bytes, with nothing lost.
pub(super) fn refuses(json: &str) -> bool {
    let mut rest = json.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = match byte {
            b'"' => match skip_string(after) {
                Some(rest) => rest,
                None => return true,
            },
            b'0'..=b'9' => match skip_number(rest) {
                Some(rest) => rest,
                None => return true,
            },
            _ => after,
        };
    }
    false
}

/// Skips the inside of a string and its closing quote; `None` if JSONB refuses it.
fn skip_string(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        match rest {
            [b'\\', b'u', digits @ ..] => {
                let (unit, after) = hex_unit(digits)?;
                rest = match unit {
                    0 | 0xdc00..=0xdfff => return None,
                    0xd800..=0xdbff => match after {
                        [b'\\', b'u', digits @ ..] => match hex_unit(digits)? {
                            (0xdc00..=0xdfff, after) => after,
                            _ => return None,
                        },
                        _ => return None,
                    },
                    _ => after,
                };
            }
            [b'\\', _, after @ ..] | [_, after @ ..] if !matches!(rest, [b'"', ..]) => rest = after,
            [b'"', after @ ..] => return Some(after),
            _ => return None,
        }
    }
}

fn hex_unit(digits: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, after) = digits.split_at_checked(4)?;
    let digits = std::str::from_utf8(digits).ok()?;
    Some((u16::from_str_radix(digits, 16).ok()?, after))
}

/// Skips a number; `None` if it is so long or so large that `numeric` may not hold it.
fn skip_number(text: &[u8]) -> Option<&[u8]> {
    /// Far inside what `numeric` holds: 131072 digits before the point, 16383 after it.
    const LARGEST: usize = 1_000;

    let end = text
        .iter()
        .position(|byte| !matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'))
        .unwrap_or(text.len());
    let (number, after) = text.split_at_checked(end)?;
    let mut parts = number.splitn(2, |byte| matches!(byte, b'e' | b'E'));
    let digits = parts.next()?;
    let exponent: usize = match parts.next() {
        None => 0,
        Some(exponent) => {
            let exponent = std::str::from_utf8(exponent).ok()?;
            exponent.trim_start_matches(['+', '-']).parse().ok()?
        }
    };
    (digits.len() <= LARGEST && exponent <= LARGEST).then_some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_jsonb_takes_is_not_refused() {
        for json in [
            "{}",
            r#"{"a":"\\u0000","b":"\n\"\\"}"#,
            r#"{"pair":"\ud83d\ude00","text":"é😀"}"#,
            r#"{"n":[1e2,-0,1.10,12345678901234567890123]}"#,
        ] {
            assert!(!refuses(json), "{json} was refused");
        }
    }

    #[test]
    fn what_jsonb_refuses_is_found() {
        for json in [
            r#"{"a":"\u0000"}"#,
            r#"{"a\u0000":1}"#,
            r#"{"a":"\\\u0000"}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\ud800\n"}"#,
            r#"{"a":"\udc00"}"#,
            r#"{"a":"\ud800\ud800"}"#,
            r#"{"a":1e200000}"#,
            r#"{"a":1e-99999999999999999999999}"#,
        ] {
            assert!(refuses(json), "{json} was taken");
        }
    }
}
