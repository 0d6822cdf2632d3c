//! Arranging the weights of a model for the kernels.
//!
//! Q4_0 matrices are laid out anew, once, in memory that the caller hands over; the others stay
//! where they are. The matrices of an expert stand side by side: gate, up, down. How the output matrix
//! is arranged depends on the [`Output`] that the engine is asked for.

use crate::output::Output;
use crate::store::Part;
use crate::weights::{Down, ExpertMatrices, Layer, Matrix, Weights};
use wick_kernels::Layout;

/// Every matrix starts at a multiple of this.
const ALIGNMENT: usize = 64;

/// Bytes of a matrix that are arranged at a time, about: enough to keep several threads busy.
const PIECE: usize = 1 << 20;

/// Some rows of a matrix, to be arranged.
#[derive(Debug)]
pub struct Piece<'s, 't> {
    layout: Layout,
    cols: usize,
    source: &'s [u8],
    target: &'t mut [u8],
}

impl<'s> Piece<'s, '_> {
    /// Arranges the rows, and returns the bytes that they were read from.
    pub fn arrange(self) -> &'s [u8] {
        self.layout.arrange(self.cols, self.source, self.target);
        self.source
    }
}

/// The layout that suits a matrix of a layer's experts; by rows where it does not fit.
pub fn expert_layout(layer: &Layer<'_>, part: Part) -> Layout {
    let (matrices, layout) = match (part, &layer.down) {
        (Part::Gate, _) => (&layer.gate, Layout::Grouped),
        (Part::Up, _) => (&layer.up, Layout::Split),
        (Part::Down, Down::Outputs(down)) => (down, Layout::Columns),
        (Part::Down, Down::Neurons(down)) => (down, Layout::Rows),
    };
    let fits = layout.fits(matrices.format(), matrices.rows(), matrices.cols());
    if fits { layout } else { Layout::Rows }
}

/// Bytes of memory that [`for_each_piece`] fills.
pub fn arranged_bytes(weights: &Weights<'_>, output: Output) -> usize {
    let mut bytes = 0;
    walk(weights, output, |matrix, layout| {
        if layout.is_some() {
            bytes += padded(matrix);
        }
    });
    bytes
}

/// Hands `each` the pieces that the arrangement of `weights` in `memory` consists of. They may be
/// arranged in any order, by any thread.
///
/// # Panics
/// If `memory` is shorter than [`arranged_bytes`].
pub fn for_each_piece<'m, 't>(
    weights: &Weights<'m>,
    output: Output,
    memory: &'t mut [u8],
    mut each: impl FnMut(Piece<'m, 't>),
) {
    let mut rest = memory;
    walk(weights, output, |matrix, layout| {
        let Some(layout) = layout else { return };
        let (cols, source) = (matrix.cols(), matrix.bytes());
        let (target, after) = core::mem::take(&mut rest).split_at_mut(padded(matrix));
        rest = after;
        let unit = source.len() / matrix.rows() * layout.unit_rows(matrix.rows());
        let piece = (PIECE / unit).max(1) * unit;
        let targets = target[..source.len()].chunks_mut(piece);
        for (source, target) in source.chunks(piece).zip(targets) {
            each(Piece { layout, cols, source, target });
        }
    });
}

/// The weights as they stand arranged in `memory`.
///
/// # Panics
/// If `memory` is shorter than [`arranged_bytes`].
pub fn arranged<'a>(weights: &Weights<'a>, output: Output, memory: &'a [u8]) -> Weights<'a> {
    let tied = core::ptr::eq(weights.output.bytes(), weights.embedding.bytes());
    let mut all = weights.clone();
    let mut rest = memory;
    take(&mut all.output, output.layout(), &mut rest);
    if tied {
        all.embedding = all.output;
    }
    if let Some(profiler) = all.profiler.as_mut().filter(|_| output == Output::Profiler) {
        take(&mut profiler.fc1, Layout::Grouped, &mut rest);
        take(&mut profiler.fc2, Layout::Grouped, &mut rest);
    }
    for layer in &mut all.layers {
        for matrix in [&mut layer.q, &mut layer.k, &mut layer.v, &mut layer.o] {
            take(matrix, Layout::Grouped, &mut rest);
        }
        take_experts(layer, &mut rest);
    }
    all
}

/// Replaces a matrix by the arranged one at the start of `memory`, if it was arranged.
fn take<'a>(matrix: &mut Matrix<'a>, layout: Layout, memory: &mut &'a [u8]) {
    let Some(layout) = fitting(matrix, layout) else { return };
    let (format, rows, cols) = (matrix.format(), matrix.rows(), matrix.cols());
    let (bytes, rest) = memory.split_at(padded(matrix));
    let bytes = &bytes[..matrix.bytes().len()];
    *matrix = Matrix::arranged(format, layout, rows, cols, bytes).expect("the layout fits");
    *memory = rest;
}

/// Replaces the experts of a layer by the arranged ones at the start of `memory`.
fn take_experts<'a>(layer: &mut Layer<'a>, memory: &mut &'a [u8]) {
    let count = layer.gate.count();
    let mut parts = heapless::Vec::<(&mut ExpertMatrices<'a>, Layout), 3>::new();
    let mut wanted = |matrices, layout| _ = parts.push((matrices, layout));
    wanted(&mut layer.gate, Layout::Grouped);
    wanted(&mut layer.up, Layout::Split);
    if let Down::Outputs(down) = &mut layer.down {
        wanted(down, Layout::Columns);
    }
    let stride = parts.iter().map(|(m, layout)| room(&m.expert(0), *layout)).sum();
    let mut start = 0;
    for (matrices, layout) in parts {
        let first = matrices.expert(0);
        if let Some(layout) = fitting(&first, layout) {
            let arranged = matrices.rearranged(layout, stride, &memory[start..]);
            *matrices = arranged.expect("the layout fits");
            start += padded(&first);
        }
    }
    *memory = &memory[stride * count..];
}

/// Bytes that a matrix takes arranged; none if it stays where it is.
fn room(matrix: &Matrix<'_>, layout: Layout) -> usize {
    fitting(matrix, layout).map_or(0, |_| padded(matrix))
}

fn padded(matrix: &Matrix<'_>) -> usize {
    matrix.bytes().len().next_multiple_of(ALIGNMENT)
}

/// The layout, if the matrix can be arranged so.
fn fitting(matrix: &Matrix<'_>, layout: Layout) -> Option<Layout> {
    let fits = layout.fits(matrix.format(), matrix.rows(), matrix.cols());
    (fits && matrix.layout() == Layout::Rows).then_some(layout)
}

/// Calls `visit` with every matrix that might be arranged and the layout that it gets, if any, in
/// the order in which they stand in memory.
fn walk<'m>(
    weights: &Weights<'m>,
    output: Output,
    mut visit: impl FnMut(&Matrix<'m>, Option<Layout>),
) {
    let mut dense = |matrix: &Matrix<'m>, layout| visit(matrix, fitting(matrix, layout));
    dense(&weights.output, output.layout());
    if let Some(profiler) = output.profiler(weights) {
        dense(&profiler.fc1, Layout::Grouped);
        dense(&profiler.fc2, Layout::Grouped);
    }
    for layer in &weights.layers {
        for matrix in [&layer.q, &layer.k, &layer.v, &layer.o] {
            dense(matrix, Layout::Grouped);
        }
        for expert in 0..layer.gate.count() {
            dense(&layer.gate.expert(expert), Layout::Grouped);
            dense(&layer.up.expert(expert), Layout::Split);
            if let Down::Outputs(down) = &layer.down {
                dense(&down.expert(expert), Layout::Columns);
            }
        }
    }
}
