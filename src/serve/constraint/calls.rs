//! Calls of tools, in the form of the Hermes and Qwen families.

use super::error::FormError;
use super::form::{Form, Forms};
use super::json::{LARGEST_SCHEMA, prepared};
use super::trigger::CALL;
use llguidance::api::TopLevelGrammar;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// What a call ends with.
pub const CALL_END: &str = "</tool_call>";
/// What stands before the name of a tool, and between it and the arguments.
pub(crate) const NAME: &str = "{\"name\": \"";
/// See [`NAME`].
pub(crate) const ARGUMENTS: &str = "\", \"arguments\": ";

/// A tool that can be called.
#[derive(Clone, Debug)]
pub struct Tool {
    /// Its name, of letters, digits and some signs that JSON need not escape.
    pub name: String,
    /// The schema of its arguments, an object.
    pub parameters: Value,
}

/// When calls are made, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calling {
    /// Whether there is nothing but calls; otherwise any text may come first.
    pub is_required: bool,
    /// Whether there may be several.
    pub is_parallel: bool,
}

impl Forms {
    /// Calls of tools.
    ///
    /// # Errors
    /// A schema has something that is not supported, or all of them take too much.
    pub fn calls(&self, tools: &[Tool], calling: Calling) -> Result<Form, FormError> {
        let grammar = TopLevelGrammar::from_lark(grammar(tools, calling.is_parallel)?);
        let form = self.compile(grammar)?;
        Ok(if calling.is_required { form } else { form.after_text(&self.tokenizer) })
    }
}

/// The grammar of calls.
fn grammar(tools: &[Tool], is_parallel: bool) -> Result<String, FormError> {
    let mut bodies = String::new();
    for (i, Tool { name, parameters }) in tools.iter().enumerate() {
        let mut schema = prepared(parameters, false)?;
        schema["type"] = json!("object");
        let (head, end) = (json!(format!("{CALL}\n{NAME}{name}{ARGUMENTS}")), json!("}"));
        let tail = json!(format!("\n{CALL_END}"));
        let _always = writeln!(bodies, "call_{i}: {head} %json {schema} {end} {tail}");
    }
    if bodies.len() > 2 * LARGEST_SCHEMA {
        return Err(FormError::new(format_args!(
            "at most {} bytes of all tools expected, {} found",
            2 * LARGEST_SCHEMA,
            bodies.len()
        )));
    }
    let any = (0..tools.len()).map(|i| format!("call_{i}")).collect::<Vec<_>>().join(" | ");
    let more = if is_parallel { " (\"\\n\" call)*" } else { "" };
    Ok(format!("start: call{more}\ncall: {any}\n{bodies}"))
}
