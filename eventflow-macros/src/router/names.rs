//! Names for what the user named, each checked once.
//!
//! The rest of the code is built on these names, so that a mistake is said once, at the user's
//! token: what failed its check has no type, and the compiler is silent about what is built on it.
//! But for a handler's event: no type at all would conflict with every type in `Handles`, so a
//! handler without one gets an event of its own.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{Path, TypePath, spanned::Spanned};

use super::Router;
use crate::{
    crate_path::CratePath,
    spans::{at, moved},
};

/// The set.
pub(super) fn events(span: Span) -> Ident {
    Ident::new("__Events", span)
}

/// The handler at this place; the fallback comes last.
pub(super) fn handler(index: usize, span: Span) -> Ident {
    format_ident!("__Handler{index}", span = span)
}

/// The first parameter of the handler at this place.
pub(super) fn input(index: usize, span: Span) -> Ident {
    format_ident!("__Input{index}", span = span)
}

/// The event of the handler at this place.
pub(super) fn event(index: usize, span: Span) -> Ident {
    format_ident!("__Event{index}", span = span)
}

/// The ignored event at this place.
pub(super) fn ignored(index: usize, span: Span) -> Ident {
    format_ident!("__Ignored{index}", span = span)
}

/// The name on the wire of this event.
pub(super) fn event_type(event: &Ident) -> Ident {
    let name = event.to_string().to_uppercase();
    format_ident!("{name}_TYPE", span = event.span())
}

/// The router to ask whether it covers its set.
pub(super) fn router(span: Span) -> Ident {
    Ident::new("__Router", span)
}

/// The type as it is, whether its check passes or not.
pub(super) fn unchecked(name: &Ident) -> Ident {
    format_ident!("{name}Unchecked", span = name.span())
}

/// Whether the handler at this place takes what it should.
fn fits(index: usize, span: Span) -> Ident {
    format_ident!("__FITS_{index}", span = span)
}

impl Router {
    pub(super) fn expand_names(&self) -> TokenStream {
        let (krate, table) = (&self.table.krate, &self.table);
        let events = table
            .events
            .as_ref()
            .map(|set| expand_checked(krate, set, &events(at(set)), "is_event_set"));
        let handlers = table
            .handlers_and_fallback()
            .map(|(index, path)| expand_handler(krate, path, index));
        let handled = table.handlers.iter().enumerate();
        let handled = handled.map(|(index, path)| expand_event(krate, path, index));
        let fallback = table
            .fallback
            .as_ref()
            .map(|path| expand_fits(krate, path, table.handlers.len(), "IS_ENVELOPE"));
        let ignored = table.ignored.iter().enumerate();
        let ignored = ignored.map(|(index, event)| expand_ignored(krate, event, index));
        let router = self.expand_router();
        quote!(#events #(#handlers)* #(#handled)* #fallback #(#ignored)* #router)
    }

    fn expand_router(&self) -> TokenStream {
        let (krate, ident) = (&self.table.krate, &self.item_struct.ident);
        let router = router(Span::mixed_site());
        let handlers = self.table.handlers_and_fallback();
        let fits = handlers.map(|(index, path)| fits(index, at(path)));
        quote! {
            type #router = <#ident as #krate::__private::RouterOf<{ true #(& #fits)* }>>::Router;
        }
    }
}

/// Names a type of the user. Its own name stands here only: a path that leads nowhere is one error.
fn expand_checked(
    krate: &CratePath,
    ty: &(impl ToTokens + Spanned),
    name: &Ident,
    check: &str,
) -> TokenStream {
    let krate = moved(krate, ty.span());
    let (unchecked, check) = (unchecked(name), Ident::new(check, name.span()));
    quote_spanned! {name.span()=>
        type #unchecked = #ty;
        type #name = <#unchecked as #krate::__private::Checked<{
            #krate::__private::#check::<#unchecked>()
        }>>::Type;
    }
}

fn expand_handler(krate: &CratePath, path: &Path, index: usize) -> TokenStream {
    let (handler, input) = (handler(index, at(path)), input(index, at(path)));
    let checked = expand_checked(krate, path, &handler, "is_handler");
    let unchecked = unchecked(&handler);
    quote! {
        #checked
        type #input = <#unchecked as #krate::__private::InputOf<{
            use #krate::__private::NoInput as _;
            #krate::__private::Takes::<#unchecked>::IS_INPUT
        }>>::Input;
    }
}

fn expand_event(krate: &CratePath, path: &Path, index: usize) -> TokenStream {
    let (fits, event) = (fits(index, at(path)), event(index, at(path)));
    let (event_type, unchecked) = (event_type(&event), unchecked(&handler(index, at(path))));
    let expanded_fits = expand_fits(krate, path, index, "IS_EVENT");
    quote! {
        #expanded_fits
        type #event = <#unchecked as #krate::__private::EventOf<{ #fits }>>::Event;
        const #event_type: &'static ::core::primitive::str =
            <#unchecked as #krate::__private::EventOf<{ #fits }>>::TYPE;
    }
}

fn expand_fits(krate: &CratePath, path: &Path, index: usize, what: &str) -> TokenStream {
    let (fits, what) = (fits(index, at(path)), Ident::new(what, at(path)));
    let unchecked = unchecked(&handler(index, at(path)));
    quote! {
        const #fits: ::core::primitive::bool = {
            use #krate::__private::NoInput as _;
            #krate::__private::Takes::<#unchecked>::#what
        };
    }
}

fn expand_ignored(krate: &CratePath, event: &TypePath, index: usize) -> TokenStream {
    let name = ignored(index, at(event));
    let (checked, event_type) = (
        expand_checked(krate, event, &name, "is_event"),
        event_type(&name),
    );
    quote! {
        #checked
        const #event_type: &'static ::core::primitive::str = <#name as #krate::Event>::TYPE;
    }
}
