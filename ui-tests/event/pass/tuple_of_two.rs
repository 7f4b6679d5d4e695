use eventflow::prelude::*;

#[derive(Serialize, Deserialize, Event)]
struct Moved((u32, u32));

fn main() {}
