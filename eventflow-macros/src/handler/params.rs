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
                Param::Connection(ty) => (ty, "handler_transaction"),
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
        quote!(#(#types)*)
    }

    /// Whether any parameter is the transaction, as a constant expression.
    pub(super) fn expand_transactional(&self) -> TokenStream {
        let krate = &self.options.krate;
        let transactional = self.params().map(|(index, param)| match param {
            Param::Connection(_) => quote!(true),
            Param::Part(_) => quote!(false),
            Param::Value(ty) => {
                let checked = checked(index, ty);
                quote!(<#checked as #krate::handler::HandlerParam>::TRANSACTIONAL)
            }
        });
        quote!(false #(|| #transactional)*)
    }

    /// What the inbox and the router's state must have.
    pub(super) fn expand_param_bounds(&self) -> TokenStream {
        let krate = &self.options.krate;
        let bounds = self.params().filter_map(|(index, param)| {
            let (ty, source) = match param {
                Param::Connection(ty) => (
                    ty,
                    quote!(#krate::handler::param::ConnectionOf<__Inbox, Self>),
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
        let arguments = self.params().map(|(index, param)| {
            let name = argument(index);
            let value = match param {
                Param::Connection(ty) => {
                    let checked = checked(index, ty);
                    let connection = if self.waits_for_arguments() {
                        quote_spanned!(Span::mixed_site()=> __transaction.connection()?)
                    } else {
                        quote_spanned! {Span::mixed_site()=>
                            match __transaction.connection() {
                                ::core::result::Result::Ok(__connection) => __connection,
                                ::core::result::Result::Err(__failure) => {
                                    break 'arguments ::core::result::Result::Err(__failure);
                                }
                            }
                        }
                    };
                    quote_spanned! {Span::mixed_site()=>
                        <#checked as #krate::handler::param::ConnectionOf<__Inbox, Self>>::of(
                            #connection
                        )
                    }
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
        quote!(#(#arguments)*)
    }

    /// Whether an argument comes from a future of its own.
    pub(super) fn waits_for_arguments(&self) -> bool {
        self.params()
            .any(|(_, param)| matches!(param, Param::Value(_)))
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
