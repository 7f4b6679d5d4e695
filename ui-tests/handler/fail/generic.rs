use eventflow::prelude::*;

#[derive(Event)]
struct OrderCreated;

#[handler]
async fn any_event<E: Event>(_event: E) {}

#[handler]
async fn any_state(_event: OrderCreated, _state: impl Clone) {}

#[handler]
async fn borrowed<'a>(_event: OrderCreated, _meta: &'a Metadata) {}

#[handler]
async fn anonymous(_event: OrderCreated, _state: State<std::borrow::Cow<'_, str>>) {}

#[handler]
async fn bounded(_event: OrderCreated)
where
    OrderCreated: Sized,
{
}

fn main() {}
