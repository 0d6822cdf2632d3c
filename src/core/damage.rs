//! What no sound model computes, and where it first appeared.
//!
//! A value that is not finite does not stay one: a NaN becomes 0 where activations are quantized, an infinite gate
//! may close, an infinite key is never looked at again. So each stage of a layer is looked over before the next one
//! hides what it left.

use crate::name::TensorName;
use crate::store::{ExpertKey, Part};
use core::fmt;

/// Something that no sound model computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where it first appeared.
    pub origin: Origin,
    /// What it is.
    pub oddity: Oddity,
}

/// Where damage first appears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In what a tensor gives.
    Tensor(TensorName),
    /// In the neurons of an expert, of which its gate and its up have a part each.
    Neurons(ExpertKey),
    /// In what attention makes of queries, keys and values.
    Attention {
        /// Layer, from 0.
        layer: usize,
    },
}

/// What is wrong with values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// Some are NaN or infinite, or beyond what the KV cache can hold.
    NotFinite,
    /// All logits are equal.
    Equal,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Tensor(name) => name.fmt(f),
            Origin::Neurons(ExpertKey { layer, expert }) => {
                let (gate, up) = (Part::Gate.tensor(), Part::Up.tensor());
                write!(f, "blk.{layer}.{gate}.weight or {up}.weight, expert {expert}")
            }
            Origin::Attention { layer } => write!(f, "blk.{layer}, attention"),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.oddity {
            Oddity::NotFinite => "finite values expected, NaN or infinity computed",
            Oddity::Equal => "logits that differ expected, all are equal",
        };
        write!(f, "{}: {what}; the file is damaged: download or convert it again", self.origin)
    }
}

impl core::error::Error for Damage {}
