//! Beginnings of prompts that need not be read again.

use crate::request::Request;
use wick_core::{Approximation, Engine};

/// The beginning of a text.
#[derive(Clone, Copy, Debug)]
pub struct Prefix<'a> {
    /// Its tokens.
    pub ids: &'a [u32],
    /// Whose it is, as in [`Request::owner`].
    pub owner: usize,
}

/// Where beginnings of texts are kept besides the KV caches of a scheduler's sequences.
pub trait PrefixStore {
    /// A sequence holds this and is about to lose it.
    fn evict(&mut self, engine: &Engine<'_>, sequence: usize, held: Prefix<'_>);

    /// Has a sequence hold as much of the beginning as is kept and worth reading. It holds some of it already, and may lose
    /// that too; what it holds afterwards was computed as the model has it.
    fn restore(&mut self, engine: &mut Engine<'_>, sequence: usize, wanted: Prefix<'_>);
}

/// None are kept.
impl PrefixStore for () {
    fn evict(&mut self, _engine: &Engine<'_>, _sequence: usize, _held: Prefix<'_>) {}

    fn restore(&mut self, _engine: &mut Engine<'_>, _sequence: usize, _wanted: Prefix<'_>) {}
}

/// How the tokens were computed that a KV cache holds, and for whom.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Provenance {
    /// How many of them, from the first on, were computed as the model has it.
    pub(crate) exact: usize,
    /// How the others may differ.
    pub(crate) approximation: Approximation,
    /// How many of them are anybody's.
    pub(crate) shared: usize,
    /// Whose the others are.
    pub(crate) owner: usize,
}

impl Provenance {
    /// How many of the tokens that are held are of use to a prompt that begins with them: what was computed in another way
    /// is, only for those who ask for the same. The last token of the prompt is not among them.
    pub(crate) fn common(&self, held: &[u32], request: &Request) -> usize {
        let is_alike = self.approximation == request.approximation;
        let exact = if is_alike { held.len() } else { self.exact };
        let allowed = if self.owner == request.owner { held.len() } else { self.shared };
        let usable = &held[..exact.min(allowed)];
        let before_last = &request.prompt[..request.prompt.len().saturating_sub(1)];
        usable.iter().zip(before_last).take_while(|(a, b)| a == b).count()
    }

    /// That of a text which begins with so many of the tokens and goes on for a request.
    pub(crate) fn continued(&self, common: usize, request: &Request) -> Provenance {
        Provenance {
            exact: self.exact.min(common),
            approximation: request.approximation,
            shared: if request.owner == Request::ANYBODY {
                usize::MAX
            } else {
                self.shared.min(common)
            },
            owner: request.owner,
        }
    }
}
