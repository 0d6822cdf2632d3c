//! What a forward pass reads and never changes.

use crate::arrangement::Arranger;
use crate::config::Config;
use crate::head_rows::HeadRows;
use crate::products::Products;
use crate::scratch::Stream;
use crate::weights::{Matrix, Weights};
use wick_kernels::{Encoding, scalar};

/// A model, and what computes it. Its verbs stand in files of their own; `forward.rs` puts them in
/// order.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    pub(crate) config: &'a Config,
    pub(crate) weights: &'a Weights<'a>,
    pub(crate) head_rows: HeadRows,
    pub(crate) products: Products<'a>,
    /// Who has the weights, if not the model's file alone.
    pub(crate) arranger: Option<&'a dyn Arranger>,
}

impl Pass<'_> {
    /// hidden[i] = norm(residual[token(i)]), for `i < n`.
    pub(crate) fn normalize(
        &self,
        norm: &Matrix<'_>,
        stream: &mut Stream<'_>,
        n: usize,
        token: impl Fn(usize) -> usize + Sync,
    ) {
        let Config { hidden, rms_eps, .. } = *self.config;
        norm.dequantize_row(0, stream.norm);
        let (residual, weight) = (&*stream.residual, &*stream.norm);
        self.products.for_each_row(&mut stream.hidden, n, Encoding::Q8_0, |i, row| {
            let x = &residual[token(i) * hidden..][..hidden];
            scalar::rms_norm(x, weight, rms_eps, &mut row[..hidden]);
        });
    }
}
