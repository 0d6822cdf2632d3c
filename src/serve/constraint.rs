//! Forms that answers must have: JSON, JSON of a schema, calls of tools.
//!
//! [`Forms`] belongs to a model and compiles them; a [`Form`] makes the constraint of each generation that must have
//! it. The grammars are llguidance's. Whatever a client sends, a form takes bounded memory and time, or is refused.

mod calls;
mod error;
mod form;
mod grammar;
mod json;
mod trigger;
mod vocabulary;

pub(crate) use calls::{ARGUMENTS, NAME};
pub use calls::{CALL_END, Calling, Tool};
pub use error::FormError;
pub use form::{Form, Forms};
pub use json::{LARGEST_SCHEMA, any_object};
pub use trigger::CALL;
