//! What a handler may ask for after the event.
//!
//! `&mut PgConnection` or `&mut SqliteConnection` is the transaction, `&mut Outbox` what publishes in
//! it; `State<T>` a part of the router's state; `&Metadata` and `&Envelope` what is known about the
//! event. Users add types of their own with [`HandlerParam`] and [`FromDelivery`].

use crate::{
    delivery::{Delivery, Lent},
    envelope::{Envelope, Metadata},
    handler::Failure,
    inbox::Inbox,
    outbox::Outbox,
};

/// A type that a handler may take by value, after the event.
///
/// # Examples
/// A parameter of one's own is a type with this mark and [`FromDelivery`]:
/// ```
/// use eventflow::prelude::*;
/// use eventflow::handler::{FromDelivery, HandlerParam};
///
/// struct Tenant(String);
///
/// impl HandlerParam for Tenant {}
///
/// impl<I: Inbox, S: Sync> FromDelivery<I, S> for Tenant {
///     async fn from_delivery(delivery: &Delivery<I>, _state: &S) -> Result<Self, Failure> {
///         let id = delivery.metadata().correlation_id.as_deref();
///         let tenant = id.and_then(|id| id.split_once('/')).map(|(tenant, _)| tenant);
///         let tenant = tenant.ok_or_else(|| Failure::dead_letter("no tenant in `correlation_id`"))?;
///         Ok(Self(tenant.to_owned()))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "a handler cannot take a parameter of type `{Self}`",
    label = "not a handler parameter",
    note = "after the event, a handler takes `&mut PgConnection` or `&mut SqliteConnection`, `&mut Outbox`, `State<T>`, `&Metadata`, `&Envelope`, or a type that implements `HandlerParam` and `FromDelivery`"
)]
pub trait HandlerParam {
    /// Whether the handler must run inside the transaction. Handlers without one run concurrently.
    const TRANSACTIONAL: bool = false;
}

/// How a parameter is taken by value; its type is a [`HandlerParam`] too.
#[diagnostic::on_unimplemented(
    message = "a handler cannot take `{Self}` by value",
    label = "cannot be taken by value",
    note = "implement `FromDelivery` for `{Self}`"
)]
pub trait FromDelivery<I: Inbox, S>: Sized + Send {
    /// Takes the parameter from the delivery and the router's state.
    ///
    /// A failure ends the attempt as if the handler had answered it.
    fn from_delivery(
        delivery: &Delivery<I>,
        state: &S,
    ) -> impl Future<Output = Result<Self, Failure>> + Send;
}

/// A parameter that is taken as `&T`: a part of the delivery.
#[diagnostic::on_unimplemented(
    message = "a handler cannot take `&{Self}`",
    label = "cannot be taken by reference",
    note = "handlers take `&Metadata` and `&Envelope` by reference, everything else by value"
)]
pub trait PartOfDelivery {
    /// Borrows the parameter from the delivery.
    fn part_of<I: Inbox>(delivery: &Delivery<I>) -> &Self;
}

/// A part of the transaction, which a handler takes as `&mut T`: the connection, or the outbox. Such a
/// handler is transactional.
#[diagnostic::on_unimplemented(
    message = "a handler cannot take `&mut {Self}`",
    label = "neither a connection nor the outbox",
    note = "the transaction is taken as `&mut PgConnection` or `&mut SqliteConnection`, and what publishes in it as `&mut Outbox`"
)]
pub trait TransactionPart {
    /// Whether it is the outbox.
    const IS_OUTBOX: bool = false;
}

/// `Self` is a part of the transaction that a handler `H` gets from the inbox `I`.
///
/// The handler stands in the trait so that the message can name it: rustc prints the message of
/// the innermost trait that is missing.
#[diagnostic::on_unimplemented(
    message = "handler `{H}` takes `&mut {Self}`, which a `{I}` does not have",
    label = "this router runs on a `{I}`",
    note = "take the connection of the inbox: `&mut PgConnection` with a `PgInbox`, `&mut SqliteConnection` with a `SqliteInbox`"
)]
pub trait TransactionPartOf<I: Inbox, H>: TransactionPart {
    /// Takes the part from what is lent to one call.
    ///
    /// # Errors
    /// If it was taken before.
    fn take_from<'t>(lent: &mut Lent<'t, I>) -> Result<&'t mut Self, Failure>;
}

impl TransactionPart for Outbox {
    const IS_OUTBOX: bool = true;
}

impl<I: Inbox, H> TransactionPartOf<I, H> for Outbox {
    fn take_from<'t>(lent: &mut Lent<'t, I>) -> Result<&'t mut Self, Failure> {
        lent.take_outbox()
    }
}

impl PartOfDelivery for Metadata {
    fn part_of<I: Inbox>(delivery: &Delivery<I>) -> &Self {
        delivery.metadata()
    }
}

impl PartOfDelivery for Envelope {
    fn part_of<I: Inbox>(delivery: &Delivery<I>) -> &Self {
        delivery.envelope()
    }
}

/// A part of the router's state, as axum's `State`.
#[derive(Debug, Clone, Copy, Default)]
pub struct State<T>(pub T);

impl<T> HandlerParam for State<T> {}

impl<I: Inbox, S: Sync, T: FromRef<S> + Send> FromDelivery<I, S> for State<T> {
    async fn from_delivery(_delivery: &Delivery<I>, state: &S) -> Result<Self, Failure> {
        Ok(Self(T::from_ref(state)))
    }
}

/// How a part is taken from a router's state, as axum's `FromRef`.
///
/// # Examples
/// ```
/// use eventflow::prelude::*;
///
/// #[derive(Clone)]
/// struct Mailer;
///
/// #[derive(Clone)]
/// struct AppState {
///     mailer: Mailer,
/// }
///
/// impl FromRef<AppState> for Mailer {
///     fn from_ref(state: &AppState) -> Self {
///         state.mailer.clone()
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "the router's state `{S}` has no `{Self}`",
    label = "`State<{Self}>` cannot be taken from `{S}`",
    note = "implement `FromRef<{S}>` for `{Self}`, or give the router a state that has it"
)]
pub trait FromRef<S> {
    /// Takes the part.
    fn from_ref(state: &S) -> Self;
}

#[diagnostic::do_not_recommend]
impl<T: Clone> FromRef<T> for T {
    fn from_ref(state: &T) -> Self {
        state.clone()
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use sqlx::PgConnection;

    use super::{TransactionPart, TransactionPartOf};
    use crate::{delivery::Lent, handler::Failure, inbox::PgInbox};

    impl TransactionPart for PgConnection {}

    impl<H> TransactionPartOf<PgInbox, H> for PgConnection {
        fn take_from<'t>(lent: &mut Lent<'t, PgInbox>) -> Result<&'t mut Self, Failure> {
            lent.take_connection()
        }
    }
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use sqlx::SqliteConnection;

    use super::{TransactionPart, TransactionPartOf};
    use crate::{delivery::Lent, handler::Failure, inbox::SqliteInbox};

    impl TransactionPart for SqliteConnection {}

    impl<H> TransactionPartOf<SqliteInbox, H> for SqliteConnection {
        fn take_from<'t>(lent: &mut Lent<'t, SqliteInbox>) -> Result<&'t mut Self, Failure> {
            lent.take_connection()
        }
    }
}
