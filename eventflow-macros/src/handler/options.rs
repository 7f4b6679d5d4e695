//! `#[handler(timeout = "5s", retry(attempts = 3, backoff = "50ms"), replay_safe, publishes(OrderPaid))]`.

use std::time::Duration;

use proc_macro2::{Ident, TokenStream};
use syn::{ItemFn, LitInt, Type};

use crate::{
    crate_path::CratePath,
    duration,
    errors::Errors,
    options::{self, AttributeOption},
};

const TIMEOUT: &str = "timeout = \"5s\"";
const RETRY: &str = "retry(attempts = 3, backoff = \"50ms\")";
const REPLAY_SAFE: &str = "replay_safe";
const PUBLISHES: &str = "publishes(OrderPaid)";
const ATTEMPTS: &str = "attempts = 3";
const BACKOFF: &str = "backoff = \"50ms\"";

const DEFAULT_BACKOFF: Duration = Duration::from_millis(10);
/// All waits of one attempt together: its transaction stays open, and so do its neighbours'.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
const SCHEDULE: &str = "for the transaction stays open; longer waits are the inbox's schedule: answer `Failure::retry_after`, or set the consumer's `backoff`";

pub(super) struct Options {
    pub(super) krate: CratePath,
    pub(super) timeout: Option<Duration>,
    pub(super) retry: Option<Retry>,
    pub(super) replay_safe: bool,
    /// The events that it says it publishes, and the name of the option.
    pub(super) publishes: Option<(Ident, Vec<Type>)>,
}

pub(super) struct Retry {
    pub(super) attempts: u32,
    pub(super) backoff: Duration,
}

impl Options {
    /// Reads the options, and takes `#[eventflow(…)]` off the function.
    pub(super) fn parse(tokens: TokenStream, function: &mut ItemFn, errors: &mut Errors) -> Self {
        let mut options = Self {
            krate: CratePath::of_attributes(&function.attrs, errors),
            timeout: None,
            retry: None,
            replay_safe: false,
            publishes: None,
        };
        function
            .attrs
            .retain(|attribute| !attribute.path().is_ident("eventflow"));
        for option in options::of_tokens(tokens, errors) {
            if option.name == "timeout" {
                options.timeout = errors.take(timeout(&option));
            } else if option.name == "retry" {
                options.retry = retry(&option, errors);
            } else if option.name == REPLAY_SAFE {
                options.replay_safe = errors.take(option.flag()).is_some();
            } else if option.name == "publishes" {
                let events = errors.take(option.list(PUBLISHES));
                options.publishes = events.map(|events| (option.name.clone(), events));
            } else if option.name == "crate" {
                options.krate.set(&option, errors);
            } else {
                let known = format!(
                    "`{TIMEOUT}`, `{RETRY}`, `{REPLAY_SAFE}`, `{PUBLISHES}` and `crate = path`"
                );
                errors.push(option.unknown("`#[handler]`", &known));
            }
        }
        options
    }
}

fn timeout(option: &AttributeOption) -> syn::Result<Duration> {
    let text = option.text(TIMEOUT)?;
    let timeout = duration::parse(&text)?;
    if timeout.is_zero() {
        return Err(syn::Error::new(
            text.span(),
            "a timeout of zero cuts every call; leave it out to take the consumer's",
        ));
    }
    Ok(timeout)
}

fn retry(option: &AttributeOption, errors: &mut Errors) -> Option<Retry> {
    let tokens = errors.take(option.parenthesised(RETRY))?;
    let mut attempts = None;
    let mut backoff = Some(DEFAULT_BACKOFF);
    let mut names_attempts = false;
    for inner in options::of_tokens(tokens, errors) {
        if inner.name == "attempts" {
            names_attempts = true;
            attempts = errors.take(parse_attempts(&inner));
        } else if inner.name == "backoff" {
            backoff = errors.take(parse_backoff(&inner));
        } else {
            let known = format!("`{ATTEMPTS}` and `{BACKOFF}`");
            errors.push(inner.unknown("`retry`", &known));
        }
    }
    if !names_attempts {
        errors.at(
            &option.name,
            format!("`retry` needs the number of calls; write `{RETRY}`"),
        );
    }
    let retry = Retry {
        attempts: attempts?,
        backoff: backoff?,
    };
    check_wait(&retry, &option.name, errors);
    Some(retry)
}

fn parse_attempts(option: &AttributeOption) -> syn::Result<u32> {
    let literal: LitInt = option.value(ATTEMPTS)?;
    match literal.base10_parse() {
        Ok(0) => Err(syn::Error::new(
            literal.span(),
            "`attempts` counts the first call too, so it is at least 1",
        )),
        Ok(attempts) => Ok(attempts),
        Err(_) => Err(syn::Error::new(
            literal.span(),
            format!("write a whole number of calls, as `{ATTEMPTS}`"),
        )),
    }
}

fn parse_backoff(option: &AttributeOption) -> syn::Result<Duration> {
    let text = option.text(BACKOFF)?;
    let backoff = duration::parse(&text)?;
    if backoff > LONGEST_WAIT {
        return Err(syn::Error::new(
            text.span(),
            format!("an immediate retry waits at most `\"1s\"`, {SCHEDULE}"),
        ));
    }
    Ok(backoff)
}

/// Every wait is the same, and there is one less than calls.
fn check_wait(retry: &Retry, name: &Ident, errors: &mut Errors) {
    let wait = retry
        .backoff
        .saturating_mul(retry.attempts.saturating_sub(1));
    if wait > LONGEST_WAIT {
        errors.at(
            name,
            format!(
                "these retries wait {wait:?} in all, and immediate ones at most {LONGEST_WAIT:?}, {SCHEDULE}",
            ),
        );
    }
}
