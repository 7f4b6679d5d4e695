//! Durations as they stand in attributes: `"50ms"`, `"5s"`, `"2m"`, `"1h"`.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::quote;
use syn::LitStr;

/// Reads a duration.
pub(crate) fn parse(literal: &LitStr) -> syn::Result<Duration> {
    let text = literal.value();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text.strip_prefix(digits) {
        Some("ms") => Some(1),
        Some("s") => Some(1_000),
        Some("m") => Some(60_000),
        Some("h") => Some(3_600_000),
        _ => None,
    };
    let number = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse::<u64>().ok())
        .flatten();
    number
        .zip(unit)
        .and_then(|(number, unit)| number.checked_mul(unit))
        .map(Duration::from_millis)
        .ok_or_else(|| {
            syn::Error::new(
                literal.span(),
                format!(
                    "`{text}` is not a duration; write a whole number and a unit, as `\"50ms\"`, `\"5s\"`, `\"2m\"` or `\"1h\"`"
                ),
            )
        })
}

/// Writes a duration as a constant expression.
pub(crate) fn expand(duration: Duration) -> TokenStream {
    let (seconds, nanoseconds) = (duration.as_secs(), duration.subsec_nanos());
    quote!(::core::time::Duration::new(#seconds, #nanoseconds))
}

#[cfg(test)]
mod tests {
    use proc_macro2::Span;

    use super::*;

    fn parsed(text: &str) -> Option<Duration> {
        parse(&LitStr::new(text, Span::call_site())).ok()
    }

    #[test]
    fn reads_every_unit() {
        assert_eq!(parsed("50ms"), Some(Duration::from_millis(50)));
        assert_eq!(parsed("5s"), Some(Duration::from_secs(5)));
        assert_eq!(parsed("2m"), Some(Duration::from_mins(2)));
        assert_eq!(parsed("1h"), Some(Duration::from_hours(1)));
    }

    #[test]
    fn refuses_what_is_no_number_and_unit() {
        let refused = [
            "",
            "5",
            "s",
            "-5s",
            "+5s",
            "1.5s",
            "5 s",
            "5d",
            "s5",
            "5S",
            "1h30m",
            "٣s",
            "18446744073709551615s",
            "18446744073709551616ms",
        ];

        for text in refused {
            assert_eq!(parsed(text), None, "{text:?}");
        }
    }
}
