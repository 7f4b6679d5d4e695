use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

mod stock {
    use eventflow::prelude::*;

    #[derive(Event)]
    pub struct OrderCreated {}

    /// One `use` brings the function and the handler.
    #[handler]
    pub async fn reserve(_event: OrderCreated, State(count): State<u32>) -> Result<(), Failure> {
        if count == 0 {
            return Err(Failure::dead_letter("sold out"));
        }
        Ok(())
    }
}

use stock::reserve;

fn main() {
    let call = pin!(reserve(stock::OrderCreated {}, eventflow::State(1)));

    let answer = call.poll(&mut Context::from_waker(Waker::noop()));

    assert!(matches!(answer, Poll::Ready(Ok(()))));
    let name = <reserve as eventflow::handler::Handler>::NAME;
    assert_eq!(name, "reserve");
}
