use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[handler]
async fn any_event(_event: Envelope) {}

#[handler]
async fn any_state(_event: OrderCreated, State(_): State<String>) {}

#[handler]
async fn borrowed(_event: OrderCreated, _meta: &Metadata) {}

#[handler]
async fn anonymous(_event: OrderCreated, _state: State<std::borrow::Cow<'static, str>>) {}

#[handler]
async fn bounded(_event: OrderCreated) {}

fn main() {}
