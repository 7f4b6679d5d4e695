//! Where generated code finds the eventflow crate.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Attribute, Path};

use crate::{
    errors::Errors,
    options::{self, AttributeOption},
};

const FORM: &str = "crate = path::to::eventflow";

/// The path of the eventflow crate: `::eventflow` unless the user says `crate = path`.
#[derive(Default)]
pub(crate) struct CratePath {
    renamed: Option<Path>,
}

impl CratePath {
    /// Reads `#[eventflow(crate = path)]`.
    pub(crate) fn of_attributes(attributes: &[Attribute], errors: &mut Errors) -> Self {
        let mut path = Self::default();
        for option in options::of_attributes(attributes, "eventflow", errors) {
            if option.name == "crate" {
                path.set(&option, errors);
            } else {
                errors.push(option.unknown("`#[eventflow]`", &format!("`{FORM}`")));
            }
        }
        path
    }

    /// Reads the option `crate = path` of an attribute macro.
    pub(crate) fn set(&mut self, option: &AttributeOption, errors: &mut Errors) {
        let Some(ModStylePath(path)) = errors.take(option.value(FORM)) else {
            return;
        };
        if self.renamed.is_some() {
            errors.at(option, "`crate` is given twice; remove one of them");
        }
        self.renamed = Some(path);
    }
}

impl ToTokens for CratePath {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match &self.renamed {
            Some(path) => path.to_tokens(tokens),
            None => tokens.extend(quote!(::eventflow)),
        }
    }
}

/// A path without generic arguments, which may be `crate` or start with it.
struct ModStylePath(Path);

impl syn::parse::Parse for ModStylePath {
    fn parse(input: syn::parse::ParseStream<'_>) -> syn::Result<Self> {
        Path::parse_mod_style(input).map(Self)
    }
}
