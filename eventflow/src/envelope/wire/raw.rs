//! The bytes of an entry that could not be read.

use crate::stream::Entry;

/// Gives the bytes that are kept of an unreadable entry; the entry can be made from them again.
///
/// If the entry's only field is `data`, they are its value. Else they are the fields as Redis
/// writes them, an array of bulk strings in RESP: `*4\r\n$8\r\nevent_id\r\n$1\r\n7\r\n…`, name and
/// value in turn. A lone `data` whose value begins with `*` is kept as RESP too, so bytes that
/// begin with `*` always are.
pub fn raw(entry: &Entry) -> Vec<u8> {
    if let [(name, value)] = entry.fields.as_slice()
        && name == b"data"
        && !value.starts_with(b"*")
    {
        return value.clone();
    }
    let mut bytes = format!("*{}\r\n", entry.fields.len() * 2).into_bytes();
    for (name, value) in &entry.fields {
        for text in [name, value] {
            bytes.extend_from_slice(format!("${}\r\n", text.len()).as_bytes());
            bytes.extend_from_slice(text);
            bytes.extend_from_slice(b"\r\n");
        }
    }
    bytes
}
