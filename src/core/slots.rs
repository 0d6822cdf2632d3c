//! Which expert has which slot, and how far it has come.

use crate::arena::{Arena, ArenaError};
use crate::policy::Policy;
use crate::store::{ExpertKey, Part, SlotId};
use core::ops::Range;

/// No slot, or no expert.
const NONE: u32 = u32::MAX;
/// No expert any more: the slot has retired.
const RETIRED: u32 = NONE - 1;

/// How readily a slot is taken: one whose layer has no more than its share only for want of others,
/// an empty one before all others.
const BEYOND_QUOTA: u8 = 0;
const WITHIN_QUOTA: u8 = 1;
const EMPTY: u8 = 2;

/// How far a part of a slot's expert has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Loading {
    /// It is not there, and nothing is on its way.
    Empty,
    /// It is on its way.
    Reading,
    /// It is there.
    Ready,
    /// Its expert was given up while it was on its way. The slot is in quarantine until the read ends,
    /// since the device may write to it until then.
    Failed,
}

impl Loading {
    /// What [`Loading`] is stored as, back again.
    fn from_byte(byte: u8) -> Loading {
        match byte {
            1 => Loading::Reading,
            2 => Loading::Ready,
            3 => Loading::Failed,
            _ => Loading::Empty,
        }
    }

    /// Whether a read may still write there.
    fn is_open(self) -> bool {
        matches!(self, Loading::Reading | Loading::Failed)
    }
}

/// The slots of one class and the experts in them.
///
/// A slot is empty, holds an expert, or is in quarantine. One into which something is read, or that is
/// pinned because the current token wants its expert, is not given to another expert. While slots are
/// fewer than two sweeps (the experts of two tokens in all layers), each layer keeps a share of them,
/// so that the later layers of a token do not push out what the first layers of the next one want.
pub struct Slots<'m> {
    /// Experts of a layer.
    experts: usize,
    /// Experts of two sweeps.
    two_sweeps: usize,
    /// Slots that have not retired.
    count: usize,
    /// Slots that a layer keeps if it has as many; 0 if all layers share all slots.
    quota: usize,
    policy: &'m dyn Policy,
    /// Of each expert of each layer: its slot.
    slot_of: &'m mut [u32],
    /// Of each expert of each layer: what it is worth.
    worth: &'m mut [f64],
    /// Of each slot: its expert, counted over all layers.
    held: &'m mut [u32],
    /// Of each slot: whether its expert must stay.
    pinned: &'m mut [u8],
    /// Of each slot: how far its parts have come.
    loading: &'m mut [[u8; Part::ALL.len()]],
    /// Of each slot: whether it has the low-bit copy of its expert.
    low_bit: &'m mut [u8],
    /// Of each layer: slots that hold experts of it.
    of_layer: &'m mut [u32],
}

impl<'m> Slots<'m> {
    /// `count` empty slots for a model of `layers` layers with `experts` experts, of which `active`
    /// are chosen.
    ///
    /// # Errors
    /// The arena is too small.
    pub fn new(
        (layers, experts, active): (usize, usize, usize),
        count: usize,
        policy: &'m dyn Policy,
        arena: &mut Arena<'m>,
    ) -> Result<Slots<'m>, ArenaError> {
        let what = "expert slots";
        let mut slots = Slots {
            experts,
            two_sweeps: 2 * layers * active,
            count,
            quota: 0,
            policy,
            slot_of: arena.take(what, layers * experts)?,
            worth: arena.take(what, layers * experts)?,
            held: arena.take(what, count)?,
            pinned: arena.take(what, count)?,
            loading: arena.take(what, count)?,
            low_bit: arena.take(what, count)?,
            of_layer: arena.take(what, layers)?,
        };
        slots.slot_of.fill(NONE);
        slots.worth.fill(f64::NEG_INFINITY);
        slots.held.fill(NONE);
        slots.pinned.fill(0);
        slots.loading.fill([Loading::Empty as u8; _]);
        slots.low_bit.fill(0);
        slots.of_layer.fill(0);
        slots.share();
        Ok(slots)
    }

    /// Bytes of an arena that [`Slots::new`] cuts.
    pub fn bytes(layers: usize, experts: usize, count: usize) -> usize {
        Arena::bytes_for::<u32>(layers * experts)
            + Arena::bytes_for::<f64>(layers * experts)
            + Arena::bytes_for::<u32>(count)
            + 2 * Arena::bytes_for::<u8>(count)
            + Arena::bytes_for::<[u8; Part::ALL.len()]>(count)
            + Arena::bytes_for::<u32>(layers)
    }

    /// Slots that have not retired.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are no slots.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The slot that an expert has, whether it is there or on its way.
    pub fn find(&self, key: ExpertKey) -> Option<SlotId> {
        let slot = self.slot_of[self.index(key)];
        (slot != NONE).then_some(SlotId(slot as usize))
    }

    /// The expert that has a slot.
    pub fn key(&self, slot: SlotId) -> Option<ExpertKey> {
        let index = self.held[slot.0];
        let (layer, expert) = (index as usize / self.experts, index as usize % self.experts);
        (index < RETIRED).then_some(ExpertKey { layer, expert })
    }

    /// Notes that a token uses an expert, whether it has a slot or not. `now` is counted in tokens.
    pub fn used(&mut self, key: ExpertKey, now: f64) {
        let worth = &mut self.worth[key.layer * self.experts + key.expert];
        *worth = self.policy.used(*worth, now);
    }

    /// What an expert is worth; `None` if it was never used.
    pub fn worth(&self, key: ExpertKey) -> Option<f64> {
        let worth = self.worth[self.index(key)];
        (worth > f64::NEG_INFINITY).then_some(worth)
    }

    /// Has an expert be worth so much that was not used yet.
    pub fn expect(&mut self, key: ExpertKey, worth: f64) {
        let index = self.index(key);
        self.worth[index] = self.worth[index].max(worth);
    }

    /// Whether an expert can have a slot that no other one gives up.
    pub fn has_empty(&self) -> bool {
        let held = self.held.iter().enumerate();
        held.filter(|(_, held)| **held == NONE).any(|(slot, _)| !self.is_open(SlotId(slot)))
    }

    /// Whether an expert's slot must stay its own, or may be given to another.
    pub fn pin(&mut self, slot: SlotId, pinned: bool) {
        self.pinned[slot.0] = pinned.into();
    }

    /// Lets every slot go.
    pub fn unpin_all(&mut self) {
        self.pinned.fill(0);
    }

    /// How far a part of a slot's expert has come.
    pub fn loading(&self, slot: SlotId, part: Part) -> Loading {
        Loading::from_byte(self.loading[slot.0][part as usize])
    }

    /// Takes note of how far a part has come.
    pub fn set_loading(&mut self, slot: SlotId, part: Part, loading: Loading) {
        self.loading[slot.0][part as usize] = loading as u8;
    }

    /// Whether all of `parts` are there.
    pub fn are_ready(&self, slot: SlotId, parts: &[Part]) -> bool {
        parts.iter().all(|part| self.loading(slot, *part) == Loading::Ready)
    }

    /// A slot whose expert is on its way, and a part that is.
    pub fn on_its_way(&self) -> Option<(SlotId, Part)> {
        let mut all = (0..self.held.len()).flat_map(|i| Part::ALL.map(|part| (SlotId(i), part)));
        all.find(|(slot, part)| self.loading(*slot, *part) == Loading::Reading)
    }

    /// Says whether a slot has the low-bit copy of its expert.
    pub fn set_low_bit(&mut self, slot: SlotId, low_bit: bool) {
        self.low_bit[slot.0] = low_bit.into();
    }

    /// Whether a slot has the low-bit copy of its expert.
    pub fn is_low_bit(&self, slot: SlotId) -> bool {
        self.low_bit[slot.0] != 0
    }

    /// Gives an expert that has none a slot: an empty one, or that of the expert that is worth least,
    /// which is evicted; `None` if all are pinned or being read into.
    pub fn claim(&mut self, key: ExpertKey) -> Option<SlotId> {
        let slot = self.victim(key.layer)?;
        self.clear(slot);
        let index = self.index(key);
        self.slot_of[index] = slot.0 as u32;
        self.held[slot.0] = index as u32;
        self.of_layer[key.layer] += 1;
        Some(slot)
    }

    /// Takes a slot from its expert. Where something is read into it, it is in quarantine until the
    /// read ends.
    pub fn clear(&mut self, slot: SlotId) {
        if let Some(key) = self.key(slot) {
            let index = self.index(key);
            self.slot_of[index] = NONE;
            self.of_layer[key.layer] -= 1;
        }
        self.held[slot.0] = NONE;
        self.pinned[slot.0] = 0;
        self.low_bit[slot.0] = 0;
        for part in &mut self.loading[slot.0] {
            let is_open = Loading::from_byte(*part).is_open();
            *part = if is_open { Loading::Failed } else { Loading::Empty } as u8;
        }
    }

    /// Takes a slot out of use, so that its memory can serve something else. Tells whether it could: its expert may be evicted, and nothing is read into it.
    pub fn retire(&mut self, slot: SlotId) -> bool {
        let can = self.held[slot.0] != RETIRED && self.pinned[slot.0] == 0 && !self.is_open(slot);
        if can {
            self.clear(slot);
            self.held[slot.0] = RETIRED;
            self.count -= 1;
            self.share();
        }
        can
    }

    /// Takes a slot that has retired into use again, empty. Tells whether it had.
    pub fn revive(&mut self, slot: SlotId) -> bool {
        let can = self.held[slot.0] == RETIRED;
        if can {
            self.held[slot.0] = NONE;
            self.count += 1;
            self.share();
        }
        can
    }

    /// Of some slots, the one that is missed least if it [retires](Slots::retire); `None` if none can.
    pub fn least_missed(&self, among: Range<usize>) -> Option<SlotId> {
        let can = |slot: &SlotId| {
            self.held[slot.0] != RETIRED && self.pinned[slot.0] == 0 && !self.is_open(*slot)
        };
        let worth = |slot: &SlotId| match self.key(*slot) {
            Some(key) => self.worth[self.index(key)],
            None => f64::NEG_INFINITY,
        };
        among.map(SlotId).filter(can).min_by(|a, b| worth(a).total_cmp(&worth(b)))
    }

    /// Sets what share of the slots a layer keeps.
    fn share(&mut self) {
        let is_tight = self.count < self.two_sweeps && self.policy.needs_quotas();
        self.quota = if is_tight { self.count / self.of_layer.len().max(1) } else { 0 };
    }

    /// Whether something may be read into a slot.
    fn is_open(&self, slot: SlotId) -> bool {
        self.loading[slot.0].iter().any(|part| Loading::from_byte(*part).is_open())
    }

    /// The slot that an expert of a layer may have.
    fn victim(&self, layer: usize) -> Option<SlotId> {
        let full = self.quota > 0 && self.of_layer[layer] as usize >= self.quota;
        let mut best: Option<(u8, f64, usize)> = None;
        for slot in 0..self.held.len() {
            if self.pinned[slot] != 0 {
                continue;
            }
            let index = self.held[slot];
            let (rank, worth) = match index {
                RETIRED => continue,
                NONE => (EMPTY, f64::NEG_INFINITY),
                _ => {
                    let of = index as usize / self.experts;
                    // A layer with its share full pushes out its own, another takes from those that
                    // have more than theirs.
                    let over = self.of_layer[of] as usize > self.quota;
                    let within = if full { of == layer } else { over };
                    let rank = if self.quota == 0 || within { WITHIN_QUOTA } else { BEYOND_QUOTA };
                    (rank, self.worth[index as usize])
                }
            };
            let better = best
                .is_none_or(|(best_rank, best_worth, _)| (rank, -worth) > (best_rank, -best_worth));
            if better && !self.is_open(SlotId(slot)) {
                best = Some((rank, worth, slot));
            }
        }
        best.map(|(_, _, slot)| SlotId(slot))
    }

    fn index(&self, key: ExpertKey) -> usize {
        key.layer * self.experts + key.expert
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::LeastRecent;

    const LAYERS: usize = 3;
    const EXPERTS: usize = 8;

    fn with_slots(slots: usize, active: usize, test: impl FnOnce(Slots<'_>)) {
        let mut memory = [0u8; 4096];
        let mut arena = Arena::new(&mut memory);
        let shape = (LAYERS, EXPERTS, active);
        let made = Slots::new(shape, slots, &LeastRecent, &mut arena).unwrap();
        let bytes = Slots::bytes(LAYERS, EXPERTS, slots);
        test(made);
        assert_eq!(arena.used(), bytes);
    }

    fn key(layer: usize, expert: usize) -> ExpertKey {
        ExpertKey { layer, expert }
    }

    #[test]
    fn what_is_expected_is_worth_less_than_what_is_used() {
        with_slots(2, 1, |mut slots| {
            assert!(slots.has_empty() && slots.worth(key(0, 0)).is_none());
            slots.expect(key(0, 0), -0.5);
            slots.claim(key(0, 0)).unwrap();
            touch(&mut slots, key(0, 1), 0);
            assert!(!slots.has_empty() && slots.worth(key(0, 0)) == Some(-0.5));
            touch(&mut slots, key(0, 2), 0);
            assert_eq!(slots.find(key(0, 0)), None);
            slots.expect(key(0, 2), -0.5);
            assert_eq!(slots.worth(key(0, 2)), Some(0.0));
        });
    }

    /// Uses an expert and gives it a slot if it has none.
    fn touch(slots: &mut Slots<'_>, key: ExpertKey, now: usize) -> Option<SlotId> {
        slots.used(key, now as f64);
        slots.find(key).or_else(|| slots.claim(key))
    }

    /// Lets a slot's parts come as far.
    fn set_all(slots: &mut Slots<'_>, slot: SlotId, loading: Loading) {
        Part::ALL.into_iter().for_each(|part| slots.set_loading(slot, part, loading));
    }

    #[test]
    fn the_least_worth_goes() {
        with_slots(6, 1, |mut slots| {
            let held: heapless::Vec<_, 6> =
                (0..6).map(|e| touch(&mut slots, key(0, e), e).unwrap()).collect();
            touch(&mut slots, key(0, 0), 6);
            assert_eq!(touch(&mut slots, key(1, 0), 7), Some(held[1]));
            assert_eq!(slots.find(key(0, 1)), None);
            assert_eq!(slots.find(key(0, 0)), Some(held[0]));
            assert_eq!(slots.key(held[1]), Some(key(1, 0)));
        });
    }

    #[test]
    fn pinned_slots_and_those_on_their_way_stay() {
        with_slots(6, 1, |mut slots| {
            for e in 0..6 {
                slots.used(key(0, e), e as f64);
                let slot = slots.claim(key(0, e)).unwrap();
                slots.set_loading(slot, Part::Down, Loading::Reading);
                slots.pin(slot, e < 2);
            }
            let on_its_way = slots.find(key(0, 2)).unwrap();
            let third = slots.find(key(0, 3));
            slots.used(key(1, 0), 9.0);
            for i in (0..6).map(SlotId).filter(|slot| *slot != on_its_way) {
                set_all(&mut slots, i, Loading::Ready);
            }
            assert_eq!(slots.claim(key(1, 0)), third);
            slots.unpin_all();
            let first = slots.find(key(0, 0));
            assert_eq!(slots.claim(key(1, 1)), first);
        });
        with_slots(2, 1, |mut slots| {
            for e in 0..2 {
                let slot = slots.claim(key(0, e)).unwrap();
                set_all(&mut slots, slot, Loading::Reading);
            }
            assert_eq!(slots.claim(key(1, 2)), None);
        });
    }

    #[test]
    fn layers_keep_their_share() {
        // Two sweeps of two experts in three layers are twelve slots; with six each layer has two.
        with_slots(6, 2, |mut slots| {
            for now in 0..40 {
                for layer in 0..LAYERS {
                    touch(&mut slots, key(layer, now % 2), now);
                    touch(&mut slots, key(layer, 2 + now % 3), now);
                }
            }
            for layer in 0..LAYERS {
                let held = (0..EXPERTS).filter(|e| slots.find(key(layer, *e)).is_some()).count();
                assert_eq!(held, 2);
            }
        });
    }

    #[test]
    fn a_single_slot_will_do() {
        with_slots(1, 2, |mut slots| {
            for now in 0..10 {
                let key = key(now % LAYERS, now % EXPERTS);
                assert_eq!(touch(&mut slots, key, now), Some(SlotId(0)));
            }
        });
    }

    #[test]
    fn a_slot_that_loses_its_expert_waits_for_what_is_on_its_way() {
        with_slots(1, 1, |mut slots| {
            let slot = slots.claim(key(0, 1)).unwrap();
            slots.set_loading(slot, Part::Gate, Loading::Ready);
            slots.set_loading(slot, Part::Up, Loading::Reading);
            assert_eq!(slots.on_its_way(), Some((slot, Part::Up)));
            slots.clear(slot);
            assert_eq!((slots.find(key(0, 1)), slots.key(slot)), (None, None));
            let found = Part::ALL.map(|part| slots.loading(slot, part));
            assert_eq!(found, [Loading::Empty, Loading::Failed, Loading::Empty]);
            assert_eq!((slots.claim(key(0, 2)), slots.on_its_way()), (None, None));
            slots.set_loading(slot, Part::Up, Loading::Empty);
            assert_eq!(slots.claim(key(0, 2)), Some(slot));
        });
    }

    #[test]
    fn slots_retire_one_by_one() {
        with_slots(6, 2, |mut slots| {
            for e in 0..6 {
                assert!(touch(&mut slots, key(e % LAYERS, e), e).is_some());
            }
            let slot = |slots: &Slots<'_>, e: usize| slots.find(key(e % LAYERS, e)).unwrap();
            let (pinned, reading, quarantined) = (SlotId(0), SlotId(1), SlotId(2));
            slots.pin(pinned, true);
            slots.set_loading(reading, Part::Gate, Loading::Reading);
            slots.set_loading(quarantined, Part::Gate, Loading::Reading);
            slots.clear(quarantined);
            for stays in [pinned, reading, quarantined] {
                assert!(!slots.retire(stays), "{stays:?}");
            }
            let (held, evicted) = (slot(&slots, 3), slot(&slots, 4));
            assert!(slots.retire(held) && !slots.retire(held));
            assert_eq!((slots.find(key(0, 3)), slots.key(held)), (None, None));
            assert_eq!(slots.len(), 5);
            // An empty slot retires as well.
            slots.clear(evicted);
            assert!(slots.retire(evicted));
            // What is left is still given out: the last one that may be.
            assert_eq!(touch(&mut slots, key(2, 7), 9), Some(SlotId(5)));
            slots.pin(SlotId(5), true);
            assert_eq!(touch(&mut slots, key(1, 7), 9), None);
        });
    }
}
