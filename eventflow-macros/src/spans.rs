//! Where messages about generated tokens point.

use proc_macro2::Span;
use quote::ToTokens;
use syn::spanned::Spanned;

/// The place of the user's tokens, for tokens that are ours.
pub(crate) fn at(tokens: &impl ToTokens) -> Span {
    Span::mixed_site().located_at(tokens.span())
}
