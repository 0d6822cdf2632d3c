//! What templates may take, and what users' texts cannot become.

mod bounds;
mod origin;

/// A server renders on any thread.
#[test]
fn templates_go_from_thread_to_thread() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<(crate::Chat, crate::Context, crate::Value, crate::Prompt)>();
}
