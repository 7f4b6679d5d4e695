//! The bytes of an entry that could not be read.

use crate::stream::Entry;

/// Gives the bytes that are kept of an unreadable entry; the entry can be made from them again.
///
/// If the entry's only field is `data`, they are its value. Else they are the fields as Redis
/// writes them, an array of bulk strings in RESP: `*4\r\n$8\r\nevent_id\r\n$1\r\n7\r\n…`, name and
/// value in turn. A lone `data` whose value begins with `*` is kept as RESP too, so bytes that
/// begin with `*` always are.
pub fn raw(entry: &Entry) -> Vec<u8> {
    beginning(entry, usize::MAX)
}

/// The first bytes of those that [`raw`] gives, without making the others.
pub(crate) fn beginning(entry: &Entry, most: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut add = |text: &[u8]| {
        let room = most - bytes.len();
        bytes.extend_from_slice(text.get(..room).unwrap_or(text));
    };
    if let [(name, value)] = entry.fields.as_slice()
        && name == b"data"
        && !value.starts_with(b"*")
    {
        add(value);
        return bytes;
    }
    add(format!("*{}\r\n", entry.fields.len() * 2).as_bytes());
    for (name, value) in &entry.fields {
        for text in [name, value] {
            add(format!("${}\r\n", text.len()).as_bytes());
            add(text);
            add(b"\r\n");
        }
    }
    bytes
}

/// Gives the fields back of an entry whose bytes [`raw`] has kept, to publish it again once it is
/// mended; `None` if the bytes are no entry's, or only the beginning of one.
///
/// # Examples
/// ```
/// use eventflow::envelope::wire;
///
/// let fields = wire::restore(b"*2\r\n$8\r\nevent_id\r\n$1\r\n7\r\n");
/// assert_eq!(fields, Some(vec![(b"event_id".to_vec(), b"7".to_vec())]));
/// ```
pub fn restore(raw: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    if !raw.starts_with(b"*") {
        return Some(vec![(b"data".to_vec(), raw.to_vec())]);
    }
    let (texts, mut rest) = length(raw, b'*')?;
    let mut fields = Vec::new();
    for _ in 0..texts / 2 {
        let (name, after_name) = text(rest)?;
        let (value, after_value) = text(after_name)?;
        fields.push((name.to_vec(), value.to_vec()));
        rest = after_value;
    }
    (texts % 2 == 0 && rest.is_empty()).then_some(fields)
}

/// Reads a bulk string; gives it and what follows.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = length(bytes, b'$')?;
    let (text, rest) = rest.split_at_checked(length)?;
    Some((text, rest.strip_prefix(b"\r\n")?))
}

/// Reads a line with a sign and a number; gives the number and what follows.
fn length(bytes: &[u8], sign: u8) -> Option<(usize, &[u8])> {
    let rest = bytes.strip_prefix(&[sign])?;
    let end = rest.iter().position(|byte| *byte == b'\r')?;
    let (digits, rest) = rest.split_at_checked(end)?;
    let length = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((length, rest.strip_prefix(b"\r\n")?))
}
