//! The matrices of the experts in work, wherever they lie.

use crate::store::{ExpertStore, Part, SlotId};
use crate::weights::{Layer, Matrix};
use wick_kernels::{Format, Layout};

/// Lends out the matrices of a layer's experts.
#[derive(Clone, Copy)]
pub(crate) struct Lender<'a> {
    layer: &'a Layer<'a>,
    layouts: [Layout; Part::ALL.len()],
    /// The store, and the slot of each expert in work; `None` if all experts stand in memory.
    slots: Option<(&'a dyn ExpertStore, &'a [u32])>,
}

impl<'a> Lender<'a> {
    /// Lends out what stands in memory.
    pub(crate) fn resident(layer: &'a Layer<'a>) -> Lender<'a> {
        let layouts = Part::ALL.map(|part| layer.experts(part).layout());
        Lender { layer, layouts, slots: None }
    }

    /// Lends out what stands in slots, arranged so; `slots` has the slot of each expert in work.
    pub(crate) fn streaming(
        layer: &'a Layer<'a>,
        layouts: [Layout; Part::ALL.len()],
        store: &'a dyn ExpertStore,
        slots: &'a [u32],
    ) -> Lender<'a> {
        Lender { layer, layouts, slots: Some((store, slots)) }
    }

    /// How a matrix of every expert is arranged.
    pub(crate) fn layout(&self, part: Part) -> Layout {
        self.layouts[part as usize]
    }

    /// How its weights are stored.
    pub(crate) fn format(&self, part: Part) -> Format {
        self.layer.experts(part).format()
    }

    /// A matrix of an expert in work.
    ///
    /// # Panics
    /// If it is not there.
    pub(crate) fn matrix(&self, part: Part, expert: usize) -> Matrix<'a> {
        let matrices = self.layer.experts(part);
        let Some((store, slots)) = self.slots else { return matrices.expert(expert) };
        let bytes = store.lend(SlotId(slots[expert] as usize), part);
        matrices.lend(self.layout(part), bytes).expect("a slot holds the whole matrix")
    }
}
