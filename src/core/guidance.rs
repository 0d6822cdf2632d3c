//! What decides, besides the model, which token is drawn.

/// What a request changes about which tokens are drawn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Guidance<'a> {
    /// What is added to the logits of which ids, before all else.
    pub bias: &'a [(u32, f32)],
    /// The ids that may be drawn, as bits: id `i` is bit `i % 32` of word `i / 32`. `None` allows all; ids that there
    /// is no word for are not allowed.
    pub allowed: Option<&'a [u32]>,
}

impl Guidance<'_> {
    /// Whether an id may be drawn.
    pub(crate) fn allows(&self, id: u32) -> bool {
        self.allowed.is_none_or(|words| is_set(words, id))
    }

    /// How many of `vocab` ids may be drawn.
    pub(crate) fn count(&self, vocab: usize) -> usize {
        (0..vocab as u32).filter(|id| self.allows(*id)).count()
    }
}

/// Whether a bit is set.
pub(crate) fn is_set(words: &[u32], id: u32) -> bool {
    words.get(id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 != 0)
}
