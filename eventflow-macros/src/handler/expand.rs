//! What is written beside the function.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Attribute, ext::IdentExt};

use super::{Handler, signature::Output};
use crate::{duration, spans::at};

impl Handler {
    pub(super) fn expand(&self) -> TokenStream {
        let function = &self.function;
        let marker = self.expand_marker();
        let cfgs = self.cfgs();
        let params = self.expand_param_types();
        let publishes = self.expand_publishes();
        let handler = self.expand_handler(publishes.as_ref());
        let handle = self.expand_handle();
        quote! {
            #[allow(clippy::unused_async, reason = "a handler is async, whether it waits or not")]
            #function
            #marker
            #(#cfgs)*
            #[allow(deprecated, reason = "a deprecated function may be a handler")]
            const _: () = {
                #params
                #publishes
                #handler
                #handle
            };
        }
    }

    /// The struct that stands for the function among the types.
    ///
    /// The event is the default of a parameter, so that it is a part of the struct's type: where
    /// it does not resolve, the struct has no type either, and the compiler is silent about what
    /// is built on it. As an associated type alone, it would conflict with every other event.
    fn expand_marker(&self) -> TokenStream {
        let (cfgs, vis, ident) = (self.cfgs(), &self.function.vis, self.ident());
        let fields = self.signature.event.as_ref().map_or_else(
            || quote!({}),
            |event| quote!(<__Event = #event> { __event: ::core::marker::PhantomData<fn() -> __Event> }),
        );
        quote! {
            #(#cfgs)*
            #[doc(hidden)]
            #[allow(
                dead_code,
                missing_copy_implementations,
                missing_debug_implementations,
                non_camel_case_types,
                unnameable_types,
                unreachable_pub,
                reason = "it stands for the function among the types"
            )]
            #vis struct #ident #fields
        }
    }

    fn expand_handler(&self, publishes: Option<&TokenStream>) -> TokenStream {
        let (krate, ident) = (&self.options.krate, self.ident());
        let name = ident.unraw().to_string();
        let event = &self.signature.event;
        let transactional = self.expand_transactional();
        let publishes = publishes.map(|_| {
            quote!(
                const PUBLISHES: #krate::handler::Publishes = __PUBLISHES;
            )
        });
        let timeout = self.options.timeout.map(|timeout| {
            let timeout = duration::expand(timeout);
            quote! {
                const TIMEOUT: ::core::option::Option<::core::time::Duration> =
                    ::core::option::Option::Some(#timeout);
            }
        });
        let retry = self.options.retry.as_ref().map(|retry| {
            let (attempts, backoff) = (retry.attempts, duration::expand(retry.backoff));
            quote! {
                const RETRY: ::core::option::Option<#krate::handler::ImmediateRetry> =
                    ::core::option::Option::Some(
                        #krate::handler::ImmediateRetry::new(#attempts, #backoff)
                    );
            }
        });
        let replay_safe = self.options.replay_safe.then(|| {
            quote!(
                const REPLAY_SAFE: ::core::primitive::bool = true;
            )
        });
        quote! {
            #[automatically_derived]
            impl #krate::handler::Handler for #ident {
                type Event = #event;
                const NAME: &'static ::core::primitive::str = #name;
                const TRANSACTIONAL: ::core::primitive::bool = #transactional;
                #publishes
                #replay_safe
                #timeout
                #retry
            }
        }
    }

    fn expand_handle(&self) -> TokenStream {
        let (krate, ident) = (&self.options.krate, self.ident());
        let bounds = self.expand_param_bounds();
        let (names, arguments) = (self.arguments(), self.expand_arguments());
        let output = match &self.signature.output {
            Output::Unit => quote!(()),
            Output::Type(ty) => ty.to_token_stream(),
        };
        // The future must be `Send`; a message about that is about the function.
        let handle = Ident::new("handle", at(ident));
        // The names in the body are not those of the user, whose function may have the same.
        let parameters = quote_spanned! {Span::mixed_site()=>
            __delivery: &#krate::Delivery<__Inbox>,
            __state: &__State,
            __transaction: &mut #krate::delivery::Transaction<__Inbox>,
        };
        let answer = quote!(<#output as #krate::handler::HandlerOutput>::into_result);
        let handle = if self.waits_for_arguments() {
            let body = quote_spanned! {Span::mixed_site()=>
                let __event = #krate::__private::event_of::<Self, _>(__delivery)?;
                #arguments
            };
            quote_spanned! {Span::mixed_site()=>
                async fn #handle(
                    #parameters
                ) -> ::core::result::Result<(), #krate::Failure> {
                    #body
                    #answer(#ident(__event, #(#names),*).await)
                }
            }
        } else {
            // No future of its own around the function's: that it is `Send` would be proved anew
            // for every handler, over all that a delivery holds.
            quote_spanned! {Span::mixed_site()=>
                fn #handle(
                    #parameters
                ) -> impl ::core::future::Future<
                    Output = ::core::result::Result<(), #krate::Failure>
                > + ::core::marker::Send {
                    let __function = 'arguments: {
                        let __event = match #krate::__private::event_of::<Self, _>(__delivery) {
                            ::core::result::Result::Ok(__event) => __event,
                            ::core::result::Result::Err(__failure) => {
                                break 'arguments ::core::result::Result::Err(__failure);
                            }
                        };
                        #arguments
                        ::core::result::Result::Ok(#ident(__event, #(#names),*))
                    };
                    #krate::__private::call(__function, #answer)
                }
            }
        };
        quote! {
            #[automatically_derived]
            impl<__Inbox, __State> #krate::handler::Handle<__Inbox, __State> for #ident
            where
                __Inbox: #krate::Inbox,
                __State: ::core::marker::Send + ::core::marker::Sync + 'static,
                #bounds
            {
                #[allow(unused_variables, reason = "not every handler takes from all of them")]
                #handle
            }
        }
    }

    /// The function, and implementations that are never called: they only keep other messages
    /// away.
    pub(super) fn expand_fallback(&self) -> TokenStream {
        let (krate, function, ident) = (&self.options.krate, &self.function, self.ident());
        if self.signature.is_method {
            return quote!(#function);
        }
        let name = ident.unraw().to_string();
        let (marker, cfgs) = (self.expand_marker(), self.cfgs());
        let event = if let Some(event) = &self.signature.event {
            event.to_token_stream()
        } else {
            quote!(#krate::__private::NoEvent<#ident>)
        };
        quote! {
            #function
            #marker
            #(#cfgs)*
            const _: () = {
                #[automatically_derived]
                impl #krate::handler::Handler for #ident {
                    type Event = #event;
                    const NAME: &'static ::core::primitive::str = #name;
                    const TRANSACTIONAL: ::core::primitive::bool = false;
                }

                #[automatically_derived]
                impl<__Inbox, __State> #krate::handler::Handle<__Inbox, __State> for #ident
                where
                    __Inbox: #krate::Inbox,
                    __State: ::core::marker::Send + ::core::marker::Sync + 'static,
                {
                    async fn handle(
                        _: &#krate::Delivery<__Inbox>,
                        _: &__State,
                        _: &mut #krate::delivery::Transaction<__Inbox>,
                    ) -> ::core::result::Result<(), #krate::Failure> {
                        ::core::unreachable!()
                    }
                }
            };
        }
    }

    fn ident(&self) -> &Ident {
        &self.function.sig.ident
    }

    fn cfgs(&self) -> Vec<&Attribute> {
        self.function
            .attrs
            .iter()
            .filter(|attribute| attribute.path().is_ident("cfg"))
            .collect()
    }
}
