//! Choosing the experts of a batch, and guessing those of the next layer.

use crate::config::{Config, MAX_ACTIVE, MAX_EXPERTS};
use crate::experts::Experts;
use crate::pass::Pass;
use crate::router::{route, route_approximately};
use crate::scratch::Scratch;
use crate::token::Token;
use crate::weights::Layer;
use wick_kernels::{Encodings, RowLayout};

impl Pass<'_> {
    /// The router's choice for each token, its weights, and the choices sorted by expert; those of
    /// tokens that have failed are left out.
    pub(crate) fn choose_experts(
        &self,
        index: usize,
        layer: &Layer<'_>,
        batch: &[Token],
        experts: &Experts<'_>,
        s: &mut Scratch<'_>,
    ) {
        let Config { experts: count, active, gating, .. } = *self.config;
        self.ask_router(layer, batch.len(), s);
        let router = &mut s.router;
        let chosen = &mut router.chosen[index * router.pairs..][..batch.len() * active];
        let choices = chosen.chunks_exact_mut(active).zip(router.weights.chunks_exact_mut(active));
        let logits = router.logits.chunks_exact_mut(count);
        for ((token, logits), (chosen, weights)) in batch.iter().zip(logits).zip(choices) {
            if token.approximation.changes_choice() {
                let has_slot = |expert| experts.has_slot(index, expert);
                let approximation = token.approximation;
                route_approximately(logits, gating, approximation, has_slot, chosen, weights);
            } else {
                route(logits, gating, chosen, weights);
            }
        }
        let has_failed = |choice: usize| s.tokens.has_failed(choice / active);
        group_by_expert(chosen, has_failed, router.bounds, router.choices, router.places);
        // A token that fails here has made its choice.
        self.check_router(index, batch, s);
    }

    /// logits = Wrouter · residual.
    fn ask_router(&self, layer: &Layer<'_>, n: usize, s: &mut Scratch<'_>) {
        let hidden = self.config.hidden;
        let (plain, residual) = (RowLayout::new(hidden, Encodings::default()), &*s.stream.residual);
        let row = |t: usize| plain.view(&residual[t * hidden..][..hidden]);
        let copy = <[f32]>::copy_from_slice;
        self.products.multiply(&[&layer.router], row, n, s.router.logits, copy);
    }

    /// Asks the router of the next layer what it would choose if this layer's experts added nothing,
    /// and lets these experts start on their way. Router logits are lost.
    pub(crate) fn guess(
        &self,
        index: usize,
        n: usize,
        experts: &mut Experts<'_>,
        s: &mut Scratch<'_>,
    ) {
        let Config { experts: count, active, gating, .. } = *self.config;
        let Some(next) = self.weights.layers.get(index + 1) else { return };
        self.ask_router(next, n, s);
        let mut is_likely = [false; MAX_EXPERTS];
        let mut likely = heapless::Vec::<u32, MAX_EXPERTS>::new();
        for logits in s.router.logits.chunks_exact(count).take(n) {
            let (mut chosen, mut weights) = ([0; MAX_ACTIVE], [0.0; MAX_ACTIVE]);
            route(logits, gating, &mut chosen[..active], &mut weights[..active]);
            for expert in &chosen[..active] {
                if !core::mem::replace(&mut is_likely[*expert as usize], true) {
                    likely.push(*expert).expect("no expert is listed twice");
                }
            }
        }
        experts.guess(likely.into_iter());
    }
}

/// Sorts choices by expert, keeping their order: a counting sort. Some are left out.
fn group_by_expert(
    experts: &[u32],
    is_left_out: impl Fn(usize) -> bool,
    bounds: &mut [usize],
    choices: &mut [usize],
    places: &mut [usize],
) {
    bounds.fill(0);
    let all = || experts.iter().enumerate().filter(|(choice, _)| !is_left_out(*choice));
    for (_, expert) in all() {
        bounds[*expert as usize + 1] += 1;
    }
    for e in 1..bounds.len() {
        bounds[e] += bounds[e - 1];
    }
    // Each start moves to its expert's end while places are given out, then all move back by one.
    for (choice, expert) in all() {
        let next = &mut bounds[*expert as usize];
        (choices[*next], places[choice]) = (choice, *next);
        *next += 1;
    }
    bounds.rotate_right(1);
    bounds[0] = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_grouped_in_order() {
        let experts = [2, 0, 2, 1, 0, 3];
        let (mut bounds, mut choices, mut places) = ([9; 6], [9; 6], [9; 6]);
        group_by_expert(&experts, |_| false, &mut bounds, &mut choices, &mut places);
        assert_eq!(bounds, [0, 2, 3, 5, 6, 6]);
        assert_eq!(choices, [1, 4, 3, 0, 2, 5]);
        assert!(places.iter().enumerate().all(|(choice, place)| choices[*place] == choice));
    }

    #[test]
    fn choices_that_are_left_out_have_no_place() {
        let (mut bounds, mut choices, mut places) = ([9; 4], [9; 6], [9; 6]);
        let (experts, second_token) = ([2, 0, 2, 1, 0, 2], |choice| choice / 2 == 1);
        group_by_expert(&experts, second_token, &mut bounds, &mut choices, &mut places);
        assert_eq!(bounds, [0, 2, 2, 4]);
        assert_eq!(choices[..4], [1, 4, 0, 5]);
        assert_eq!([0, 1, 4, 5].map(|choice| places[choice]), [2, 0, 1, 3]);
    }
}
