//! The entry parser: any fields are one event, or malformed with their bytes intact.

#![no_main]

use std::sync::Arc;

use eventflow::{
    envelope::wire::{self, Limits},
    stream::{Entry, EntryId},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|fields: Vec<(Vec<u8>, Vec<u8>)>| {
    let entry = Entry {
        id: EntryId {
            stream: Arc::from("orders"),
            id: "1700000000000-0".to_owned(),
        },
        fields,
    };
    match wire::read(&entry, Limits::default()) {
        Ok(envelope) => {
            let fields = wire::write(&envelope, Limits::default()).expect("what is read is written");
            let written = Entry { fields, ..entry };
            assert_eq!(wire::read(&written, Limits::default()), Ok(envelope));
        }
        Err(malformed) => {
            assert!(!malformed.to_string().is_empty());
            assert_eq!(wire::restore(&wire::raw(&entry)), Some(entry.fields));
        }
    }
});
