//! Texts as vectors: what OpenAI's API and Ollama's have in common.

use super::answer::{Answers, Asker};
use super::error::ApiError;
use super::fields::check_prompt;
use crate::service::Ready;
use wick_session::Request;

/// Texts of a request at most.
pub(crate) const MOST_TEXTS: usize = 2048;

/// Asks for the vectors of texts, by their ids.
pub(crate) fn ask(ready: &Ready, asker: Asker, texts: Vec<Vec<u32>>) -> Result<Answers, ApiError> {
    texts.iter().try_for_each(|text| check_prompt(ready, "input", text))?;
    Answers::ask(asker, texts.into_iter().map(Request::embedding).collect())
}

/// The vectors that were asked for, and how many tokens were read for them.
pub(crate) async fn collect(mut answers: Answers) -> Result<(Vec<Vec<f32>>, usize), ApiError> {
    let (mut vectors, mut tokens) = (Vec::new(), 0);
    while let Some(answer) = answers.next() {
        let outcome = answer.collect().await?.outcome;
        tokens += outcome.prompt;
        vectors.push(outcome.embedding.unwrap_or_default());
    }
    Ok((vectors, tokens))
}

/// Refuses another length of vectors than that of the model's hidden states.
pub(crate) fn check_dimensions(ready: &Ready, wanted: Option<usize>) -> Result<(), ApiError> {
    match wanted.filter(|wanted| *wanted != ready.hidden) {
        None => Ok(()),
        Some(found) => {
            let message =
                format_args!("this model has {} and no other, {found} found", ready.hidden);
            Err(ApiError::unsupported("dimensions", message))
        }
    }
}
