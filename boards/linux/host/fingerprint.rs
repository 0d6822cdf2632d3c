//! What tells a model from all others, in a moment.

use crate::host::model::Model;
use sha2::{Digest, Sha256};
use wick_core::{KvFormat, Part};

/// Bytes of each matrix that are looked at.
const LOOKED_AT: usize = 4096;

impl Model<'_> {
    /// A digest of all that keys and values of a text depend on: the model's shape, how they are kept, and the beginning of
    /// each matrix. Weights that were trained on differ in all of them; the whole file is not read.
    pub fn fingerprint(&self, kv: KvFormat) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(format!("{:?} {kv:?}", self.config));
        let mut look = |bytes: &[u8]| hash.update(&bytes[..bytes.len().min(LOOKED_AT)]);
        self.weights.dense().for_each(|matrix| look(matrix.bytes()));
        for layer in &self.weights.layers {
            for part in Part::ALL {
                look(layer.experts(part).expert(0).bytes());
            }
        }
        hash.finalize().into()
    }
}
