//! A store of experts in memory, for tests: reads end when it likes, and fail when it is told to.

use crate::Model;
use crate::random::Random;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wick_core::{
    Arena, Engine, ExpertKey, ExpertMatrices, ExpertStore, Options, Parallel, Part, Plan, Policy,
    SlotId, StoreError, StoreFigures, StoreReason, Weights,
};
use wick_kernels::Layout;

/// A slot: its expert, and the bytes of the parts that have come.
#[derive(Clone, Debug, Default)]
struct Slot {
    parts: [Option<Vec<u8>>; 3],
}

/// Experts that lie in memory and are handed out as if they were read, in an order that a random
/// number decides.
#[derive(Debug)]
pub struct MemoryStore {
    weights: &'static Weights<'static>,
    slots: Vec<Slot>,
    on_their_way: VecDeque<(SlotId, ExpertKey, Part)>,
    random: Random,
    looks: AtomicU64,
    /// Experts whose next read fails, with what is then reported.
    pub failing: Vec<(ExpertKey, StoreReason)>,
    /// Reads started so far.
    pub started: Vec<ExpertKey>,
}

impl MemoryStore {
    /// A store for the experts of a model, with some slots.
    pub fn new(weights: &'static Weights<'static>, slots: usize, seed: u64) -> MemoryStore {
        MemoryStore {
            weights,
            slots: vec![Slot::default(); slots],
            on_their_way: VecDeque::new(),
            random: Random(seed),
            looks: AtomicU64::new(0),
            failing: Vec::new(),
            started: Vec::new(),
        }
    }

    fn matrices(&self, layer: usize, part: Part) -> &'static ExpertMatrices<'static> {
        self.weights.layers[layer].experts(part)
    }

    /// Lets one of the parts on their way arrive.
    fn arrive(&mut self) -> Result<(), StoreError> {
        if self.on_their_way.is_empty() {
            return Ok(());
        }
        let which = self.random.below(self.on_their_way.len());
        let (slot, key, part) = self.on_their_way.remove(which).unwrap();
        if let Some(failing) = self.failing.iter().position(|(failing, _)| *failing == key) {
            let (_, reason) = self.failing.remove(failing);
            self.on_their_way.retain(|(other, _, _)| *other != slot);
            self.slots[slot.0] = Slot::default();
            return Err(StoreError { at: Some((key, part)), file: 0, offset: 4096, reason });
        }
        let matrices = self.matrices(key.layer, part);
        let matrix = matrices.expert(key.expert);
        let mut bytes = matrix.bytes().to_vec();
        if matrices.layout() == Layout::Rows && self.layout(key.layer, part) != Layout::Rows {
            let source = matrix.bytes();
            self.layout(key.layer, part).arrange(matrix.cols(), source, &mut bytes);
        }
        self.slots[slot.0].parts[part as usize] = Some(bytes);
        Ok(())
    }
}

impl ExpertStore for MemoryStore {
    fn slots(&self) -> usize {
        self.slots.len()
    }

    fn layout(&self, layer: usize, part: Part) -> Layout {
        wick_core::expert_layout(&self.weights.layers[layer], part)
    }

    fn start(&mut self, slot: SlotId, key: ExpertKey) {
        assert!(self.on_their_way.iter().all(|(other, _, _)| *other != slot), "{slot:?} is in use");
        self.started.push(key);
        self.slots[slot.0] = Slot::default();
        self.on_their_way.extend(Part::ALL.map(|part| (slot, key, part)));
    }

    fn is_ready(&self, slot: SlotId, part: Part) -> bool {
        self.slots[slot.0].parts[part as usize].is_some()
    }

    fn is_idle(&self) -> bool {
        self.on_their_way.is_empty()
    }

    fn poll(&mut self) -> Result<(), StoreError> {
        (0..self.random.below(4)).try_for_each(|_| self.arrive())
    }

    fn finish(&mut self) -> Result<(), StoreError> {
        self.arrive()
    }

    /// A clock that goes on whenever it is looked at.
    fn now(&self) -> Duration {
        Duration::from_millis(self.looks.fetch_add(1, Ordering::Relaxed))
    }

    /// Reads so fast that every guess is worth it.
    fn figures(&self) -> StoreFigures {
        let reads = 3 * self.started.len() as u64;
        StoreFigures { reads, busy: Duration::from_micros(reads), ..StoreFigures::default() }
    }

    fn bytes(&self, slot: SlotId, part: Part) -> &[u8] {
        self.slots[slot.0].parts[part as usize].as_deref().expect("the part has come")
    }
}

impl Model {
    /// An engine that reads its experts through a store, in memory of its own.
    ///
    /// # Panics
    /// If the options do not fit the model.
    pub fn streaming(
        &self,
        options: Options,
        store: &'static mut dyn ExpertStore,
        policy: &'static dyn Policy,
        parallel: &'static dyn Parallel,
    ) -> Engine<'static> {
        let slots = store.slots();
        let plan = Plan::streaming(&self.config, self.weights, &options, slots, 0).unwrap();
        let mut arena = Arena::new(vec![0xAA; plan.arena()].leak());
        let experts = (store, policy);
        let (config, weights, kernels) = (self.config, self.weights, self.kernels);
        let engine =
            Engine::streaming(config, weights, options, experts, &mut arena, kernels, parallel);
        engine.unwrap()
    }
}
