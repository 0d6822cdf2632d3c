//! Texts of JSON.

use serde::de::DeserializeOwned;

/// A text of JSON as what it should be; `name` is that of its file.
pub(crate) fn parse<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, String> {
    serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|e| format!("{name}: {e}"))
}
