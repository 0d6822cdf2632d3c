//! What a file says of the types of its matrices.

use crate::Metadata;
use wick_kernels::Format;

/// The keys that say it: the number of a mixture of types, and the version of the blocks.
pub(crate) const KEYS: [&str; 2] = ["general.file_type", "general.quantization_version"];
/// The version that ggml's blocks have had since 2023.
const QUANTIZATION_VERSION: u32 = 2;

/// Says that matrices are mostly in a format.
pub(crate) fn describe(format: Format, metadata: &mut Metadata) {
    metadata.u32(KEYS[0], file_type(format));
    metadata.u32(KEYS[1], QUANTIZATION_VERSION);
}

/// llama.cpp's number for a file whose matrices are mostly in a format.
fn file_type(format: Format) -> u32 {
    match format {
        Format::F16 => 1,
        Format::Q4_0 => 2,
        Format::Q8_0 => 7,
        Format::Q6_K => 18,
        Format::BF16 => 32,
        _ => 0,
    }
}
