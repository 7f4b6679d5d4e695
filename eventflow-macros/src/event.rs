//! `#[derive(Event)]`: a struct with a name on the wire.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote};
use syn::{Data, DataStruct, DeriveInput, Field, Fields, Member, Type, ext::IdentExt};

use crate::{crate_path::CratePath, errors::Errors, options};

/// The column `event_type` holds so many characters.
const LONGEST_TYPE: usize = 128;

pub(crate) fn derive(input: TokenStream) -> TokenStream {
    let input: DeriveInput = match syn::parse2(input) {
        Ok(input) => input,
        Err(error) => return error.into_compile_error(),
    };
    let mut errors = Errors::default();
    let event = Event::parse(&input, &mut errors);
    match errors.into_compile_errors() {
        None => event.expand(),
        Some(compile_errors) => {
            let fallback = event.expand_fallback(&input);
            quote!(#compile_errors #fallback)
        }
    }
}

struct Event<'a> {
    krate: CratePath,
    ident: &'a Ident,
    wire_name: String,
    aggregate_id: Option<(Member, &'a Type)>,
    /// With no fields it is `{}`, and needs no serde.
    has_fields: bool,
}

impl<'a> Event<'a> {
    fn parse(input: &'a DeriveInput, errors: &mut Errors) -> Self {
        let fields = check_shape(input, errors);
        Self {
            krate: CratePath::of_attributes(&input.attrs, errors),
            ident: &input.ident,
            wire_name: wire_name(input, errors),
            aggregate_id: fields.and_then(|fields| aggregate_id(fields, errors)),
            has_fields: fields.is_some_and(|fields| !fields.is_empty()),
        }
    }

    fn expand(&self) -> TokenStream {
        let Self {
            krate,
            ident,
            wire_name,
            ..
        } = self;
        let aggregate_id = if let Some((member, ty)) = &self.aggregate_id {
            quote! {
                ::core::option::Option::Some(
                    <#ty as #krate::__private::AggregateId>::aggregate_id(&self.#member)
                )
            }
        } else {
            quote!(::core::option::Option::None)
        };
        let (encode, decode) = if self.has_fields {
            (
                quote!(<Self as #krate::__private::JsonEvent>::write(self)),
                quote!(<Self as #krate::__private::JsonEvent>::read(__payload)),
            )
        } else {
            (
                quote!(::core::result::Result::Ok(#krate::Payload::empty())),
                quote!(::core::result::Result::Ok(Self {})),
            )
        };
        quote! {
            #[automatically_derived]
            impl #krate::Event for #ident {
                const TYPE: &'static ::core::primitive::str = #wire_name;

                fn aggregate_id(&self) -> ::core::option::Option<#krate::__private::Uuid> {
                    #aggregate_id
                }

                fn encode(&self) -> ::core::result::Result<#krate::Payload, #krate::EncodeError> {
                    #encode
                }

                fn decode(
                    __payload: &#krate::Payload,
                ) -> ::core::result::Result<Self, #krate::DecodeError> {
                    #decode
                }
            }
        }
    }

    /// An implementation that is never called: it only keeps other messages away.
    fn expand_fallback(&self, input: &DeriveInput) -> TokenStream {
        let Self { krate, ident, .. } = self;
        let name = ident.unraw().to_string();
        let (impl_generics, ty_generics, where_clause) = input.generics.split_for_impl();
        let predicates = where_clause.map(|clause| clause.predicates.to_token_stream());
        quote! {
            #[automatically_derived]
            impl #impl_generics #krate::Event for #ident #ty_generics
            where
                Self: ::core::marker::Sized + ::core::marker::Send + 'static,
                #predicates
            {
                const TYPE: &'static ::core::primitive::str = #name;

                fn aggregate_id(&self) -> ::core::option::Option<#krate::__private::Uuid> {
                    ::core::unreachable!()
                }

                fn encode(&self) -> ::core::result::Result<#krate::Payload, #krate::EncodeError> {
                    ::core::unreachable!()
                }

                fn decode(
                    _: &#krate::Payload,
                ) -> ::core::result::Result<Self, #krate::DecodeError> {
                    ::core::unreachable!()
                }
            }
        }
    }
}

/// Checks that the item is a struct of a shape that is written as an object; answers its fields.
fn check_shape<'a>(input: &'a DeriveInput, errors: &mut Errors) -> Option<&'a Fields> {
    if !input.generics.params.is_empty() {
        errors.at(
            &input.generics,
            "an event cannot be generic: one name on the wire is one struct; write a struct per type",
        );
    }
    let fields = match &input.data {
        Data::Struct(DataStruct { fields, .. }) => fields,
        Data::Enum(data) => {
            errors.at(
                data.enum_token,
                "an event is a struct; for an enum whose variants are events use `#[derive(EventSet)]`",
            );
            return None;
        }
        Data::Union(data) => {
            errors.at(data.union_token, "an event is a struct, not a union");
            return None;
        }
    };
    if let Fields::Unnamed(unnamed) = fields
        && unnamed.unnamed.len() > 1
    {
        errors.at(
            unnamed,
            "an event is written as a JSON object, which needs names; give the fields names",
        );
    }
    Some(fields)
}

/// The name on the wire: `#[event(type = "…")]`, or the struct's.
fn wire_name(input: &DeriveInput, errors: &mut Errors) -> String {
    let mut named = None;
    for option in options::of_attributes(&input.attrs, "event", errors) {
        if option.name == "type" {
            named = errors.take(option.text("type = \"OrderCreated\""));
        } else if option.name == "aggregate_id" {
            errors.at(
                &option.name,
                "`aggregate_id` goes on the field that holds the aggregate's id",
            );
        } else {
            errors.push(option.unknown("`#[event]` on a struct", "`type = \"OrderCreated\"`"));
        }
    }
    let (name, place) = match &named {
        Some(literal) => (literal.value(), literal.to_token_stream()),
        None => (
            input.ident.unraw().to_string(),
            input.ident.to_token_stream(),
        ),
    };
    let length = name.chars().count();
    if length == 0 {
        errors.at(&place, "an event's type cannot be empty; name the event");
    }
    if length > LONGEST_TYPE {
        errors.at(
            &place,
            format!(
                "an event's type has at most {LONGEST_TYPE} characters, this one {length}; name it with `#[event(type = \"…\")]`"
            ),
        );
    }
    if name.chars().any(char::is_control) {
        errors.at(&place, "an event's type cannot hold control characters");
    }
    name
}

/// The field marked with `#[event(aggregate_id)]`.
fn aggregate_id<'a>(fields: &'a Fields, errors: &mut Errors) -> Option<(Member, &'a Type)> {
    let mut found = None;
    for (member, field) in fields.members().zip(fields) {
        if marks_aggregate_id(field, errors) {
            if found.is_some() {
                errors.at(
                    &field.ty,
                    "`aggregate_id` is on two fields; an event is about one aggregate",
                );
            }
            found.get_or_insert((member, &field.ty));
        }
    }
    found
}

fn marks_aggregate_id(field: &Field, errors: &mut Errors) -> bool {
    let mut marked = false;
    for option in options::of_attributes(&field.attrs, "event", errors) {
        if option.name == "aggregate_id" {
            marked |= errors.take(option.flag()).is_some();
        } else {
            errors.push(option.unknown("`#[event]` on a field", "`aggregate_id`"));
        }
    }
    marked
}
