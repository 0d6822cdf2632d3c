//! The tensors of a model.

use crate::config::{Config, MAX_LAYERS};
pub(crate) use crate::matrix::{Down, ExpertMatrices, Matrix};
use crate::name::TensorName;
use crate::role::{Input, Part, Role, TensorShape};
use core::fmt;
use wick_kernels::{Encodings, Format, Layout};

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

/// Tensors of a layer that are not experts'.
const DENSE: usize = {
    let (mut count, mut i) = (0, 0);
    while i < Role::ALL.len() {
        let role = Role::ALL[i];
        count += (role.is_in_each_layer() && role.part().is_none()) as usize;
        i += 1;
    }
    count
};

/// The fields of a [`Layer`] that are not experts', with their roles.
macro_rules! dense {
    ($layer:ident $($mut:tt)?) => {
        [
            (Role::AttnNorm, &$($mut)? $layer.attn_norm),
            (Role::Query, &$($mut)? $layer.q),
            (Role::Key, &$($mut)? $layer.k),
            (Role::Value, &$($mut)? $layer.v),
            (Role::AttnOutput, &$($mut)? $layer.o),
            (Role::FfnNorm, &$($mut)? $layer.ffn_norm),
            (Role::Router, &$($mut)? $layer.router),
        ]
    };
}

impl<'m> Layer<'m> {
    /// The layer whose tensors two functions give, in the order of a file: those of experts by their
    /// part, the others by their role. Downs have a row for each neuron, or one for each output.
    ///
    /// # Errors
    /// The first that a function returns.
    pub fn try_from_fn<E>(
        mut dense: impl FnMut(Role) -> Result<Matrix<'m>, E>,
        mut experts: impl FnMut(Part) -> Result<ExpertMatrices<'m>, E>,
        by_neuron: bool,
    ) -> Result<Layer<'m>, E> {
        Ok(Layer {
            attn_norm: dense(Role::AttnNorm)?,
            q: dense(Role::Query)?,
            k: dense(Role::Key)?,
            v: dense(Role::Value)?,
            o: dense(Role::AttnOutput)?,
            ffn_norm: dense(Role::FfnNorm)?,
            router: dense(Role::Router)?,
            gate: experts(Part::Gate)?,
            up: experts(Part::Up)?,
            down: match by_neuron {
                true => Down::Neurons(experts(Part::Down)?),
                false => Down::Outputs(experts(Part::Down)?),
            },
        })
    }

    /// The tensors that every token needs: all but the experts.
    pub fn dense(&self) -> [(Role, &Matrix<'m>); DENSE] {
        dense!(self)
    }

    pub(crate) fn dense_mut(&mut self) -> [(Role, &mut Matrix<'m>); DENSE] {
        dense!(self mut)
    }

    /// A matrix of all experts.
    pub fn experts(&self, part: Part) -> &ExpertMatrices<'m> {
        match part {
            Part::Gate => &self.gate,
            Part::Up => &self.up,
            Part::Down => self.down.matrices(),
        }
    }

    pub(crate) fn experts_mut(&mut self, part: Part) -> &mut ExpertMatrices<'m> {
        match part {
            Part::Gate => &mut self.gate,
            Part::Up => &mut self.up,
            Part::Down => self.down.matrices_mut(),
        }
    }

    /// Whether downs have a row for each neuron, and not for each output.
    pub fn is_by_neuron(&self) -> bool {
        matches!(self.down, Down::Neurons(_))
    }

    /// How the kernels want a tensor of this layer, where that fits.
    pub(crate) fn wanted_layout(&self, role: Role) -> Layout {
        role.layout_in(self.is_by_neuron())
    }

    /// All tensors, in the order of a file.
    fn tensors(&self) -> impl Iterator<Item = (Role, Stored)> {
        let dense = self.dense().map(|(role, matrix)| (role, Stored::from(matrix)));
        let experts = Part::ALL.map(|part| (part.role(), Stored::from(self.experts(part))));
        dense.into_iter().chain(experts)
    }

    /// The formats of the tensors that are multiplied with an input.
    fn formats(&self, input: Input) -> impl Iterator<Item = Format> {
        // Rows of single neurons are added up, and nothing is multiplied with them.
        let added = |role| role == Role::Down && self.is_by_neuron();
        let multiplied = move |role: Role| role.input() == Some(input) && !added(role);
        let tensors = self.tensors().filter(move |(role, _)| multiplied(*role));
        tensors.map(|(_, tensor)| tensor.format)
    }

    /// Bytes that an expert of the layer takes in a slot.
    pub fn slot_bytes(&self) -> usize {
        let sizes = Part::ALL.map(|part| self.experts(part).matrix_bytes());
        sizes.iter().map(|size| size.next_multiple_of(SLOT_ALIGNMENT)).sum()
    }

    /// Bytes of the tensors that every token needs: all but the experts.
    pub fn dense_bytes(&self) -> usize {
        self.dense().iter().map(|(_, matrix)| matrix.bytes().len()).sum()
    }
}

/// How a tensor is stored, whether it is that of experts or not.
struct Stored {
    format: Format,
    layout: Layout,
    count: usize,
    rows: usize,
    cols: usize,
}

impl From<&Matrix<'_>> for Stored {
    fn from(m: &Matrix<'_>) -> Stored {
        let (format, layout, rows, cols) = (m.format(), m.layout(), m.rows(), m.cols());
        Stored { format, layout, count: 1, rows, cols }
    }
}

impl From<&ExpertMatrices<'_>> for Stored {
    fn from(m: &ExpertMatrices<'_>) -> Stored {
        let (format, layout, rows, cols) = (m.format(), m.layout(), m.rows(), m.cols());
        Stored { format, layout, count: m.count(), rows, cols }
    }
}

/// The predictor of the LM head's rows that PowerInfer's files carry (`lm_head_profiler.weight`): a row
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
    /// LM head, `vocab × hidden`, if the model has one of its own; else it is tied to the embedding.
    pub own_lm_head: Option<Matrix<'m>>,
    /// Predictor of rows of the LM head, where the file has one.
    pub profiler: Option<Profiler<'m>>,
    /// Sketch of the LM head for [`HeadRows::Coarse`](crate::HeadRows::Coarse): that of a packed file, or once
    /// one has been drawn.
    pub sketch: Option<&'m [u8]>,
    /// The layers, in order.
    pub layers: heapless::Vec<Layer<'m>, MAX_LAYERS>,
}

impl<'m> Weights<'m> {
    /// The matrix of the last product, `vocab × hidden`: the LM head, or the embedding of a tied
    /// model.
    pub fn lm_head(&self) -> &Matrix<'m> {
        self.own_lm_head.as_ref().unwrap_or(&self.embedding)
    }

    /// Whether the embedding is the LM head too.
    pub fn is_tied(&self) -> bool {
        self.own_lm_head.is_none()
    }

    /// The matrices that the model has once; two of the predictor.
    pub fn once(&self) -> impl Iterator<Item = (Role, &Matrix<'m>)> {
        let (fc1, fc2) = self.profiler.as_ref().map(|p| (&p.fc1, &p.fc2)).unzip();
        let all = [
            (Role::Embedding, Some(&self.embedding)),
            (Role::OutputNorm, Some(&self.output_norm)),
            (Role::LmHead, self.own_lm_head.as_ref()),
            (Role::Profiler, fc1),
            (Role::Profiler, fc2),
        ];
        all.into_iter().filter_map(|(role, matrix)| Some((role, matrix?)))
    }

    pub(crate) fn once_mut(&mut self) -> impl Iterator<Item = (Role, &mut Matrix<'m>)> {
        let (fc1, fc2) = self.profiler.as_mut().map(|p| (&mut p.fc1, &mut p.fc2)).unzip();
        let all = [
            (Role::Embedding, Some(&mut self.embedding)),
            (Role::OutputNorm, Some(&mut self.output_norm)),
            (Role::LmHead, self.own_lm_head.as_mut()),
            (Role::Profiler, fc1),
            (Role::Profiler, fc2),
        ];
        all.into_iter().filter_map(|(role, matrix)| Some((role, matrix?)))
    }

    /// The matrices and vectors that every token may need: all but the experts.
    pub fn dense(&self) -> impl Iterator<Item = &Matrix<'m>> {
        let layers = self.layers.iter().flat_map(Layer::dense);
        self.once().chain(layers).map(|(_, matrix)| matrix)
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> usize {
        let experts = self.layers.iter().flat_map(|l| Part::ALL.map(|part| l.experts(part).size()));
        self.dense_bytes() + experts.sum::<usize>()
    }

    /// Bytes of the tensors that every token may need: all but the experts.
    pub fn dense_bytes(&self) -> usize {
        self.dense().map(|matrix| matrix.bytes().len()).sum()
    }

    /// Bytes of a slot that holds any expert of any layer.
    pub fn slot_bytes(&self) -> usize {
        self.layers.iter().map(Layer::slot_bytes).max().unwrap_or(0)
    }

    /// The encodings that rows of `hidden` values need somewhere in the model.
    pub fn hidden_encodings(&self) -> Encodings {
        self.encodings(Input::Hidden)
    }

    /// The encodings that the attention output matrices need.
    pub fn attention_encodings(&self) -> Encodings {
        self.encodings(Input::Attended)
    }

    /// The encodings that the experts' way down needs.
    pub fn expert_encodings(&self) -> Encodings {
        self.encodings(Input::Neurons)
    }

    fn encodings(&self, input: Input) -> Encodings {
        let once = self.once().chain([(Role::LmHead, self.lm_head())]);
        let once = once.filter(|(role, _)| role.input() == Some(input)).map(|(_, m)| m.format());
        let layers = self.layers.iter().flat_map(|layer| layer.formats(input));
        once.chain(layers).fold(Encodings::default(), |all, format| all.with(format.encoding()))
    }

    /// Checks that every tensor has the shape that `config` gives it.
    pub fn validate(&self, config: &Config) -> Result<(), ShapeError> {
        for (role, matrix) in self.once().filter(|(role, _)| *role != Role::Profiler) {
            check(TensorName::once(role), role.shape(config), &Stored::from(matrix))?;
        }
        if let Some(Profiler { fc1, fc2 }) = &self.profiler {
            let rank = fc1.rows();
            let tensor = TensorName::once(Role::Profiler);
            for (matrix, expected) in [(fc1, (rank, config.hidden)), (fc2, (config.vocab, rank))] {
                let found = (matrix.rows(), matrix.cols());
                if expected != found {
                    return Err(ShapeError::Tensor { tensor, expected, found });
                }
            }
        }
        let (expected, found) = (config.layers, self.layers.len());
        if expected != found {
            return Err(ShapeError::Layers { expected, found });
        }
        for (number, layer) in self.layers.iter().enumerate() {
            for (role, tensor) in layer.tensors() {
                let shape = role.shape_in(config, layer.is_by_neuron());
                check(TensorName::of_layer(number, role), shape, &tensor)?;
            }
        }
        Ok(())
    }

    /// Checks that every matrix but the LM head, which has a choice
    /// ([`HeadRows::check`](crate::HeadRows::check)), is arranged for the products that it takes part in.
    pub fn check_layouts(&self) -> Result<(), LayoutError> {
        for (number, layer) in self.layers.iter().enumerate() {
            for (role, Stored { layout: found, .. }) in layer.tensors() {
                let (tensor, expected) =
                    (TensorName::of_layer(number, role), layer.wanted_layout(role));
                if found != Layout::Rows && found != expected {
                    return Err(LayoutError { tensor, expected, found });
                }
            }
        }
        Ok(())
    }
}

fn check(
    tensor: TensorName,
    shape: TensorShape,
    &Stored { count, rows, cols, .. }: &Stored,
) -> Result<(), ShapeError> {
    if (shape.count(), shape.rows(), shape.cols()) == (count, rows, cols) {
        return Ok(());
    }
    let (expected, found) = ((shape.count() * shape.rows(), shape.cols()), (count * rows, cols));
    Err(ShapeError::Tensor { tensor, expected, found })
}

/// A matrix is arranged for another product than the one that it takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayoutError {
    /// The tensor.
    pub tensor: TensorName,
    /// The layout that is possible besides [`Layout::Rows`].
    pub expected: Layout,
    /// The layout found.
    pub found: Layout,
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LayoutError { tensor, expected, found } = self;
        write!(f, "{tensor}: arranged by rows ")?;
        if *expected != Layout::Rows {
            write!(f, "or {expected} ")?;
        }
        write!(f, "expected, {found} found")
    }
}

impl core::error::Error for LayoutError {}

/// The tensors do not have the shape that the [`Config`] gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShapeError {
    /// One has other rows or columns.
    Tensor {
        /// Which.
        tensor: TensorName,
        /// Rows (of all experts together) and columns expected.
        expected: (usize, usize),
        /// Rows and columns found.
        found: (usize, usize),
    },
    /// There are more layers, or fewer.
    Layers {
        /// Layers expected.
        expected: usize,
        /// Layers found.
        found: usize,
    },
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShapeError::Tensor { tensor, expected: (rows, cols), found } => {
                write!(f, "{tensor}: {rows} rows of {cols} expected, ")?;
                write!(f, "{} rows of {} found", found.0, found.1)
            }
            ShapeError::Layers { expected, found } => {
                write!(f, "layers: {expected} expected, {found} found")
            }
        }
    }
}

impl core::error::Error for ShapeError {}
