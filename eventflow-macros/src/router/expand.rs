//! The table as code: one `match` on the event's type, and bounds that check it whole.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Path, ext::IdentExt, spanned::Spanned};

use super::Router;
use crate::{
    crate_path::CratePath,
    spans::{at, moved},
};

impl Router {
    pub(super) fn expand(&self) -> TokenStream {
        let item_struct = self.expand_struct();
        let constructors = self.expand_constructors();
        let handles = self.expand_handles();
        let checks = self.expand_checks();
        let route_table = self.expand_route_table();
        let dispatch = self.expand_dispatch();
        quote! {
            #item_struct
            #constructors
            #handles
            #checks
            #route_table
            #dispatch
        }
    }

    fn expand_struct(&self) -> TokenStream {
        let item_struct = &self.item_struct;
        quote! {
            #[allow(dead_code, reason = "a router is named as a type and never made")]
            #item_struct
        }
    }

    /// They do not ask whether the handlers run on the inbox: where the router is used as a service
    /// the inbox is known, and the message is about it. Here it would be guessed from the handlers.
    fn expand_constructors(&self) -> TokenStream {
        let (krate, ident, vis) = (self.krate(), self.ident(), &self.item_struct.vis);
        let bounds = quote! {
            where
                I: #krate::Inbox,
                S: ::core::marker::Send + ::core::marker::Sync + 'static,
        };
        quote! {
            #[automatically_derived]
            #[allow(dead_code, reason = "one way to make a router is enough")]
            impl #ident {
                /// Creates the router with the state that its handlers share.
                #vis fn new<I, S>(state: S) -> #krate::router::Router<Self, I, S>
                #bounds
                {
                    #krate::router::Router::new(state)
                }

                /// Creates the router with the state that its handlers share, to put layers on
                /// single handlers.
                #vis fn builder<I, S>(state: S) -> #krate::router::RouterBuilder<Self, I, S>
                #bounds
                {
                    #krate::router::Router::builder(state)
                }
            }
        }
    }

    /// One `Handles` per event: two for the same event are refused by coherence.
    fn expand_handles(&self) -> TokenStream {
        let (krate, ident) = (self.krate(), self.ident());
        let handled = self.indexed().map(|(index, handler)| {
            quote_spanned! {at(handler)=>
                #[automatically_derived]
                impl #krate::router::Handles<<#handler as #krate::handler::Handler>::Event>
                    for #ident
                {
                    const HANDLER: ::core::option::Option<::core::primitive::usize> =
                        ::core::option::Option::Some(#index);
                }
            }
        });
        let ignored = self.table.ignored.iter().map(|event| {
            quote_spanned! {at(event)=>
                #[automatically_derived]
                impl #krate::router::Handles<#event> for #ident {
                    const HANDLER: ::core::option::Option<::core::primitive::usize> =
                        ::core::option::Option::None;
                }
            }
        });
        quote!(#(#handled)* #(#ignored)*)
    }

    fn expand_checks(&self) -> TokenStream {
        let (krate, ident, events) = (self.krate(), self.ident(), &self.table.events);
        let handlers = self.table.handlers.iter().map(|handler| {
            let (events, event) = (moved(events, handler.span()), event_of(krate, handler));
            quote_spanned! {at(handler)=>
                const _: fn() = #krate::__private::event_of_the_set::<#events, #event>;
            }
        });
        let ignored = self.table.ignored.iter().map(|event| {
            let events = moved(events, event.span());
            quote_spanned! {at(event)=>
                const _: fn() = #krate::__private::event_of_the_set::<#events, #event>;
            }
        });
        let fallback = self.table.fallback.as_ref().map(|fallback| {
            let event = event_of(krate, fallback);
            quote_spanned! {at(fallback)=>
                const _: fn() = #krate::__private::fallback_handler::<#event>;
            }
        });
        quote! {
            const _: fn() = #krate::__private::every_event_is_handled::<#events, #ident>;
            #(#handlers)*
            #(#ignored)*
            #fallback
        }
    }

    fn expand_route_table(&self) -> TokenStream {
        let (krate, ident) = (self.krate(), self.ident());
        let name = ident.unraw().to_string();
        let handled = self.types_handled();
        let ignored = self.types_ignored();
        let event_types = if self.table.fallback.is_some() {
            quote!(::core::option::Option::None)
        } else {
            quote!(::core::option::Option::Some(&[#(#handled,)* #(#ignored,)*]))
        };
        let routes = (0..self.table.handlers.len()).map(|index| expand_route(krate, index));
        let all = self.indexed().map(|(index, handler)| {
            quote_spanned! {at(handler)=> #krate::router::HandlerRoute::of::<#handler>(#index) }
        });
        let unknown = if self.table.fallback.is_some() {
            expand_route(krate, self.table.handlers.len())
        } else {
            quote!(#krate::router::Route::Unknown)
        };
        quote! {
            #[automatically_derived]
            impl #krate::router::RouteTable for #ident {
                const NAME: &'static ::core::primitive::str = #name;
                const EVENT_TYPES: ::core::option::Option<
                    &'static [&'static ::core::primitive::str],
                > = #event_types;
                const HANDLERS: &'static [#krate::router::HandlerRoute] = &[#(#all),*];

                #[allow(unreachable_patterns, reason = "two equal names are an error of the set")]
                fn route(__event_type: &::core::primitive::str) -> #krate::router::Route {
                    match __event_type {
                        #(#handled => #routes,)*
                        #(#ignored => #krate::router::Route::Ignored,)*
                        _ => #unknown,
                    }
                }
            }
        }
    }

    fn expand_dispatch(&self) -> TokenStream {
        let (krate, ident) = (self.krate(), self.ident());
        let bounds = self.indexed().map(|(_, handler)| {
            quote_spanned! {at(handler)=> #handler: #krate::handler::Handle<__Inbox, __State>, }
        });
        let (handled, ignored) = (self.types_handled(), self.types_ignored());
        let calls = self
            .table
            .handlers
            .iter()
            .map(|handler| expand_call(krate, handler));
        let unknown = if let Some(fallback) = &self.table.fallback {
            expand_call(krate, fallback)
        } else {
            quote! {
                ::core::result::Result::Err(#krate::router::unknown(
                    <Self as #krate::router::RouteTable>::NAME,
                    &__delivery,
                ))
            }
        };
        quote! {
            #[automatically_derived]
            impl<__Inbox, __State> #krate::router::Dispatch<__Inbox, __State> for #ident
            where
                __Inbox: #krate::Inbox,
                __State: ::core::marker::Send + ::core::marker::Sync + 'static,
                #(#bounds)*
            {
                #[allow(unreachable_patterns, reason = "two equal names are an error of the set")]
                async fn dispatch(
                    __delivery: #krate::Delivery<__Inbox>,
                    __state: #krate::__private::Arc<__State>,
                ) -> ::core::result::Result<(), #krate::Failure> {
                    match __delivery.metadata().event_type.as_str() {
                        #(#handled => #calls,)*
                        #(#ignored => ::core::result::Result::Ok(()),)*
                        _ => #unknown,
                    }
                }
            }
        }
    }

    /// The struct, and implementations that are never called: they only keep other messages away.
    pub(super) fn expand_fallback(&self) -> TokenStream {
        let (krate, ident) = (self.krate(), self.ident());
        let item_struct = self.expand_struct();
        if !self.item_struct.generics.params.is_empty() {
            return item_struct;
        }
        let name = ident.unraw().to_string();
        let constructors = self.expand_constructors();
        quote! {
            #item_struct
            #constructors

            #[automatically_derived]
            impl<__Event> #krate::router::Handles<__Event> for #ident {
                const HANDLER: ::core::option::Option<::core::primitive::usize> =
                    ::core::option::Option::None;
            }

            #[automatically_derived]
            impl #krate::router::RouteTable for #ident {
                const NAME: &'static ::core::primitive::str = #name;
                const EVENT_TYPES: ::core::option::Option<
                    &'static [&'static ::core::primitive::str],
                > = ::core::option::Option::None;
                const HANDLERS: &'static [#krate::router::HandlerRoute] = &[];

                fn route(_: &::core::primitive::str) -> #krate::router::Route {
                    ::core::unreachable!()
                }
            }

            #[automatically_derived]
            impl<__Inbox, __State> #krate::router::Dispatch<__Inbox, __State> for #ident
            where
                __Inbox: #krate::Inbox,
                __State: ::core::marker::Send + ::core::marker::Sync + 'static,
            {
                async fn dispatch(
                    _: #krate::Delivery<__Inbox>,
                    _: #krate::__private::Arc<__State>,
                ) -> ::core::result::Result<(), #krate::Failure> {
                    ::core::unreachable!()
                }
            }
        }
    }

    /// The handlers with their places; the fallback comes last.
    fn indexed(&self) -> impl Iterator<Item = (usize, &Path)> {
        self.table
            .handlers
            .iter()
            .chain(&self.table.fallback)
            .enumerate()
    }

    fn types_handled(&self) -> Vec<TokenStream> {
        let types = self.table.handlers.iter().map(|handler| {
            let event = event_of(self.krate(), handler);
            type_of(self.krate(), &event)
        });
        types.collect()
    }

    fn types_ignored(&self) -> Vec<TokenStream> {
        let types = self
            .table
            .ignored
            .iter()
            .map(|event| type_of(self.krate(), event));
        types.collect()
    }

    fn krate(&self) -> &CratePath {
        &self.table.krate
    }

    fn ident(&self) -> &Ident {
        &self.item_struct.ident
    }
}

fn event_of(krate: &CratePath, handler: &Path) -> TokenStream {
    quote_spanned!(at(handler)=> <#handler as #krate::handler::Handler>::Event)
}

fn type_of(krate: &CratePath, event: &impl ToTokens) -> TokenStream {
    quote_spanned!(at(event)=> <#event as #krate::Event>::TYPE)
}

fn expand_route(krate: &CratePath, index: usize) -> TokenStream {
    quote!(#krate::router::Route::at::<Self>(#index))
}

fn expand_call(krate: &CratePath, handler: &Path) -> TokenStream {
    quote! {
        #krate::router::run::<#handler, __Inbox, __State>(__delivery, __state).await
    }
}
