//! A store of experts in memory, for tests: reads end when it likes, and fail when it is told to.

use crate::Model;
use crate::random::Random;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wick_core::{
    Arena, Arrival, Completion, Engine, ExpertKey, ExpertMatrices, ExpertStore, Options, Parallel,
    Part, Place, Plan, Policy, Read, ReadError, SlotClass, SlotId, StoreReason, Weights,
};
use wick_kernels::Layout;

/// Bytes of a page.
const PAGE: usize = 256;

/// The bytes of a slot's parts, as far as they have come.
type Slot = [Option<Vec<u8>>; 3];

/// Experts that lie in memory and are handed out as if they were read, in an order that a random
/// number decides.
#[derive(Debug)]
pub struct MemoryStore {
    weights: &'static Weights<'static>,
    slots: Vec<Slot>,
    /// Of these, the last so many are spare.
    pub spare: usize,
    on_their_way: VecDeque<Read>,
    /// Reads that never end.
    lost: Vec<Read>,
    random: Random,
    looks: AtomicU64,
    /// Experts whose next read fails for good, and why.
    pub failing: Vec<(ExpertKey, StoreReason)>,
    /// How many reads go well before one fails for good, and why that one does.
    pub failing_after: Option<(usize, StoreReason)>,
    /// Experts whose next read never ends.
    pub losing: Vec<(ExpertKey, Part)>,
    /// Experts asked for so far, in order.
    pub started: Vec<ExpertKey>,
}

impl MemoryStore {
    /// A store for the experts of a model, with some slots.
    pub fn new(weights: &'static Weights<'static>, slots: usize, seed: u64) -> MemoryStore {
        MemoryStore {
            weights,
            slots: vec![Slot::default(); slots],
            spare: 0,
            on_their_way: VecDeque::new(),
            lost: Vec::new(),
            random: Random(seed),
            looks: AtomicU64::new(0),
            failing: Vec::new(),
            failing_after: None,
            losing: Vec::new(),
            started: Vec::new(),
        }
    }

    /// Why the read of an expert fails that has just ended, if it does.
    fn fails(&mut self, key: ExpertKey) -> Option<StoreReason> {
        match &mut self.failing_after {
            Some((0, reason)) => {
                let reason = *reason;
                self.failing_after = None;
                return Some(reason);
            }
            Some((left, _)) => *left -= 1,
            None => {}
        }
        let failing = self.failing.iter().position(|(failing, _)| *failing == key)?;
        Some(self.failing.remove(failing).1)
    }

    fn matrices(&self, layer: usize, part: Part) -> &'static ExpertMatrices<'static> {
        self.weights.layers[layer].experts(part)
    }

    /// The bytes that a read brings, as they stand in a slot.
    fn bytes(&self, read: &Read) -> Vec<u8> {
        let matrices = self.matrices(read.key.layer, read.part);
        let matrix = matrices.expert(read.key.expert);
        let mut bytes = matrix.bytes().to_vec();
        let layout = wick_core::expert_layout(&self.weights.layers[read.key.layer], read.part);
        if matrices.layout() == Layout::Rows && layout != Layout::Rows {
            layout.arrange(matrix.cols(), matrix.bytes(), &mut bytes);
        }
        bytes
    }
}

impl ExpertStore for MemoryStore {
    fn slots(&self) -> SlotClass {
        SlotClass {
            spare: self.spare,
            page: PAGE,
            ..SlotClass::new(self.slots.len(), self.weights.slot_bytes())
        }
    }

    fn place(&self, key: ExpertKey, part: Part, low_bit: bool) -> Option<Place> {
        let layout = wick_core::expert_layout(&self.weights.layers[key.layer], part);
        let bytes = self.matrices(key.layer, part).expert(key.expert).bytes().len();
        let place = Place { file: 0, offset: 4096, bytes, layout, checksum: None };
        (!low_bit).then_some(place)
    }

    fn submit(&mut self, read: Read) {
        let slot = read.slot;
        let mut open = self.on_their_way.iter().chain(&self.lost).filter(|r| r.slot == slot);
        assert!(open.all(|r| r.key == read.key && r.part != read.part), "{slot:?} is in use");
        if read.part == Part::Gate {
            self.started.push(read.key);
        }
        self.slots[slot.0][read.part as usize] = None;
        let losing = self.losing.iter().position(|lost| *lost == (read.key, read.part));
        match losing.map(|place| self.losing.swap_remove(place)) {
            Some(_) => self.lost.push(read),
            None => self.on_their_way.push_back(read),
        }
    }

    /// Lets one of the parts on their way arrive, or none now and then where nobody waits.
    fn complete(&mut self, wait: Duration) -> Option<Completion> {
        if self.on_their_way.is_empty() || (wait.is_zero() && self.random.below(3) == 0) {
            return None;
        }
        let which = self.random.below(self.on_their_way.len());
        let read = self.on_their_way.remove(which)?;
        let (slot, part) = (read.slot, read.part);
        let result = match self.fails(read.key) {
            Some(reason) => Err(ReadError { reason, may_pass: false }),
            None => {
                let bytes = self.bytes(&read);
                let arrival = Arrival { bytes: bytes.len(), checksum: None };
                self.slots[slot.0][part as usize] = Some(bytes);
                Ok(arrival)
            }
        };
        Some(Completion { slot, part, result })
    }

    fn lend(&self, slot: SlotId, part: Part) -> &[u8] {
        self.slots[slot.0][part as usize].as_deref().expect("the part has come")
    }

    fn vacate(&mut self, slot: SlotId) {
        assert!(slot.0 >= self.slots.len() - self.spare, "{slot:?} is not spare");
        assert!(self.on_their_way.iter().all(|read| read.slot != slot), "{slot:?} is in use");
        self.slots[slot.0] = Slot::default();
    }

    /// Other bytes than those that stood there, which nobody may notice.
    fn release(&self, memory: &mut [u8]) {
        memory.fill(0xAA);
    }

    /// A clock that goes on whenever it is looked at, and hardly while something is read: reads are so
    /// fast that every guess is worth it.
    fn now(&self) -> Duration {
        let step = if self.on_their_way.is_empty() { 1_000_000 } else { 1 };
        Duration::from_nanos(self.looks.fetch_add(step, Ordering::Relaxed))
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
        let slots = store.slots().count;
        // Spare slots take no memory of the plan; their tables do.
        let plan = Plan::streaming(&self.config, self.weights, &options, slots, 0).unwrap();
        let mut arena = Arena::new(vec![0xAA; plan.arena()].leak());
        let experts = (store, policy);
        let (config, weights, kernels) = (self.config, self.weights, self.kernels);
        let engine =
            Engine::streaming(config, weights, options, experts, &mut arena, kernels, parallel);
        engine.unwrap()
    }
}
