//! `#[derive(EventSet)]`: a closed set of events.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{Data, DeriveInput, Fields, Type, Variant, ext::IdentExt};

use crate::{
    crate_path::CratePath,
    errors::Errors,
    spans::{at, moved},
    spelling,
};

pub(crate) fn derive(input: TokenStream) -> TokenStream {
    let input: DeriveInput = match syn::parse2(input) {
        Ok(input) => input,
        Err(error) => return error.into_compile_error(),
    };
    let mut errors = Errors::default();
    let set = EventSet::parse(&input, &mut errors);
    match errors.into_compile_errors() {
        None => set.expand(),
        Some(compile_errors) => {
            let fallback = set.expand_fallback(&input);
            quote!(#compile_errors #fallback)
        }
    }
}

struct EventSet<'a> {
    krate: CratePath,
    ident: &'a Ident,
    variants: Vec<(&'a Ident, &'a Type)>,
}

impl<'a> EventSet<'a> {
    fn parse(input: &'a DeriveInput, errors: &mut Errors) -> Self {
        if !input.generics.params.is_empty() {
            errors.at(&input.generics, "a set of events cannot be generic");
        }
        Self {
            krate: CratePath::of_attributes(&input.attrs, errors),
            ident: &input.ident,
            variants: variants(input, errors),
        }
    }

    fn expand(&self) -> TokenStream {
        let names = self.expand_names();
        let decoding = self.expand_decoding();
        let coverage = self.expand_coverage();
        let unique_names = self.expand_unique_names();
        let reading = self.expand_reading();
        quote! {
            #[allow(unused_qualifications, reason = "the types are as the user writes them")]
            const _: () = {
                #names
                #decoding
                #coverage
                #unique_names
                #reading
            };
        }
    }

    /// Names the events, each checked once: what failed its check has no type, and the compiler
    /// is silent about what is built on it.
    ///
    /// The names are not at the user's types: there, the compiler would suggest to make a type
    /// that does not resolve a parameter of ours.
    fn expand_names(&self) -> TokenStream {
        let names = self.events().map(|(name, ty)| {
            let krate = moved(&self.krate, at(ty));
            let check = Ident::new(check_of(ty), at(ty));
            let checked = quote_spanned! {at(ty)=>
                <#ty as #krate::__private::Checked<{
                    #krate::__private::#check::<#ty>()
                }>>::Type
            };
            quote!(type #name = #checked;)
        });
        quote!(#(#names)*)
    }

    fn expand_decoding(&self) -> TokenStream {
        let Self { krate, ident, .. } = self;
        let events: Vec<Ident> = self.events().map(|(name, _)| name).collect();
        let variants = self.variants.iter().map(|(variant, _)| variant);
        let places = 0..self.variants.len();
        quote! {
            #[automatically_derived]
            impl #krate::EventSet for #ident {
                const TYPES: &'static [&'static ::core::primitive::str] =
                    &[#(<#events as #krate::Event>::TYPE),*];

                fn decode(
                    __envelope: &#krate::Envelope,
                ) -> ::core::result::Result<Self, #krate::DecodeError> {
                    match #krate::__private::place_in::<Self>(__envelope) {
                        #(::core::option::Option::Some(#places) => {
                            #krate::__private::decode_into::<#events, Self>(__envelope, Self::#variants)
                        })*
                        _ => ::core::result::Result::Err(#krate::DecodeError::unknown_type(
                            &__envelope.metadata().event_type,
                        )),
                    }
                }
            }
        }
    }

    /// One `Contains` per event, of the type as it is written: two of the same are refused by
    /// coherence, at the second. The parameters, which there are not, are not at the type either.
    fn expand_coverage(&self) -> TokenStream {
        let Self { krate, ident, .. } = self;
        let contains = self.events().map(|(_, ty)| {
            let generics = quote!(<>);
            quote_spanned! {at(ty)=>
                #[automatically_derived]
                impl #generics #krate::event::Contains<#ty> for #ident {}
            }
        });
        let events = self.events().map(|(name, _)| name);
        quote! {
            #(#contains)*

            #[automatically_derived]
            #[diagnostic::do_not_recommend]
            impl<__Handler> #krate::event::Contains<#krate::__private::NoEvent<__Handler>>
                for #ident
            {}

            #[automatically_derived]
            impl<__Router> #krate::router::CoveredBy<__Router> for #ident
            where
                __Router: #(#krate::router::Handles<#events>)+*
            {}
        }
    }

    /// One assertion per event, at its type, that no event before it has its name on the wire.
    /// What they look up is found once.
    fn expand_unique_names(&self) -> TokenStream {
        let Self { krate, ident, .. } = self;
        let name = ident.unraw().to_string();
        let (count, first) = (self.variants.len(), format_ident!("__Event0"));
        let names = self.events().map(|(event, ty)| {
            let spelled = spelling::of(ty);
            quote!((#spelled, <#event as #krate::Event>::TYPE))
        });
        let assertions = self.events().enumerate().skip(1).map(|(index, (_, ty))| {
            quote_spanned!(at(ty)=> const _: () = __UNIQUE_NAMES.assert(#index);)
        });
        quote! {
            const __UNIQUE_NAMES: #krate::__private::UniqueNames<'static, #count> =
                #krate::__private::UniqueNames::of::<#ident, #first>(#name, &[#(#names),*]);
            #(#assertions)*
        }
    }

    /// Reads every field once, for a set that is only named: as the contract of a router.
    fn expand_reading(&self) -> TokenStream {
        let ident = self.ident;
        let variants = self.variants.iter().map(|(variant, _)| variant);
        quote! {
            const _: fn(&#ident) = |__set| match __set {
                #(#ident::#variants(__event) => {})*
            };
        }
    }

    /// Implementations that are never called: they only keep other messages away.
    fn expand_fallback(&self, input: &DeriveInput) -> TokenStream {
        let Self { krate, ident, .. } = self;
        let (impl_generics, ty_generics, where_clause) = input.generics.split_for_impl();
        let predicates = where_clause.map(|clause| clause.predicates.to_token_stream());
        let every_event = quote!(impl<__Other> #krate::event::Contains<__Other> for #ident {});
        let every_router = quote!(impl<__Other> #krate::router::CoveredBy<__Other> for #ident {});
        let for_everything = input
            .generics
            .params
            .is_empty()
            .then(|| quote!(#every_event #every_router));
        quote! {
            #[automatically_derived]
            impl #impl_generics #krate::EventSet for #ident #ty_generics
            where
                Self: ::core::marker::Sized + ::core::marker::Send + 'static,
                #predicates
            {
                const TYPES: &'static [&'static ::core::primitive::str] = &[];

                fn decode(
                    _: &#krate::Envelope,
                ) -> ::core::result::Result<Self, #krate::DecodeError> {
                    ::core::unreachable!()
                }
            }

            #for_everything
        }
    }

    /// The names of the events, with what the user wrote.
    fn events(&self) -> impl Iterator<Item = (Ident, &'a Type)> {
        let variants = self.variants.iter().enumerate();
        variants.map(|(index, (_, ty))| (format_ident!("__Event{index}"), *ty))
    }
}

/// What an event must pass. One with parameters is most often another type around an event, which
/// cannot be derived for.
fn check_of(ty: &Type) -> &'static str {
    let is_plain = match ty {
        Type::Path(path) => path
            .path
            .segments
            .iter()
            .all(|segment| segment.arguments.is_empty()),
        Type::Macro(_) => true,
        _ => false,
    };
    if is_plain {
        "is_event"
    } else {
        "variant_holds_event"
    }
}

/// The variants with their events; what is no such variant is reported.
fn variants<'a>(input: &'a DeriveInput, errors: &mut Errors) -> Vec<(&'a Ident, &'a Type)> {
    let data = match &input.data {
        Data::Enum(data) => data,
        Data::Struct(data) => {
            errors.at(
                data.struct_token,
                "a set of events is an enum whose variants each hold one event",
            );
            return Vec::new();
        }
        Data::Union(data) => {
            errors.at(
                data.union_token,
                "a set of events is an enum whose variants each hold one event",
            );
            return Vec::new();
        }
    };
    if data.variants.is_empty() {
        errors.at(
            &input.ident,
            "a set of events has at least one event; add a variant that holds one",
        );
    }
    let mut variants: Vec<(&Ident, &Type)> = Vec::with_capacity(data.variants.len());
    for variant in &data.variants {
        let Some(ty) = event_of(variant, errors) else {
            continue;
        };
        let same = |(_, earlier): &&(_, &Type)| spelling::of(earlier) == spelling::of(ty);
        match variants.iter().find(same) {
            Some((earlier, _)) => errors.at(
                ty,
                format!(
                    "`{}` is in the set twice, also in variant `{earlier}`; an event has one variant",
                    spelling::of(ty),
                ),
            ),
            None => variants.push((&variant.ident, ty)),
        }
    }
    variants
}

fn event_of<'a>(variant: &'a Variant, errors: &mut Errors) -> Option<&'a Type> {
    if let Fields::Unnamed(fields) = &variant.fields
        && fields.unnamed.len() == 1
        && let Some(field) = fields.unnamed.first()
    {
        return Some(&field.ty);
    }
    let name = &variant.ident;
    errors.at(
        variant,
        format!("variant `{name}` does not hold one event; write `{name}(OrderCreated)`"),
    );
    None
}
