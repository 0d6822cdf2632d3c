//! Chat templates render as Jinja2 renders them, set up as `transformers` does.
//!
//! `render.py` wrote `rendered.json`; no Python is needed to compare with it.

use serde_json::{Map, Value as Json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wick_serve::{Context, Moment, Prompt, Template, Value};
use wick_tests::random::Random;
use wick_tests::some;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("templates")
}

fn read(name: &str) -> Map<String, Json> {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The conversations, each as a context. Keys keep their order, which is that of the file.
fn contexts() -> Vec<(String, Context)> {
    contexts_of(&std::fs::read_to_string(folder().join("conversations.json")).unwrap())
}

fn contexts_of(text: &str) -> Vec<(String, Context)> {
    let all: std::collections::BTreeMap<String, std::collections::BTreeMap<String, Value>> =
        serde_json::from_str(text).unwrap();
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

/// What no template has in it.
const FOREIGN: char = '⟦';

/// Whether all that is foreign to the template is the user's.
fn is_marked(prompt: &Prompt) -> bool {
    let is_user = |at: usize| prompt.user().iter().any(|range| range.contains(&at));
    prompt.text().match_indices(FOREIGN).all(|(at, _)| is_user(at))
}

/// Tokens of templates and of expressions that ask for much, in any order: an error or a prompt, and soon. And
/// whatever such a template does, what came from the conversation is known as that.
#[test]
fn mutated_templates_neither_panic_nor_hang_nor_lose_an_origin() {
    let mut random = Random(7);
    let mut pieces: Vec<String> = "9223372036854775807 -9223372036854775808 0 -1 1e308 3.5 '' 'é' none messages \
        tools loop range namespace | . [ ] ( ) { } : , * ** // % ~ == in is not and or if else {% %} {{ }} -%} {%- {# #}"
        .split(' ')
        .map(String::from)
        .collect();
    let mut sources: Vec<String> =
        read("rendered.json")["expressions"].as_object().unwrap().keys().cloned().collect();
    for file in std::fs::read_dir(folder()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jinja") {
            sources.push(std::fs::read_to_string(path).unwrap());
        }
    }
    pieces.extend(sources.iter().flat_map(|source| words(source)).map(String::from));
    let conversations = std::fs::read_to_string(folder().join("conversations.json")).unwrap();
    let foreign = |start: &str| format!("{start}<{FOREIGN}a, {FOREIGN}> ");
    let contents = ["\"content\": \"", "\"text\": \"", "\"name\": \"", "\"place\": \""];
    let conversations =
        contents.iter().fold(conversations, |text, start| text.replace(start, &foreign(start)));
    let contexts = contexts_of(&conversations);
    let mut prompts = 0;
    for _ in 0..some(30_000) {
        let source = &sources[random.below(sources.len())];
        let mut words: Vec<&str> = words(source);
        for _ in 0..=random.below(4) {
            let at = random.below(words.len());
            let piece = pieces[random.below(pieces.len())].as_str();
            match random.below(3) {
                0 => words[at] = piece,
                1 => words.insert(at, piece),
                _ => drop(words.remove(at)),
            }
            if words.is_empty() {
                break;
            }
        }
        let (_, context) = &contexts[random.below(contexts.len())];
        let started = Instant::now();
        let source = words.concat();
        let prompt = Template::new(&source).and_then(|template| template.render(context));
        assert!(started.elapsed() < Duration::from_secs(1), "{source}");
        if let Ok(prompt) = prompt {
            assert!(is_marked(&prompt), "{source}\n{:?} {:?}", prompt.text(), prompt.user());
            prompts += usize::from(prompt.text().contains(FOREIGN));
        }
    }
    assert!(prompts > some(1000), "{prompts} prompts with a user's text");
}

/// The text in words, numbers, runs of white space and single signs.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start = 0;
    let kind = |c: char| (c.is_alphanumeric() || c == '_', c.is_whitespace());
    for ((_, before), (at, c)) in text.char_indices().zip(text.char_indices().skip(1)) {
        if kind(before) != kind(c) || kind(c) == (false, false) {
            words.push(&text[start..at]);
            start = at;
        }
    }
    words.push(&text[start..]);
    words
}
