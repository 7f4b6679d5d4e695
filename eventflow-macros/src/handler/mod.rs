//! `#[handler]`: an `async fn` that handles one type of event.
//!
//! The function stays as it is. Beside it comes a struct of the same name, which implements
//! `Handler` and `Handle`: a struct with braces lives among the types only, so function and struct
//! share the name and one `use` brings both.

mod expand;
mod options;
mod params;
mod signature;

use proc_macro2::TokenStream;
use quote::quote;
use syn::ItemFn;

use self::{options::Options, signature::Signature};
use crate::errors::Errors;

pub(crate) fn attribute(options: TokenStream, item: &TokenStream) -> TokenStream {
    let Ok(mut function) = syn::parse2::<ItemFn>(item.clone()) else {
        let message = "`#[handler]` goes on an `async fn`";
        let compile_error = syn::Error::new_spanned(item, message).into_compile_error();
        return quote!(#compile_error #item);
    };
    let mut errors = Errors::default();
    let options = Options::parse(options, &mut function, &mut errors);
    let signature = Signature::parse(&function.sig, &mut errors);
    let handler = Handler {
        options,
        function,
        signature,
    };
    match errors.into_compile_errors() {
        None => handler.expand(),
        Some(compile_errors) => {
            let fallback = handler.expand_fallback();
            quote!(#compile_errors #fallback)
        }
    }
}

/// What the macro knows about a handler.
struct Handler {
    options: Options,
    function: ItemFn,
    signature: Signature,
}
