//! The activations of one step, each in a fixed place.

use crate::arena::{Arena, ArenaError};
use crate::config::Config;
use crate::output::Output;
use crate::plan::{Options, floats};
use crate::weights::Weights;
use wick_kernels::{Activation, Encoding, Encodings, RowLayout};

/// Activation rows in one slab.
#[derive(Debug)]
pub(crate) struct Rows<'m> {
    pub(crate) layout: RowLayout,
    pub(crate) slab: &'m mut [f32],
}

impl Rows<'_> {
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

/// What the sizes of all buffers follow from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    config: Config,
    options: Options,
    hidden: RowLayout,
    attended: RowLayout,
    neurons: RowLayout,
    predictor: RowLayout,
}

impl Sizes {
    pub(crate) fn new(config: &Config, weights: &Weights<'_>, options: &Options) -> Sizes {
        Sizes {
            config: *config,
            options: *options,
            hidden: RowLayout::new(config.hidden, hidden_encodings(weights, options)),
            attended: RowLayout::new(config.query_width(), weights.attention_encodings()),
            neurons: RowLayout::new(config.expert_width, weights.expert_encodings()),
            predictor: predictor_layout(weights, options),
        }
    }

    /// Choices of experts in a step: tokens times active experts.
    fn pairs(&self) -> usize {
        self.options.batch * self.config.active
    }

    /// Lengths of the buffers of `f32`, in the order in which they are cut.
    fn float_lens(&self) -> [usize; 15] {
        let (c, n) = (&self.config, self.options.batch);
        [
            n * c.hidden,
            n * self.hidden.stride(),
            c.hidden,
            n * (c.query_width() + 2 * c.kv_width()),
            n * c.rope_dims / 2,
            n * c.rope_dims / 2,
            n * self.attended.stride(),
            n * c.experts,
            self.pairs(),
            self.pairs() * self.neurons.stride(),
            self.pairs() * c.hidden,
            self.options.outputs * c.vocab,
            self.predictor.stride(),
            if self.options.output == Output::Coarse { c.vocab } else { 0 },
            if self.options.output == Output::Coarse { c.hidden / 32 } else { 0 },
        ]
    }

    pub(crate) fn bytes(&self) -> usize {
        let floats: usize = self.float_lens().into_iter().map(floats).sum();
        let indices = Arena::bytes_for::<usize>(self.pairs()) * 2
            + Arena::bytes_for::<usize>(self.config.experts + 1)
            + Arena::bytes_for::<u32>(self.config.layers * self.pairs())
            + Arena::bytes_for::<usize>(self.config.layers)
            + Arena::bytes_for::<usize>(self.options.batch);
        floats + indices
    }
}

/// The encodings of rows that matrices of `hidden` columns multiply, and of those that are multiplied
/// with a sketch of the output matrix.
fn hidden_encodings(weights: &Weights<'_>, options: &Options) -> Encodings {
    let all = weights.hidden_encodings();
    match options.output.sketch_bytes(weights) {
        0 => all,
        _ => all.with(Encoding::Q8_0),
    }
}

/// The layout of the row that the predictor of output rows goes through, empty if it is not used.
fn predictor_layout(weights: &Weights<'_>, options: &Options) -> RowLayout {
    let encodings = Encodings::default();
    options.output.profiler(weights).map_or(RowLayout::new(0, encodings), |profiler| {
        let encoding = profiler.fc2.format().encoding();
        RowLayout::new(profiler.fc1.rows(), encodings.with(encoding))
    })
}

/// The buffers of one step. `n` is the number of tokens, `k` that of active experts.
#[derive(Debug)]
pub(crate) struct Scratch<'m> {
    /// Residual stream, `n × hidden`.
    pub(crate) residual: &'m mut [f32],
    /// Rows that matrices of `hidden` columns multiply, `n`.
    pub(crate) hidden: Rows<'m>,
    /// A norm's weight, `hidden`.
    pub(crate) norm: &'m mut [f32],
    /// Queries, keys and values of each token side by side, `n × (heads + 2 · kv_heads) · head`.
    pub(crate) qkv: &'m mut [f32],
    /// Cosines of each token's position, `n × rope_dims / 2`.
    pub(crate) cos: &'m mut [f32],
    /// Sines of each token's position, `n × rope_dims / 2`.
    pub(crate) sin: &'m mut [f32],
    /// What attention gives, rows of `heads · head`, `n`.
    pub(crate) attended: Rows<'m>,
    /// Router logits, `n × experts`.
    pub(crate) router_logits: &'m mut [f32],
    /// Weights of the chosen experts, `n × k`.
    pub(crate) expert_weights: &'m mut [f32],
    /// Neurons of the chosen experts, rows of `expert_width`, `n · k`, sorted by expert.
    pub(crate) neurons: Rows<'m>,
    /// What experts give back to the residual stream, `n · k × hidden`, sorted by expert.
    pub(crate) outputs: &'m mut [f32],
    /// Logits of the tokens that want them, `outputs × vocab`.
    pub(crate) logits: &'m mut [f32],
    /// What the predictor of output rows makes of a hidden row, if it is used.
    pub(crate) predictor: Rows<'m>,
    /// What each logit hardly exceeds, if it is asked first, `vocab`.
    pub(crate) ceilings: &'m mut [f32],
    /// How far that may be off, for each block of a hidden row.
    pub(crate) spreads: &'m mut [f32],
    /// Rows of the output matrix that the last step multiplied.
    pub(crate) output_rows: usize,
    /// For each place in the order by expert, the choice (token · k + rank) that stands there.
    pub(crate) choices: &'m mut [usize],
    /// For each choice, its place in the order by expert.
    pub(crate) places: &'m mut [usize],
    /// The places of expert `e` are `bounds[e] .. bounds[e + 1]`.
    pub(crate) bounds: &'m mut [usize],
    /// The chosen experts of each layer, `n × k`, best first; a layer's start `pairs` apart.
    pub(crate) experts: &'m mut [u32],
    /// Choices that a layer has room for: most tokens times `k`.
    pub(crate) pairs: usize,
    /// Neurons that were not zero in the chosen experts, of each layer.
    pub(crate) active_neurons: &'m mut [usize],
    /// Positions of the tokens, `n`.
    pub(crate) positions: &'m mut [usize],
}

impl<'m> Scratch<'m> {
    pub(crate) fn new(sizes: &Sizes, arena: &mut Arena<'m>) -> Result<Scratch<'m>, ArenaError> {
        let lens = sizes.float_lens();
        let mut take = |i: usize| arena.take::<f32>("activations", lens[i]);
        Ok(Scratch {
            residual: take(0)?,
            hidden: Rows { layout: sizes.hidden, slab: take(1)? },
            norm: take(2)?,
            qkv: take(3)?,
            cos: take(4)?,
            sin: take(5)?,
            attended: Rows { layout: sizes.attended, slab: take(6)? },
            router_logits: take(7)?,
            expert_weights: take(8)?,
            neurons: Rows { layout: sizes.neurons, slab: take(9)? },
            outputs: take(10)?,
            logits: take(11)?,
            predictor: Rows { layout: sizes.predictor, slab: take(12)? },
            ceilings: take(13)?,
            spreads: take(14)?,
            output_rows: 0,
            choices: arena.take("expert order", sizes.pairs())?,
            places: arena.take("expert order", sizes.pairs())?,
            bounds: arena.take("expert order", sizes.config.experts + 1)?,
            experts: arena.take("chosen experts", sizes.config.layers * sizes.pairs())?,
            pairs: sizes.pairs(),
            active_neurons: arena.take("neuron counts", sizes.config.layers)?,
            positions: arena.take("positions", sizes.options.batch)?,
        })
    }
}
