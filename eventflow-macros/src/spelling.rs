//! Types and paths as the user would write them in a sentence.

use quote::ToTokens;

/// The tokens without the spaces that `to_string` puts between them.
pub(crate) fn of(tokens: impl ToTokens) -> String {
    tokens.to_token_stream().to_string().replace(' ', "")
}
