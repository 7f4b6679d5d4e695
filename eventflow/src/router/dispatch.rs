//! From an event's type to its handler: the table's handlers as one type.
//!
//! Generated code names the handlers in tuples, and tuples of hundreds in [`Groups`]. That they
//! run is one bound on that type, and the code that picks one of them is here, checked once: the
//! compiler is slow on an `impl` with hundreds of bounds, and on a `match` with hundreds of names.

use std::{future::ready, marker::PhantomData, sync::Arc};

use super::{ResponseFuture, Route, RouteTable, call};
use crate::{
    delivery::Delivery,
    handler::{Failure, Handle},
    inbox::Inbox,
};

/// Every handler of a tuple can run over the inbox `I` with the state `S`.
pub trait HandleAll<I: Inbox, S> {
    /// How many handlers there are.
    const COUNT: usize;

    /// Runs the handler at this place, for the router `R`.
    fn run<R: 'static>(place: usize, delivery: Delivery<I>, state: Arc<S>) -> ResponseFuture<R>;
}

/// A tuple of tuples of handlers, where one would be too long.
#[derive(Debug)]
pub struct Groups<G>(PhantomData<fn() -> G>);

/// Runs the handler of the delivery's event type, which is one of `All`. Called by generated code.
pub fn dispatch<R, All, I, S>(delivery: Delivery<I>, state: Arc<S>) -> ResponseFuture<R>
where
    R: RouteTable,
    All: HandleAll<I, S>,
    I: Inbox,
    S: Send + Sync + 'static,
{
    match R::route(&delivery.metadata().event_type) {
        Route::Handler(handler) => All::run(handler.index, delivery, state),
        Route::Ignored => call::ignored(),
        Route::Unknown => call::unknown(&delivery),
    }
}

/// The table has fewer handlers than routes: `#[router]` makes none such.
fn no_handler<R: 'static>(place: usize) -> ResponseFuture<R> {
    Box::pin(ready(Err(Failure::dead_letter(format!(
        "the router has no handler at place {place}"
    )))))
}

impl<I: Inbox, S: Send + Sync + 'static> HandleAll<I, S> for () {
    const COUNT: usize = 0;

    fn run<R: 'static>(place: usize, _: Delivery<I>, _: Arc<S>) -> ResponseFuture<R> {
        no_handler(place)
    }
}

macro_rules! impl_handle_all {
    ($count:literal: $($place:literal $handler:ident)*) => {
        impl<I: Inbox, S: Send + Sync + 'static, $($handler),*> HandleAll<I, S> for ($($handler,)*)
        where
            $($handler: Handle<I, S>,)*
        {
            const COUNT: usize = $count;

            fn run<R: 'static>(
                place: usize,
                delivery: Delivery<I>,
                state: Arc<S>,
            ) -> ResponseFuture<R> {
                match place {
                    $($place => call::run::<$handler, I, S, R>(delivery, state),)*
                    _ => no_handler(place),
                }
            }
        }

        impl<I: Inbox, S: Send + Sync + 'static, $($handler),*> HandleAll<I, S>
            for Groups<($($handler,)*)>
        where
            $($handler: HandleAll<I, S>,)*
        {
            const COUNT: usize = 0 $(+ $handler::COUNT)*;

            fn run<R: 'static>(
                place: usize,
                delivery: Delivery<I>,
                state: Arc<S>,
            ) -> ResponseFuture<R> {
                let within = place;
                $(
                    if within < $handler::COUNT {
                        return $handler::run(within, delivery, state);
                    }
                    let within = within - $handler::COUNT;
                )*
                no_handler(within)
            }
        }
    };
}

impl_handle_all!(1: 0 A);
impl_handle_all!(2: 0 A 1 B);
impl_handle_all!(3: 0 A 1 B 2 C);
impl_handle_all!(4: 0 A 1 B 2 C 3 D);
impl_handle_all!(5: 0 A 1 B 2 C 3 D 4 E);
impl_handle_all!(6: 0 A 1 B 2 C 3 D 4 E 5 F);
impl_handle_all!(7: 0 A 1 B 2 C 3 D 4 E 5 F 6 G);
impl_handle_all!(8: 0 A 1 B 2 C 3 D 4 E 5 F 6 G 7 H);
impl_handle_all!(9: 0 A 1 B 2 C 3 D 4 E 5 F 6 G 7 H 8 J);
impl_handle_all!(10: 0 A 1 B 2 C 3 D 4 E 5 F 6 G 7 H 8 J 9 K);
impl_handle_all!(11: 0 A 1 B 2 C 3 D 4 E 5 F 6 G 7 H 8 J 9 K 10 L);
impl_handle_all!(12: 0 A 1 B 2 C 3 D 4 E 5 F 6 G 7 H 8 J 9 K 10 L 11 M);
impl_handle_all!(13: 0 A 1 B 2 C 3 D 4 E 5 F 6 G 7 H 8 J 9 K 10 L 11 M 12 N);
impl_handle_all!(14: 0 A 1 B 2 C 3 D 4 E 5 F 6 G 7 H 8 J 9 K 10 L 11 M 12 N 13 O);
impl_handle_all!(15: 0 A 1 B 2 C 3 D 4 E 5 F 6 G 7 H 8 J 9 K 10 L 11 M 12 N 13 O 14 P);
impl_handle_all!(16: 0 A 1 B 2 C 3 D 4 E 5 F 6 G 7 H 8 J 9 K 10 L 11 M 12 N 13 O 14 P 15 Q);

#[cfg(all(test, feature = "macros", feature = "sqlite"))]
mod tests {
    use std::time::Duration;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{inbox::SqliteInbox, prelude::*, router::Dispatch};

    /// A router whose handlers each fail with their own name.
    macro_rules! service {
        ($($event:ident $handler:ident)*) => {
            $(
                #[derive(Debug, Event)]
                #[eventflow(crate = crate)]
                struct $event;

                #[handler(crate = crate)]
                async fn $handler(_event: $event) -> Result<(), Failure> {
                    Err(Failure::dead_letter(stringify!($handler)))
                }
            )*

            #[derive(Debug, EventSet)]
            #[eventflow(crate = crate)]
            enum Events {
                $($event($event)),*
            }

            #[router(events = Events, handlers($($handler),*), crate = crate)]
            struct Service;

            fn envelopes() -> Vec<(Envelope, &'static str)> {
                vec![$((Envelope::new(&$event).unwrap(), stringify!($handler))),*]
            }
        };
    }

    // More than a tuple takes, and more than two.
    service! {
        E0 on_0 E1 on_1 E2 on_2 E3 on_3 E4 on_4 E5 on_5 E6 on_6 E7 on_7 E8 on_8 E9 on_9
        E10 on_10 E11 on_11 E12 on_12 E13 on_13 E14 on_14 E15 on_15 E16 on_16 E17 on_17
        E18 on_18 E19 on_19 E20 on_20 E21 on_21 E22 on_22 E23 on_23 E24 on_24 E25 on_25
        E26 on_26 E27 on_27 E28 on_28 E29 on_29 E30 on_30 E31 on_31 E32 on_32 E33 on_33
    }

    #[tokio::test]
    async fn each_of_many_events_runs_its_own_handler() {
        for (envelope, handler) in envelopes() {
            assert!(Events::decode(&envelope).is_ok());
            let delivery =
                Delivery::new(envelope, Duration::from_secs(1), CancellationToken::new());

            let answer = <Service as Dispatch<SqliteInbox, ()>>::dispatch(delivery, Arc::new(()));

            assert_eq!(answer.await.unwrap_err().to_string(), handler);
        }
    }
}
