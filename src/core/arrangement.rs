//! Arranging the weights of a model for the kernels.
//!
//! Q4_0 matrices are laid out anew, once, in memory that the caller hands over; the others stay
//! where they are; the LM head may get a sketch beside it, where the file has none. The matrices of an expert stand
//! side by side: gate, up, down. What becomes of the LM head depends on the [`HeadRows`] that
//! the engine is asked for. Products have the same bits before and after, so a model can be used
//! while it is arranged section by section.

use crate::head_rows::HeadRows;
use crate::matrix::Matrix;
use crate::role::{Part, Role};
use crate::store::StoreError;
use crate::weights::{Layer, Weights};
use core::ops::Range;
use wick_kernels::{Format, GROUP, Layout, sketch};

/// Every matrix starts at a multiple of this.
const ALIGNMENT: usize = 64;

/// Bytes of a matrix that are arranged at a time, about: enough to keep several threads busy.
const PIECE: usize = 1 << 20;

/// What is arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrangement {
    /// What the LM head is arranged for.
    pub head_rows: HeadRows,
    /// Whether experts are arranged; not where they are read into slots.
    pub experts: bool,
    /// Whether matrices that a file has arranged already are moved to the memory too.
    pub moved: bool,
    /// Which part of the model.
    pub section: Section,
}

/// A part of a model that is arranged in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// All of it.
    Whole,
    /// What comes after the layers: the LM head, and its predictor where it is used.
    LmHead,
    /// A layer.
    Layer(usize),
}

impl Section {
    fn has_lm_head(self) -> bool {
        !matches!(self, Section::Layer(_))
    }

    /// Which of so many layers.
    fn layers(self, all: usize) -> Range<usize> {
        match self {
            Section::Whole => 0..all,
            Section::LmHead => 0..0,
            Section::Layer(i) => i..i + 1,
        }
    }
}

/// Arranges a model that is in use already. The platform owns the memory, and decides on how many
/// threads.
pub trait Arranger: Sync {
    /// Arranges up to so many of the sections that are left, and returns how many are left then.
    fn arrange(&mut self, most: usize) -> usize;

    /// The weights, arranged as far as that has come.
    fn weights(&self) -> &Weights<'_>;

    /// Called when the router has chosen `experts` of a layer, before attention, if all experts stand in memory: time to have
    /// them read at once from where they lie if nobody has touched them yet. An expert may be named more than once.
    fn will_need(&self, _layer: usize, _experts: &[u32]) {}

    /// Called after each pass over the layers, before anything of it is believed: time to see whether what
    /// the weights lie in is still what it was. An error fails all tokens of the step.
    fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Some rows of a matrix, to be arranged.
#[derive(Debug)]
pub struct Piece<'s, 't> {
    task: Task,
    cols: usize,
    source: &'s [u8],
    target: &'t mut [u8],
}

/// What becomes of some rows.
#[derive(Clone, Copy, Debug)]
enum Task {
    Arrange(Layout),
    Move,
    Sketch(Format),
}

impl<'s> Piece<'s, '_> {
    /// The rows as they are now.
    pub fn source(&self) -> &'s [u8] {
        self.source
    }

    /// Arranges the rows, and returns the bytes that take their place: they are not read again.
    pub fn arrange(self) -> Option<&'s [u8]> {
        let Piece { task, cols, source, target } = self;
        match task {
            Task::Arrange(layout) => {
                layout.arrange(cols, source, target);
                Some(source)
            }
            Task::Move => {
                target.copy_from_slice(source);
                Some(source)
            }
            Task::Sketch(format) => {
                sketch(format, cols, source, target);
                None
            }
        }
    }
}

/// How the kernels want a tensor that a model has once, where that fits: the LM head and what does its
/// work as [`HeadRows`] have it. `is_tied` says that the embedding is the LM head too.
pub fn once_layout(role: Role, head_rows: HeadRows, is_tied: bool) -> Layout {
    match role {
        Role::LmHead => head_rows.layout(),
        Role::Embedding if is_tied => head_rows.layout(),
        Role::Profiler if head_rows != HeadRows::Profiler => Layout::Rows,
        _ => role.layout(),
    }
}

/// How a matrix of this many rows and columns of an expert is arranged where it is computed with, if it stands row by row
/// now. `by_neuron` says that downs of the layer have a row for each neuron.
pub fn expert_layout_of(
    part: Part,
    by_neuron: bool,
    format: Format,
    rows: usize,
    cols: usize,
) -> Layout {
    let wanted = part.role().layout_in(by_neuron);
    if wanted.fits(format, rows, cols) { wanted } else { Layout::Rows }
}

/// How a matrix of a layer's experts is arranged where it is computed with, in memory or in a slot.
pub fn expert_layout(layer: &Layer<'_>, part: Part) -> Layout {
    let matrices = layer.experts(part);
    matrices.fitting(layer.wanted_layout(part.role())).unwrap_or(matrices.layout())
}

/// Bytes of memory that [`for_each_piece`] fills.
pub fn arranged_bytes(weights: &Weights<'_>, what: Arrangement) -> usize {
    let mut bytes = sketched_bytes(weights, what).next_multiple_of(ALIGNMENT);
    walk(weights, what, |matrix, layout| {
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
    what: Arrangement,
    memory: &'t mut [u8],
    mut each: impl FnMut(Piece<'m, 't>),
) {
    let bytes = sketched_bytes(weights, what);
    let (drawn, mut rest) = memory.split_at_mut(bytes.next_multiple_of(ALIGNMENT));
    if bytes > 0 {
        let (matrix, drawn) = (weights.lm_head(), &mut drawn[..bytes]);
        let (task, source) = match weights.sketch {
            Some(sketch) => (Task::Move, sketch),
            None => (Task::Sketch(matrix.format()), matrix.bytes()),
        };
        let (cols, groups) = (matrix.cols(), matrix.rows() / GROUP);
        let some = (PIECE / (source.len() / groups)).max(1);
        let targets = drawn.chunks_mut(bytes / groups * some);
        for (source, target) in source.chunks(source.len() / groups * some).zip(targets) {
            each(Piece { task, cols, source, target });
        }
    }
    walk(weights, what, |matrix, layout| {
        let Some(layout) = layout else { return };
        let (cols, source) = (matrix.cols(), matrix.bytes());
        let task = if matrix.layout() == layout { Task::Move } else { Task::Arrange(layout) };
        let (target, after) = core::mem::take(&mut rest).split_at_mut(padded(matrix));
        rest = after;
        let unit = source.len() / matrix.rows() * layout.unit_rows(matrix.rows());
        let piece = (PIECE / unit).max(1) * unit;
        let targets = target[..source.len()].chunks_mut(piece);
        for (source, target) in source.chunks(piece).zip(targets) {
            each(Piece { task, cols, source, target });
        }
    });
}

/// Lets `weights` borrow from `memory` what was arranged there.
///
/// # Panics
/// If `memory` is shorter than [`arranged_bytes`].
pub fn take_arranged<'a>(weights: &mut Weights<'a>, what: Arrangement, memory: &'a [u8]) {
    let Arrangement { head_rows, experts, moved, section } = what;
    let bytes = sketched_bytes(weights, what);
    let (drawn, mut rest) = memory.split_at(bytes.next_multiple_of(ALIGNMENT));
    if bytes > 0 {
        weights.sketch = Some(&drawn[..bytes]);
    }
    if section.has_lm_head() {
        let is_tied = weights.is_tied();
        for (role, matrix) in weights.once_mut() {
            take(matrix, once_layout(role, head_rows, is_tied), moved, &mut rest);
        }
    }
    let layers = section.layers(weights.layers.len());
    for layer in &mut weights.layers[layers] {
        for (role, matrix) in layer.dense_mut() {
            take(matrix, role.layout(), moved, &mut rest);
        }
        if experts {
            take_experts(layer, moved, &mut rest);
        }
    }
}

/// Replaces a matrix by the arranged one at the start of `memory`, if it was arranged.
fn take<'a>(matrix: &mut Matrix<'a>, layout: Layout, moved: bool, memory: &mut &'a [u8]) {
    let Some(layout) = fitting(matrix, layout, moved) else { return };
    let (format, rows, cols) = (matrix.format(), matrix.rows(), matrix.cols());
    let (bytes, rest) = memory.split_at(padded(matrix));
    let bytes = &bytes[..matrix.bytes().len()];
    *matrix = Matrix::arranged(format, layout, rows, cols, bytes).expect("the layout fits");
    *memory = rest;
}

/// Replaces the experts of a layer by the arranged ones at the start of `memory`.
fn take_experts<'a>(layer: &mut Layer<'a>, moved: bool, memory: &mut &'a [u8]) {
    let count = layer.gate.count();
    let parts = Part::ALL.map(|part| (part, layer.wanted_layout(part.role())));
    let room = |(part, layout)| room(&layer.experts(part).expert(0), layout, moved);
    let stride = parts.map(room).iter().sum::<usize>();
    let mut start = 0;
    for (part, layout) in parts {
        let matrices = layer.experts_mut(part);
        let first = matrices.expert(0);
        if let Some(layout) = fitting(&first, layout, moved) {
            let arranged = matrices.rearranged(layout, stride, &memory[start..]);
            *matrices = arranged.expect("the layout fits");
            start += padded(&first);
        }
    }
    *memory = &memory[stride * count..];
}

/// Bytes that a matrix takes arranged; none if it stays where it is.
fn room(matrix: &Matrix<'_>, layout: Layout, moved: bool) -> usize {
    fitting(matrix, layout, moved).map_or(0, |_| padded(matrix))
}

/// Bytes of the sketch that is drawn of the LM head, or moved; none if it needs none, or has one.
fn sketched_bytes(weights: &Weights<'_>, what: Arrangement) -> usize {
    let is_open = what.section.has_lm_head() && (what.moved || weights.sketch.is_none());
    if is_open { what.head_rows.sketch_bytes(weights) } else { 0 }
}

fn padded(matrix: &Matrix<'_>) -> usize {
    matrix.bytes().len().next_multiple_of(ALIGNMENT)
}

/// The layout, if the matrix can be arranged so and is not yet, or is and shall be moved.
fn fitting(matrix: &Matrix<'_>, layout: Layout, moved: bool) -> Option<Layout> {
    let fits = layout.fits(matrix.format(), matrix.rows(), matrix.cols());
    let is_open = matrix.layout() == Layout::Rows || (moved && matrix.layout() == layout);
    (fits && is_open && layout != Layout::Rows).then_some(layout)
}

/// Calls `visit` with every matrix that might be arranged and the layout that it gets, if any, in
/// the order in which they stand in memory.
fn walk<'m>(
    weights: &Weights<'m>,
    Arrangement { head_rows, experts, moved, section }: Arrangement,
    mut visit: impl FnMut(&Matrix<'m>, Option<Layout>),
) {
    let mut visit = |matrix: &Matrix<'m>, layout| visit(matrix, fitting(matrix, layout, moved));
    if section.has_lm_head() {
        let layout = |role| once_layout(role, head_rows, weights.is_tied());
        weights.once().for_each(|(role, matrix)| visit(matrix, layout(role)));
    }
    for layer in &weights.layers[section.layers(weights.layers.len())] {
        layer.dense().into_iter().for_each(|(role, matrix)| visit(matrix, role.layout()));
        let count = if experts { layer.gate.count() } else { 0 };
        for expert in 0..count {
            for part in Part::ALL {
                let matrix = layer.experts(part).expert(expert);
                visit(&matrix, layer.wanted_layout(part.role()));
            }
        }
    }
}
