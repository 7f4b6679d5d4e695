//! The table as code: the places of the event types, the handlers in tuples, and bounds that check it
//! whole.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{ext::IdentExt, spanned::Spanned};

use super::{Router, names};
use crate::{
    crate_path::CratePath,
    spans::{at, moved},
};

/// `HandleAll` is implemented for tuples of so many.
const LONGEST_TUPLE: usize = 16;

impl Router {
    pub(super) fn expand(&self) -> TokenStream {
        let item_struct = self.expand_struct();
        let constructors = self.expand_constructors();
        let names = self.expand_names();
        let handles = self.expand_handles();
        let checks = self.expand_checks();
        let route_table = self.expand_route_table();
        let dispatch = self.expand_dispatch();
        quote! {
            #item_struct
            #constructors
            const _: () = {
                #names
                #handles
                #checks
                #route_table
                #dispatch
            };
        }
    }

    fn expand_struct(&self) -> TokenStream {
        let item_struct = &self.item_struct;
        quote! {
            #[allow(dead_code, reason = "a router is named as a type and never made")]
            #item_struct
        }
    }

    /// They ask whether the handlers run on the inbox with the state; nothing after them asks again.
    fn expand_constructors(&self) -> TokenStream {
        let (krate, ident, vis) = (self.krate(), self.ident(), &self.item_struct.vis);
        let bounds = quote! {
            where
                I: #krate::router::Runs<Self, S>,
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
        let krate = self.krate();
        let handled = self
            .handled()
            .enumerate()
            .map(|(index, event)| self.expand_handled(&event, &quote!(HandlerAt<#index>)));
        let ignored = self
            .ignored()
            .map(|event| self.expand_handled(&names::unchecked(&event), &quote!(Ignored)));
        let fallback = self.table.fallback.as_ref().map(|_| {
            let index = self.table.handlers.len();
            self.expand_handled(&quote!(#krate::Envelope), &quote!(HandlerAt<#index>))
        });
        quote!(#(#handled)* #(#ignored)* #fallback)
    }

    fn expand_handled(&self, event: &(impl ToTokens + Spanned), by: &TokenStream) -> TokenStream {
        let (krate, ident) = (self.krate(), self.ident());
        quote_spanned! {event.span()=>
            #[automatically_derived]
            impl #krate::router::Handles<#event> for #ident {
                type By = #krate::router::#by;
            }
        }
    }

    /// Checks that handlers take what they should, and that the router and its set know the same
    /// events.
    fn expand_checks(&self) -> TokenStream {
        let krate = self.krate();
        let covered = self.table.events.as_ref().map(|set| {
            let (events, router) = (names::events(at(set)), names::router(at(set)));
            quote! {
                const _: fn() = #krate::__private::every_event_is_handled::<#events, #router>;
            }
        });
        let handlers = self.table.handlers_and_fallback().map(|(index, path)| {
            let krate = moved(krate, path.span());
            let (handler, input) = (
                names::handler(index, at(path)),
                names::input(index, at(path)),
            );
            let check = if index < self.table.handlers.len() {
                Ident::new("handler_takes_event", at(path))
            } else {
                Ident::new("fallback_takes_envelope", at(path))
            };
            quote_spanned!(at(path)=> #krate::__private::#check::<#handler, #input>();)
        });
        let events = self.handled().chain(self.ignored()).map(|event| {
            let (set, krate) = (names::events(event.span()), moved(krate, event.span()));
            quote_spanned!(event.span()=> #krate::__private::event_of_the_set::<#set, #event>();)
        });
        quote! {
            #covered
            const _: fn() = || {
                #(#handlers)*
                #(#events)*
            };
        }
    }

    fn expand_route_table(&self) -> TokenStream {
        let (krate, ident) = (self.krate(), self.ident());
        let name = ident.unraw().to_string();
        let (events, ignored) = (self.handled(), self.ignored());
        let fallback = self.table.fallback.is_some();
        let types = self.table.handlers.len() + self.table.ignored.len();
        // So many that half of them are free.
        let slots = (types * 2).next_power_of_two();
        let all = self.table.handlers_and_fallback().map(|(index, path)| {
            let handler = names::handler(index, at(path));
            quote!(#krate::router::HandlerRoute::of::<#handler>(#index))
        });
        quote! {
            #[automatically_derived]
            impl #krate::router::RouteTable for #ident {
                const NAME: &'static ::core::primitive::str = #name;
                const NAMED_TYPES: &'static [&'static ::core::primitive::str] = &[
                    #(<#events as #krate::__private::EventType>::TYPE,)*
                    #(<#ignored as #krate::Event>::TYPE,)*
                ];
                const FALLBACK: ::core::primitive::bool = #fallback;
                const HANDLERS: &'static [#krate::router::HandlerRoute] = &[#(#all),*];

                fn place(__event_type: &::core::primitive::str) -> ::core::option::Option<::core::primitive::usize> {
                    static __PLACES: #krate::router::Places<#slots> = #krate::router::Places::of(
                        <#ident as #krate::router::RouteTable>::NAMED_TYPES,
                    );
                    __PLACES.find(__event_type)
                }
            }
        }
    }

    fn expand_dispatch(&self) -> TokenStream {
        let (krate, ident) = (self.krate(), self.ident());
        let handlers = self.table.handlers_and_fallback();
        let handlers = handlers.map(|(index, path)| names::handler(index, at(path)));
        let handlers = expand_tuples(
            krate,
            &handlers.map(Ident::into_token_stream).collect::<Vec<_>>(),
        );
        quote! {
            type __Handlers = #handlers;

            #[automatically_derived]
            impl<__Inbox, __State> #krate::router::Dispatch<__Inbox, __State> for #ident
            where
                __Inbox: #krate::Inbox,
                __State: ::core::marker::Send + ::core::marker::Sync + 'static,
                __Handlers: #krate::router::HandleAll<__Inbox, __State>,
            {
                fn dispatch(
                    __delivery: #krate::Delivery<__Inbox>,
                    __state: #krate::__private::Arc<__State>,
                ) -> #krate::router::ResponseFuture<Self> {
                    #krate::router::dispatch::<Self, __Handlers, __Inbox, __State>(
                        __delivery,
                        __state,
                    )
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
                type By = #krate::router::HandlerAt<0>;
            }

            #[automatically_derived]
            impl #krate::router::RouteTable for #ident {
                const NAME: &'static ::core::primitive::str = #name;
                const NAMED_TYPES: &'static [&'static ::core::primitive::str] = &[];
                const FALLBACK: ::core::primitive::bool = true;
                const HANDLERS: &'static [#krate::router::HandlerRoute] = &[];

                fn place(
                    _: &::core::primitive::str,
                ) -> ::core::option::Option<::core::primitive::usize> {
                    ::core::unreachable!()
                }
            }

            #[automatically_derived]
            impl<__Inbox, __State> #krate::router::Dispatch<__Inbox, __State> for #ident
            where
                __Inbox: #krate::Inbox,
                __State: ::core::marker::Send + ::core::marker::Sync + 'static,
            {
                fn dispatch(
                    _: #krate::Delivery<__Inbox>,
                    _: #krate::__private::Arc<__State>,
                ) -> #krate::router::ResponseFuture<Self> {
                    ::core::unreachable!()
                }
            }
        }
    }

    /// The names of the events that are handled.
    fn handled(&self) -> impl Iterator<Item = Ident> {
        let handlers = self.table.handlers.iter().enumerate();
        handlers.map(|(index, handler)| names::event(index, at(handler)))
    }

    /// The names of the events that are ignored.
    fn ignored(&self) -> impl Iterator<Item = Ident> {
        let ignored = self.table.ignored.iter().enumerate();
        ignored.map(|(index, event)| names::ignored(index, at(event)))
    }

    fn krate(&self) -> &CratePath {
        &self.table.krate
    }

    fn ident(&self) -> &Ident {
        &self.item_struct.ident
    }
}

/// The handlers as one type: a tuple, or a tree of them where one would be too long.
fn expand_tuples(krate: &CratePath, handlers: &[TokenStream]) -> TokenStream {
    let tuples = |types: &[TokenStream]| -> Vec<TokenStream> {
        let groups = types.chunks(LONGEST_TUPLE);
        groups.map(|group| quote!((#(#group,)*))).collect()
    };
    let mut groups = tuples(handlers);
    while groups.len() > 1 {
        let above = tuples(&groups).into_iter();
        groups = above
            .map(|group| quote!(#krate::router::Groups<#group>))
            .collect();
    }
    groups.pop().unwrap_or_else(|| quote!(()))
}
