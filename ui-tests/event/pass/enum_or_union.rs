use eventflow::prelude::*;

#[derive(Serialize, Deserialize)]
enum Change {
    Paid,
    Cancelled { reason: String },
}

#[derive(Serialize, Deserialize, Event)]
struct OrderChanged {
    change: Change,
}

fn main() {}
