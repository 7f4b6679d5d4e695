//! What the function's signature says, and what is wrong with it.

use proc_macro2::Span;
use syn::{
    FnArg, Lifetime, PatType, ReturnType, Safety, Type, TypeImplTrait, TypeReference,
    visit_mut::{self, VisitMut},
};

use crate::{errors::Errors, spelling};

/// More than `HandlerFn` knows could not be layered.
const MOST_PARAMETERS: usize = 16;

pub(super) struct Signature {
    /// The type of the first parameter, if there is one that a handler can take.
    pub(super) event: Option<Type>,
    /// The other parameters, in order.
    pub(super) params: Vec<Param>,
    pub(super) output: Output,
    /// A method has no place beside it for a struct.
    pub(super) is_method: bool,
}

/// How a parameter is taken.
pub(super) enum Param {
    /// `&mut T`: a part of the transaction.
    Transaction(Type),
    /// `&T`: a part of the delivery.
    Part(Type),
    /// `T`.
    Value(Type),
}

pub(super) enum Output {
    Unit,
    Type(Box<Type>),
}

impl Signature {
    pub(super) fn parse(signature: &syn::Signature, errors: &mut Errors) -> Self {
        check_qualifiers(signature, errors);
        let mut event = None;
        let mut params = Vec::new();
        let mut is_method = false;
        for (index, argument) in signature.inputs.iter().enumerate() {
            let argument = match argument {
                FnArg::Typed(argument) => argument,
                FnArg::Receiver(receiver) => {
                    is_method = true;
                    errors.at(
                        receiver,
                        "a handler is a function, not a method; take what it needs as `State<T>`",
                    );
                    continue;
                }
            };
            check_argument(argument, errors);
            if index == 0 {
                event = parse_event(&argument.ty, errors);
            } else {
                params.push(Param::parse(&argument.ty));
            }
        }
        if signature.inputs.is_empty() {
            errors.at(
                &signature.ident,
                "a handler takes the event as its first parameter; add one, as `event: OrderCreated`",
            );
        }
        if let Some(beyond) = signature.inputs.iter().nth(MOST_PARAMETERS) {
            errors.at(
                beyond,
                format!(
                    "a handler has at most {MOST_PARAMETERS} parameters; take several as one `State<T>`, or as a type that implements `HandlerParam` and `FromDelivery`",
                ),
            );
        }
        check_parts(&params, errors);
        Self {
            event,
            params,
            output: parse_output(&signature.output, errors),
            is_method,
        }
    }
}

impl Param {
    fn parse(ty: &Type) -> Self {
        match ty {
            Type::Reference(TypeReference {
                mutability, elem, ..
            }) => match mutability {
                Some(_) => Self::Transaction((**elem).clone()),
                None => Self::Part((**elem).clone()),
            },
            // Macros put types into groups that nobody sees.
            Type::Group(group) => Self::parse(&group.elem),
            Type::Paren(paren) => Self::parse(&paren.elem),
            _ => Self::Value(ty.clone()),
        }
    }
}

fn check_qualifiers(signature: &syn::Signature, errors: &mut Errors) {
    if signature.asyncness.is_none() {
        errors.at(
            signature.fn_token,
            "a handler is `async`; add `async` before `fn`",
        );
    }
    if !matches!(signature.safety, Safety::Default) {
        errors.at(
            &signature.safety,
            "a handler is called by the router and cannot be `unsafe`; put the unsafe part inside",
        );
    }
    if let Some(abi) = &signature.abi {
        errors.at(abi, "a handler is a Rust function; remove the ABI");
    }
    if !signature.generics.params.is_empty() {
        errors.at(
            &signature.generics,
            "a handler cannot be generic: the router calls it with one type each; name the types",
        );
    } else if let Some(clause) = &signature.generics.where_clause {
        errors.at(
            clause,
            "a handler has no generics to bound; remove the `where`",
        );
    }
}

fn check_argument(argument: &PatType, errors: &mut Errors) {
    for attribute in &argument.attrs {
        if attribute.path().is_ident("cfg") {
            errors.at(
                attribute,
                "a handler's parameters cannot be conditional; put `#[cfg]` on the handler, once per version of it",
            );
        }
    }
    check_type(&argument.ty, errors);
}

/// Checks that the type can be named outside the signature.
fn check_type(ty: &Type, errors: &mut Errors) {
    let mut unnameable = Unnameable::default();
    unnameable.visit_type_mut(&mut ty.clone());
    if let Some(span) = unnameable.impl_trait {
        errors.push(syn::Error::new(
            span,
            "a handler's signature names its types; write the type instead of `impl Trait`",
        ));
    }
    if let Some(lifetime) = unnameable.lifetime {
        errors.at(
            lifetime,
            "a handler's signature has no lifetimes: take `&mut PgConnection`, `&mut SqliteConnection`, `&mut Outbox`, `&Metadata` or `&Envelope` without one, and everything else as a type that owns what it holds",
        );
    }
}

/// Finds what can stand in a signature only.
#[derive(Default)]
struct Unnameable {
    impl_trait: Option<Span>,
    lifetime: Option<Lifetime>,
}

impl VisitMut for Unnameable {
    fn visit_lifetime_mut(&mut self, lifetime: &mut Lifetime) {
        if lifetime.ident != "static" {
            self.lifetime.get_or_insert_with(|| lifetime.clone());
        }
    }

    fn visit_type_impl_trait_mut(&mut self, ty: &mut TypeImplTrait) {
        self.impl_trait.get_or_insert(ty.impl_token.span);
        visit_mut::visit_type_impl_trait_mut(self, ty);
    }
}

fn parse_event(ty: &Type, errors: &mut Errors) -> Option<Type> {
    match ty {
        Type::Reference(reference) => {
            let message = if reference.mutability.is_some() {
                format!(
                    "a handler takes the event first; put `&mut {}` after it",
                    spelling::of(&reference.elem),
                )
            } else {
                "a handler takes the event first, and by value; remove the `&`".to_owned()
            };
            errors.at(ty, message);
            None
        }
        Type::ImplTrait(_) => None,
        _ => Some(ty.clone()),
    }
}

/// The transaction has two parts, each of which is taken once. That two parameters of different names
/// are not the same part, the compiler checks.
fn check_parts(params: &[Param], errors: &mut Errors) {
    let parts = params.iter().filter_map(|param| match param {
        Param::Transaction(ty) => Some(ty),
        Param::Part(_) | Param::Value(_) => None,
    });
    let mut names = Vec::new();
    for ty in parts {
        let name = spelling::of(ty);
        if names.contains(&name) {
            let message =
                format!("a handler takes `&mut {name}` once; remove the second parameter");
            errors.at(ty, message);
        } else if names.len() == 2 {
            errors.at(
                ty,
                "a handler takes its transaction and its outbox as `&mut`; remove the third parameter",
            );
        }
        names.push(name);
    }
}

fn parse_output(output: &ReturnType, errors: &mut Errors) -> Output {
    match output {
        ReturnType::Default => Output::Unit,
        ReturnType::Type(_, ty) => {
            check_type(ty, errors);
            Output::Type(ty.clone())
        }
    }
}
