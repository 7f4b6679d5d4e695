//! `#[router(events = Set, handlers(a, path::b), ignore(C), fallback(f))]`.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{Fields, ItemStruct, Path, TypePath};

use crate::{
    crate_path::CratePath,
    errors::Errors,
    options::{self, AttributeOption},
    spelling,
};

const EVENTS: &str = "events = OrderEvents";
const HANDLERS: &str = "handlers(reserve_stock, charge_card)";
const IGNORE: &str = "ignore(OrderCancelled)";
const FALLBACK: &str = "fallback(on_other)";

pub(super) struct Table {
    pub(super) krate: CratePath,
    /// The set; `None` only in a table that is in error.
    pub(super) events: Option<TypePath>,
    pub(super) handlers: Vec<Path>,
    pub(super) ignored: Vec<TypePath>,
    pub(super) fallback: Option<Path>,
}

impl Table {
    /// Reads the options, and takes `#[eventflow(…)]` off the struct.
    pub(super) fn parse(
        tokens: TokenStream,
        item_struct: &mut ItemStruct,
        errors: &mut Errors,
    ) -> Self {
        check_unit(item_struct, errors);
        let mut table = Self {
            krate: CratePath::of_attributes(&item_struct.attrs, errors),
            events: None,
            handlers: Vec::new(),
            ignored: Vec::new(),
            fallback: None,
        };
        item_struct
            .attrs
            .retain(|attribute| !attribute.path().is_ident("eventflow"));
        let mut names_events = false;
        for option in options::of_tokens(tokens, errors) {
            names_events |= option.name == "events";
            table.take(&option, errors);
        }
        if !names_events {
            errors.at(
                &item_struct.ident,
                format!("a router names its set of events; add `{EVENTS}` to `#[router(…)]`"),
            );
        }
        check_named_once(&table.handlers, "handler", errors);
        check_named_once(&table.ignored, "event", errors);
        table
    }

    /// The handlers with their places; the fallback comes last.
    pub(super) fn handlers_and_fallback(&self) -> impl Iterator<Item = (usize, &Path)> {
        self.handlers.iter().chain(&self.fallback).enumerate()
    }

    fn take(&mut self, option: &AttributeOption, errors: &mut Errors) {
        if option.name == "events" {
            self.events = errors.take(option.value(EVENTS));
        } else if option.name == "handlers" {
            self.handlers = errors.take(option.list(HANDLERS)).unwrap_or_default();
        } else if option.name == "ignore" {
            self.ignored = errors.take(option.list(IGNORE)).unwrap_or_default();
        } else if option.name == "fallback" {
            let handlers = errors.take(option.list::<Path>(FALLBACK));
            let mut handlers = handlers.unwrap_or_default().into_iter();
            self.fallback = handlers.next();
            if let Some(second) = handlers.next() {
                errors.at(second, "a router has one fallback; remove the others");
            }
        } else if option.name == "crate" {
            self.krate.set(option, errors);
        } else {
            let known =
                format!("`{EVENTS}`, `{HANDLERS}`, `{IGNORE}`, `{FALLBACK}` and `crate = path`");
            errors.push(option.unknown("`#[router]`", &known));
        }
    }
}

fn check_unit(item_struct: &ItemStruct, errors: &mut Errors) {
    let name = &item_struct.ident;
    if !matches!(item_struct.fields, Fields::Unit) {
        errors.at(
            &item_struct.fields,
            format!(
                "a router is a unit struct: write `struct {name};`, and give the state to `{name}::new`"
            ),
        );
    }
    if !item_struct.generics.params.is_empty() {
        errors.at(
            &item_struct.generics,
            format!("a router cannot be generic; write `struct {name};`"),
        );
    }
}

fn check_named_once<T: ToTokens>(names: &[T], what: &str, errors: &mut Errors) {
    let spellings: Vec<String> = names.iter().map(spelling::of).collect();
    for (index, (name, spelled)) in names.iter().zip(&spellings).enumerate() {
        if spellings
            .iter()
            .take(index)
            .any(|earlier| earlier == spelled)
        {
            errors.at(
                name,
                format!("{what} `{spelled}` is named twice; remove one of them"),
            );
        }
    }
}
