//! The payload: JSON text of an object, kept as it came.

use std::{fmt, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

/// The payload of an event: the text of one JSON object.
///
/// The text is kept as it came; a typed struct is read from it with no
/// [`serde_json::Value`] between, so numbers keep every digit. Cloning is cheap.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(Arc<str>);

impl Payload {
    /// The payload `{}`.
    pub fn empty() -> Self {
        Self(Arc::from("{}"))
    }

    /// Writes a value as the payload of an event of `event_type`.
    ///
    /// # Errors
    /// If serde refuses the value, or if it is written as anything but a JSON object.
    pub fn encode<T: Serialize>(event_type: &str, value: &T) -> Result<Self, EncodeError> {
        let text = serde_json::to_string(value).map_err(|source| EncodeError {
            event_type: event_type.to_owned(),
            source: Some(source),
        })?;
        if text.starts_with('{') {
            Ok(Self(Arc::from(text)))
        } else {
            Err(EncodeError {
                event_type: event_type.to_owned(),
                source: None,
            })
        }
    }

    /// Reads the payload of an event of `event_type`.
    ///
    /// # Errors
    /// If the text is not what `T` expects; the error names the JSON path.
    pub fn decode<T: DeserializeOwned>(&self, event_type: &str) -> Result<T, DecodeError> {
        let mut reader = serde_json::Deserializer::from_str(&self.0);
        // Keeping track of the path takes as long as reading: it is done for what has no value.
        T::deserialize(&mut reader).or_else(|_| self.decode_with_path(event_type))
    }

    #[cold]
    fn decode_with_path<T: DeserializeOwned>(&self, event_type: &str) -> Result<T, DecodeError> {
        let mut reader = serde_json::Deserializer::from_str(&self.0);
        serde_path_to_error::deserialize(&mut reader).map_err(|error| DecodeError {
            event_type: event_type.to_owned(),
            path: error.path().to_string(),
            source: Some(error.into_inner()),
        })
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes text that is known to be a JSON object: checked by the wire, or read from the inbox.
    pub(crate) fn from_checked(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }
}

/// Prints the length only: a payload may hold what no log should.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

/// A payload that the event's struct cannot be read from.
#[derive(Debug)]
pub struct DecodeError {
    event_type: String,
    path: String,
    source: Option<serde_json::Error>,
}

impl DecodeError {
    /// The set of events does not have this type. Called by generated code.
    #[doc(hidden)]
    pub fn unknown_type(event_type: &str) -> Self {
        Self {
            event_type: event_type.to_owned(),
            path: String::new(),
            source: None,
        }
    }

    /// The wire name of the event.
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// Where in the payload, as `items[0].sku`; `.` is the whole payload.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            event_type, path, ..
        } = self;
        match &self.source {
            Some(_) => write!(f, "payload of `{event_type}` cannot be read at `{path}`"),
            None => write!(f, "`{event_type}` is not in the set of events"),
        }
    }
}

impl std::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

/// An event that cannot be written as a payload.
#[derive(Debug)]
pub struct EncodeError {
    event_type: String,
    source: Option<serde_json::Error>,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event_type = &self.event_type;
        match &self.source {
            Some(_) => write!(f, "event `{event_type}` cannot be written as JSON"),
            None => write!(
                f,
                "event `{event_type}` is not written as a JSON object; give the struct named fields"
            ),
        }
    }
}

impl std::error::Error for EncodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Order {
        #[expect(dead_code, reason = "only its decoding is under test")]
        items: Vec<Item>,
    }

    #[derive(Debug, Deserialize)]
    struct Item {
        #[expect(dead_code, reason = "only its decoding is under test")]
        sku: String,
    }

    #[test]
    fn decode_error_names_the_json_path() {
        let payload = Payload::from_checked(r#"{"items":[{"sku":"a"},{"sku":7}]}"#);

        let error = payload.decode::<Order>("OrderCreated").unwrap_err();

        assert_eq!(error.path(), "items[1].sku");
        assert_eq!(
            error.to_string(),
            "payload of `OrderCreated` cannot be read at `items[1].sku`"
        );
    }

    #[test]
    fn a_payload_that_is_no_object_is_refused() {
        let error = Payload::encode("Tick", &[1, 2]).unwrap_err();

        assert_eq!(
            error.to_string(),
            "event `Tick` is not written as a JSON object; give the struct named fields"
        );
    }

    #[test]
    fn debug_does_not_print_the_text() {
        let payload = Payload::from_checked(r#"{"card":"4111"}"#);

        assert_eq!(format!("{payload:?}"), "Payload(15 bytes)");
    }
}
