//! The tensors of a model, by name and with exact dimensions.

use heapless::Vec;
use wick_core::{Config, Down, ExpertMatrices, Layer, Matrix, Profiler, Weights};
use wick_kernels::{Format, Layout};

use crate::error::Error;
use crate::model::Model;
use crate::name::TensorName;
use crate::tensor::{Dims, Tensor};

const PROFILER: TensorName = TensorName::once("lm_head_profiler");

impl<'m> Model<'_, 'm> {
    /// The tensors of a model of this shape.
    ///
    /// Dimensions of 1 at the end may be missing or added, as GGUF's writers do. Without `output`
    /// the embedding is the output matrix too. `ffn_down_exps` may be stored either way around; where
    /// hidden size and expert width are equal, it is taken for llama.cpp's, unless the file has
    /// PowerInfer's profiler, which makes it ambiguous and an error.
    ///
    /// Of a packed file of which only the front is at hand ([`crate::Gguf::parse_front`]), experts have
    /// their shapes and formats, but no bytes.
    ///
    /// # Errors
    /// A tensor is missing, has other dimensions, or a format that is not supported.
    pub fn weights(&self, config: &Config) -> Result<Weights<'m>, Error<'m>> {
        let (hidden, vocab) = (config.hidden, config.vocab);
        config.validate()?;
        let embedding = self.matrix(TensorName::once("token_embd"), vocab, hidden)?;
        let output = TensorName::once("output");
        let tied = self.find(output).is_none();
        let mut layers = Vec::new();
        for number in 0..config.layers {
            // The capacity is MAX_LAYERS, and the shape has been checked against it.
            let pushed = layers.push(self.layer(config, number)?);
            debug_assert!(pushed.is_ok());
        }
        Ok(Weights {
            embedding,
            output_norm: self.plain(TensorName::once("output_norm"), 1, hidden)?,
            output: if tied { embedding } else { self.matrix(output, vocab, hidden)? },
            profiler: self.profiler(config)?,
            sketch: None,
            layers,
        })
    }

    fn layer(&self, config: &Config, number: usize) -> Result<Layer<'m>, Error<'m>> {
        let name = |stem| TensorName::of_layer(number, stem);
        let (hidden, experts, width) = (config.hidden, config.experts, config.expert_width);
        let (query, kv) = (config.query_width(), config.kv_width());
        let packed = self.packed().map(|packed| packed.layer(config, number)).transpose()?;
        let packed = packed.map(|layer| layer.matrices());
        let experts = |stem| self.experts(name(stem), experts, width, hidden);
        Ok(Layer {
            attn_norm: self.plain(name("attn_norm"), 1, hidden)?,
            q: self.matrix(name("attn_q"), query, hidden)?,
            k: self.matrix(name("attn_k"), kv, hidden)?,
            v: self.matrix(name("attn_v"), kv, hidden)?,
            o: self.matrix(name("attn_output"), hidden, query)?,
            ffn_norm: self.plain(name("ffn_norm"), 1, hidden)?,
            router: self.plain(name("ffn_gate_inp"), config.experts, hidden)?,
            gate: packed.map_or_else(|| experts("ffn_gate_exps"), |(gate, ..)| Ok(gate))?,
            up: packed.map_or_else(|| experts("ffn_up_exps"), |(_, up, _)| Ok(up))?,
            down: packed
                .map_or_else(|| self.down(name("ffn_down_exps"), config), |(.., down)| Ok(down))?,
        })
    }

    /// A matrix of `rows × cols`; a vector has one row.
    fn matrix(&self, name: TensorName, rows: usize, cols: usize) -> Result<Matrix<'m>, Error<'m>> {
        let expected = if rows == 1 { &[cols][..] } else { &[cols, rows] };
        let (tensor, expected) = (self.need(name)?, Dims::new(expected));
        let (format, bytes) = contents(&tensor, name, expected)?;
        let (layout, found) = self.layout(&tensor);
        let matrix = layout.and_then(|l| Matrix::arranged(format, l, rows, cols, bytes));
        matrix.ok_or(Error::Layout { tensor: name, format, rows, cols, found })
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

    /// A matrix or vector whose weights are stored one by one.
    fn plain(&self, name: TensorName, rows: usize, cols: usize) -> Result<Matrix<'m>, Error<'m>> {
        let matrix = self.matrix(name, rows, cols)?;
        match matrix.format() {
            Format::F32 | Format::F16 | Format::BF16 => Ok(matrix),
            format => Err(Error::Blocked { tensor: name, format }),
        }
    }

    /// The matrices of `count` experts, `rows × cols` each.
    fn experts(
        &self,
        name: TensorName,
        count: usize,
        rows: usize,
        cols: usize,
    ) -> Result<ExpertMatrices<'m>, Error<'m>> {
        let (tensor, expected) = (self.need(name)?, Dims::new(&[cols, rows, count]));
        let (format, bytes) = contents(&tensor, name, expected)?;
        let matrices = ExpertMatrices::new(format, count, rows, cols, bytes);
        matrices.ok_or(shape(&tensor, name, expected))
    }

    fn down(&self, name: TensorName, config: &Config) -> Result<Down<'m>, Error<'m>> {
        let (hidden, count, width) = (config.hidden, config.experts, config.expert_width);
        if hidden == width && self.find(PROFILER).is_some() {
            return Err(Error::Orientation { tensor: name, size: hidden });
        }
        let by_neuron = [hidden, width, count, 1];
        if hidden != width && self.need(name)?.dims().padded() == by_neuron {
            return self.experts(name, count, width, hidden).map(Down::Neurons);
        }
        self.experts(name, count, hidden, width).map(Down::Outputs)
    }

    /// The two matrices of the profiler, which lie one after the other in one tensor.
    fn profiler(&self, config: &Config) -> Result<Option<Profiler<'m>>, Error<'m>> {
        let Some(tensor) = self.find(PROFILER) else { return Ok(None) };
        let (hidden, vocab) = (config.hidden, config.vocab);
        let (format, bytes) = contents(&tensor, PROFILER, tensor.dims())?;
        let elements = tensor.dims().elements();
        let rank = elements / (hidden + vocab);
        let whole = elements.is_multiple_of(hidden + vocab);
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

fn shape<'m>(tensor: &Tensor<'m>, name: TensorName, expected: Dims) -> Error<'m> {
    Error::Shape { tensor: name, expected, found: tensor.dims() }
}

/// The format and bytes of a tensor that must have these dimensions.
fn contents<'m>(
    tensor: &Tensor<'m>,
    name: TensorName,
    expected: Dims,
) -> Result<(Format, &'m [u8]), Error<'m>> {
    if tensor.dims().padded() != expected.padded() {
        return Err(shape(tensor, name, expected));
    }
    let number = tensor.number();
    let format = tensor.format().ok_or(Error::Format { tensor: name, number })?;
    let start = tensor.range().map_or(0, |range| range.start);
    let bytes = tensor.bytes().ok_or(Error::NotAtHand { tensor: name, start })?;
    Ok((format, bytes))
}
