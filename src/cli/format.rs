//! Types of weights by name.

use wick_kernels::Format;
use wick_prepare::QUANTIZABLE;

/// The type of this name, if files can be written with it.
pub(crate) fn format(text: &str) -> Result<Format, String> {
    let found = QUANTIZABLE.into_iter().find(|format| format.name().eq_ignore_ascii_case(text));
    let names = QUANTIZABLE.map(Format::name).join(", ");
    found.ok_or_else(|| format!("one of {names} expected"))
}
