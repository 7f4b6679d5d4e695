//! `#[derive(Classify)]`: what is to happen with an event whose handler failed with this error.

use std::time::Duration;

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote};
use syn::{Attribute, Data, DeriveInput, Field, Fields, Member, Type};

use crate::{
    crate_path::CratePath,
    duration,
    errors::Errors,
    options::{self, AttributeOption},
};

const KNOWN: &str = "`retry`, `retry_after = \"30s\"`, `dead_letter` or `transparent`";

pub(crate) fn derive(input: TokenStream) -> TokenStream {
    let input: DeriveInput = match syn::parse2(input) {
        Ok(input) => input,
        Err(error) => return error.into_compile_error(),
    };
    let mut errors = Errors::default();
    let krate = CratePath::of_attributes(&input.attrs, &mut errors);
    let cases = cases(&input, &mut errors);
    let compile_errors = errors.into_compile_errors();
    let expanded = if compile_errors.is_none() {
        let (kinds, inner) = (expand_kinds(&krate, &cases), expand_inner(&krate, &cases));
        expand(&input, &krate, &kinds, &inner)
    } else {
        let unreachable = quote!(::core::unreachable!());
        expand(&input, &krate, &unreachable, &unreachable)
    };
    quote!(#compile_errors #expanded)
}

/// A variant, or the whole struct, and what is to happen with the event.
struct Case<'a> {
    /// `None` for a struct.
    variant: Option<&'a Ident>,
    verdict: Verdict<'a>,
    /// The field that holds the cause.
    source: Option<Member>,
}

enum Verdict<'a> {
    Retry,
    RetryAfter(Duration),
    DeadLetter,
    /// The error inside says.
    Transparent(Member, &'a Type),
}

fn cases<'a>(input: &'a DeriveInput, errors: &mut Errors) -> Vec<Case<'a>> {
    let is_generic = input.generics.type_params().next().is_some();
    match &input.data {
        Data::Struct(data) => vec![Case {
            variant: None,
            verdict: verdict(&input.attrs, &data.fields, errors),
            source: source(&input.attrs, &data.fields, is_generic),
        }],
        Data::Enum(data) => {
            for option in options::of_attributes(&input.attrs, "classify", errors) {
                errors.at(
                    &option,
                    "`#[classify]` goes on the variants of an enum; without one a variant is retried",
                );
            }
            data.variants
                .iter()
                .map(|variant| Case {
                    variant: Some(&variant.ident),
                    verdict: verdict(&variant.attrs, &variant.fields, errors),
                    source: source(&variant.attrs, &variant.fields, is_generic),
                })
                .collect()
        }
        Data::Union(data) => {
            errors.at(
                data.union_token,
                "an error is an enum or a struct, not a union",
            );
            Vec::new()
        }
    }
}

/// The field that thiserror takes for the cause: the one of a transparent error, one that is marked
/// so, or named so. One that may be empty, or of a type that may be no error, is left to `source()`.
fn source(attributes: &[Attribute], fields: &Fields, is_generic: bool) -> Option<Member> {
    if is_generic {
        return None;
    }
    let is_transparent = attributes.iter().any(is_transparent);
    let is_marked = |field: &Field| {
        let mut attributes = field.attrs.iter();
        attributes.any(|attribute| {
            attribute.path().is_ident("from") || attribute.path().is_ident("source")
        })
    };
    let mut members = fields.members().zip(fields);
    members.find_map(|(member, field)| {
        let is_named = field.ident.as_ref().is_some_and(|name| name == "source");
        let is_cause = is_transparent || is_named || is_marked(field);
        (is_cause && !is_option(&field.ty)).then_some(member)
    })
}

/// `#[error(transparent)]`, which is thiserror's.
fn is_transparent(attribute: &Attribute) -> bool {
    let word = attribute.parse_args::<Ident>();
    attribute.path().is_ident("error") && word.is_ok_and(|word| word == "transparent")
}

fn is_option(ty: &Type) -> bool {
    let Type::Path(path) = ty else {
        return false;
    };
    let last = path.path.segments.last();
    last.is_some_and(|segment| segment.ident == "Option")
}

fn verdict<'a>(attributes: &[Attribute], fields: &'a Fields, errors: &mut Errors) -> Verdict<'a> {
    let options = options::of_attributes(attributes, "classify", errors);
    if let [_, second, ..] = options.as_slice() {
        errors.at(
            second,
            format!("`#[classify]` takes one of {KNOWN}; remove the others"),
        );
    }
    let verdict = options
        .first()
        .and_then(|option| errors.take(verdict_of(option, fields)));
    verdict.unwrap_or(Verdict::Retry)
}

fn verdict_of<'a>(option: &AttributeOption, fields: &'a Fields) -> syn::Result<Verdict<'a>> {
    if option.name == "retry" {
        option.flag().map(|()| Verdict::Retry)
    } else if option.name == "retry_after" {
        let text = option.text("retry_after = \"30s\"")?;
        duration::parse(&text).map(Verdict::RetryAfter)
    } else if option.name == "dead_letter" {
        option.flag().map(|()| Verdict::DeadLetter)
    } else if option.name == "transparent" {
        option.flag()?;
        let mut members = fields.members().zip(fields);
        match (members.next(), members.next()) {
            (Some((member, field)), None) => Ok(Verdict::Transparent(member, &field.ty)),
            _ => Err(syn::Error::new(
                option.name.span(),
                "`transparent` asks the error inside, so there must be exactly one field",
            )),
        }
    } else {
        Err(option.unknown("`#[classify]`", KNOWN))
    }
}

fn expand_kinds(krate: &CratePath, cases: &[Case<'_>]) -> TokenStream {
    if cases.is_empty() {
        return quote!(match *self {});
    }
    let arms = cases.iter().map(|case| {
        let variant = case.variant.map(|variant| quote!(::#variant));
        let name = quote!(Self #variant);
        let kind = quote!(#krate::handler::FailureKind);
        match &case.verdict {
            Verdict::Retry => quote!(#name { .. } => #kind::Retry,),
            Verdict::DeadLetter => quote!(#name { .. } => #kind::DeadLetter,),
            Verdict::RetryAfter(delay) => {
                let delay = duration::expand(*delay);
                quote!(#name { .. } => #kind::RetryAfter(#delay),)
            }
            Verdict::Transparent(member, ty) => quote! {
                #name { #member: __inner } => <#ty as #krate::Classify>::classify(__inner),
            },
        }
    });
    quote! {
        match self {
            #(#arms)*
        }
    }
}

/// The cause itself: of a transparent error, `source()` gives only what is behind it.
fn expand_inner(krate: &CratePath, cases: &[Case<'_>]) -> TokenStream {
    let arms = cases.iter().filter_map(|case| {
        let variant = case.variant.map(|variant| quote!(::#variant));
        let inner = match (&case.verdict, &case.source) {
            (Verdict::Transparent(member, ty), _) => quote! {
                Self #variant { #member: __inner, .. } => {
                    match <#ty as #krate::Classify>::inner(__inner) {
                        ::core::option::Option::None => ::core::option::Option::Some(__inner),
                        __inner => __inner,
                    }
                }
            },
            (_, Some(member)) => quote! {
                Self #variant { #member: __inner, .. } => {
                    use #krate::__private::AsDynError as _;
                    ::core::option::Option::Some(__inner.as_dyn_error())
                }
            },
            (_, None) => return None,
        };
        Some(inner)
    });
    quote! {
        #[allow(unreachable_patterns, reason = "every case may have a cause")]
        match self {
            #(#arms)*
            _ => ::core::option::Option::None,
        }
    }
}

fn expand(
    input: &DeriveInput,
    krate: &CratePath,
    kinds: &TokenStream,
    inner: &TokenStream,
) -> TokenStream {
    let ident = &input.ident;
    let (impl_generics, ty_generics, where_clause) = input.generics.split_for_impl();
    // A bound without parameters is checked at once, and would only repeat the trait's own.
    let is_error = (!input.generics.params.is_empty()).then(|| {
        quote! {
            Self: ::core::error::Error
                + ::core::marker::Send
                + ::core::marker::Sync
                + 'static,
        }
    });
    let predicates = where_clause.map(|clause| clause.predicates.to_token_stream());
    quote! {
        #[automatically_derived]
        impl #impl_generics #krate::Classify for #ident #ty_generics
        where
            #is_error
            #predicates
        {
            fn classify(&self) -> #krate::handler::FailureKind {
                #kinds
            }

            fn inner(
                &self,
            ) -> ::core::option::Option<&(dyn ::core::error::Error + 'static)> {
                #inner
            }
        }
    }
}
