//! The LM head: logits from the residual stream that leaves the last layer.

use crate::head_rows::MOST_TOP;
use crate::parallel::{Bands, Grid};
use crate::pass::Pass;
use crate::products::TILE;
use crate::scratch::{LmHead, Rows, Scratch};
use crate::token::{Logits, Token};
use crate::weights::Profiler;
use core::cmp::Ordering;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use heapless::binary_heap::{BinaryHeap, Min};
use wick_kernels::{Activation, Format, Layout};

/// Rows that are multiplied first, for each of the largest that are wanted: their products tell how
/// large a product must be at least.
const FIRST: usize = 4;
/// Standard deviations from what a sketch tells that a product is expected within. The largest 64
/// were right at each of 10,240 positions of a model of the 4B's shape (`tests/bench/coarse.rs`).
const DEVIATIONS: f32 = 5.0;
/// Rows in a tile of a search for those that may be among the largest.
const SEARCHED: usize = 512;
/// Values that are looked over together, since hardly ever one of them is among the largest.
const SCANNED: usize = 64;
/// Variance of what a sketch leaves out of a weight, in scales: it is anywhere within four of them.
const VARIANCE: f32 = 16.0 / 12.0;

impl Pass<'_> {
    /// logits = Wout · norm(residual), for the tokens that want them.
    pub(crate) fn lm_head(&self, batch: &[Token], s: &mut Scratch<'_>) {
        let (exact, wanted) = self.order_rows(batch, &mut s.lm_head);
        let token_of = &*s.lm_head.token_of;
        self.normalize(&self.weights.output_norm, &mut s.stream, wanted, |row| token_of[row]);
        self.check_last(wanted, batch, s);
        let (hidden, head) = (&s.stream.hidden, &mut s.lm_head);
        head.multiplied = self.multiply_all(exact, hidden, head);
        for row in exact..wanted {
            head.multiplied += match batch[head.token_of[row]].logits {
                Logits::Top(top) => self.shortlist(top, row, hidden, head),
                _ => self.predict(row, hidden, head),
            };
        }
        (0..wanted).for_each(|row| self.check_logits(row, row < exact, batch, s));
    }

    /// Gives each token that wants logits a row of them: first those that want all, whose number is
    /// returned with that of all rows.
    fn order_rows(&self, batch: &[Token], head: &mut LmHead<'_>) -> (usize, usize) {
        let (mut rows, mut exact) = (0, 0);
        for is_exact in [true, false] {
            let wanting = batch.iter().enumerate().filter(|(_, token)| token.wants_logits());
            for (i, (t, token)) in wanting.enumerate() {
                if self.needs_all(token.logits) == is_exact {
                    (head.token_of[rows], head.row_of[i]) = (t, rows);
                    rows += 1;
                }
            }
            exact = if is_exact { rows } else { exact };
        }
        (exact, rows)
    }

    /// Whether all rows of the matrix are multiplied for these logits.
    fn needs_all(&self, logits: Logits) -> bool {
        match logits {
            Logits::Top(top) => self.sketch().is_none() || !(1..=MOST_TOP).contains(&top),
            Logits::Predicted => self.head_rows.profiler(self.weights).is_none(),
            Logits::None | Logits::All => true,
        }
    }

    /// The sketch of the LM head, if rows are chosen by it.
    fn sketch(&self) -> Option<&[u8]> {
        self.head_rows.sketch(self.weights)
    }

    /// Logits = Wout · hidden row, for the first `n` rows. Returns how many products these are.
    fn multiply_all(&self, n: usize, hidden: &Rows<'_>, head: &mut LmHead<'_>) -> usize {
        let (matrix, vocab) = (self.weights.lm_head(), self.config.vocab);
        if matrix.layout() == Layout::Split {
            for (row, logits) in head.logits.chunks_exact_mut(vocab).take(n).enumerate() {
                self.products.multiply_row(matrix, &hidden.row(row), logits);
            }
        } else if n > 0 {
            let copy = <[f32]>::copy_from_slice;
            self.products.multiply(&[matrix], |row| hidden.row(row), n, head.logits, copy);
        }
        n * vocab
    }

    /// Logits `i` = Wout · hidden row `i` where the predictor counts a row of the vocabulary, −∞
    /// elsewhere. Returns how many it counts; 0 if there is none.
    fn predict(&self, i: usize, hidden: &Rows<'_>, head: &mut LmHead<'_>) -> usize {
        let Some(Profiler { fc1, fc2 }) = self.head_rows.profiler(self.weights) else { return 0 };
        let (x, vocab) = (hidden.row(i), self.config.vocab);
        self.products.multiply_row(&fc1, &x, &mut head.predictor.slab[..fc1.rows()]);
        self.products.for_each_row(&mut head.predictor, 1, fc2.format().encoding(), |_, _| ());

        let (features, product) =
            (head.predictor.row(0), self.products.product(fc2.format(), fc2.layout()));
        let (matrix, counted) = (self.weights.lm_head(), AtomicUsize::new(0));
        let logits = &mut head.logits[i * vocab..][..vocab];
        Grid::new(logits, vocab, vocab).for_each_tile(
            self.products.parallel,
            Bands::One,
            TILE,
            |tile| {
                let cols = tile.cols();
                let (mut scores, mut values) = ([0.0; TILE], [0.0; TILE]);
                let scores = &mut scores[..cols.len()];
                product(fc2.row_bytes(cols.start, cols.len()), &[features], scores);
                let above = scores.iter().zip(cols.clone()).filter(|(score, _)| **score > 0.0);
                let rows: heapless::Vec<u32, TILE> = above.map(|(_, row)| row as u32).collect();
                let values = &mut values[..rows.len()];
                self.products.pick(matrix, &rows, &x, values);
                let logits = tile.row(0);
                logits.fill(f32::NEG_INFINITY);
                for (row, value) in rows.iter().zip(values) {
                    logits[*row as usize - cols.start] = multiplied(*value);
                }
                counted.fetch_add(rows.len(), Relaxed);
            },
        );
        counted.into_inner()
    }

    /// Logits `i` = Wout · hidden row `i`: the `top` largest and some others, −∞ elsewhere. Returns how
    /// many rows are multiplied; 0 if there is no sketch of the matrix.
    fn shortlist(&self, top: usize, i: usize, hidden: &Rows<'_>, head: &mut LmHead<'_>) -> usize {
        let Some(sketch) = self.sketch() else { return 0 };
        let vocab = self.config.vocab;
        let x = hidden.row(i);
        let logits = &mut head.logits[i * vocab..][..vocab];
        logits.fill(f32::NEG_INFINITY);
        let blocks = x.q8_0.quants.chunks_exact(Format::Q4_0.block_len()).zip(x.q8_0.scales);
        for ((quants, scale), spread) in blocks.zip(head.spreads.iter_mut()) {
            let energy: i32 = quants.iter().map(|q| i32::from(*q) * i32::from(*q)).sum();
            *spread = DEVIATIONS * DEVIATIONS * VARIANCE * (scale * scale) * energy as f32;
        }
        let (bound, spreads) = (self.products.kernels.bound_rows(), &*head.spreads);
        let bounds = Grid::new(head.upper_bounds, vocab, vocab);
        bounds.for_each_tile(self.products.parallel, Bands::One, TILE, |tile| {
            bound(sketch, tile.cols(), &x, spreads, tile.row(0));
        });
        let first = self.multiply_above(
            nth_largest(head.upper_bounds, FIRST * top),
            &x,
            head.upper_bounds,
            logits,
        );
        first + self.multiply_above(nth_largest(logits, top), &x, head.upper_bounds, logits)
    }

    /// Multiplies the rows whose bound reaches `least`, if they have not been yet; their number is
    /// returned.
    fn multiply_above(
        &self,
        least: f32,
        x: &Activation<'_>,
        bounds: &[f32],
        logits: &mut [f32],
    ) -> usize {
        let (matrix, prefetch) = (self.weights.lm_head(), self.products.kernels.prefetch());
        let (vocab, count) = (self.config.vocab, AtomicUsize::new(0));
        Grid::new(logits, vocab, vocab).for_each_tile(
            self.products.parallel,
            Bands::One,
            SEARCHED,
            |tile| {
                let (start, logits) = (tile.cols().start, tile.row(0));
                let mut rows = heapless::Vec::<u32, SEARCHED>::new();
                for (i, (bound, logit)) in bounds[start..].iter().zip(&*logits).enumerate() {
                    // What is no number is not left out.
                    if (*bound >= least || bound.is_nan()) && *logit == f32::NEG_INFINITY {
                        prefetch(matrix.row_bytes(start + i, 1));
                        rows.push((start + i) as u32).expect("a tile has no more rows");
                    }
                }
                let mut values = [0.0; SEARCHED];
                let values = &mut values[..rows.len()];
                self.products.pick(matrix, &rows, x, values);
                for (row, value) in rows.iter().zip(values) {
                    logits[*row as usize - start] = multiplied(*value);
                }
                count.fetch_add(rows.len(), Relaxed);
            },
        );
        count.into_inner()
    }
}

/// A logit that was multiplied. −∞ is one that was not: a product that is −∞ must not pass for it.
fn multiplied(logit: f32) -> f32 {
    if logit == f32::NEG_INFINITY { f32::NAN } else { logit }
}

/// A number in the order of all numbers.
#[derive(PartialEq)]
struct Ordered(f32);

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Ordered) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Ordered) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// The `n`-th largest of the values, or the least if they are fewer. `n` is `FIRST · MOST_TOP` at most.
fn nth_largest(values: &[f32], n: usize) -> f32 {
    let mut largest = BinaryHeap::<Ordered, Min, { FIRST * MOST_TOP }>::new();
    let (first, rest) = values.split_at(n.min(values.len()));
    for value in first {
        let _room_for_all = largest.push(Ordered(*value));
    }
    let mut least = largest.peek().map_or(f32::NEG_INFINITY, |least| least.0);
    for some in rest.chunks(SCANNED) {
        if !some.iter().fold(false, |above, value| above | (*value > least)) {
            continue;
        }
        for value in some {
            if *value > least {
                largest.pop();
                let _room_was_made = largest.push(Ordered(*value));
                least = largest.peek().map_or(least, |least| least.0);
            }
        }
    }
    least
}
