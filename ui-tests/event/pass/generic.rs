use eventflow::prelude::*;

#[derive(Serialize, Deserialize, Event)]
struct Changed {
    what: u8,
}

#[derive(Serialize, Deserialize, Event)]
struct Renamed {
    name: String,
}

fn main() {}
