use eventflow::prelude::*;

#[derive(EventSet)]
enum ShopEvents {
    Moved(Moved),
}

#[derive(Serialize, Deserialize, Event)]
#[event(type = "moved")]
struct Moved {
    #[event(aggregate_id)]
    id: Uuid,
}

fn main() {
    let _ = Moved { id: Uuid::nil() }.encode();
}
