//! Where messages about generated tokens point.

use proc_macro2::{Group, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned;

/// The place of the user's tokens, for tokens that are ours.
pub(crate) fn at(tokens: &impl ToTokens) -> Span {
    Span::mixed_site().located_at(tokens.span())
}

/// The same tokens, for messages that are to point at another place.
pub(crate) fn moved(tokens: &impl ToTokens, to: Span) -> TokenStream {
    let moved = tokens.to_token_stream().into_iter().map(|mut token| {
        if let TokenTree::Group(group) = &token {
            token = Group::new(group.delimiter(), moved(&group.stream(), to)).into();
        }
        token.set_span(token.span().located_at(to));
        token
    });
    moved.collect()
}
