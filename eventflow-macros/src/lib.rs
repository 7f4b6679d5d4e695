//! The macros of eventflow. Use and read about them through the `eventflow` crate: it re-exports
//! them with their documentation, and generated code calls into it.

mod classify;
mod crate_path;
mod duration;
mod errors;
mod event;
mod event_set;
mod handler;
mod options;
mod router;
mod spans;
mod spelling;

use proc_macro::TokenStream;

/// Implements `eventflow::Event`.
#[proc_macro_derive(Event, attributes(event, eventflow))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    event::derive(input.into()).into()
}

/// Implements `eventflow::EventSet`.
#[proc_macro_derive(EventSet, attributes(eventflow))]
pub fn derive_event_set(input: TokenStream) -> TokenStream {
    event_set::derive(input.into()).into()
}

/// Implements `eventflow::Classify`.
#[proc_macro_derive(Classify, attributes(classify, eventflow))]
pub fn derive_classify(input: TokenStream) -> TokenStream {
    classify::derive(input.into()).into()
}

/// Makes a handler of an `async fn`.
#[proc_macro_attribute]
pub fn handler(options: TokenStream, item: TokenStream) -> TokenStream {
    handler::attribute(options.into(), &item.into()).into()
}

/// Makes a routing table of a unit struct.
#[proc_macro_attribute]
pub fn router(options: TokenStream, item: TokenStream) -> TokenStream {
    router::attribute(options.into(), &item.into()).into()
}
