//! Layers on single handlers.

use std::{fmt, sync::Arc};

use tower::{Layer, Service, ServiceExt, util::BoxCloneSyncService};

use super::{Calls, RouteTable, Router};
use crate::{delivery::Delivery, error::BoxError, handler::HandlerInput, inbox::Inbox};

/// One handler of a router as a service of its own, to put layers on.
pub type HandlerService<I> = BoxCloneSyncService<Delivery<I>, (), BoxError>;

/// Puts layers on single handlers of a router.
#[must_use = "call `build` to get the router"]
pub struct RouterBuilder<R, I: Inbox, S> {
    router: Router<R, I, S>,
}

impl<R, I, S> RouterBuilder<R, I, S>
where
    R: RouteTable,
    I: Inbox,
    S: Send + Sync + 'static,
{
    pub(super) fn new(router: Router<R, I, S>) -> Self {
        Self { router }
    }

    /// Puts a layer on one handler, named by its function. It sees the handler's whole attempt:
    /// its immediate retries and its timeout are inside.
    ///
    /// A second layer on the same handler goes outside the first. What is not ready keeps an
    /// event waiting in its worker, with no transaction open, for 15 s at most. Then it is handed
    /// back with no attempt counted, and with it this handler's events behind it in the worker, so
    /// that those of other handlers get their turn.
    pub fn layer<F, Args, L>(mut self, _handler: F, layer: L) -> Self
    where
        F: HandlerFn<Args>,
        R: Calls<F::Event>,
        S: Send + Sync + 'static,
        L: Layer<HandlerService<I>>,
        L::Service: Service<Delivery<I>> + Clone + Send + Sync + 'static,
        <L::Service as Service<Delivery<I>>>::Error: Into<BoxError>,
        <L::Service as Service<Delivery<I>>>::Future: Send + 'static,
    {
        let index = <R as Calls<F::Event>>::INDEX;
        let inner = self.take_service(index);
        let service = layer
            .layer(inner)
            .map_response(drop)
            .map_err(Into::<BoxError>::into);
        self.router
            .layered
            .push((index, BoxCloneSyncService::new(service)));
        self
    }

    /// The router.
    pub fn build(self) -> Router<R, I, S> {
        self.router
    }

    fn take_service(&mut self, index: usize) -> HandlerService<I> {
        let layered = &mut self.router.layered;
        if let Some(place) = layered.iter().position(|(layered, _)| *layered == index) {
            return layered.swap_remove(place).1;
        }
        let (state, run) = (Arc::clone(&self.router.state), self.router.run);
        let service = tower::service_fn(move |delivery| run(delivery, Arc::clone(&state)));
        BoxCloneSyncService::new(service.map_response(drop).map_err(BoxError::from))
    }
}

impl<R: RouteTable, I: Inbox, S> fmt::Debug for RouterBuilder<R, I, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouterBuilder")
            .field("router", &self.router)
            .finish()
    }
}

/// A handler's function, by the types of its parameters: tells the router which event it takes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the function of a handler",
    label = "not the function of a handler",
    note = "name the handler's function first, then its layer: `.layer(charge_card, layer)`"
)]
pub trait HandlerFn<Args> {
    /// The type of the first parameter.
    type Event: HandlerInput;
}

// As many parameters as `#[handler]` allows: 16, the event counted.
macro_rules! impl_handler_fn {
    ($($param:ident)*) => {
        impl<F, Answer, E, $($param),*> HandlerFn<(E, $($param,)*)> for F
        where
            F: Fn(E, $($param),*) -> Answer,
            E: HandlerInput,
        {
            type Event = E;
        }
    };
}

impl_handler_fn!();
impl_handler_fn!(A);
impl_handler_fn!(A B);
impl_handler_fn!(A B C);
impl_handler_fn!(A B C D);
impl_handler_fn!(A B C D G);
impl_handler_fn!(A B C D G H);
impl_handler_fn!(A B C D G H J);
impl_handler_fn!(A B C D G H J K);
impl_handler_fn!(A B C D G H J K L);
impl_handler_fn!(A B C D G H J K L M);
impl_handler_fn!(A B C D G H J K L M N);
impl_handler_fn!(A B C D G H J K L M N O);
impl_handler_fn!(A B C D G H J K L M N O P);
impl_handler_fn!(A B C D G H J K L M N O P Q);
impl_handler_fn!(A B C D G H J K L M N O P Q T);
