use eventflow::prelude::*;

#[derive(Serialize, Deserialize, Event)]
struct Changed<T> {
    what: T,
}

#[derive(Serialize, Event)]
struct Renamed<'a> {
    name: &'a str,
}

fn main() {}
