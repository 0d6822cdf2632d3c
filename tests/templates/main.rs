//! Chat templates render as Jinja2 renders them, set up as `transformers` does.
//!
//! `render.py` wrote `rendered.json`; no Python is needed to compare with it.

use serde_json::{Map, Value as Json};
use std::path::{Path, PathBuf};
use wick_serve::{Context, Moment, Template, Value};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("templates")
}

fn read(name: &str) -> Map<String, Json> {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The conversations, each as a context. Keys keep their order, which is that of the file.
fn contexts() -> Vec<(String, Context)> {
    let text = std::fs::read_to_string(folder().join("conversations.json")).unwrap();
    let all: std::collections::BTreeMap<String, std::collections::BTreeMap<String, Value>> =
        serde_json::from_str(&text).unwrap();
    // When render.py has it: 2024-07-26 09:05:03.
    let new = || Context::new().at(Moment::at(1_721_984_703));
    let context = |variables: std::collections::BTreeMap<String, Value>| {
        let tokens = new().with_trusted("bos_token", "<s>").with_trusted("eos_token", "</s>");
        variables.into_iter().fold(tokens, |context, (name, value)| context.with(&name, value))
    };
    all.into_iter().map(|(name, variables)| (name, context(variables))).collect()
}

/// What a template renders, or `None` if that fails.
fn rendered(source: &str, context: &Context) -> Result<String, String> {
    let prompt = Template::new(source).and_then(|template| template.render(context));
    prompt.map(|prompt| prompt.text().to_owned()).map_err(|error| error.to_string())
}

/// Adds to `wrong` if the text is not the one that Jinja2 has, or if only one of the two fails.
fn compare(what: &str, found: &Result<String, String>, expected: &Json, wrong: &mut Vec<String>) {
    if found.as_ref().ok().map(String::as_str) != expected.as_str() {
        wrong.push(format!("{what}\n   found {found:?}\nexpected {expected}"));
    }
}

#[test]
fn templates_render_as_with_jinja2() {
    let expected = read("rendered.json");
    let templates = expected["templates"].as_object().unwrap();
    assert!(templates.len() >= 25);
    let mut wrong = Vec::new();
    for (name, texts) in templates {
        let source = std::fs::read_to_string(folder().join(format!("{name}.jinja"))).unwrap();
        for (conversation, context) in contexts() {
            let what = format!("{name} of {conversation}");
            compare(&what, &rendered(&source, &context), &texts[&conversation], &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn expressions_have_the_values_of_jinja2() {
    let expected = read("rendered.json");
    let expressions = expected["expressions"].as_object().unwrap();
    let (_, context) = contexts().into_iter().find(|(name, _)| name == "plain").unwrap();
    let mut wrong = Vec::new();
    for (source, text) in expressions {
        compare(source, &rendered(source, &context), text, &mut wrong);
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n\n"));
}
