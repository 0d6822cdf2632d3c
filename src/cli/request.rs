//! What a user may ask for who has texts drawn.

use crate::answer::Drawing;
use crate::engine::{EngineArguments, HeadRowsArguments};
use crate::number;
use crate::sampling::SamplingArguments;
use clap::Args;
use wick_core::{Config, Options};
use wick_linux::host::one_sequence;

/// How long an answer is, how it is drawn, and what it is drawn with.
#[derive(Args, Clone)]
pub(crate) struct RequestArguments {
    /// Most tokens of an answer; -1 for as many as there is room for
    #[arg(
        short,
        long = "tokens",
        alias = "n",
        value_name = "N",
        default_value_t = 512,
        value_parser = number::tokens,
        allow_negative_numbers = true
    )]
    pub(crate) n: usize,
    #[command(flatten)]
    sampling: SamplingArguments,
    #[command(flatten)]
    pub(crate) engine: EngineArguments,
    #[command(flatten)]
    head_rows: HeadRowsArguments,
    /// Positions for prompts and answers together [default: 4096, or the model's own if that is less]
    #[arg(short, long, value_name = "N", value_parser = number::context())]
    context: Option<usize>,
}

impl RequestArguments {
    /// What the engine is to hold.
    pub(crate) fn options(&self, config: &Config) -> Options {
        self.head_rows.apply(one_sequence(config, self.context))
    }

    /// How answers are drawn; without a seed, another way each time.
    pub(crate) fn drawing(&self) -> Drawing {
        self.engine.drawing(self.sampling.sampling(), &self.head_rows)
    }
}
