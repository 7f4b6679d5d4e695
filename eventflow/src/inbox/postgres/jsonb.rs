//! JSON text as JSONB gives it back.
//!
//! A fresh event is decoded from the same bytes as one that comes from the table. The column would have to
//! give them back for each event that is stored; so its form is written here, and kept.

use std::{borrow::Cow, ops::Range};

use memchr::memchr2;

use crate::envelope::wire::MAX_PAYLOAD_DEPTH;

/// How many bytes numbers may grow by when they are written out, unless the text is longer: some of the
/// range of `f64`.
const GROWTH: usize = 1_024;

/// The most digits and the largest exponent of a number. Far inside what `numeric` holds: 131072 digits
/// before the point, 16383 after it.
const LARGEST: usize = 1_000;

/// A text that JSONB refuses: an escaped NUL, half a surrogate pair, a number beyond the range of
/// `numeric`. Or one that it would write out to more than twice its length, as `1e1000` comes back as a
/// thousand digits; or one that is deeper than a payload may be.
///
/// Errs on the side of refusing: such a payload is kept as bytes, with nothing lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused;

/// Writes a JSON text as JSONB gives it back: of equal keys the last one, keys sorted by length and then
/// by their bytes, numbers without exponents, and no more escapes and white space than it has.
///
/// See "JSON Types" in Postgres' manual, and `jsonb_out`.
pub(super) fn written_by_jsonb(json: &str) -> Result<String, Refused> {
    let mut writer = Writer {
        json,
        at: 0,
        // `: ` and `, ` are a byte longer than what most programs write.
        out: String::with_capacity(json.len() + json.len() / 8),
        members: Vec::with_capacity(8),
        depth: MAX_PAYLOAD_DEPTH,
        growth: json.len().max(GROWTH),
    };
    writer.value()?;
    Ok(writer.out)
}

struct Writer<'j> {
    json: &'j str,
    /// How much of it has been read.
    at: usize,
    out: String,
    /// The members of the objects that have begun, the innermost last.
    members: Vec<Member<'j>>,
    /// How much deeper it may get.
    depth: usize,
    /// By how many bytes numbers may still grow.
    growth: usize,
}

/// A key of an object, and where it has been written with its value.
struct Member<'j> {
    key: Cow<'j, str>,
    written: Range<usize>,
}

impl<'j> Writer<'j> {
    /// The next byte that is not white space.
    fn peek(&mut self) -> Result<u8, Refused> {
        let rest = self.rest();
        let blank = |byte: &&u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
        self.at += rest.iter().take_while(blank).count();
        self.json.as_bytes().get(self.at).copied().ok_or(Refused)
    }

    fn rest(&self) -> &'j [u8] {
        self.json.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// Takes the next bytes of the text.
    fn take(&mut self, bytes: usize) -> Result<&'j str, Refused> {
        let taken = self.json.get(self.at..self.at + bytes).ok_or(Refused)?;
        self.at += bytes;
        Ok(taken)
    }

    fn value(&mut self) -> Result<(), Refused> {
        match self.peek()? {
            b'{' => self.nested(Self::object),
            b'[' => self.nested(Self::array),
            b'"' => self.string().map(drop),
            b'-' | b'0'..=b'9' => self.number(),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            b't' => self.word("true"),
            _ => Err(Refused),
        }
    }

    fn nested(&mut self, value: fn(&mut Self) -> Result<(), Refused>) -> Result<(), Refused> {
        self.depth = self.depth.checked_sub(1).ok_or(Refused)?;
        value(self)?;
        self.depth += 1;
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), Refused> {
        let taken = self.take(word.len())?;
        self.out.push_str(taken);
        Ok(())
    }

    fn array(&mut self) -> Result<(), Refused> {
        self.at += 1;
        self.out.push('[');
        let mut is_first = true;
        while self.peek()? != b']' {
            if !is_first {
                self.at += 1;
                self.out.push_str(", ");
            }
            is_first = false;
            self.value()?;
        }
        self.at += 1;
        self.out.push(']');
        Ok(())
    }

    fn object(&mut self) -> Result<(), Refused> {
        self.at += 1;
        self.out.push('{');
        let begin = self.out.len();
        let first = self.members.len();
        let mut is_sorted = true;
        while self.peek()? != b'}' {
            if self.members.len() > first {
                // The comma.
                self.at += 1;
                self.peek()?;
                self.out.push_str(", ");
            }
            let from = self.out.len();
            let key = self.string()?;
            if self.peek()? != b':' {
                return Err(Refused);
            }
            self.at += 1;
            self.out.push_str(": ");
            self.value()?;
            let member = Member {
                key,
                written: from..self.out.len(),
            };
            let last = self.members.last().filter(|_| self.members.len() > first);
            is_sorted &= last.is_none_or(|last| last.place() < member.place());
            self.members.push(member);
        }
        self.at += 1;
        if is_sorted {
            self.members.truncate(first);
        } else {
            self.sort(begin, first);
        }
        self.out.push('}');
        Ok(())
    }

    /// Puts what was written since `begin` in the order of its keys: the members from the `first` on.
    fn sort(&mut self, begin: usize, first: usize) {
        let written = self.out.split_off(begin);
        let mut members = self.members.split_off(first);
        // Stable, and so the last of equal keys is the last of them again.
        members.sort_by(|a, b| a.place().cmp(&b.place()));
        let mut members = members.iter().peekable();
        let mut separator = "";
        while let Some(member) = members.next() {
            if members.peek().is_some_and(|next| next.key == member.key) {
                continue;
            }
            let Range { start, end } = member.written;
            let member = written.get(start - begin..end - begin);
            self.out.push_str(separator);
            self.out.push_str(member.unwrap_or_default());
            separator = ", ";
        }
    }

    /// Writes a string, and answers what it says.
    fn string(&mut self) -> Result<Cow<'j, str>, Refused> {
        let (length, has_escapes) = length_of_string(self.rest()).ok_or(Refused)?;
        let text = self.take(length)?;
        if !has_escapes {
            self.out.push_str(text);
            let inside = text.get(1..length - 1).ok_or(Refused)?;
            return Ok(Cow::Borrowed(inside));
        }
        let said: String = serde_json::from_str(text).map_err(|_| Refused)?;
        if said.contains('\0') {
            return Err(Refused);
        }
        // It escapes what Postgres does, in the same way.
        let text = serde_json::to_string(&said).map_err(|_| Refused)?;
        self.out.push_str(&text);
        Ok(Cow::Owned(said))
    }

    fn number(&mut self) -> Result<(), Refused> {
        let of_number = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
        let length = self.rest().iter().take_while(of_number).count();
        let text = self.take(length)?;
        let (sign, number) = match text.strip_prefix('-') {
            Some(number) => ("-", number),
            None => ("", text),
        };
        let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, ""));
        if digits.len() > LARGEST {
            return Err(Refused);
        }
        // There is no negative zero.
        if digits.bytes().any(|digit| matches!(digit, b'1'..=b'9')) {
            self.out.push_str(sign);
        }
        if exponent.is_empty() {
            self.out.push_str(digits);
            return Ok(());
        }
        self.written_out(digits, exponent)
    }

    /// Writes out a number that has an exponent.
    fn written_out(&mut self, digits: &str, exponent: &str) -> Result<(), Refused> {
        let size = exponent.trim_start_matches(['+', '-']);
        let size: usize = size.parse().map_err(|_| Refused)?;
        // As many zeros as the exponent says, after the digits or, with `0.` in front, before them.
        let point = if exponent.starts_with('-') { 2 } else { 0 };
        let grows_by = size
            .saturating_add(point)
            .saturating_sub(1 + exponent.len());
        self.growth = self.growth.checked_sub(grows_by).ok_or(Refused)?;
        if size > LARGEST {
            return Err(Refused);
        }
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let (whole, fraction) = if exponent.starts_with('-') {
            let digits = format!("{}{whole}", "0".repeat(size));
            let (whole, moved) = digits.split_at(whole.len());
            (whole.to_owned(), format!("{moved}{fraction}"))
        } else {
            let (moved, fraction) = fraction.split_at(size.min(fraction.len()));
            let zeros = "0".repeat(size - moved.len());
            (format!("{whole}{moved}{zeros}"), fraction.to_owned())
        };
        let whole = whole.trim_start_matches('0');
        self.out
            .push_str(if whole.is_empty() { "0" } else { whole });
        if !fraction.is_empty() {
            self.out.push('.');
            self.out.push_str(&fraction);
        }
        Ok(())
    }
}

impl Member<'_> {
    /// Where it stands among others.
    fn place(&self) -> (usize, &[u8]) {
        (self.key.len(), self.key.as_bytes())
    }
}

/// How long the string is with which a text begins, its quotes included, and whether it has escapes.
fn length_of_string(text: &[u8]) -> Option<(usize, bool)> {
    let mut has_escapes = false;
    let mut at = 1;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(at) == Some(&b'"') {
            return Some((at + 1, has_escapes));
        }
        has_escapes = true;
        at += 2;
    }
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
            assert!(written_by_jsonb(json).is_ok(), "{json} was refused");
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
            assert!(written_by_jsonb(&list(number, numbers)).is_ok(), "{number}");
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
            assert!(
                written_by_jsonb(&list(number, numbers)).is_err(),
                "{number}"
            );
        }
    }

    #[test]
    fn what_jsonb_writes_is_written() {
        for (json, written) in [
            ("{ }", "{}"),
            (r#"{"a":[ 1 ,"b" ]}"#, r#"{"a": [1, "b"]}"#),
            (r#"{"bb":1,"c":2,"a":3}"#, r#"{"a": 3, "c": 2, "bb": 1}"#),
            (r#"{"a":{"z":1,"y":2},"a":{"x":[]}}"#, r#"{"a": {"x": []}}"#),
            (r#"{"\\u0061":1,"a":2}"#, r#"{"a": 2, "\\u0061": 1}"#),
            (
                r#"{"\u0061":1,"b":"\/\u00e9\u001F"}"#,
                r#"{"a": 1, "b": "/é\u001f"}"#,
            ),
            (
                r#"{"n":[-0,-0.0,1.50,1.50e1,1e2,120e-1,5e-3]}"#,
                r#"{"n": [0, 0.0, 1.50, 15.0, 100, 12.0, 0.005]}"#,
            ),
        ] {
            assert_eq!(written_by_jsonb(json).as_deref(), Ok(written), "{json}");
        }
    }

    #[test]
    fn what_is_deeper_than_a_payload_may_be_is_refused() {
        let deep = |depth: usize| {
            format!(
                "{}{}",
                r#"{"a":"#.repeat(depth),
                "{}".to_owned() + &"}".repeat(depth)
            )
        };

        assert!(written_by_jsonb(&deep(MAX_PAYLOAD_DEPTH - 1)).is_ok());
        assert!(written_by_jsonb(&deep(MAX_PAYLOAD_DEPTH)).is_err());
        assert!(written_by_jsonb(&deep(100_000)).is_err());
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
            assert!(written_by_jsonb(json).is_err(), "{json} was taken");
        }
    }
}
