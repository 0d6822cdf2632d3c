//! The activations of one step, each in a fixed place, grouped by the verb that writes them.

use crate::arena::{Arena, ArenaError};
use crate::config::Config;
use crate::head_rows::HeadRows;
use crate::options::Options;
use crate::step_error::StepError;
use crate::weights::Weights;
use wick_kernels::{Activation, Encoding, Encodings, RowLayout};

/// Activation rows in one slab.
#[derive(Debug)]
pub(crate) struct Rows<'m> {
    pub(crate) layout: RowLayout,
    pub(crate) slab: &'m mut [f32],
}

impl<'m> Rows<'m> {
    fn take(
        what: &'static str,
        count: usize,
        layout: RowLayout,
        arena: &mut Arena<'m>,
    ) -> Result<Rows<'m>, ArenaError> {
        Ok(Rows { layout, slab: arena.take(what, count * layout.stride())? })
    }

    /// Row `i`.
    pub(crate) fn row(&self, i: usize) -> Activation<'_> {
        let stride = self.layout.stride();
        self.layout.view(&self.slab[i * stride..][..stride])
    }

    /// The slab of the first `rows` rows.
    pub(crate) fn first(&mut self, rows: usize) -> &mut [f32] {
        &mut self.slab[..rows * self.layout.stride()]
    }
}

/// Slices that [`Scratch::new`] cuts, at most.
pub(crate) const SLICES: usize = 24;

/// The buffers of one step. `n` is the number of tokens, `k` that of active experts.
#[derive(Debug)]
pub(crate) struct Scratch<'m> {
    pub(crate) tokens: Tokens<'m>,
    pub(crate) stream: Stream<'m>,
    pub(crate) attention: Attention<'m>,
    pub(crate) router: Router<'m>,
    pub(crate) ffn: Ffn<'m>,
    pub(crate) lm_head: LmHead<'m>,
}

/// Errors that the tokens of a step can fail with; more than these are told as the last of them.
const ERRORS: usize = 8;

/// The tokens of a step.
#[derive(Debug)]
pub(crate) struct Tokens<'m> {
    /// Positions, `n`.
    pub(crate) positions: &'m mut [usize],
    /// Of each token, 0, or one more than the place in `errors` of what it failed with.
    causes: &'m mut [u8],
    errors: heapless::Vec<StepError, ERRORS>,
}

impl Tokens<'_> {
    /// Begins a step of `n` tokens.
    pub(crate) fn begin(&mut self, n: usize) {
        self.causes[..n].fill(0);
        self.errors.clear();
    }

    /// Lets tokens fail, if they have not yet.
    pub(crate) fn fail(&mut self, tokens: impl Iterator<Item = usize>, error: StepError) {
        let _told_as_the_last = self.errors.push(error);
        for t in tokens {
            if self.causes[t] == 0 {
                self.causes[t] = self.errors.len() as u8;
            }
        }
    }

    /// # Errors
    /// Of `n` tokens all have failed; what the first failed with.
    pub(crate) fn check(&self, n: usize) -> Result<(), StepError> {
        match (0..n).all(|t| self.has_failed(t)) {
            true => self.failure(0).map_or(Ok(()), Err),
            false => Ok(()),
        }
    }

    /// What a token failed with.
    pub(crate) fn failure(&self, t: usize) -> Option<StepError> {
        let place = usize::from(self.causes[t]).checked_sub(1)?;
        self.errors.get(place).copied()
    }

    /// Whether a token failed.
    pub(crate) fn has_failed(&self, t: usize) -> bool {
        self.causes[t] != 0
    }
}

/// The residual stream.
#[derive(Debug)]
pub(crate) struct Stream<'m> {
    /// `n × hidden`.
    pub(crate) residual: &'m mut [f32],
    /// The norm of it, rows that matrices of `hidden` columns multiply, `n`.
    pub(crate) hidden: Rows<'m>,
    /// A norm's weight, `hidden`.
    pub(crate) norm: &'m mut [f32],
}

/// What attention needs.
#[derive(Debug)]
pub(crate) struct Attention<'m> {
    /// Queries, keys and values of each token side by side, `n × (heads + 2 · kv_heads) · head`.
    pub(crate) qkv: &'m mut [f32],
    /// Cosines of each token's position, `n × rope_dims / 2`.
    pub(crate) cos: &'m mut [f32],
    /// Sines of each token's position, `n × rope_dims / 2`.
    pub(crate) sin: &'m mut [f32],
    /// Where the query heads of each KV head begin and end among the values of a token, `kv_heads + 1`.
    pub(crate) groups: &'m mut [usize],
    /// What attention gives, rows of `heads · head`, `n`.
    pub(crate) attended: Rows<'m>,
}

/// What the router says.
#[derive(Debug)]
pub(crate) struct Router<'m> {
    /// Router logits, `n × experts`.
    pub(crate) logits: &'m mut [f32],
    /// The chosen experts of each layer, `n × k`, best first; a layer's start `pairs` apart.
    pub(crate) chosen: &'m mut [u32],
    /// Choices that a layer has room for: most tokens times `k`.
    pub(crate) pairs: usize,
    /// Weights of the chosen experts, `n × k`.
    pub(crate) weights: &'m mut [f32],
    /// For each place in the order by expert, the choice (token · k + rank) that stands there.
    pub(crate) choices: &'m mut [usize],
    /// For each choice, its place in the order by expert.
    pub(crate) places: &'m mut [usize],
    /// The places of expert `e` are `bounds[e] .. bounds[e + 1]`.
    pub(crate) bounds: &'m mut [usize],
}

/// What experts make of the residual stream.
#[derive(Debug)]
pub(crate) struct Ffn<'m> {
    /// Neurons of the chosen experts, rows of `expert_width`, `n · k`, sorted by expert.
    pub(crate) neurons: Rows<'m>,
    /// What experts give back to the residual stream, `n · k × hidden`, sorted by expert.
    pub(crate) outputs: &'m mut [f32],
    /// Neurons that were not zero in the chosen experts, of each layer.
    pub(crate) active_neurons: &'m mut [usize],
}

/// What becomes of the last residual stream.
#[derive(Debug)]
pub(crate) struct LmHead<'m> {
    /// Logits of the tokens that want them, `logits × vocab`.
    pub(crate) logits: &'m mut [f32],
    /// The token that a row of logits belongs to.
    pub(crate) token_of: &'m mut [usize],
    /// The row of logits that belongs to the `i`-th token that wants some.
    pub(crate) row_of: &'m mut [usize],
    /// What the predictor of rows makes of a hidden row, if it is used.
    pub(crate) predictor: Rows<'m>,
    /// What each logit hardly exceeds, if a sketch is asked first, `vocab`.
    pub(crate) upper_bounds: &'m mut [f32],
    /// How far that may be off, for each block of a hidden row.
    pub(crate) spreads: &'m mut [f32],
    /// Rows of the matrix that the last step multiplied.
    pub(crate) multiplied: usize,
}

impl<'m> Scratch<'m> {
    /// Cuts every buffer from `arena`: the one list of them.
    pub(crate) fn new(
        config: &Config,
        weights: &Weights<'_>,
        options: &Options,
        arena: &mut Arena<'m>,
    ) -> Result<Scratch<'m>, ArenaError> {
        let (c, n, what) = (config, options.batch, "activations");
        let pairs = n * c.active;
        let attended = RowLayout::new(c.query_width(), weights.attention_encodings());
        let neurons = RowLayout::new(c.expert_width, weights.expert_encodings());
        let hidden = RowLayout::new(c.hidden, hidden_encodings(weights, options));
        let groups = arena.take("KV heads", c.kv_heads + 1)?;
        (0..).zip(&mut *groups).for_each(|(i, at)| *at = i * (c.query_width() / c.kv_heads));
        let is_coarse = options.head_rows == HeadRows::Coarse;
        Ok(Scratch {
            tokens: Tokens {
                positions: arena.take("positions", n)?,
                causes: arena.take("failures", n)?,
                errors: heapless::Vec::new(),
            },
            stream: Stream {
                residual: arena.take(what, n * c.hidden)?,
                hidden: Rows::take(what, n, hidden, arena)?,
                norm: arena.take(what, c.hidden)?,
            },
            attention: Attention {
                qkv: arena.take(what, n * (c.query_width() + 2 * c.kv_width()))?,
                cos: arena.take(what, n * c.rope_dims / 2)?,
                sin: arena.take(what, n * c.rope_dims / 2)?,
                groups,
                attended: Rows::take(what, n, attended, arena)?,
            },
            router: Router {
                logits: arena.take(what, n * c.experts)?,
                chosen: arena.take("chosen experts", c.layers * pairs)?,
                pairs,
                weights: arena.take(what, pairs)?,
                choices: arena.take("expert order", pairs)?,
                places: arena.take("expert order", pairs)?,
                bounds: arena.take("expert order", c.experts + 1)?,
            },
            ffn: Ffn {
                neurons: Rows::take(what, pairs, neurons, arena)?,
                outputs: arena.take(what, pairs * c.hidden)?,
                active_neurons: arena.take("neuron counts", c.layers)?,
            },
            lm_head: LmHead {
                logits: arena.take("logits", options.logits * c.vocab)?,
                token_of: arena.take("logits", options.logits)?,
                row_of: arena.take("logits", options.logits)?,
                predictor: Rows::take(what, 1, predictor_layout(weights, options), arena)?,
                upper_bounds: arena.take(what, if is_coarse { c.vocab } else { 0 })?,
                spreads: arena.take(what, if is_coarse { c.hidden / 32 } else { 0 })?,
                multiplied: 0,
            },
        })
    }
}

impl Scratch<'_> {
    /// The activations that grow with a step, all but the choices of experts. Nothing is kept there from
    /// one step to the next.
    pub(crate) fn activations(&mut self) -> [&mut [f32]; 7] {
        let Scratch { stream, attention, router, ffn, .. } = self;
        [
            &mut *stream.residual,
            &mut *stream.hidden.slab,
            &mut *attention.qkv,
            &mut *attention.attended.slab,
            &mut *router.logits,
            &mut *ffn.neurons.slab,
            &mut *ffn.outputs,
        ]
    }
}

/// The encodings of rows that matrices of `hidden` columns multiply, and of those that are multiplied
/// with a sketch of the LM head.
fn hidden_encodings(weights: &Weights<'_>, options: &Options) -> Encodings {
    let all = weights.hidden_encodings();
    match options.head_rows.sketch_bytes(weights) {
        0 => all,
        _ => all.with(Encoding::Q8_0),
    }
}

/// The layout of the row that the predictor of the LM head's rows goes through, empty if it is not used.
fn predictor_layout(weights: &Weights<'_>, options: &Options) -> RowLayout {
    let encodings = Encodings::default();
    options.head_rows.profiler(weights).map_or(RowLayout::new(0, encodings), |profiler| {
        let encoding = profiler.fc2.format().encoding();
        RowLayout::new(profiler.fc1.rows(), encodings.with(encoding))
    })
}
