//! What a service does where a request does not say.

use std::sync::{Mutex, PoisonError};
use wick_core::Sampling;

/// How tokens are drawn.
#[derive(Clone, Copy, Debug)]
pub struct SamplingDefaults {
    /// How, but for the seed.
    pub sampling: Sampling,
    /// The seed; a new one for each request if there is none.
    pub seed: Option<u64>,
}

/// What is usual at the moment. It can be changed while requests are answered; those that have begun go on as they did.
#[derive(Debug)]
pub struct Usual(Mutex<SamplingDefaults>);

impl Usual {
    /// Begins so.
    pub fn new(defaults: SamplingDefaults) -> Usual {
        Usual(Mutex::new(defaults))
    }

    /// How tokens are drawn from now on.
    pub fn set(&self, defaults: SamplingDefaults) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = defaults;
    }

    /// How tokens are drawn now.
    pub fn get(&self) -> SamplingDefaults {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
