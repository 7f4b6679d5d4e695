//! Options in an attribute: `name`, `name = value` and `name(…)`, separated by commas.
//!
//! What an option means is its macro's business; here stands their syntax, and that each is given
//! once. A broken option is reported and skipped, so that the rest are still checked.

use proc_macro2::{Group, Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{
    Attribute, LitStr, Meta, Token,
    ext::IdentExt,
    parse::{Parse, ParseStream, Parser},
    punctuated::Punctuated,
};

use crate::errors::Errors;

/// One option.
pub(crate) struct AttributeOption {
    pub(crate) name: Ident,
    value: Value,
}

enum Value {
    None,
    Equals(TokenStream),
    Parens(Group),
}

/// Reads the options of `#[name(…)]` attributes; the attributes of other names are left alone.
pub(crate) fn of_attributes(
    attributes: &[Attribute],
    name: &str,
    errors: &mut Errors,
) -> Vec<AttributeOption> {
    let mut options = Vec::new();
    for attribute in attributes.iter().filter(|a| a.path().is_ident(name)) {
        match &attribute.meta {
            Meta::List(list) => options.extend(read(list.tokens.clone(), errors)),
            Meta::Path(_) | Meta::NameValue(_) => {
                errors.at(attribute, format!("write the options as `#[{name}(…)]`"));
            }
        }
    }
    once_each(options, errors)
}

/// Reads the options between the parentheses of an attribute.
pub(crate) fn of_tokens(tokens: TokenStream, errors: &mut Errors) -> Vec<AttributeOption> {
    let options = read(tokens, errors);
    once_each(options, errors)
}

fn read(tokens: TokenStream, errors: &mut Errors) -> Vec<AttributeOption> {
    let parser = |input: ParseStream<'_>| {
        let mut options = Vec::new();
        while !input.is_empty() {
            match AttributeOption::parse(input) {
                Ok(option) => options.push(option),
                Err(error) => errors.push(error),
            }
            if !input.is_empty() && !input.peek(Token![,]) {
                errors.push(input.error("expected `,` between two options"));
                until_comma(input)?;
            }
            input.parse::<Option<Token![,]>>()?;
        }
        Ok(options)
    };
    let options = parser.parse2(tokens);
    errors.take(options).unwrap_or_default()
}

fn once_each(options: Vec<AttributeOption>, errors: &mut Errors) -> Vec<AttributeOption> {
    let mut kept: Vec<AttributeOption> = Vec::with_capacity(options.len());
    for option in options {
        if kept.iter().any(|earlier| earlier.name == option.name) {
            let message = format!("`{}` is given twice; remove one of them", option.name);
            errors.at(&option.name, message);
        } else {
            kept.push(option);
        }
    }
    kept
}

/// Takes the tokens up to the next comma.
fn until_comma(input: ParseStream<'_>) -> syn::Result<TokenStream> {
    let mut tokens = TokenStream::new();
    while !input.is_empty() && !input.peek(Token![,]) {
        tokens.extend([input.parse::<TokenTree>()?]);
    }
    Ok(tokens)
}

impl Parse for AttributeOption {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if !input.peek(Ident::peek_any) {
            let error = input.error("expected the name of an option");
            until_comma(input)?;
            return Err(error);
        }
        let name = Ident::parse_any(input)?;
        let value = if input.parse::<Option<Token![=]>>()?.is_some() {
            Value::Equals(until_comma(input)?)
        } else if input.peek(syn::token::Paren) {
            Value::Parens(input.parse()?)
        } else {
            Value::None
        };
        Ok(Self { name, value })
    }
}

impl AttributeOption {
    /// Checks that the option is a bare `name`.
    pub(crate) fn flag(&self) -> syn::Result<()> {
        match &self.value {
            Value::None => Ok(()),
            Value::Equals(_) | Value::Parens(_) => {
                let message = format!("write `{}` with no value", self.name);
                Err(syn::Error::new_spanned(self, message))
            }
        }
    }

    /// Reads `name = value`; `form` shows it, as `timeout = "5s"`.
    pub(crate) fn value<T: Parse>(&self, form: &str) -> syn::Result<T> {
        match &self.value {
            Value::Equals(tokens) => syn::parse2(tokens.clone()).map_err(|_| self.malformed(form)),
            Value::None | Value::Parens(_) => Err(self.malformed(form)),
        }
    }

    /// Reads `name = "text"`; `form` shows it.
    pub(crate) fn text(&self, form: &str) -> syn::Result<LitStr> {
        self.value(form)
    }

    /// Takes what stands in `name(…)`; `form` shows it.
    pub(crate) fn parenthesised(&self, form: &str) -> syn::Result<TokenStream> {
        match &self.value {
            Value::Parens(group) if !group.stream().is_empty() => Ok(group.stream()),
            _ => Err(self.malformed(form)),
        }
    }

    /// Reads `name(one, two)`; `form` shows it.
    pub(crate) fn list<T: Parse>(&self, form: &str) -> syn::Result<Vec<T>> {
        let tokens = self.parenthesised(form)?;
        Punctuated::<T, Token![,]>::parse_terminated
            .parse2(tokens)
            .map(|list| list.into_iter().collect())
            .map_err(|_| self.malformed(form))
    }

    /// The option is none of those that the macro knows; `known` lists them.
    pub(crate) fn unknown(&self, of: &str, known: &str) -> syn::Error {
        let message = format!("unknown option `{}`; {of} takes {known}", self.name);
        syn::Error::new(self.name.span(), message)
    }

    fn malformed(&self, form: &str) -> syn::Error {
        syn::Error::new_spanned(self, format!("write `{form}`"))
    }
}

impl ToTokens for AttributeOption {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        self.name.to_tokens(tokens);
        match &self.value {
            Value::None => {}
            Value::Equals(value) => value.to_tokens(tokens),
            Value::Parens(group) => group.to_tokens(tokens),
        }
    }
}
