//! Looking over what each stage of a pass has left, before the next one can hide damage. It costs some
//! comparisons for each value of a row, next to the products that the row is multiplied for.

use crate::config::Config;
use crate::damage::{Damage, Oddity, Origin};
use crate::name::TensorName;
use crate::pass::Pass;
use crate::role::Role;
use crate::scratch::{Scratch, Tokens};
use crate::step_error::StepError;
use crate::store::ExpertKey;
use crate::token::Token;
use wick_kernels::scalar::{all_finite, all_within};

impl Pass<'_> {
    /// Router logits, which are spoiled by anything in the residual stream that is not finite.
    pub(crate) fn check_router(&self, layer: usize, batch: &[Token], s: &mut Scratch<'_>) {
        let (experts, hidden) = (self.config.experts, self.config.hidden);
        let (logits, residual) = (&*s.router.logits, &*s.stream.residual);
        fail_damaged(batch, &mut s.tokens, |t| {
            let is_damaged = !all_finite(&logits[t * experts..][..experts]);
            is_damaged.then(|| match all_finite(&residual[t * hidden..][..hidden]) {
                true => of_layer(layer, Role::Router),
                false => entering(layer),
            })
        });
    }

    /// The residual stream after the `norm` of a layer; `before` is what has added to it last.
    pub(crate) fn check_normed(
        &self,
        norm: Origin,
        before: Origin,
        batch: &[Token],
        s: &mut Scratch<'_>,
    ) {
        let hidden = self.config.hidden;
        let (normed, residual) = (&s.stream.hidden, &*s.stream.residual);
        fail_damaged(batch, &mut s.tokens, |t| {
            blame(normed.row(t).values, norm, &residual[t * hidden..][..hidden], before)
        });
    }

    /// Queries, and keys and values, which the KV cache holds up to `limit`.
    pub(crate) fn check_qkv(&self, layer: usize, limit: f32, batch: &[Token], s: &mut Scratch<'_>) {
        let (queries, keys) = (self.config.query_width(), self.config.kv_width());
        let (width, qkv) = (queries + 2 * keys, &*s.attention.qkv);
        fail_damaged(batch, &mut s.tokens, |t| {
            let (q, kv) = qkv[t * width..][..width].split_at(queries);
            let (k, v) = kv.split_at(keys);
            let good = [all_finite(q), all_within(k, limit), all_within(v, limit)];
            let roles = [Role::Query, Role::Key, Role::Value];
            let damaged = good.iter().position(|is_good| !is_good);
            damaged.map(|i| of_layer(layer, roles[i]))
        });
    }

    /// What attention gives.
    pub(crate) fn check_attended(&self, layer: usize, batch: &[Token], s: &mut Scratch<'_>) {
        let attended = &s.attention.attended;
        fail_damaged(batch, &mut s.tokens, |t| {
            let is_damaged = !all_finite(attended.row(t).values);
            is_damaged.then_some(Origin::Attention { layer })
        });
    }

    /// The neurons of each token's experts.
    pub(crate) fn check_neurons(&self, layer: usize, batch: &[Token], s: &mut Scratch<'_>) {
        let active = self.config.active;
        let (places, neurons) = (&*s.router.places, &s.ffn.neurons);
        let chosen = &s.router.chosen[layer * s.router.pairs..];
        fail_damaged(batch, &mut s.tokens, |t| {
            let mut choices = t * active..(t + 1) * active;
            let choice = choices.find(|choice| !all_finite(neurons.row(places[*choice]).values))?;
            let expert = chosen[choice] as usize;
            Some(Origin::Neurons(ExpertKey { layer, expert }))
        });
    }

    /// The residual stream after the last norm, in the first `n` rows of those that logits are wanted of.
    pub(crate) fn check_last(&self, n: usize, batch: &[Token], s: &mut Scratch<'_>) {
        let Config { hidden, layers, .. } = *self.config;
        let norm = Origin::Tensor(TensorName::once(Role::OutputNorm));
        for row in 0..n {
            let t = s.lm_head.token_of[row];
            let residual = &s.stream.residual[t * hidden..][..hidden];
            let normed = s.stream.hidden.row(row).values;
            if let Some(origin) = blame(normed, norm, residual, entering(layers)) {
                fail_sequence(
                    t,
                    Damage { origin, oddity: Oddity::NotFinite },
                    batch,
                    &mut s.tokens,
                );
            }
        }
    }

    /// The logits of a row: all of them, or those that are not −∞.
    pub(crate) fn check_logits(
        &self,
        row: usize,
        is_whole: bool,
        batch: &[Token],
        s: &mut Scratch<'_>,
    ) {
        let (t, vocab) = (s.lm_head.token_of[row], self.config.vocab);
        let logits = &s.lm_head.logits[row * vocab..][..vocab];
        let is_good = match is_whole {
            true => all_finite(logits),
            false => logits.iter().fold(true, |all, logit| all & (*logit < f32::INFINITY)),
        };
        let oddity = match is_good {
            false => Oddity::NotFinite,
            true if are_equal(logits) => Oddity::Equal,
            true => return,
        };
        let role = if self.weights.is_tied() { Role::Embedding } else { Role::LmHead };
        let origin = Origin::Tensor(TensorName::once(role));
        fail_sequence(t, Damage { origin, oddity }, batch, &mut s.tokens);
    }
}

/// Whether there are several logits that are not −∞, and these are equal.
fn are_equal(logits: &[f32]) -> bool {
    let mut some = logits.iter().filter(|logit| **logit != f32::NEG_INFINITY);
    let Some(first) = some.next() else { return false };
    let mut count = 0;
    some.all(|logit| {
        count += 1;
        logit == first
    }) && count > 0
}

/// What a token's row was spoiled by, if it was: a `norm` whose result is not finite, or what came
/// `before` it.
fn blame(normed: &[f32], norm: Origin, residual: &[f32], before: Origin) -> Option<Origin> {
    if all_finite(normed) {
        return None;
    }
    // Larger ones have squares that are not finite.
    let is_norm = all_within(residual, 1e18);
    Some(if is_norm { norm } else { before })
}

/// What gave the residual stream that enters a layer, or that leaves the last one.
pub(crate) fn entering(layer: usize) -> Origin {
    match layer.checked_sub(1) {
        None => Origin::Tensor(TensorName::once(Role::Embedding)),
        Some(before) => of_layer(before, Role::Down),
    }
}

pub(crate) fn of_layer(layer: usize, role: Role) -> Origin {
    Origin::Tensor(TensorName::of_layer(layer, role))
}

/// Lets the tokens fail of which `find` finds something that is not finite, and with them all tokens of
/// their sequences.
fn fail_damaged(batch: &[Token], tokens: &mut Tokens<'_>, find: impl Fn(usize) -> Option<Origin>) {
    for t in 0..batch.len() {
        if tokens.has_failed(t) {
            continue;
        }
        if let Some(origin) = find(t) {
            fail_sequence(t, Damage { origin, oddity: Oddity::NotFinite }, batch, tokens);
        }
    }
}

/// Lets all tokens of a token's sequence fail, if it has not yet.
fn fail_sequence(t: usize, damage: Damage, batch: &[Token], tokens: &mut Tokens<'_>) {
    if !tokens.has_failed(t) {
        let sequence = batch[t].sequence;
        let same = (0..batch.len()).filter(|other| batch[*other].sequence == sequence);
        tokens.fail(same, StepError::Damaged(damage));
    }
}
