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

/// The router to ask whether it covers its set.
pub(super) fn router(span: Span) -> Ident {
    Ident::new("__Router", span)
}

/// The type as it is, whether its check passes or not.
pub(super) fn unchecked(name: &Ident) -> Ident {
    format_ident!("{name}Unchecked", span = name.span())
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
        let ignored = table.ignored.iter().enumerate();
        let ignored = ignored.map(|(index, event)| expand_ignored(krate, event, index));
        let router = self.expand_router();
        quote!(#events #(#handlers)* #(#handled)* #(#ignored)* #router)
    }

    fn expand_router(&self) -> TokenStream {
        let (krate, ident) = (&self.table.krate, &self.item_struct.ident);
        let router = router(Span::mixed_site());
        let handlers = self.table.handlers_and_fallback();
        let fits = handlers.map(|(index, path)| {
            let handler = unchecked(&handler(index, at(path)));
            let fits = if index < self.table.handlers.len() {
                Ident::new("IS_EVENT", at(path))
            } else {
                Ident::new("IS_ENVELOPE", at(path))
            };
            quote!(#krate::__private::Takes::<#handler>::#fits)
        });
        quote! {
            type #router = <#ident as #krate::__private::RouterOf<{
                #[allow(unused_imports, reason = "a type may have its own constants")]
                use #krate::__private::NoInput as _;
                true #(& #fits)*
            }>>::Router;
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
            #[allow(unused_imports, reason = "a type may have its own constants")]
            use #krate::__private::NoInput as _;
            #krate::__private::Takes::<#unchecked>::IS_INPUT
        }>>::Input;
    }
}

fn expand_event(krate: &CratePath, path: &Path, index: usize) -> TokenStream {
    let event = event(index, at(path));
    let handler = unchecked(&handler(index, at(path)));
    let is_event = Ident::new("IS_EVENT", at(path));
    quote! {
        type #event = <#handler as #krate::__private::EventOf<{
            #[allow(unused_imports, reason = "a type may have its own constants")]
            use #krate::__private::NoInput as _;
            #krate::__private::Takes::<#handler>::#is_event
        }>>::Event;
    }
}

fn expand_ignored(krate: &CratePath, event: &TypePath, index: usize) -> TokenStream {
    expand_checked(krate, event, &ignored(index, at(event)), "is_event")
}
