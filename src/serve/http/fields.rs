//! What a request says of how its tokens are drawn.

use super::error::ApiError;
use crate::service::{Ready, SamplingDefaults};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use wick_core::{Sampler, Sampling};
use wick_session::{MOST_LOG_PROBABILITIES, MOST_LOGIT_BIASES, Request};

/// Stop strings of a request at most, and bytes of each.
const MOST_STOPS: usize = 16;
const LONGEST_STOP: usize = 1024;
/// Choices of a request at most.
const MOST_CHOICES: i64 = 16;

/// How tokens are drawn; what is left out or null is as the service has it.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Fields {
    pub(crate) max_tokens: Option<i64>,
    pub(crate) max_completion_tokens: Option<i64>,
    pub(crate) temperature: Option<f32>,
    pub(crate) top_p: Option<f32>,
    pub(crate) top_k: Option<i64>,
    pub(crate) min_p: Option<f32>,
    #[serde(alias = "repetition_penalty")]
    pub(crate) repeat_penalty: Option<f32>,
    pub(crate) presence_penalty: Option<f32>,
    pub(crate) frequency_penalty: Option<f32>,
    pub(crate) logit_bias: Option<BTreeMap<String, f32>>,
    pub(crate) seed: Option<i64>,
    pub(crate) stop: Option<Stops>,
    pub(crate) n: Option<i64>,
    /// Requests of higher priority go first; wick's own.
    pub(crate) priority: Option<i32>,
}

/// Texts that end an answer: one, or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Stops {
    One(String),
    Several(Vec<String>),
}

impl Stops {
    fn list(self) -> Vec<String> {
        match self {
            Stops::One(stop) => vec![stop],
            Stops::Several(stops) => stops,
        }
    }
}

impl Fields {
    /// The choices that are asked for: requests for the continuation of a prompt, which differ in their seeds.
    pub(crate) fn requests(
        &self,
        ready: &Ready,
        prompt: Vec<u32>,
        log_probabilities: Option<usize>,
    ) -> Result<Vec<Request>, ApiError> {
        check_prompt(ready, "prompt", &prompt)?;
        let sampling = self.sampling(ready)?;
        let most = self.most(ready)?.min(ready.context);
        let (stop, logit_bias) = (self.stops()?, self.logit_bias(ready)?);
        if let Some(found) = log_probabilities.filter(|n| *n > MOST_LOG_PROBABILITIES) {
            let message = format_args!("0 to {MOST_LOG_PROBABILITIES} expected, {found} found");
            return Err(ApiError::field("top_logprobs", message));
        }
        let choices = within("n", self.n.unwrap_or(1), 1, MOST_CHOICES)?;
        let request = |choice| {
            let seed = sampling.seed.wrapping_add(choice as u64);
            let sampler = Sampler::new(Sampling { seed, ..sampling });
            let request = Request::new(prompt.clone(), most, sampler);
            let (head_rows, stop, logit_bias) = (ready.head_rows, stop.clone(), logit_bias.clone());
            Request { head_rows, stop, logit_bias, log_probabilities, ..request }
        };
        Ok((0..choices).map(request).collect())
    }

    fn sampling(&self, ready: &Ready) -> Result<Sampling, ApiError> {
        let SamplingDefaults { sampling: usual, seed } = ready.usual.get();
        Ok(Sampling {
            temperature: number("temperature", self.temperature, usual.temperature, 0.0, 1000.0)?,
            top_k: match self.top_k {
                None => usual.top_k,
                Some(k) => k.max(0) as usize,
            },
            top_p: number("top_p", self.top_p, usual.top_p, 0.0, 1.0)?,
            min_p: number("min_p", self.min_p, usual.min_p, 0.0, 1.0)?,
            repeat_penalty: number(
                "repeat_penalty",
                self.repeat_penalty,
                usual.repeat_penalty,
                0.001,
                1000.0,
            )?,
            presence_penalty: penalty(
                "presence_penalty",
                self.presence_penalty,
                usual.presence_penalty,
            )?,
            frequency_penalty: penalty(
                "frequency_penalty",
                self.frequency_penalty,
                usual.frequency_penalty,
            )?,
            seed: self.seed.map(|seed| seed as u64).or(seed).unwrap_or_else(random),
        })
    }

    /// What is added to the logits of which tokens, by rising ids.
    fn logit_bias(&self, ready: &Ready) -> Result<Vec<(u32, f32)>, ApiError> {
        let given = self.logit_bias.iter().flatten();
        let wrong = |message: String| ApiError::field("logit_bias", message);
        let mut biases = Vec::new();
        for (id, bias) in given {
            let id = id.parse().ok().filter(|id| (*id as usize) < ready.vocab);
            let id = id.ok_or_else(|| {
                wrong(format!("ids from 0 to {} expected as keys", ready.vocab - 1))
            })?;
            if !(-100.0..=100.0).contains(bias) {
                return Err(wrong(format!("-100 to 100 expected, {bias} found")));
            }
            biases.push((id, *bias));
        }
        biases.sort_unstable_by_key(|(id, _)| *id);
        biases.dedup_by_key(|(id, _)| *id);
        match biases.len() {
            ..=MOST_LOGIT_BIASES => Ok(biases),
            found => {
                Err(wrong(format!("at most {MOST_LOGIT_BIASES} tokens expected, {found} found")))
            }
        }
    }

    fn most(&self, ready: &Ready) -> Result<usize, ApiError> {
        let (name, most) = match (self.max_completion_tokens, self.max_tokens) {
            (Some(most), _) => ("max_completion_tokens", Some(most)),
            (None, most) => ("max_tokens", most),
        };
        match most {
            None => Ok(ready.most),
            // As many as there is room for.
            Some(-1) => Ok(usize::MAX),
            Some(most) => within(name, most, 0, i64::MAX).map(|most| most as usize),
        }
    }

    fn stops(&self) -> Result<Vec<String>, ApiError> {
        let stops = self.stop.clone().map_or_else(Vec::new, Stops::list);
        if stops.len() > MOST_STOPS {
            let message =
                format_args!("at most {MOST_STOPS} texts expected, {} found", stops.len());
            return Err(ApiError::field("stop", message));
        }
        if stops.iter().any(|stop| stop.len() > LONGEST_STOP) {
            let message = format_args!("texts of at most {LONGEST_STOP} bytes expected");
            return Err(ApiError::field("stop", message));
        }
        // An empty one would end every answer before it begins.
        Ok(stops.into_iter().filter(|stop| !stop.is_empty()).collect())
    }
}

/// Refuses a prompt that no sequence has room for, or of ids that are none.
pub(crate) fn check_prompt(ready: &Ready, field: &str, prompt: &[u32]) -> Result<(), ApiError> {
    if prompt.is_empty() {
        return Err(ApiError::field(field, "it is empty"));
    }
    if let Some(id) = prompt.iter().find(|id| **id as usize >= ready.vocab) {
        let message = format_args!("token {id}: the vocabulary has {} entries", ready.vocab);
        return Err(ApiError::field(field, message));
    }
    let (found, context) = (prompt.len(), ready.context);
    if found > context {
        return Err(too_long(found, context));
    }
    Ok(())
}

/// A prompt that no sequence has room for.
pub(crate) fn too_long(found: usize, context: usize) -> ApiError {
    let message = format_args!(
        "the prompt has {found} tokens, and the context of this service is {context} tokens; shorten it, or start \
         the service with a larger --context"
    );
    ApiError::new(axum::http::StatusCode::BAD_REQUEST, message).code("context_length_exceeded")
}

fn number(
    name: &str,
    value: Option<f32>,
    usual: f32,
    least: f32,
    most: f32,
) -> Result<f32, ApiError> {
    match value {
        None => Ok(usual),
        Some(value) if (least..=most).contains(&value) => Ok(value),
        Some(value) => {
            Err(ApiError::field(name, format_args!("{least} to {most} expected, {value} found")))
        }
    }
}

fn penalty(name: &str, value: Option<f32>, usual: f32) -> Result<f32, ApiError> {
    number(name, value, usual, -2.0, 2.0)
}

fn within(name: &str, value: i64, least: i64, most: i64) -> Result<i64, ApiError> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    let message = match most {
        i64::MAX => format!("{least} or more expected, {value} found"),
        _ => format!("{least} to {most} expected, {value} found"),
    };
    Err(ApiError::field(name, message))
}

/// A number that differs each time: the keys of a hash table are random.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(())
}
