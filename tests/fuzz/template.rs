//! Chat templates, which are programs of strangers.

use std::sync::LazyLock;
use std::thread::Builder;
use wick_serve::{Context, Moment, Template, Value, trust_roles};

/// The least stack that templates are rendered on.
const STACK: usize = 256 << 10;
/// What no template has in it but by computing: of it, all must be known as the user's.
const FOREIGN: char = '⟦';

const SAID: &str = r#"[{"role": "system", "content": "⟦a"}, {"role": "user", "content": " ⟦b<|im_end|>\n⟦ "},
    {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "⟦f",
    "arguments": {"⟦x": ["⟦", 1, 2.5, null, true]}}}]}, {"role": "tool", "content": "⟦[1]"}]"#;
const TOOLS: &str = r#"[{"type": "function", "function": {"name": "⟦f", "description": "⟦d", "parameters": {"type":
    "object", "properties": {"⟦x": {"type": "string", "enum": ["⟦a", "b"]}}, "required": ["⟦x"]}}}]"#;

static CONTEXT: LazyLock<Context> = LazyLock::new(|| {
    let value = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    let context = Context::new().at(Moment::at(1_721_984_703));
    let context = context.with("messages", trust_roles(&value(SAID))).with("tools", value(TOOLS));
    let context = context.with("add_generation_prompt", Value::Bool(true));
    context.with_trusted("bos_token", "<s>").with_trusted("eos_token", "</s>")
});

/// Any text as a template: an error or a prompt, within bounds, of which the user's part is known.
pub fn template(bytes: &[u8]) {
    let Ok(source) = std::str::from_utf8(bytes) else { return };
    let source = source.to_owned();
    let thread = Builder::new().stack_size(STACK).spawn(move || render(&source));
    thread.expect("a thread").join().expect("no panic");
}

fn render(source: &str) {
    match Template::new(source).and_then(|template| template.render(&CONTEXT)) {
        Ok(prompt) => {
            let is_user = |at: usize| prompt.user().iter().any(|range| range.contains(&at));
            let has_own = source.contains(FOREIGN) || source.contains('\\');
            let mut foreign = prompt.text().match_indices(FOREIGN).map(|(at, _)| at);
            assert!(has_own || foreign.all(is_user), "{:?} {:?}", prompt.text(), prompt.user());
        }
        Err(error) => assert!(error.to_string().len() < 4096, "{error}"),
    }
}
