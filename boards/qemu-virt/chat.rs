//! The chat template of the Qwen family, ChatML, without the engine for templates.
//!
//! A file's template is a program in Jinja. The image has no interpreter for it: it knows the text of
//! the template that nano carries, and writes what that text writes for one message of a user. A test
//! of the command line holds the two against each other.

use alloc::string::String;

/// The template that is known.
pub const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + \
    message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}\
    {{ '<|im_start|>assistant\n' }}{% endif %}";

/// Appends a prompt to `text` as the model was trained to read a user's message, up to where its answer
/// begins; `false`, and nothing, if the template is not the one that is known.
pub fn render(template: &str, prompt: &str, text: &mut String) -> bool {
    let known = template == CHATML;
    if known {
        for part in ["<|im_start|>user\n", prompt, "<|im_end|>\n<|im_start|>assistant\n"] {
            text.push_str(part);
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_wrapped() {
        let mut text = String::new();
        assert!(render(CHATML, "hello", &mut text));
        assert_eq!(text, "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n");
        assert!(!render("{{ messages }}", "hello", &mut text));
    }
}
