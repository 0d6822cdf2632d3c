//! The tensors of a model, by name and with exact dimensions.

use heapless::Vec;
use wick_core::{Config, ExpertMatrices, Layer, Matrix, Profiler, Role, TensorName, Weights};
use wick_kernels::{Format, Layout, scalar, sketch_bytes};

use crate::dims::Dims;
use crate::error::Error;
use crate::model::Model;
use crate::packed::Keys;
use crate::tail::is_zero;
use crate::tensor::Tensor;

const PROFILER: TensorName = TensorName::once(Role::Profiler);

impl<'m> Model<'_, 'm> {
    /// The tensors of a model of this shape.
    ///
    /// Dimensions of 1 at the end may be missing or added, as GGUF's writers do. Without `output`
    /// the model is tied. `ffn_down_exps` may be stored either way around; where
    /// hidden size and expert width are equal, it is taken for llama.cpp's, unless the file has
    /// PowerInfer's profiler, which makes it ambiguous and an error.
    ///
    /// Of a packed file of which only the front is at hand ([`crate::Gguf::parse_front`]), experts have
    /// their shapes and formats, but no bytes.
    ///
    /// # Errors
    /// A tensor is missing, has other dimensions, or a format that is not supported; or there is one that
    /// SmallThinker has not and that would change what is computed.
    pub fn weights(&self, config: &Config) -> Result<Weights<'m>, Error<'m>> {
        config.validate()?;
        self.refuse_unknown(config.layers)?;
        self.check_tails(config.layers)?;
        let once = |role| self.matrix(config, TensorName::once(role));
        let embedding = once(Role::Embedding)?;
        let mut layers = Vec::new();
        for number in 0..config.layers {
            // The capacity is MAX_LAYERS, and the shape has been checked against it.
            let pushed = layers.push(self.layer(config, number)?);
            debug_assert!(pushed.is_ok());
        }
        let output_norm = once(Role::OutputNorm)?;
        let has_lm_head = self.find(TensorName::once(Role::LmHead)).is_some();
        let own_lm_head = has_lm_head.then(|| once(Role::LmHead)).transpose()?;
        let profiler = self.profiler(config)?;
        let sketch = self.sketch(config)?;
        Ok(Weights { embedding, output_norm, own_lm_head, profiler, sketch, layers })
    }

    /// The sketch of the LM head in a packed file, if it has one and that is at hand.
    fn sketch(&self, config: &Config) -> Result<Option<&'m [u8]>, Error<'m>> {
        let Some(sketch) = self.packed().and_then(|packed| packed.section(Keys::SKETCH)) else {
            return Ok(None);
        };
        let expected = sketch_bytes(config.vocab, config.hidden).unwrap_or(0);
        let found = sketch.len();
        if found == expected { Ok(Some(sketch)) } else { Err(Error::Sketch { expected, found }) }
    }

    fn layer(&self, config: &Config, number: usize) -> Result<Layer<'m>, Error<'m>> {
        let name = |role| TensorName::of_layer(number, role);
        let packed = self.packed().map(|packed| packed.layer(config, number)).transpose()?;
        let by_neuron = match &packed {
            Some(layer) => layer.is_by_neuron(),
            None => self.is_by_neuron(config, name(Role::Down)),
        };
        Layer::try_from_fn(
            |role| self.matrix(config, name(role)),
            |part| match &packed {
                Some(layer) => Ok(layer.matrices(part)),
                None => self.experts(config, name(part.role()), by_neuron),
            },
            by_neuron,
        )
    }

    /// A matrix, or a vector as a matrix of one row.
    fn matrix(&self, config: &Config, name: TensorName) -> Result<Matrix<'m>, Error<'m>> {
        let (tensor, shape) = (self.need(name)?, name.role.shape(config));
        let (format, bytes) = contents(&tensor, name, Dims::new(shape.dims()))?;
        let (layout, found) = self.layout(&tensor);
        let (rows, cols) = (shape.rows(), shape.cols());
        let matrix = layout.and_then(|l| Matrix::arranged(format, l, rows, cols, bytes));
        let matrix = matrix.ok_or(Error::Layout { tensor: name, format, rows, cols, found })?;
        if name.role.is_plain() && format.block_len() > 1 {
            return Err(Error::Blocked { tensor: name, format });
        }
        if rows == 1 { check_norm(name, &matrix).map(|()| matrix) } else { Ok(matrix) }
    }

    /// How a tensor is arranged, and the name of that.
    fn layout(&self, tensor: &Tensor<'m>) -> (Option<Layout>, &'m str) {
        match self.packed() {
            None => (Some(Layout::Rows), Layout::Rows.name()),
            Some(packed) => {
                let name = packed.layout_name(tensor.name());
                (Layout::from_name(name), name)
            }
        }
    }

    /// A matrix of all experts.
    fn experts(
        &self,
        config: &Config,
        name: TensorName,
        by_neuron: bool,
    ) -> Result<ExpertMatrices<'m>, Error<'m>> {
        if name.role == Role::Down && self.is_ambiguous(config) {
            return Err(Error::Orientation { tensor: name, size: config.hidden });
        }
        let shape = name.role.shape_in(config, by_neuron);
        let (tensor, expected) = (self.need(name)?, Dims::new(shape.dims()));
        let (format, bytes) = contents(&tensor, name, expected)?;
        let matrices =
            ExpertMatrices::new(format, shape.count(), shape.rows(), shape.cols(), bytes);
        matrices.ok_or(wrong_shape(&tensor, name, expected))
    }

    /// Whether downs are stored as PowerInfer does, with a row for each neuron.
    fn is_by_neuron(&self, config: &Config, down: TensorName) -> bool {
        let shape = down.role.shape_in(config, true);
        let found = self.find(down).map(|tensor| tensor.dims().padded());
        shape.rows() != shape.cols() && found == Some(Dims::new(shape.dims()).padded())
    }

    /// Whether it cannot be told which way around downs are stored.
    fn is_ambiguous(&self, config: &Config) -> bool {
        config.hidden == config.expert_width && self.find(PROFILER).is_some()
    }

    /// The two matrices of the profiler, which lie one after the other in one tensor.
    fn profiler(&self, config: &Config) -> Result<Option<Profiler<'m>>, Error<'m>> {
        let Some(tensor) = self.find(PROFILER) else { return Ok(None) };
        let (hidden, vocab) = (config.hidden, config.vocab);
        let (format, bytes) = contents(&tensor, PROFILER, tensor.dims())?;
        let (elements, of_feature) = (tensor.dims().elements(), PROFILER.role.shape(config).cols());
        let rank = elements / of_feature;
        let whole = elements.is_multiple_of(of_feature);
        let cut = format.row_bytes(hidden).and_then(|row| row.checked_mul(rank));
        let parts = cut.filter(|_| whole && rank > 0).and_then(|cut| bytes.split_at_checked(cut));
        let (layout, found) = self.layout(&tensor);
        let fits = |l: &Layout| l.fits(format, rank, hidden) && l.fits(format, vocab, rank);
        let (rows, cols) = (rank, hidden);
        let refusal = Error::Layout { tensor: PROFILER, format, rows, cols, found };
        let layout = layout.filter(fits).ok_or(refusal)?;
        let profiler = parts.and_then(|(fc1, fc2)| {
            let fc1 = Matrix::arranged(format, layout, rank, hidden, fc1)?;
            Some(Profiler { fc1, fc2: Matrix::arranged(format, layout, vocab, rank, fc2)? })
        });
        profiler.map(Some).ok_or(Error::Profiler { found: tensor.dims(), hidden, vocab })
    }
}

/// Checks the weight of a norm, which is small: what it spoils would be hidden when it is multiplied.
fn check_norm<'m>(tensor: TensorName, norm: &Matrix<'m>) -> Result<(), Error<'m>> {
    let mut room = [0.0; 256];
    let size = norm.format().block_bytes();
    let pieces = norm.bytes().chunks(room.len() * size);
    let is_finite = |piece: &[u8]| {
        let values = &mut room[..piece.len() / size];
        scalar::dequantize(norm.format(), piece, values);
        scalar::all_finite(values)
    };
    if !pieces.map(is_finite).fold(true, |all, is_finite| all & is_finite) {
        return Err(Error::NotFinite { tensor });
    }
    match is_zero(norm.bytes()) {
        true => Err(Error::Zeros { tensor }),
        false => Ok(()),
    }
}

fn wrong_shape<'m>(tensor: &Tensor<'m>, name: TensorName, expected: Dims) -> Error<'m> {
    Error::Shape { tensor: name, expected, found: tensor.dims() }
}

/// The format and bytes of a tensor that must have these dimensions.
fn contents<'m>(
    tensor: &Tensor<'m>,
    name: TensorName,
    expected: Dims,
) -> Result<(Format, &'m [u8]), Error<'m>> {
    if tensor.dims().padded() != expected.padded() {
        return Err(wrong_shape(tensor, name, expected));
    }
    let number = tensor.number();
    let format = tensor.format().ok_or(Error::Format { tensor: name, number })?;
    let start = tensor.range().map_or(0, |range| range.start);
    let bytes = tensor.bytes().ok_or(Error::NotAtHand { tensor: name, start })?;
    Ok((format, bytes))
}
