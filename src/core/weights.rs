//! The tensors of a model, borrowed from wherever its file lies.

use crate::config::{Config, MAX_LAYERS};
use crate::store::Part;
use core::fmt;
use wick_kernels::{Encodings, Format, Layout, scalar};

/// A matrix, or a vector (one row).
#[derive(Clone, Copy)]
pub struct Matrix<'m> {
    format: Format,
    layout: Layout,
    rows: usize,
    cols: usize,
    bytes: &'m [u8],
}

impl<'m> Matrix<'m> {
    /// A matrix of `rows × cols` in `bytes`, row by row; `None` if the bytes are not exactly that
    /// many or a row is no whole number of blocks.
    pub fn new(format: Format, rows: usize, cols: usize, bytes: &'m [u8]) -> Option<Matrix<'m>> {
        Matrix::arranged(format, Layout::Rows, rows, cols, bytes)
    }

    /// A matrix of `rows × cols` in `bytes`, arranged in any way; `None` if the bytes are not
    /// exactly that many or the layout does not fit.
    pub fn arranged(
        format: Format,
        layout: Layout,
        rows: usize,
        cols: usize,
        bytes: &'m [u8],
    ) -> Option<Matrix<'m>> {
        let size = format.row_bytes(cols)?.checked_mul(rows)?;
        let fits = size == bytes.len() && layout.fits(format, rows, cols);
        fits.then_some(Matrix { format, layout, rows, cols, bytes })
    }

    /// How the weights are stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How they are arranged.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Weights in a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// All the bytes.
    pub fn bytes(&self) -> &'m [u8] {
        self.bytes
    }

    /// The bytes of `count` rows from `first` on, where the layout keeps them together: whole groups
    /// of [`Layout::Grouped`], any rows of [`Layout::Rows`] and [`Layout::Split`].
    pub fn row_bytes(&self, first: usize, count: usize) -> &'m [u8] {
        let row = self.bytes.len() / self.rows;
        &self.bytes[first * row..][..count * row]
    }

    /// One row as `f32`.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        if self.layout == Layout::Rows {
            return scalar::dequantize(self.format, self.row_bytes(row, 1), out);
        }
        for (i, out) in out.chunks_exact_mut(self.format.block_len()).enumerate() {
            let block = self.layout.block(self.cols, self.bytes, row, i);
            scalar::dequantize(self.format, &block, out);
        }
    }
}

impl fmt::Debug for Matrix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}x{} ({})", self.format, self.rows, self.cols, self.layout)
    }
}

/// The same matrix of every expert of a layer.
#[derive(Clone, Copy, Debug)]
pub struct ExpertMatrices<'m> {
    format: Format,
    layout: Layout,
    count: usize,
    rows: usize,
    cols: usize,
    /// Bytes of one matrix.
    size: usize,
    /// Bytes from the start of one matrix to the next.
    stride: usize,
    bytes: &'m [u8],
}

impl<'m> ExpertMatrices<'m> {
    /// `count` matrices of `rows × cols`, one after another and row by row; `None` under the
    /// conditions of [`Matrix::new`].
    pub fn new(
        format: Format,
        count: usize,
        rows: usize,
        cols: usize,
        bytes: &'m [u8],
    ) -> Option<ExpertMatrices<'m>> {
        let size = format.row_bytes(cols)?.checked_mul(rows)?;
        let layout = Layout::Rows;
        let fits = size.checked_mul(count)? == bytes.len() && count > 0;
        let stride = size;
        fits.then_some(ExpertMatrices { format, layout, count, rows, cols, size, stride, bytes })
    }

    /// The same matrices, arranged in another way in other bytes, `stride` from one to the next;
    /// `None` if the layout does not fit or the bytes are too few.
    pub fn rearranged<'a>(
        &self,
        layout: Layout,
        stride: usize,
        bytes: &'a [u8],
    ) -> Option<ExpertMatrices<'a>> {
        let ExpertMatrices { format, count, rows, cols, .. } = *self;
        ExpertMatrices::elsewhere(format, layout, count, rows, cols)?.placed(stride, bytes)
    }

    /// `count` matrices of `rows × cols`, arranged in any way, that are not in memory; `None` if the
    /// layout does not fit. They tell shapes, formats and sizes to an engine that reads experts
    /// through a store.
    pub fn elsewhere(
        format: Format,
        layout: Layout,
        count: usize,
        rows: usize,
        cols: usize,
    ) -> Option<ExpertMatrices<'m>> {
        let size = format.row_bytes(cols)?.checked_mul(rows)?;
        let fits =
            layout.fits(format, rows, cols) && count > 0 && size.checked_mul(count).is_some();
        let (stride, bytes) = (size, &[][..]);
        fits.then_some(ExpertMatrices { format, layout, count, rows, cols, size, stride, bytes })
    }

    /// The same matrices in `bytes`, `stride` from one to the next; `None` if the bytes are too few
    /// or the matrices overlap.
    pub fn placed<'a>(&self, stride: usize, bytes: &'a [u8]) -> Option<ExpertMatrices<'a>> {
        let needed = stride.checked_mul(self.count - 1)?.checked_add(self.size)?;
        let fits = stride >= self.size && bytes.len() >= needed;
        fits.then_some(ExpertMatrices { stride, bytes, ..*self })
    }

    /// The matrix of an expert that lies elsewhere, arranged in any way; `None` if the bytes are not
    /// exactly those of one or the layout does not fit.
    pub fn lend<'a>(&self, layout: Layout, bytes: &'a [u8]) -> Option<Matrix<'a>> {
        Matrix::arranged(self.format, layout, self.rows, self.cols, bytes)
    }

    /// The layout, if matrices that stand row by row can be arranged so.
    pub(crate) fn fitting(&self, layout: Layout) -> Option<Layout> {
        let fits = layout.fits(self.format, self.rows, self.cols);
        (fits && self.layout == Layout::Rows).then_some(layout)
    }

    /// How the weights are stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How they are arranged.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Number of experts.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Rows of a matrix.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of a matrix.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of all matrices.
    pub fn size(&self) -> usize {
        self.size * self.count
    }

    /// The matrix of one expert.
    ///
    /// # Panics
    /// If there is no such expert, or the matrices are not in memory.
    pub fn expert(&self, expert: usize) -> Matrix<'m> {
        let ExpertMatrices { format, layout, rows, cols, .. } = *self;
        let bytes = &self.bytes[expert * self.stride..][..self.size];
        Matrix { format, layout, rows, cols, bytes }
    }
}

/// The experts' way down, in either orientation that files have.
#[derive(Clone, Copy, Debug)]
pub enum Down<'m> {
    /// `hidden` rows of `expert_width`: a row gives one output (llama.cpp). Arranged by
    /// [`Layout::Columns`], what silent neurons would add is not read.
    Outputs(ExpertMatrices<'m>),
    /// `expert_width` rows of `hidden`: a row is what one neuron adds to all outputs (PowerInfer).
    Neurons(ExpertMatrices<'m>),
}

impl<'m> Down<'m> {
    /// The matrices, whatever their orientation.
    pub fn matrices(&self) -> &ExpertMatrices<'m> {
        match self {
            Down::Outputs(m) | Down::Neurons(m) => m,
        }
    }
}

/// The tensors of one layer.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'m> {
    /// Weight of the norm before attention, `1 × hidden`.
    pub attn_norm: Matrix<'m>,
    /// Queries, `heads · head × hidden`.
    pub q: Matrix<'m>,
    /// Keys, `kv_heads · head × hidden`.
    pub k: Matrix<'m>,
    /// Values, `kv_heads · head × hidden`.
    pub v: Matrix<'m>,
    /// Attention output, `hidden × heads · head`.
    pub o: Matrix<'m>,
    /// Weight of the norm before the experts, `1 × hidden`.
    pub ffn_norm: Matrix<'m>,
    /// Router, `experts × hidden`, its weights stored one by one: not in blocks.
    pub router: Matrix<'m>,
    /// Gates, `expert_width × hidden` for each expert.
    pub gate: ExpertMatrices<'m>,
    /// Ups, `expert_width × hidden` for each expert.
    pub up: ExpertMatrices<'m>,
    /// Downs.
    pub down: Down<'m>,
}

impl<'m> Layer<'m> {
    /// A matrix of all experts.
    pub fn experts(&self, part: Part) -> &ExpertMatrices<'m> {
        match part {
            Part::Gate => &self.gate,
            Part::Up => &self.up,
            Part::Down => self.down.matrices(),
        }
    }

    /// Bytes of all tensors of the layer.
    pub fn bytes(&self) -> usize {
        let experts = Part::ALL.map(|part| self.experts(part));
        self.dense_bytes() + experts.iter().map(|m| m.size()).sum::<usize>()
    }

    /// Bytes that an expert of the layer takes in a slot.
    pub fn slot_bytes(&self) -> usize {
        let experts = Part::ALL.map(|part| self.experts(part));
        experts.iter().map(|m| m.size.next_multiple_of(SLOT_ALIGNMENT)).sum()
    }

    /// Bytes of the tensors that every token needs: all but the experts.
    pub fn dense_bytes(&self) -> usize {
        let vectors = [&self.attn_norm, &self.ffn_norm, &self.router];
        let attention = [&self.q, &self.k, &self.v, &self.o];
        vectors.iter().chain(&attention).map(|m| m.bytes.len()).sum()
    }
}

/// The predictor of output rows that PowerInfer's files carry (`lm_head_profiler.weight`): a row
/// of the vocabulary counts when `fc2 · (fc1 · x)` is positive there.
#[derive(Clone, Copy, Debug)]
pub struct Profiler<'m> {
    /// `rank × hidden`.
    pub fc1: Matrix<'m>,
    /// `vocab × rank`.
    pub fc2: Matrix<'m>,
}

/// Every matrix in a slot starts at a multiple of this, and so does every slot: what the devices
/// and systems that read without a cache ask for.
pub const SLOT_ALIGNMENT: usize = 4096;

/// All tensors of a model.
#[derive(Clone, Debug)]
pub struct Weights<'m> {
    /// Token embedding, `vocab × hidden`.
    pub embedding: Matrix<'m>,
    /// Weight of the last norm, `1 × hidden`.
    pub output_norm: Matrix<'m>,
    /// Output matrix, `vocab × hidden`; the embedding itself where the file has no other (tied).
    pub output: Matrix<'m>,
    /// Predictor of output rows, where the file has one.
    pub profiler: Option<Profiler<'m>>,
    /// Sketch of the output matrix, once one has been drawn for
    /// [`Output::Coarse`](crate::Output::Coarse).
    pub sketch: Option<&'m [u8]>,
    /// The layers, in order.
    pub layers: heapless::Vec<Layer<'m>, MAX_LAYERS>,
}

impl Weights<'_> {
    /// Bytes of all tensors; a tied output is counted once.
    pub fn bytes(&self) -> usize {
        self.bytes_with(|layer| layer.bytes())
    }

    /// Bytes of the tensors that every token may need: all but the experts.
    pub fn dense_bytes(&self) -> usize {
        self.bytes_with(|layer| layer.dense_bytes())
    }

    /// Bytes of a slot that holds any expert of any layer.
    pub fn slot_bytes(&self) -> usize {
        self.layers.iter().map(Layer::slot_bytes).max().unwrap_or(0)
    }

    fn bytes_with(&self, layer_bytes: impl Fn(&Layer<'_>) -> usize) -> usize {
        let tied = core::ptr::eq(self.output.bytes, self.embedding.bytes);
        let ends = self.embedding.bytes.len() + self.output_norm.bytes.len();
        let output = if tied { 0 } else { self.output.bytes.len() };
        let profiler = self.profiler.map_or(0, |p| p.fc1.bytes.len() + p.fc2.bytes.len());
        let layers = self.layers.iter().map(layer_bytes).sum::<usize>();
        ends + output + profiler + layers
    }

    /// The matrices and vectors that every token may need: all but the experts.
    pub fn dense(&self) -> impl Iterator<Item = &Matrix<'_>> {
        let ends = [&self.embedding, &self.output_norm, &self.output];
        let profiler = self.profiler.iter().flat_map(|p| [&p.fc1, &p.fc2]);
        let layers = self
            .layers
            .iter()
            .flat_map(|l| [&l.attn_norm, &l.q, &l.k, &l.v, &l.o, &l.ffn_norm, &l.router]);
        ends.into_iter().chain(profiler).chain(layers)
    }

    /// The encodings that rows of `hidden` values need somewhere in the model.
    pub fn hidden_encodings(&self) -> Encodings {
        let mut all = Encodings::default().with(self.output.format.encoding());
        if let Some(profiler) = &self.profiler {
            all = all.with(profiler.fc1.format.encoding());
        }
        for layer in &self.layers {
            for format in [
                layer.q.format,
                layer.k.format,
                layer.v.format,
                layer.gate.format(),
                layer.up.format(),
            ] {
                all = all.with(format.encoding());
            }
        }
        all
    }

    /// The encodings that the attention output matrices need.
    pub fn attention_encodings(&self) -> Encodings {
        self.layers.iter().fold(Encodings::default(), |all, l| all.with(l.o.format.encoding()))
    }

    /// The encodings that the experts' way down needs.
    pub fn expert_encodings(&self) -> Encodings {
        self.layers.iter().fold(Encodings::default(), |all, layer| match layer.down {
            Down::Outputs(down) => all.with(down.format().encoding()),
            Down::Neurons(_) => all,
        })
    }

    /// Checks that every tensor has the shape that `config` gives it.
    pub fn validate(&self, config: &Config) -> Result<(), ShapeError> {
        let (hidden, width) = (config.hidden, config.expert_width);
        check("token_embd", None, &self.embedding, config.vocab, hidden)?;
        check("output_norm", None, &self.output_norm, 1, hidden)?;
        check("output", None, &self.output, config.vocab, hidden)?;
        if let Some(Profiler { fc1, fc2 }) = &self.profiler {
            check("lm_head_profiler fc1", None, fc1, fc1.rows, hidden)?;
            check("lm_head_profiler fc2", None, fc2, config.vocab, fc1.rows)?;
        }
        if self.layers.len() != config.layers {
            let (expected, found) = ((config.layers, hidden), (self.layers.len(), hidden));
            return Err(ShapeError { tensor: "layers", layer: None, expected, found });
        }
        for (i, layer) in self.layers.iter().enumerate() {
            let at = Some(i);
            let (query, kv) = (config.query_width(), config.kv_width());
            check("attn_norm", at, &layer.attn_norm, 1, hidden)?;
            check("attn_q", at, &layer.q, query, hidden)?;
            check("attn_k", at, &layer.k, kv, hidden)?;
            check("attn_v", at, &layer.v, kv, hidden)?;
            check("attn_output", at, &layer.o, hidden, query)?;
            check("ffn_norm", at, &layer.ffn_norm, 1, hidden)?;
            check("ffn_gate_inp", at, &layer.router, config.experts, hidden)?;
            let experts = |tensor, matrices: &ExpertMatrices<'_>, rows, cols| {
                let expected = (config.experts * rows, cols);
                let found = (matrices.count * matrices.rows, matrices.cols);
                match expected == found && matrices.count == config.experts {
                    true => Ok(()),
                    false => Err(ShapeError { tensor, layer: at, expected, found }),
                }
            };
            experts("ffn_gate_exps", &layer.gate, width, hidden)?;
            experts("ffn_up_exps", &layer.up, width, hidden)?;
            match &layer.down {
                Down::Outputs(down) => experts("ffn_down_exps", down, hidden, width)?,
                Down::Neurons(down) => experts("ffn_down_exps", down, width, hidden)?,
            }
        }
        Ok(())
    }
}

impl Weights<'_> {
    /// Checks that every matrix but the output matrix, which has a choice
    /// ([`Output::check`](crate::Output::check)), is arranged for the products that it takes part in.
    pub fn check_layouts(&self) -> Result<(), LayoutError> {
        for (i, layer) in self.layers.iter().enumerate() {
            let down = match &layer.down {
                Down::Outputs(down) => (down.layout(), Layout::Columns),
                Down::Neurons(down) => (down.layout(), Layout::Rows),
            };
            let found = [
                ("attn_norm", layer.attn_norm.layout, Layout::Rows),
                ("attn_q", layer.q.layout, Layout::Grouped),
                ("attn_k", layer.k.layout, Layout::Grouped),
                ("attn_v", layer.v.layout, Layout::Grouped),
                ("attn_output", layer.o.layout, Layout::Grouped),
                ("ffn_norm", layer.ffn_norm.layout, Layout::Rows),
                ("ffn_gate_inp", layer.router.layout, Layout::Grouped),
                ("ffn_gate_exps", layer.gate.layout(), Layout::Grouped),
                ("ffn_up_exps", layer.up.layout(), Layout::Split),
                ("ffn_down_exps", down.0, down.1),
            ];
            for (tensor, found, expected) in found {
                if found != Layout::Rows && found != expected {
                    return Err(LayoutError { tensor, layer: i, expected, found });
                }
            }
        }
        Ok(())
    }
}

/// A matrix is arranged for another product than the one that it takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayoutError {
    /// Name as in the file, without layer and `.weight`.
    pub tensor: &'static str,
    /// Layer.
    pub layer: usize,
    /// The layout that is possible besides [`Layout::Rows`].
    pub expected: Layout,
    /// The layout found.
    pub found: Layout,
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LayoutError { tensor, layer, expected, found } = self;
        write!(f, "blk.{layer}.{tensor}.weight: arranged by rows ")?;
        if *expected != Layout::Rows {
            write!(f, "or {expected} ")?;
        }
        write!(f, "expected, {found} found")
    }
}

impl core::error::Error for LayoutError {}

fn check(
    tensor: &'static str,
    layer: Option<usize>,
    matrix: &Matrix<'_>,
    rows: usize,
    cols: usize,
) -> Result<(), ShapeError> {
    let (expected, found) = ((rows, cols), (matrix.rows, matrix.cols));
    if expected == found { Ok(()) } else { Err(ShapeError { tensor, layer, expected, found }) }
}

/// A tensor does not have the shape that the [`Config`] gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShapeError {
    /// Name as in the file, without layer and `.weight`.
    pub tensor: &'static str,
    /// Layer, for tensors that every layer has.
    pub layer: Option<usize>,
    /// Rows (of all experts together) and columns expected.
    pub expected: (usize, usize),
    /// Rows and columns found.
    pub found: (usize, usize),
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(layer) = self.layer {
            write!(f, "blk.{layer}.")?;
        }
        let (rows, cols) = self.expected;
        write!(f, "{}.weight: {rows} rows of {cols} expected, ", self.tensor)?;
        write!(f, "{} rows of {} found", self.found.0, self.found.1)
    }
}

impl core::error::Error for ShapeError {}
