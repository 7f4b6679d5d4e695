//! `#[router]`: a unit struct becomes a routing table.

mod expand;
mod names;
mod table;

use proc_macro2::TokenStream;
use quote::quote;
use syn::ItemStruct;

use self::table::Table;
use crate::errors::Errors;

pub(crate) fn attribute(options: TokenStream, item: &TokenStream) -> TokenStream {
    let Ok(mut item_struct) = syn::parse2::<ItemStruct>(item.clone()) else {
        let message = "`#[router]` goes on a unit struct, as `struct Orders;`";
        let compile_error = syn::Error::new_spanned(item, message).into_compile_error();
        return quote!(#compile_error #item);
    };
    let mut errors = Errors::default();
    let table = Table::parse(options, &mut item_struct, &mut errors);
    let router = Router { item_struct, table };
    match errors.into_compile_errors() {
        None => router.expand(),
        Some(compile_errors) => {
            let fallback = router.expand_fallback();
            quote!(#compile_errors #fallback)
        }
    }
}

/// What the macro knows about a router.
struct Router {
    item_struct: ItemStruct,
    table: Table,
}
