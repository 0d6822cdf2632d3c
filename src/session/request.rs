//! What a generation is asked for, and why it ended.

use crate::constraint::{Constraint, ConstraintError};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use wick_core::{Approximation, HeadRows, SampleError, Sampler, Sampling, StepError};
use wick_text::Control;

/// Most tokens whose logits a request can have something added to.
pub const MOST_LOGIT_BIASES: usize = 1024;

/// The largest number that can be added to a logit, or taken off it.
const LARGEST_LOGIT_BIAS: f32 = 100.0;

/// What is asked for.
#[derive(Debug)]
pub struct Request {
    /// Ids of the prompt; at least one.
    pub prompt: Vec<u32>,
    /// Most tokens to draw; 0 only reads the prompt.
    pub most: usize,
    /// Draws the tokens.
    pub sampler: Sampler,
    /// Texts that end the generation, wherever tokens begin and end; they are not shown.
    pub stop: Vec<String>,
    /// What is added to the logits of tokens before anything else is done with them, from -100, which
    /// in practice forbids a token, to 100, which forces it: each id once, rising, no more than
    /// [`MOST_LOGIT_BIASES`].
    pub logit_bias: Vec<(u32, f32)>,
    /// What limits the text to some form; `None` if nothing does.
    pub constraint: Option<Box<dyn Constraint>>,
    /// How many of the likeliest tokens are told beside each one that is drawn, with the logarithms of
    /// their probabilities; `None` to tell nothing of the kind.
    pub log_probabilities: Option<usize>,
    /// Which logits are computed to draw from.
    pub head_rows: HeadRows,
    /// How experts of drawn tokens may differ from the model's; the prompt is read as it is.
    pub approximation: Approximation,
    /// What becomes of control tokens in the text.
    pub control: Control,
    /// Whether the prompt's embedding is wanted: the mean of its hidden states, normalized. Nothing is drawn then, nothing
    /// of the prompt is taken from what sequences hold, and what this one holds is left to nobody.
    pub embedding: bool,
    /// Whose it is: only prompts of one owner have a common beginning that is read once, since the time that an answer
    /// takes would tell others what was asked.
    pub owner: usize,
}

impl Request {
    /// The owner of prompts that are no secret: they are read once for all.
    pub const ANYBODY: usize = usize::MAX;

    /// The continuation of a prompt by up to `most` tokens, with nothing left out, no stop strings and no constraint.
    pub fn new(prompt: Vec<u32>, most: usize, sampler: Sampler) -> Request {
        Request {
            prompt,
            most,
            sampler,
            stop: Vec::new(),
            logit_bias: Vec::new(),
            constraint: None,
            log_probabilities: None,
            head_rows: HeadRows::Exact,
            approximation: Approximation::NONE,
            control: Control::Hide,
            embedding: false,
            owner: 0,
        }
    }

    /// The embedding of a prompt.
    pub fn embedding(prompt: Vec<u32>) -> Request {
        let sampler = Sampler::new(Sampling::GREEDY);
        Request { embedding: true, ..Request::new(prompt, 0, sampler) }
    }
}

/// Whether a list of biases is as [`Request::logit_bias`] says, in a vocabulary of `vocab` entries.
pub(crate) fn check_logit_bias(bias: &[(u32, f32)], vocab: usize) -> Result<(), StartError> {
    let (found, most) = (bias.len(), MOST_LOGIT_BIASES);
    if found > most {
        return Err(StartError::LogitBiases { found, most });
    }
    let mut least = 0;
    for &(id, bias) in bias {
        if id as usize >= vocab {
            return Err(StartError::Id { id, vocab });
        }
        if id < least || !(-LARGEST_LOGIT_BIAS..=LARGEST_LOGIT_BIAS).contains(&bias) {
            return Err(StartError::LogitBias { id });
        }
        least = id + 1;
    }
    Ok(())
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The model drew a token that ends a sequence or a turn.
    Stop,
    /// A stop string was drawn: its number in the request.
    StopString(usize),
    /// As many tokens were drawn as were asked for.
    Length,
    /// The context is full.
    Context,
    /// Nobody wants the rest.
    Cancelled,
    /// Something went wrong.
    Failed(Failure),
}

/// What went wrong in a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A step.
    Step(StepError),
    /// Drawing from its logits.
    Sample(SampleError),
    /// Its constraint.
    Constraint(ConstraintError),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Step(error) => error.fmt(f),
            Failure::Sample(error) => error.fmt(f),
            Failure::Constraint(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for Failure {}

/// A generation cannot be started; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// Every sequence has a generation.
    Busy {
        /// How many there are.
        sequences: usize,
    },
    /// There is nothing to continue.
    Empty,
    /// The prompt does not fit into the context.
    TooLong {
        /// Tokens of the prompt.
        found: usize,
        /// Positions of the context.
        context: usize,
    },
    /// An id of the prompt, or one that has a bias, is none of the vocabulary's.
    Id {
        /// The id.
        id: u32,
        /// Entries of the vocabulary.
        vocab: usize,
    },
    /// More logits have a bias than can have one.
    LogitBiases {
        /// How many.
        found: usize,
        /// Most that can.
        most: usize,
    },
    /// A bias is out of range, or stands behind that of the same or a larger id.
    LogitBias {
        /// Whose it is.
        id: u32,
    },
    /// More of the likeliest tokens are asked for than can be told.
    LogProbabilities {
        /// How many.
        found: usize,
        /// Most that can be.
        most: usize,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Busy { sequences } => {
                write!(f, "all {sequences} sequences are in use; try again later")
            }
            StartError::Empty => f.write_str("the prompt is empty"),
            StartError::TooLong { found, context } => write!(
                f,
                "the prompt has {found} tokens and the context {context}; shorten it or ask for a \
                 larger context"
            ),
            StartError::Id { id, vocab } => {
                write!(f, "token {id}: the vocabulary has {vocab} entries")
            }
            StartError::LogitBiases { found, most } => {
                write!(f, "logit biases: 0 to {most} expected, {found} found")
            }
            StartError::LogitBias { id } => write!(
                f,
                "logit bias of token {id}: a number from {} to {LARGEST_LOGIT_BIAS} expected, one \
                 for each id, ids rising",
                -LARGEST_LOGIT_BIAS
            ),
            StartError::LogProbabilities { found, most } => {
                write!(f, "likeliest tokens: 0 to {most} expected, {found} found")
            }
        }
    }
}

impl core::error::Error for StartError {}
