//! Tensors of a packed file that every token may need.

use crate::new_tensor::NewTensor;
use crate::ordered::write_in_order;
use crate::{Error, Writer};
use crc32fast::Hasher;
use std::borrow::Cow;
use std::ops::{ControlFlow, Range};
use wick_core::{Config, HeadRows, Parallel, Role, TensorName, once_layout};
use wick_kernels::{Format, Layout};

/// Bytes of a tensor that are arranged at a time, about.
const PIECE: usize = 1 << 20;

/// A tensor that every token may need, and how it is arranged.
pub(crate) struct Dense {
    /// Which of the model's tensors it is.
    pub(crate) number: usize,
    pub(crate) layout: Layout,
    format: Option<Format>,
    matrices: Vec<Matrix>,
}

/// One of the matrices that a tensor consists of.
pub(crate) struct Matrix {
    pub(crate) cols: usize,
    /// Where it stands in the tensor.
    pub(crate) bytes: Range<usize>,
}

impl Dense {
    pub(crate) fn new(
        number: usize,
        tensor: &NewTensor<'_>,
        config: &Config,
        is_tied: bool,
        head_rows: HeadRows,
    ) -> Dense {
        let (entry, format) = (tensor.entry(), tensor.format());
        let name = TensorName::parse(&entry.name, config.layers);
        let layout = name.map_or(Layout::Rows, |name| match name.layer {
            Some(_) => name.role.layout(),
            None => once_layout(name.role, head_rows, is_tied),
        });
        let role = name.map(|name| name.role);
        let matrices = matrices(role, format, &entry.dims, entry.bytes as usize, config);
        let fits = |format: Format| {
            let rows = |m: &Matrix| m.bytes.len() / format.row_bytes(m.cols).unwrap_or(1);
            matrices.iter().all(|matrix| layout.fits(format, rows(matrix), matrix.cols))
        };
        let layout = if format.is_some_and(fits) { layout } else { Layout::Rows };
        Dense { number, layout, format, matrices }
    }

    /// Writes the arranged tensor and returns its CRC-32.
    pub(crate) fn write<'m>(
        &self,
        tensor: &NewTensor<'m>,
        parallel: &dyn Parallel,
        writer: &mut Writer,
        done: &mut impl FnMut(&'m [u8]) -> ControlFlow<()>,
    ) -> Result<u32, Error> {
        let mut sum = Hasher::new();
        for Matrix { cols, bytes } in &self.matrices {
            let pieces = pieces(self.format, self.layout, *cols, bytes.clone());
            let arrange = |source: Cow<'_, [u8]>| {
                if self.layout == Layout::Rows {
                    return source.into_owned();
                }
                let mut arranged = vec![0; source.len()];
                self.layout.arrange(*cols, &source, &mut arranged);
                arranged
            };
            write_pieces(tensor, &pieces, parallel, writer, arrange, &mut sum, done)?;
        }
        Ok(sum.finalize())
    }
}

/// Writes what `make` makes of pieces of a tensor, adds it to a checksum, and tells `done` what it was made of.
pub(crate) fn write_pieces<'m>(
    tensor: &NewTensor<'m>,
    pieces: &[Range<usize>],
    parallel: &dyn Parallel,
    writer: &mut Writer,
    make: impl Fn(Cow<'m, [u8]>) -> Vec<u8> + Sync,
    sum: &mut Hasher,
    done: &mut impl FnMut(&'m [u8]) -> ControlFlow<()>,
) -> Result<(), Error> {
    let make = |piece: &Range<usize>| Ok((make(tensor.bytes(piece.clone())?), ()));
    write_in_order(pieces, parallel, writer, make, |piece, written, ()| {
        sum.update(written);
        tensor.sources(piece.clone()).into_iter().try_for_each(&mut *done)
    })
}

/// The matrices that a tensor with so many bytes consists of: the predictor of two, others of one.
pub(crate) fn matrices(
    role: Option<Role>,
    format: Option<Format>,
    dims: &[usize],
    bytes: usize,
    config: &Config,
) -> Vec<Matrix> {
    let whole = Matrix { cols: dims[0], bytes: 0..bytes };
    let Some(format) = format.filter(|_| role == Some(Role::Profiler)) else { return vec![whole] };
    let rank = dims.iter().product::<usize>() / (config.hidden + config.vocab);
    let Some(row) = format.row_bytes(config.hidden) else { return vec![whole] };
    let cut = rank * row;
    let first = Matrix { cols: config.hidden, bytes: 0..cut };
    vec![first, Matrix { cols: rank, bytes: cut..bytes }]
}

/// A matrix in pieces that are arranged by themselves.
pub(crate) fn pieces(
    format: Option<Format>,
    layout: Layout,
    cols: usize,
    bytes: Range<usize>,
) -> Vec<Range<usize>> {
    let row = format.and_then(|format| format.row_bytes(cols)).unwrap_or(1);
    let unit = row * layout.unit_rows(bytes.len() / row);
    let step = (PIECE / unit).max(1) * unit;
    let starts = bytes.clone().step_by(step);
    starts.map(|start| start..(start + step).min(bytes.end)).collect()
}
