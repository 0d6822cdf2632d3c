//! Memory that is promised to keys, values and activations, and lent to spare slots for experts until
//! these need it.

use crate::arena::Arena;
use crate::config::Config;
use crate::options::Options;
use crate::scratch::{SLICES, Scratch};
use crate::store::SlotClass;
use crate::weights::Weights;

/// Most tokens of a step whose activations are lent to nobody. Larger steps are those of prompts.
pub(crate) const FEW: usize = 64;

/// What may be lent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loan {
    slots: SlotClass,
    /// Bytes of whole pages among the activations that a step of few tokens does not touch.
    activations: usize,
    /// Whether a step of more has touched them.
    many: bool,
}

impl Loan {
    /// What an engine under these options may lend to slots.
    pub(crate) fn new(
        config: &Config,
        weights: &Weights<'_>,
        options: &Options,
        slots: SlotClass,
    ) -> Loan {
        let bytes = |batch| {
            let options = Options { batch, ..*options };
            Arena::measure(|arena| Scratch::new(config, weights, &options, arena).map(drop))
        };
        let rest = bytes(options.batch) - bytes(options.batch.min(FEW));
        // Each slice may begin and end in a page that is touched, and choices lie layer by layer.
        let cut = (2 * SLICES + config.layers) * slots.page;
        Loan { slots, activations: rest.saturating_sub(cut), many: false }
    }

    /// Spare slots that may be in use where so many bytes of the KV cache are not touched.
    pub(crate) fn slots(&self, untouched: usize) -> usize {
        let activations = if self.many { 0 } else { self.activations };
        (untouched + activations) / self.slots.stride.max(1)
    }

    /// Bytes of a page.
    pub(crate) fn page(&self) -> usize {
        self.slots.page
    }

    /// Takes note of a step of `tokens`. Tells whether the activations of larger steps can be given back now.
    pub(crate) fn step(&mut self, tokens: usize) -> bool {
        let were_many = core::mem::replace(&mut self.many, tokens > FEW);
        were_many && !self.many
    }
}
