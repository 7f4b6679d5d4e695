//! How a consumer learns the routes of its service, through any layers.

use std::{fmt, marker::PhantomData};

use super::{RouteTable, Routes};

/// What a service answers for an event that it handled, and what is known of its routes.
///
/// A router answers [`Handled`], which tells its routes through any number of layers; a plain
/// tower service answers `()`, takes every event, and counts as transactional.
#[diagnostic::on_unimplemented(
    message = "a consumer cannot run a service that answers `{Self}`",
    label = "this service answers `{Self}`",
    note = "the service of a consumer is a router, or answers `()`"
)]
pub trait Reply {
    /// The routes of the service.
    fn routes() -> Routes;
}

impl Reply for () {
    fn routes() -> Routes {
        Routes::plain()
    }
}

/// The router `R` has handled the event, or ignored it.
pub struct Handled<R> {
    table: PhantomData<fn() -> R>,
}

impl<R> Handled<R> {
    pub(super) fn new() -> Self {
        Self { table: PhantomData }
    }
}

impl<R> fmt::Debug for Handled<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handled")
    }
}

impl<R: RouteTable> Reply for Handled<R> {
    fn routes() -> Routes {
        Routes::of::<R>()
    }
}
