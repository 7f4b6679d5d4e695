use eventflow::prelude::*;

#[derive(EventSet)]
enum ShopEvents {
    Moved(Moved<u8>),
}

#[derive(Event)]
#[event(type = "", version = 2)]
struct Moved<T>(T, #[event(aggregate_id = true)] u32);

fn main() {
    // The event is there all the same, so nothing is said about this line.
    let _ = Moved(1_u8, 2).encode();
}
