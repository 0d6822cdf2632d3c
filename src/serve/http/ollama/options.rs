//! Ollama's names for how tokens are drawn.

use crate::http::fields::{Fields, Stops};
use serde::Deserialize;

/// What Ollama's clients send as `options`; what wick has no use for, such as `num_gpu`, is left out.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Options {
    num_predict: Option<i64>,
    temperature: Option<f32>,
    top_k: Option<i64>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repeat_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    seed: Option<i64>,
    stop: Option<Stops>,
}

impl From<Options> for Fields {
    fn from(options: Options) -> Fields {
        Fields {
            // -2 fills the context, which is as many as there is room for.
            max_tokens: options.num_predict.map(|most| if most < 0 { -1 } else { most }),
            temperature: options.temperature,
            top_k: options.top_k,
            top_p: options.top_p,
            min_p: options.min_p,
            repeat_penalty: options.repeat_penalty,
            presence_penalty: options.presence_penalty,
            frequency_penalty: options.frequency_penalty,
            seed: options.seed,
            stop: options.stop,
            ..Fields::default()
        }
    }
}
