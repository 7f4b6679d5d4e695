use eventflow::prelude::*;

#[derive(Serialize, Deserialize, Event)]
enum OrderChanged {
    Paid,
    Cancelled { reason: String },
}

#[derive(Event)]
union Bits {
    small: u8,
    large: u64,
}

fn main() {}
