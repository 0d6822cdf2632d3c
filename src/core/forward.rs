//! The forward pass of a batch of tokens, from the embedding to the logits.
//!
//! Letters in shapes: `n` tokens, `k` active experts. A token's logits are the same bits whatever
//! batch it comes in and however many threads compute it.

use crate::checks::{entering, of_layer};
use crate::experts::{Experts, Work};
use crate::kv::KvCache;
use crate::parallel::Bands;
use crate::pass::Pass;
use crate::role::Role;
use crate::scratch::{Scratch, Tokens};
use crate::step_error::StepError;
use crate::token::Token;
use crate::weights::Layer;
use wick_kernels::scalar;

impl Pass<'_> {
    /// Runs `batch`, whose positions stand in the scratch, and leaves the logits of the tokens that
    /// want them there. Tokens that want an expert which cannot be read, or of which something is computed
    /// that no sound model has, fail, and with them all tokens of their sequences; the others do not notice.
    ///
    /// # Errors
    /// No expert can be read, or every token has failed; what was computed is of no use.
    pub(crate) fn forward(
        &self,
        batch: &[Token],
        kv: &mut KvCache<'_>,
        experts: &mut Experts<'_>,
        s: &mut Scratch<'_>,
    ) -> Result<(), StepError> {
        s.tokens.begin(batch.len());
        experts.begin(batch)?;
        self.embed(batch, s);
        for (i, layer) in self.weights.layers.iter().enumerate() {
            self.route(i, layer, batch, experts, s);
            self.attend(i, layer, batch, kv, s);
            self.apply_experts(i, layer, batch, experts, s)?;
            s.tokens.check(batch.len())?;
        }
        self.lm_head(batch, s);
        Ok(())
    }

    /// residual = rows of the embedding; cos, sin = rotations of the positions.
    fn embed(&self, batch: &[Token], s: &mut Scratch<'_>) {
        let embedding = &self.weights.embedding;
        let residual = s.stream.residual.chunks_exact_mut(self.config.hidden);
        for (token, x) in batch.iter().zip(residual) {
            embedding.dequantize_row(token.id as usize, x);
        }
        let pairs = self.config.rope_dims / 2;
        let (cos, sin) = (&mut *s.attention.cos, &mut *s.attention.sin);
        let tables = cos.chunks_exact_mut(pairs).zip(sin.chunks_exact_mut(pairs));
        for (position, (cos, sin)) in s.tokens.positions[..batch.len()].iter().zip(tables) {
            scalar::rope_table(*position, self.config.rope_base, cos, sin);
        }
    }

    /// The router's choice, from the residual stream as it enters the layer: before any norm and
    /// before attention. Experts that are not in memory start on their way.
    fn route(
        &self,
        index: usize,
        layer: &Layer<'_>,
        batch: &[Token],
        experts: &mut Experts<'_>,
        s: &mut Scratch<'_>,
    ) {
        self.products.kernels.prefetch()(layer.attn_norm.bytes());
        self.choose_experts(index, layer, batch, experts, s);
        let router = &s.router;
        let chosen = &router.chosen[index * router.pairs..][..batch.len() * self.config.active];
        experts.want(index, chosen, router.bounds, router.choices, batch);
        if let Some(arranger) = self.arranger.filter(|_| experts.are_resident()) {
            arranger.will_need(index, chosen);
        }
    }

    /// residual += Wo · attention(Wq h, Wk h, Wv h) with h = norm(residual).
    fn attend(
        &self,
        index: usize,
        layer: &Layer<'_>,
        batch: &[Token],
        kv: &mut KvCache<'_>,
        s: &mut Scratch<'_>,
    ) {
        self.normalize(&layer.attn_norm, &mut s.stream, batch.len(), |t| t);
        self.check_normed(of_layer(index, Role::AttnNorm), entering(index), batch, s);
        self.project_qkv(layer, batch.len(), &s.stream, &mut s.attention);
        self.rotate_and_store(index, batch, s.tokens.positions, kv, &mut s.attention);
        self.check_qkv(index, kv.limit(), batch, s);
        self.attend_to_past(index, batch, s.tokens.positions, kv, &mut s.attention);
        self.check_attended(index, batch, s);
        self.products.kernels.prefetch()(layer.ffn_norm.bytes());
        self.project_attended(layer, batch.len(), &mut s.attention, s.stream.residual);
    }

    /// residual += Σ weight · Wdown (relu(Wgate z) ⊙ (Wup z)) over the chosen experts, with
    /// z = norm(residual). Experts are taken as they come; while the last ones are computed, those
    /// that the next layer will probably choose start on their way.
    fn apply_experts(
        &self,
        index: usize,
        layer: &Layer<'_>,
        batch: &[Token],
        experts: &mut Experts<'_>,
        s: &mut Scratch<'_>,
    ) -> Result<(), StepError> {
        let n = batch.len();
        let active = self.config.active;
        self.normalize(&layer.ffn_norm, &mut s.stream, n, |t| t);
        let before = of_layer(index, Role::AttnOutput);
        self.check_normed(of_layer(index, Role::FfnNorm), before, batch, s);
        let mut guessed = false;
        while let Some(work) = experts.next() {
            if !guessed && experts.is_time_to_guess() {
                self.guess(index, n, experts, s);
                guessed = true;
            }
            let bands = Bands::Some { bounds: s.router.bounds, chosen: experts.chosen() };
            let lender = experts.lender(layer);
            match work {
                Work::Neurons => {
                    let (hidden, choices) = (&s.stream.hidden, &*s.router.choices);
                    self.gate_and_up(lender, bands, hidden, choices, n, &mut s.ffn.neurons);
                }
                Work::Outputs => self.down(&layer.down, lender, bands, n, &mut s.ffn),
                Work::Failed { expert, error } => {
                    let places = s.router.bounds[expert]..s.router.bounds[expert + 1];
                    let choices = &s.router.choices[places];
                    fail_sequences(batch, choices, active, error.into(), &mut s.tokens)?;
                }
            }
        }
        self.add_outputs(index, batch, s);
        Ok(())
    }
}

/// Lets all tokens fail whose sequences have made one of the `choices`.
///
/// # Errors
/// That was all there were.
fn fail_sequences(
    batch: &[Token],
    choices: &[usize],
    active: usize,
    error: StepError,
    tokens: &mut Tokens<'_>,
) -> Result<(), StepError> {
    let made = |token: &Token| {
        let mut sequences = choices.iter().map(|choice| batch[choice / active].sequence);
        sequences.any(|sequence| sequence == token.sequence)
    };
    tokens.fail((0..batch.len()).filter(|t| made(&batch[*t])), error);
    tokens.check(batch.len())
}
