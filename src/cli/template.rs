//! A model's chat template: a Jinja text in its file.

use crate::exit::{Exit, Failure, OrExit};
use anyhow::Context;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use serde::{Deserialize, Serialize};
use wick_text::Tokenizer;

/// One message of a conversation.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Message {
    pub(crate) role: String,
    pub(crate) content: String,
}

/// Writes `messages` as the model was trained to read them, up to where its answer begins.
pub(crate) fn render(
    template: &str,
    messages: &[impl Serialize],
    tokenizer: &Tokenizer,
) -> Result<String, Failure> {
    let name = |id: Option<u32>| {
        let bytes = id.and_then(|id| tokenizer.token_bytes(id)).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    };
    render_with(template, messages, &name(tokenizer.bos()), &name(tokenizer.eos()))
        .context("the file's chat template (wick run --raw does without)")
        .or_exit(Exit::Model)
}

fn render_with(
    template: &str,
    messages: &[impl Serialize],
    bos_token: &str,
    eos_token: &str,
) -> Result<String, Error> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.template_from_str(template)?.render(context! {
        messages,
        add_generation_prompt => true,
        bos_token,
        eos_token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(template: &str) -> Result<String, Error> {
        let message = Message { role: "user".into(), content: "Hello".into() };
        render_with(template, &[message], "<s>", "</s>")
    }

    #[test]
    fn chatml_is_written() {
        let template = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + \
            message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}\
            {{ '<|im_start|>assistant\n' }}{% endif %}";
        let text = hello(template).unwrap();
        assert_eq!(text, "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n");
    }

    #[test]
    fn python_methods_and_blocks_work() {
        let template = "{{ bos_token }}{% for m in messages %}\n  {% if m.role.startswith('u') %}\n\
            {{ m.content.strip() | upper }}\n  {% endif %}\n{% endfor %}";
        assert_eq!(hello(template).unwrap(), "<s>HELLO\n");
    }

    #[test]
    fn a_template_may_refuse() {
        let error = hello("{{ raise_exception('no user') }}").unwrap_err();
        assert!(error.to_string().contains("no user"), "{error}");
    }

    /// The image without an operating system has no engine for templates, but knows nano's.
    #[test]
    fn without_an_engine_the_same_is_written() {
        let gguf = wick_format::Gguf::parse(crate::model::NANO).unwrap();
        let template = gguf.need("tokenizer.chat_template").and_then(|entry| entry.str()).unwrap();
        for content in
            ["Hello", "", " two\n\nlines {{ and }} <|im_end|>", "é 🙂 'quoted' \"twice\""]
        {
            let message = Message { role: "user".into(), content: content.into() };
            let mut found = String::new();
            assert!(wick_virt::chat::render(template, content, &mut found));
            assert_eq!(found, render_with(template, &[message], "", "").unwrap());
        }
    }
}
