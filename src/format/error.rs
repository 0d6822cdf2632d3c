//! What can be wrong with a file.

use core::fmt;

use wick_core::{ConfigError, Role, TensorName};
use wick_kernels::Format;

use crate::dims::Dims;
use crate::place::{Found, Place, Shown};
use crate::split_name::SplitName;
use crate::types::GgmlType;

/// The formats that wick computes with.
const SUPPORTED: &str = "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K to Q6_K";
const DAMAGED: &str = "the file is damaged: download or convert it again";
const AGAIN: &str = "the file is incomplete or damaged: download it again";

/// Why a file, or a set of them, is not a model that wick runs.
///
/// Names are borrowed from the file. Each is one line of text, whatever the file contains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Error<'m> {
    /// The file does not begin with "GGUF".
    Magic {
        /// Its first four bytes.
        found: &'m [u8],
        /// What it is instead, and what to do, if that can be told.
        what: Option<&'static str>,
    },
    /// A version that is not read.
    Version {
        /// The version.
        found: u32,
    },
    /// The file is written with the most significant byte first.
    BigEndian,
    /// The file ends within metadata or tensor table, or a length there is wrong.
    Cut {
        /// What is being read.
        place: Place<'m>,
        /// From which byte.
        at: usize,
        /// Bytes that must follow.
        needs: u64,
        /// Bytes that do follow.
        left: usize,
    },
    /// A number in metadata or tensor table is none that the format allows.
    Malformed {
        /// What is being read.
        place: Place<'m>,
        /// The byte at which the number lies.
        at: usize,
        /// What may be there.
        expected: &'static str,
        /// What is there.
        found: u64,
    },
    /// There is more of something than wick reads.
    Limit {
        /// What is being read.
        place: Place<'m>,
        /// The byte at which the count lies.
        at: usize,
        /// What there is too much of.
        what: &'static str,
        /// The most that is read.
        most: usize,
        /// The count.
        found: u64,
    },
    /// A name is not UTF-8.
    NotText {
        /// What is being read.
        place: Place<'m>,
        /// The byte at which the string lies.
        at: usize,
    },
    /// A key or a tensor is there twice.
    Duplicate {
        /// The key or tensor.
        place: Place<'m>,
    },
    /// A row of a tensor is no whole number of blocks.
    Blocks {
        /// Name of the tensor.
        name: &'m str,
        /// Its format.
        format: Format,
        /// Its first dimension.
        row: usize,
    },
    /// A tensor has more bytes than can be addressed.
    TooLarge {
        /// Name of the tensor.
        name: &'m str,
        /// Its dimensions.
        dims: Dims,
    },
    /// The place of a tensor is no multiple of the alignment.
    Misaligned {
        /// Name of the tensor.
        name: &'m str,
        /// Its offset in the data.
        offset: u64,
        /// The alignment.
        alignment: usize,
    },
    /// A tensor reaches beyond the end of the file.
    Outside {
        /// Name of the tensor.
        name: &'m str,
        /// Its first byte.
        start: u64,
        /// The byte after its last.
        end: u64,
        /// Bytes of the file.
        file: u64,
    },
    /// Two tensors share bytes.
    Overlap {
        /// Name of the tensor that begins within the other.
        name: &'m str,
        /// Name of the other.
        other: &'m str,
        /// The byte at which the first begins.
        at: u64,
    },
    /// Header, metadata or tensor table of a packed file are not what was packed.
    Head {
        /// CRC-32 that the file has on record.
        expected: u32,
        /// CRC-32 of its bytes.
        found: u32,
    },
    /// A key is missing.
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// The value of a key is of another type than expected, or not one that wick can follow.
    Value {
        /// The key.
        key: &'m str,
        /// What was expected.
        expected: &'static str,
        /// What is there.
        found: Found<'m>,
    },
    /// The value of a key contradicts something else in the file.
    Disagree {
        /// The key.
        key: &'m str,
        /// Its value.
        found: u64,
        /// What it must equal.
        with: &'static str,
        /// That value.
        expected: u64,
    },
    /// The pattern of windowed layers is none that wick computes.
    Pattern {
        /// The key.
        key: &'m str,
        /// The first layer that is not as in a period.
        layer: usize,
        /// The period that the layers before it have.
        period: usize,
    },
    /// The metadata describes no model that can be computed.
    Config(ConfigError),
    /// A tensor is missing.
    MissingTensor {
        /// Its name.
        tensor: TensorName,
    },
    /// No layer has experts.
    NoExperts,
    /// A tensor belongs to the model, but SmallThinker has none of that name: what it is for would be
    /// left out.
    UnknownTensor {
        /// Its name.
        name: &'m str,
    },
    /// A tensor does not have the dimensions that the metadata gives it.
    Shape {
        /// Its name.
        tensor: TensorName,
        /// The dimensions that it must have.
        expected: Dims,
        /// The dimensions that it has.
        found: Dims,
    },
    /// A tensor that is needed has a format that wick does not compute with.
    Format {
        /// Its name.
        tensor: TensorName,
        /// The number of its format, `ggml_type`.
        number: u32,
    },
    /// A vector is stored in blocks.
    Blocked {
        /// Its name.
        tensor: TensorName,
        /// Its format.
        format: Format,
    },
    /// The weight of a norm has values that are NaN or infinite.
    NotFinite {
        /// Its name.
        tensor: TensorName,
    },
    /// The weight of a norm is nothing but zeros.
    Zeros {
        /// Its name.
        tensor: TensorName,
    },
    /// A file ends with nothing but zeros.
    ZeroTail {
        /// Name of its last tensor.
        name: &'m str,
        /// The byte from which on there are only zeros.
        from: usize,
    },
    /// The orientation of the experts' way down cannot be told: hidden size and expert width are equal.
    Orientation {
        /// The tensor.
        tensor: TensorName,
        /// Hidden size and expert width.
        size: usize,
    },
    /// The predictor of the LM head's rows cannot be cut into its two matrices.
    Profiler {
        /// Its dimensions.
        found: Dims,
        /// Hidden size.
        hidden: usize,
        /// Entries of the vocabulary.
        vocab: usize,
    },
    /// Only the front of the file is at hand, and the tensor does not lie in it.
    NotAtHand {
        /// Its name.
        tensor: TensorName,
        /// Its first byte.
        start: usize,
    },
    /// A matrix of a packed file is arranged in a way that does not fit it.
    Layout {
        /// Its name.
        tensor: TensorName,
        /// Its format.
        format: Format,
        /// Its rows.
        rows: usize,
        /// Its columns.
        cols: usize,
        /// Name of the layout.
        found: &'m str,
    },
    /// The experts of a layer are missing from a packed file.
    MissingExtents {
        /// Layer.
        layer: usize,
    },
    /// The experts of a layer of a packed file do not have the dimensions that the metadata gives them.
    Extents {
        /// Layer.
        layer: usize,
        /// The dimensions that they must have.
        expected: Dims,
        /// The dimensions that they have.
        found: Dims,
    },
    /// The sketch in a packed file is none of its LM head.
    Sketch {
        /// Bytes of a sketch of the LM head; 0 if none can be drawn.
        expected: usize,
        /// Bytes that there are.
        found: usize,
    },
    /// No file was given.
    NoFile,
    /// A part of a split model was not given.
    MissingPart {
        /// Number of the part, counted from 1.
        part: u32,
        /// Number of parts.
        count: u32,
    },
    /// The parts of a split model are not in order, one of them was given twice, or there are too many.
    PartOrder {
        /// Number of the file among those given, counted from 1.
        file: usize,
        /// Number of the part that it is, counted from 1.
        found: u32,
    },
    /// A file was given as part of a split model but has no number.
    NoPart {
        /// Number of the file among those given, counted from 1.
        file: usize,
        /// The key that it lacks.
        key: &'static str,
    },
    /// A part of a split model contradicts the first part.
    PartDisagrees {
        /// Number of the file among those given, counted from 1.
        file: usize,
        /// The key.
        key: &'static str,
        /// Its value in the first part.
        expected: u32,
        /// Its value in this part.
        found: u32,
    },
    /// The parts of a split model do not have as many tensors as the first part says.
    PartTensors {
        /// The number that the first part says.
        expected: u32,
        /// The number of tensors.
        found: usize,
    },
}

impl fmt::Display for Error<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::Magic { found, what } => {
                write!(f, "header: \"GGUF\" expected, \"{}\" found: ", found.escape_ascii())?;
                match what {
                    Some(what) => write!(f, "this is {what}"),
                    None => f.write_str("this is no GGUF file"),
                }
            }
            Error::Version { found } => {
                write!(f, "header: GGUF version 2 or 3 expected, {found} found")?;
                f.write_str(match found {
                    1 => ": convert the model again",
                    4..=99 => ": the file is newer than this wick",
                    _ => "",
                })
            }
            Error::BigEndian => f.write_str(
                "header: a little-endian file expected, a big-endian one found: convert it again",
            ),
            Error::Cut { place, at, needs, left } => {
                write!(f, "{place}: {needs} bytes needed at byte {at}, {left} left: ")?;
                f.write_str(AGAIN)
            }
            Error::Malformed { place, at, expected, found } => {
                write!(f, "{place}: {expected} expected at byte {at}, {found} found")
            }
            Error::Limit { place, at, what, most, found } => {
                write!(f, "{place}: at most {most} {what} expected at byte {at}, {found} found")
            }
            Error::NotText { place, at } => {
                write!(f, "{place}: a name in UTF-8 expected at byte {at}")
            }
            Error::Duplicate { place } => write!(f, "{place}: once expected, twice found"),
            Error::MissingKey { key } => write!(f, "{key}: missing from the metadata"),
            Error::Value { key, expected, found } => {
                write!(f, "{}: {expected} expected, {found} found", Shown(key))
            }
            Error::Disagree { key, found, with, expected } => {
                write!(f, "{}: {found} found, but {with} is {expected}", Shown(key))
            }
            Error::Pattern { key, layer, period } => {
                write!(f, "{}: the first layer of each period global, ", Shown(key))?;
                write!(f, "the others windowed expected, but layer {layer} breaks the ")?;
                write!(f, "period of {period}")
            }
            Error::Config(error) => write!(f, "{error}"),
            Error::NoFile => f.write_str("at least one file expected, none given"),
            Error::Blocks { name, format, row } => {
                let block = format.block_len();
                write!(
                    f,
                    "{}: rows of a multiple of {block} expected for {format}, ",
                    Shown(name)
                )?;
                write!(f, "{row} found")
            }
            Error::TooLarge { name, dims } => {
                write!(f, "{}: {dims} is more than can be addressed", Shown(name))
            }
            Error::Misaligned { name, offset, alignment } => {
                write!(
                    f,
                    "{}: an offset that is a multiple of {alignment} expected, ",
                    Shown(name)
                )?;
                write!(f, "{offset} found")
            }
            Error::Outside { name, start, end, file } => {
                write!(f, "{}: needs bytes {start}..{end}, the file has {file}: ", Shown(name))?;
                f.write_str(AGAIN)
            }
            Error::Overlap { name, other, at } => {
                write!(f, "{}: begins at byte {at}, within {}", Shown(name), Shown(other))
            }
            Error::Head { expected, found } => write!(
                f,
                "header, metadata and tensor table: CRC-32 {expected:08x} expected, {found:08x} found; \
                 the file is damaged or was changed: copy or pack it again"
            ),
            Error::MissingTensor { tensor } => write!(f, "{tensor}: missing from the file"),
            Error::NoExperts => f.write_str(
                "the experts are missing from the file (blk.*.ffn_gate_exps, ffn_up_exps and \
                 ffn_down_exps): PowerInfer keeps them apart from such a file; take the whole GGUF \
                 file that it was made from",
            ),
            Error::UnknownTensor { name } => {
                write!(f, "{}: {}", Shown(name), unknown(name))
            }
            Error::Shape { tensor, expected, found } => {
                let (want, have) = (expected.as_slice().len(), found.as_slice().len());
                if want == have {
                    write!(f, "{tensor}: {expected} expected, {found} found")
                } else {
                    let s = if want == 1 { "" } else { "s" };
                    write!(f, "{tensor}: {want} dimension{s} expected, {have} found")
                }
            }
            Error::Format { tensor, number } => {
                write!(f, "{tensor}: {} is not supported; {SUPPORTED} are: ", GgmlType(number))?;
                f.write_str("quantize the model to Q4_0")
            }
            Error::Blocked { tensor, format } => {
                write!(f, "{tensor}: F32, F16 or BF16 expected, {format} found")
            }
            Error::NotFinite { tensor } => {
                write!(f, "{tensor}: finite values expected, NaN or infinity found: {DAMAGED}")
            }
            Error::Zeros { tensor } => {
                write!(f, "{tensor}: weights expected, nothing but zeros found: {AGAIN}")
            }
            Error::ZeroTail { name, from } => {
                write!(f, "{}: nothing but zeros from byte {from} on: {AGAIN}", Shown(name))
            }
            Error::Orientation { tensor, size } => {
                write!(f, "{tensor}: hidden size and expert width are both {size}: ")?;
                f.write_str("rows and columns cannot be told apart in a file with a profiler")
            }
            Error::Profiler { found, hidden, vocab } => {
                let tensor = TensorName::once(Role::Profiler);
                write!(f, "{tensor}: a multiple of {hidden} + {vocab} ")?;
                write!(f, "weights in whole blocks expected, {found} found")
            }
            Error::NotAtHand { tensor, start } => {
                write!(
                    f,
                    "{tensor}: begins at byte {start} or ends beyond what was read of the file"
                )
            }
            Error::Layout { tensor, format, rows, cols, found } => {
                write!(f, "{tensor}: a layout that fits {rows} rows of {cols} in {format} ")?;
                write!(f, "expected, \"{}\" found", Shown(found))
            }
            Error::MissingExtents { layer } => {
                write!(f, "blk.{layer}.experts: I8 expected, missing from the file")
            }
            Error::Extents { layer, expected, found } => {
                write!(f, "blk.{layer}.experts: {expected} expected, {found} found")
            }
            Error::Sketch { expected, found } => {
                write!(
                    f,
                    "wick.sketch: the {expected} bytes of a sketch of the LM head expected, "
                )?;
                write!(f, "{found} found")
            }
            Error::MissingPart { part, count } => {
                let name = SplitName { stem: "", part, count };
                write!(f, "part {part} of {count} (…{name}) is missing: put it beside the others")
            }
            Error::PartOrder { file, found } => {
                write!(f, "file {file}: part {file} of the model expected, part {found} found")
            }
            Error::NoPart { file, key } => {
                write!(f, "file {file}: {key} is missing: it is no part of a split model")
            }
            Error::PartDisagrees { file, key, expected, found } => {
                write!(f, "file {file}: {key}: {expected} expected as in file 1, {found} found")
            }
            Error::PartTensors { expected, found } => {
                write!(f, "split.tensors.count: {expected} tensors expected, {found} found")
            }
        }
    }
}

/// What a tensor is that SmallThinker has not.
fn unknown(name: &str) -> &'static str {
    if name.ends_with(".bias") {
        "a bias, which SmallThinker has not: without it, this model would write another text"
    } else if ["qkv", "attn_kv", "gate_up", "up_gate"].iter().any(|fused| name.contains(fused)) {
        "matrices in one tensor, which wick reads apart: convert the model again without fusing them"
    } else {
        "a tensor that SmallThinker has not: without it, this model would write another text"
    }
}

impl core::error::Error for Error<'_> {}

impl From<ConfigError> for Error<'_> {
    fn from(error: ConfigError) -> Self {
        Error::Config(error)
    }
}
