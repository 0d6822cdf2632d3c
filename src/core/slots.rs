//! Which expert lies in which slot.

use crate::arena::{Arena, ArenaError};
use crate::policy::Policy;
use crate::store::{ExpertKey, SlotId};

/// No slot, or no expert.
const NONE: u32 = u32::MAX;

/// How readily a slot is taken: one whose layer has no more than its share only for want of others,
/// an empty one before all others.
const BEYOND_QUOTA: u8 = 0;
const WITHIN_QUOTA: u8 = 1;
const EMPTY: u8 = 2;

/// The slots of a model and the experts in them.
///
/// A slot is empty, or holds an expert that is on its way or there. One that is on its way, or that
/// is pinned because the current token wants it, is not given to another expert. While slots are
/// fewer than two sweeps (the experts of two tokens in all layers), each layer keeps a share of them,
/// so that the later layers of a token do not push out what the first layers of the next one want.
pub struct Slots<'m> {
    /// Experts of a layer.
    experts: usize,
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
    /// Of each slot: whether its expert may still be on its way.
    reading: &'m mut [u8],
    /// Of each slot: whether it holds a low-bit copy.
    low_bit: &'m mut [u8],
    /// Of each layer: slots that hold experts of it.
    count: &'m mut [u32],
}

impl<'m> Slots<'m> {
    /// `slots` empty slots for a model of `layers` layers with `experts` experts, of which `active`
    /// are chosen.
    ///
    /// # Errors
    /// The arena is too small.
    pub fn new(
        (layers, experts, active): (usize, usize, usize),
        slots: usize,
        policy: &'m dyn Policy,
        arena: &mut Arena<'m>,
    ) -> Result<Slots<'m>, ArenaError> {
        let what = "expert slots";
        let (slot_of, worth) =
            (arena.take(what, layers * experts)?, arena.take(what, layers * experts)?);
        let (held, pinned) = (arena.take(what, slots)?, arena.take(what, slots)?);
        let (reading, low_bit) = (arena.take(what, slots)?, arena.take(what, slots)?);
        let count = arena.take(what, layers)?;
        slot_of.fill(NONE);
        worth.fill(f64::NEG_INFINITY);
        held.fill(NONE);
        pinned.fill(0);
        reading.fill(0);
        low_bit.fill(0);
        count.fill(0);
        let is_tight = slots < 2 * layers * active;
        let quota = if is_tight && policy.needs_quotas() { slots / layers } else { 0 };
        Ok(Slots { experts, quota, policy, slot_of, worth, held, pinned, reading, low_bit, count })
    }

    /// Bytes of an arena that [`Slots::new`] cuts.
    pub const fn bytes(layers: usize, experts: usize, slots: usize) -> usize {
        Arena::bytes_for::<u32>(layers * experts)
            + Arena::bytes_for::<f64>(layers * experts)
            + Arena::bytes_for::<u32>(slots)
            + 3 * Arena::bytes_for::<u8>(slots)
            + Arena::bytes_for::<u32>(layers)
    }

    /// Number of slots.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether there are no slots.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
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
        (index != NONE).then_some(ExpertKey { layer, expert })
    }

    /// Notes that a token uses an expert, whether it has a slot or not. `now` is counted in tokens.
    pub fn used(&mut self, key: ExpertKey, now: f64) {
        let worth = &mut self.worth[key.layer * self.experts + key.expert];
        *worth = self.policy.used(*worth, now);
    }

    /// Whether an expert's slot must stay its own, or may be given to another.
    pub fn pin(&mut self, slot: SlotId, pinned: bool) {
        self.pinned[slot.0] = pinned.into();
    }

    /// Whether a slot must stay its expert's.
    pub fn is_pinned(&self, slot: SlotId) -> bool {
        self.pinned[slot.0] != 0
    }

    /// Says whether an expert is read into its slot as a low-bit copy.
    pub fn set_low_bit(&mut self, slot: SlotId, low_bit: bool) {
        self.low_bit[slot.0] = low_bit.into();
        self.reading[slot.0] = 1;
    }

    /// Whether a slot holds a low-bit copy of its expert.
    pub fn is_low_bit(&self, slot: SlotId) -> bool {
        self.low_bit[slot.0] != 0
    }

    /// Lets every slot go.
    pub fn unpin_all(&mut self) {
        self.pinned.fill(0);
    }

    /// Gives an expert that has none a slot: an empty one, or that of the expert that is worth least;
    /// `None` if all are pinned or being read into. `is_there` tells whether what was on its way into
    /// a slot has come.
    pub fn claim(&mut self, key: ExpertKey, is_there: impl Fn(SlotId) -> bool) -> Option<SlotId> {
        let slot = self.victim(key.layer, is_there)?;
        self.clear(slot);
        let index = self.index(key);
        self.slot_of[index] = slot.0 as u32;
        self.held[slot.0] = index as u32;
        self.reading[slot.0] = 1;
        self.count[key.layer] += 1;
        Some(slot)
    }

    /// Empties a slot.
    pub fn clear(&mut self, slot: SlotId) {
        if let Some(key) = self.key(slot) {
            let index = self.index(key);
            self.slot_of[index] = NONE;
            self.count[key.layer] -= 1;
        }
        self.held[slot.0] = NONE;
        self.reading[slot.0] = 0;
        self.pinned[slot.0] = 0;
        self.low_bit[slot.0] = 0;
    }

    /// The slot that an expert of a layer may have.
    fn victim(&mut self, layer: usize, is_there: impl Fn(SlotId) -> bool) -> Option<SlotId> {
        let full = self.quota > 0 && self.count[layer] as usize >= self.quota;
        let mut best: Option<(u8, f64, usize)> = None;
        for slot in 0..self.held.len() {
            if self.pinned[slot] != 0 {
                continue;
            }
            let index = self.held[slot];
            let (rank, worth) = match index {
                NONE => (EMPTY, f64::NEG_INFINITY),
                _ => {
                    let of = index as usize / self.experts;
                    // A layer with its share full pushes out its own, another takes from those that
                    // have more than theirs.
                    let over = self.count[of] as usize > self.quota;
                    let within = if full { of == layer } else { over };
                    let rank = if self.quota == 0 || within { WITHIN_QUOTA } else { BEYOND_QUOTA };
                    (rank, self.worth[index as usize])
                }
            };
            let better = best
                .is_none_or(|(best_rank, best_worth, _)| (rank, -worth) > (best_rank, -best_worth));
            if !better {
                continue;
            }
            if self.reading[slot] != 0 {
                if !is_there(SlotId(slot)) {
                    continue;
                }
                self.reading[slot] = 0;
            }
            best = Some((rank, worth, slot));
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

    /// Uses an expert and gives it a slot if it has none.
    fn touch(slots: &mut Slots<'_>, key: ExpertKey, now: usize) -> Option<SlotId> {
        slots.used(key, now as f64);
        slots.find(key).or_else(|| slots.claim(key, |_| true))
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
                let slot = slots.claim(key(0, e), |_| false).unwrap();
                slots.pin(slot, e < 2);
            }
            let on_its_way = slots.find(key(0, 2)).unwrap();
            let third = slots.find(key(0, 3));
            slots.used(key(1, 0), 9.0);
            assert_eq!(slots.claim(key(1, 0), |slot| slot != on_its_way), third);
            slots.unpin_all();
            let first = slots.find(key(0, 0));
            assert_eq!(slots.claim(key(1, 1), |_| true), first);
        });
        with_slots(2, 1, |mut slots| {
            for e in 0..2 {
                assert!(slots.claim(key(0, e), |_| false).is_some());
            }
            assert_eq!(slots.claim(key(1, 2), |_| false), None);
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
}
