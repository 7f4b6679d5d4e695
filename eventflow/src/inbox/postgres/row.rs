//! Rows as Postgres gives them, and what its JSONB refuses.

use std::time::Duration;

use chrono::{DateTime, Utc};
use memchr::memchr2;
use sqlx::{Decode, Postgres, Row as _, Type, postgres::PgRow};
use uuid::Uuid;

use crate::{
    database::columns::from_micros,
    inbox::{
        DeadLetter, Lease,
        record::{Entered, Record},
    },
};

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

/// Reads a row that was claimed: with when it is due, and how long until then.
pub(super) fn claimed(row: &PgRow) -> Result<(DateTime<Utc>, Duration, Record), sqlx::Error> {
    let wait = from_micros(row.try_get("wait")?);
    Ok((row.try_get("due")?, wait, record(row)?))
}

/// Reads a row that was recovered: with its next state.
pub(super) fn recovered(row: &PgRow) -> Result<(String, Record), sqlx::Error> {
    Ok((row.try_get("status")?, record(row)?))
}

/// Reads a dead letter.
pub(super) fn dead_letter(row: &PgRow) -> Result<DeadLetter, sqlx::Error> {
    let died_at = row.try_get("died_at")?;
    Ok(record(row)?.into_dead_letter(row.try_get("error_message")?, died_at))
}

/// Reads the ids and payloads of the rows that have entered.
pub(super) fn entered(answer: &[PgRow]) -> Result<Entered, sqlx::Error> {
    let (ids, payloads) = arrays::<Uuid, Option<String>>(answer)?;
    Ok(ids.into_iter().zip(payloads).collect())
}

/// Reads the claims that held.
pub(super) fn settled(answer: &[PgRow]) -> Result<Vec<Lease>, sqlx::Error> {
    let (ids, tokens) = arrays::<Uuid, i64>(answer)?;
    let leases = ids.into_iter().zip(tokens);
    Ok(leases.map(|(id, token)| Lease { id, token }).collect())
}

/// Reads two columns that are in one row, as arrays; of no rows, they are null.
fn arrays<A, B>(answer: &[PgRow]) -> Result<(Vec<A>, Vec<B>), sqlx::Error>
where
    for<'r> Vec<A>: Decode<'r, Postgres> + Type<Postgres>,
    for<'r> Vec<B>: Decode<'r, Postgres> + Type<Postgres>,
{
    let Some(row) = answer.first() else {
        return Ok((Vec::new(), Vec::new()));
    };
    let first: Option<Vec<A>> = row.try_get(0)?;
    let second: Option<Vec<B>> = row.try_get(1)?;
    Ok((first.unwrap_or_default(), second.unwrap_or_default()))
}

/// Reads `id, lock_token`.
pub(super) fn lease(row: &PgRow) -> Result<Lease, sqlx::Error> {
    Ok(Lease {
        id: row.try_get(0)?,
        token: row.try_get(1)?,
    })
}

/// Whether a JSON text is not one for JSONB, which refuses an escaped NUL, half a surrogate pair,
/// and a number beyond the range of `numeric`; and which writes numbers out, so that `1e1000` comes
/// back as a thousand digits, and a list of it 150 times as long as it was.
///
/// Errs on the side of refusing: such a payload is kept as bytes, with nothing lost.
pub(super) fn refuses(json: &str) -> bool {
    !fits(json.as_bytes())
}

/// How many bytes a text may grow by, if it is shorter than that: some numbers of `f64`'s range.
const GROWTH: usize = 1_024;

fn fits(json: &[u8]) -> bool {
    let most = json.len().max(GROWTH);
    let mut growth: usize = 0;
    let mut rest = json;
    while let Some((&byte, after)) = rest.split_first() {
        rest = match byte {
            b'"' => match skip_string(after) {
                Some(rest) => rest,
                None => return false,
            },
            b'0'..=b'9' => match skip_number(rest) {
                Some((grows_by, rest)) => {
                    growth = growth.saturating_add(grows_by);
                    rest
                }
                None => return false,
            },
            _ => after,
        };
        if growth > most {
            return false;
        }
    }
    true
}

/// Skips the inside of a string and its closing quote; `None` if JSONB refuses it.
fn skip_string(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        let end = memchr2(b'"', b'\\', rest)?;
        rest = match rest.get(end..)? {
            [b'\\', escape @ ..] => skip_escape(escape)?,
            [_, after @ ..] => return Some(after),
            [] => return None,
        };
    }
}

/// Skips what follows a backslash; `None` if JSONB refuses it.
fn skip_escape(escape: &[u8]) -> Option<&[u8]> {
    let [b'u', digits @ ..] = escape else {
        return escape.get(1..);
    };
    match hex_unit(digits)? {
        (0xd800..=0xdbff, [b'\\', b'u', digits @ ..]) => match hex_unit(digits)? {
            (0xdc00..=0xdfff, after) => Some(after),
            _ => None,
        },
        (0 | 0xd800..=0xdfff, _) => None,
        (_, after) => Some(after),
    }
}

fn hex_unit(digits: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, after) = digits.split_at_checked(4)?;
    let digits = std::str::from_utf8(digits).ok()?;
    Some((u16::from_str_radix(digits, 16).ok()?, after))
}

/// Skips a number, and answers by how much it grows at most when it is written out; `None` if it
/// is so long or so large that `numeric` may not hold it.
fn skip_number(text: &[u8]) -> Option<(usize, &[u8])> {
    /// Far inside what `numeric` holds: 131072 digits before the point, 16383 after it.
    const LARGEST: usize = 1_000;

    let end = text
        .iter()
        .position(|byte| !matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'))
        .unwrap_or(text.len());
    let (number, after) = text.split_at_checked(end)?;
    let mut parts = number.splitn(2, |byte| matches!(byte, b'e' | b'E'));
    let digits = parts.next()?;
    let Some(exponent) = parts.next() else {
        return (digits.len() <= LARGEST).then_some((0, after));
    };
    let exponent = std::str::from_utf8(exponent).ok()?;
    let point = if exponent.starts_with('-') { 2 } else { 0 };
    let exponent: usize = exponent.trim_start_matches(['+', '-']).parse().ok()?;
    // As many zeros as the exponent says, after the digits or, with `0.` in front, before them.
    let written = digits.len().saturating_add(exponent).saturating_add(point);
    let grows_by = written.saturating_sub(number.len());
    (digits.len() <= LARGEST && exponent <= LARGEST).then_some((grows_by, after))
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
    fn what_jsonb_writes_out_may_be_twice_as_long() {
        let list = |number: &str, numbers: usize| {
            format!(r#"{{"a":[0{}]}}"#, format!(",{number}").repeat(numbers))
        };

        for (number, numbers) in [
            ("1e1000", 1),
            ("1.5e-300", 3),
            ("1e5", 10_000),
            ("-1e5", 10_000),
            ("12345678", 10_000),
        ] {
            assert!(!refuses(&list(number, numbers)), "{number}");
        }
        for (number, numbers) in [
            ("1e1000", 2),
            ("1E+1000", 2),
            ("0e-1000", 2),
            ("1.5e-300", 4),
            ("1e7", 10_000),
            ("-1e9", 10_000),
            ("1e-7", 10_000),
        ] {
            assert!(refuses(&list(number, numbers)), "{number}");
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
