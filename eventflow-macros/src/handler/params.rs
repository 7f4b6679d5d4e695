//! The parameters after the event: what each must be, and where it comes from.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::Type;

use super::{Handler, signature::Param};
use crate::spans::{at, moved};

impl Handler {
    /// Names the types that bounds stand on, each checked once: what failed its check has no
    /// type, and the compiler is silent about what is built on it, here and at the router.
    pub(super) fn expand_param_types(&self) -> TokenStream {
        let types = self.params().filter_map(|(index, param)| {
            let (ty, check) = match param {
                Param::Transaction(ty) => (ty, "handler_transaction"),
                Param::Value(ty) => (ty, "handler_parameter"),
                Param::Part(_) => return None,
            };
            let (name, check) = (checked(index, ty), Ident::new(check, at(ty)));
            let krate = moved(&self.options.krate, at(ty));
            Some(quote_spanned! {at(ty)=>
                type #name = <#ty as #krate::__private::Checked<{
                    #krate::__private::#check::<#ty>()
                }>>::Type;
            })
        });
        let two_parts = self.expand_two_parts();
        quote!(#(#types)* #two_parts)
    }

    /// Checks that two `&mut` parameters are not the same part of the transaction.
    fn expand_two_parts(&self) -> Option<TokenStream> {
        let mut parts = self.transaction_parts();
        let (Some((first, first_ty)), Some((second, ty))) = (parts.next(), parts.next()) else {
            return None;
        };
        let (first, second) = (checked(first, first_ty), checked(second, ty));
        let krate = moved(&self.options.krate, at(ty));
        Some(quote_spanned! {at(ty)=>
            const _: () = #krate::__private::two_parts::<#first, #second>();
        })
    }

    /// Whether any parameter is a part of the transaction, as a constant expression.
    pub(super) fn expand_transactional(&self) -> TokenStream {
        let krate = &self.options.krate;
        let transactional = self.params().map(|(index, param)| match param {
            Param::Transaction(_) => quote!(true),
            Param::Part(_) => quote!(false),
            Param::Value(ty) => {
                let checked = checked(index, ty);
                quote!(<#checked as #krate::handler::HandlerParam>::TRANSACTIONAL)
            }
        });
        quote!(false #(|| #transactional)*)
    }

    /// What the handler publishes, unless it is known to be nothing. A constant of its own is evaluated
    /// also where nobody uses the handler.
    pub(super) fn expand_publishes(&self) -> Option<TokenStream> {
        let krate = &self.options.krate;
        let is_outbox = self.transaction_parts().map(|(index, ty)| {
            let checked = checked(index, ty);
            quote!(<#checked as #krate::handler::param::TransactionPart>::IS_OUTBOX)
        });
        let takes_outbox = quote!(false #(|| #is_outbox)*);
        let (at_option, declared) = match &self.options.publishes {
            Some((option, events)) => {
                let types = events
                    .iter()
                    .map(|event| quote_spanned!(at(event)=> <#event as #krate::Event>::TYPE));
                (
                    option.span(),
                    quote!(::core::option::Option::Some(&[#(#types),*])),
                )
            }
            None if self.transaction_parts().next().is_none() => return None,
            None => (Span::mixed_site(), quote!(::core::option::Option::None)),
        };
        let krate = moved(krate, at_option);
        Some(quote_spanned! {at_option=>
            const __PUBLISHES: #krate::handler::Publishes =
                #krate::__private::publishes(#takes_outbox, #declared);
        })
    }

    /// What the inbox and the router's state must have.
    pub(super) fn expand_param_bounds(&self) -> TokenStream {
        let krate = &self.options.krate;
        let bounds = self.params().filter_map(|(index, param)| {
            let (ty, source) = match param {
                Param::Transaction(ty) => (
                    ty,
                    quote!(#krate::handler::param::TransactionPartOf<__Inbox, Self>),
                ),
                Param::Value(ty) => (ty, quote!(#krate::handler::FromDelivery<__Inbox, __State>)),
                Param::Part(_) => return None,
            };
            let checked = checked(index, ty);
            Some(quote_spanned!(at(ty)=> #checked: #source,))
        });
        quote!(#(#bounds)*)
    }

    /// The names of the arguments.
    pub(super) fn arguments(&self) -> Vec<Ident> {
        self.params().map(|(index, _)| argument(index)).collect()
    }

    /// Takes the arguments from the delivery, the state and the transaction.
    pub(super) fn expand_arguments(&self) -> TokenStream {
        let krate = &self.options.krate;
        let lent = self.transaction_parts().next().map(|_| {
            let lent = self.or_fail(&quote_spanned!(Span::mixed_site()=> __transaction.lend()));
            quote_spanned!(Span::mixed_site()=> let mut __lent = #lent;)
        });
        let arguments = self.params().map(|(index, param)| {
            let name = argument(index);
            let value = match param {
                Param::Transaction(ty) => {
                    let checked = checked(index, ty);
                    self.or_fail(&quote_spanned! {Span::mixed_site()=>
                        <#checked as #krate::handler::param::TransactionPartOf<
                            __Inbox,
                            Self,
                        >>::take_from(&mut __lent)
                    })
                }
                Param::Part(ty) => quote_spanned! {Span::mixed_site()=>
                    <#ty as #krate::handler::param::PartOfDelivery>::part_of(__delivery)
                },
                Param::Value(ty) => {
                    let checked = checked(index, ty);
                    quote_spanned! {Span::mixed_site()=>
                        <#checked as #krate::handler::FromDelivery<__Inbox, __State>>::from_delivery(
                            __delivery,
                            __state,
                        )
                        .await?
                    }
                }
            };
            quote_spanned!(Span::mixed_site()=> let #name = #value;)
        });
        quote!(#lent #(#arguments)*)
    }

    /// What a result holds, or else the end of the call.
    fn or_fail(&self, result: &TokenStream) -> TokenStream {
        if self.waits_for_arguments() {
            return quote_spanned!(Span::mixed_site()=> #result?);
        }
        quote_spanned! {Span::mixed_site()=>
            match #result {
                ::core::result::Result::Ok(__part) => __part,
                ::core::result::Result::Err(__failure) => {
                    break 'arguments ::core::result::Result::Err(__failure);
                }
            }
        }
    }

    /// Whether an argument comes from a future of its own.
    pub(super) fn waits_for_arguments(&self) -> bool {
        self.params()
            .any(|(_, param)| matches!(param, Param::Value(_)))
    }

    /// The parameters that are parts of the transaction, with their places.
    fn transaction_parts(&self) -> impl Iterator<Item = (usize, &Type)> {
        self.params().filter_map(|(index, param)| match param {
            Param::Transaction(ty) => Some((index, ty)),
            Param::Part(_) | Param::Value(_) => None,
        })
    }

    fn params(&self) -> impl Iterator<Item = (usize, &Param)> {
        self.signature.params.iter().enumerate()
    }
}

/// The type of the parameter at this place, once its check has passed.
fn checked(index: usize, ty: &Type) -> Ident {
    format_ident!("__Parameter{index}", span = at(ty))
}

fn argument(index: usize) -> Ident {
    format_ident!("__argument_{index}", span = Span::mixed_site())
}
