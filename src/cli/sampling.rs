//! How tokens are drawn, as the command line says.

use crate::number;
use clap::Args;
use wick_core::Sampling;
use wick_serve::service::SamplingDefaults;

/// Where `--help` lists how tokens are drawn.
const SAMPLING: &str = "Sampling";

/// A seed, if one is given.
type Seed = Option<u64>;

/// How tokens are drawn.
#[derive(Args, Clone)]
pub(crate) struct SamplingArguments {
    /// Spread of the choice; 0 takes the likeliest token always
    #[arg(
        long,
        value_name = "T",
        default_value_t = 0.6,
        value_parser = number::spread,
        help_heading = SAMPLING
    )]
    temperature: f32,
    /// Choose among the K likeliest tokens; 0 or -1 for all
    #[arg(
        long,
        value_name = "K",
        default_value_t = 20,
        value_parser = number::top,
        allow_negative_numbers = true,
        help_heading = SAMPLING
    )]
    top_k: usize,
    /// Choose among the likeliest tokens that together reach this probability; 1 for all
    #[arg(
        long,
        value_name = "P",
        default_value_t = 0.95,
        value_parser = number::share,
        help_heading = SAMPLING
    )]
    top_p: f32,
    /// Leave out tokens less probable than this, relative to the likeliest
    #[arg(
        long,
        value_name = "P",
        default_value_t = 0.0,
        value_parser = number::share,
        help_heading = SAMPLING
    )]
    min_p: f32,
    /// Weaken tokens among the last 64; 1 does nothing
    #[arg(
        long,
        value_name = "R",
        default_value_t = 1.0,
        value_parser = number::factor,
        help_heading = SAMPLING
    )]
    repeat_penalty: f32,
    /// Weaken tokens that were drawn, all alike; less than 0 strengthens them
    #[arg(
        long,
        value_name = "A",
        default_value_t = 0.0,
        value_parser = number::penalty,
        allow_negative_numbers = true,
        help_heading = SAMPLING
    )]
    presence_penalty: f32,
    /// Weaken tokens that were drawn, as many times as they were
    #[arg(
        long,
        value_name = "A",
        default_value_t = 0.0,
        value_parser = number::penalty,
        allow_negative_numbers = true,
        help_heading = SAMPLING
    )]
    frequency_penalty: f32,
    /// Seed of the random choice; -1, a new one each time, which -v tells
    #[arg(
        long,
        value_name = "S",
        default_value = "-1",
        value_parser = number::seed,
        allow_negative_numbers = true,
        help_heading = SAMPLING
    )]
    seed: Seed,
}

impl SamplingArguments {
    /// What was asked for, with a seed.
    pub(crate) fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            seed: self.seed.unwrap_or_else(clock_seed),
        }
    }

    /// The same for requests, each with a seed of its own unless one was asked for.
    pub(crate) fn usual(&self) -> SamplingDefaults {
        SamplingDefaults { sampling: self.sampling(), seed: self.seed }
    }
}

/// A seed that differs from run to run, and is a whole number also where all numbers are 64-bit floats.
fn clock_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = now.map_or(0, |d| d.as_nanos() as u64) ^ u64::from(std::process::id()) << 32;
    seed % (1 << f64::MANTISSA_DIGITS)
}
