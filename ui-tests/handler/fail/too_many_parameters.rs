use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[handler]
#[rustfmt::skip]
async fn reserve_stock(
    _event: OrderCreated,
    _tx: &mut PgConnection,
    _meta: &Metadata,
    State(()): State<()>, State(()): State<()>, State(()): State<()>, State(()): State<()>,
    State(()): State<()>, State(()): State<()>, State(()): State<()>, State(()): State<()>,
    State(()): State<()>, State(()): State<()>, State(()): State<()>, State(()): State<()>,
    _envelope: &Envelope,
    State(()): State<()>,
    State(()): State<()>,
) {}

fn main() {}
