//! Experts in slots: those that the current layer wants, and those that the next one may want.

use crate::arena::{Arena, ArenaError};
use crate::book::Book;
use crate::config::Config;
use crate::figures::ExpertFigures;
use crate::guess::Guessing;
use crate::store::{ExpertKey, Part, SlotId, StoreFigures};
use crate::token::Token;
use wick_kernels::Layout;

/// No slot.
const NONE: u32 = u32::MAX;

/// Experts that are read into slots.
pub(crate) struct Cache<'m> {
    pub(crate) book: Book<'m>,
    /// Of each expert that the layer wants and is not done with: its slot.
    slot_of: &'m mut [u32],
    guessing: Guessing,
    /// Experts of the last guess, the likeliest first, `guess_count` of them, and their layer.
    guesses: &'m mut [u32],
    guess_layer: usize,
    guess_count: usize,
    /// Of each of them: whether it was asked for.
    asked: &'m mut [u8],
    /// Tokens so far.
    time: f64,
    layer: usize,
    layers: usize,
    /// Whether low-bit copies will do for all tokens of this step.
    low_bit: bool,
    /// Whether attention has ended, so that what comes now comes late.
    is_late: bool,
    pub(crate) figures: ExpertFigures,
}

/// An expert that the layer wants, and whether its low-bit copy will do.
pub(crate) type Want = (u32, bool);

impl<'m> Cache<'m> {
    /// Experts in the slots of a book.
    pub(crate) fn new(
        config: &Config,
        book: Book<'m>,
        arena: &mut Arena<'m>,
    ) -> Result<Cache<'m>, ArenaError> {
        let (what, experts) = ("wanted experts", config.experts);
        Ok(Cache {
            book,
            slot_of: arena.take(what, experts)?,
            guessing: Guessing::default(),
            guesses: arena.take(what, experts)?,
            guess_layer: 0,
            guess_count: 0,
            asked: arena.take(what, experts)?,
            time: 0.0,
            layer: 0,
            layers: config.layers,
            low_bit: false,
            is_late: false,
            figures: ExpertFigures::default(),
        })
    }

    /// Bytes of an arena that [`Cache::new`] and the book cut, with so many slots.
    pub(crate) fn bytes(config: &Config, slots: usize) -> usize {
        let Config { layers, experts, .. } = *config;
        Book::bytes(layers, experts, slots)
            + 2 * Arena::bytes_for::<u32>(experts)
            + Arena::bytes_for::<u8>(experts)
    }

    /// Begins a step.
    pub(crate) fn begin(&mut self, batch: &[Token]) {
        // What was read in vain for those before is read again if somebody wants it now.
        while self.book.poll().is_err() {}
        self.time += batch.len() as f64;
        self.low_bit = batch.iter().all(|token| token.approximation.low_bit);
        self.book.slots_mut().unpin_all();
        self.guess_count = 0;
        self.guessing.pause();
    }

    /// Has so many of the spare slots in use, between steps.
    pub(crate) fn lend(&mut self, most: usize) {
        self.book.slots_mut().unpin_all();
        self.book.lend(most);
    }

    /// Counts what a layer wants, and pins what of it is in a slot before anything is started.
    /// `choices` names an expert as often as tokens chose it.
    pub(crate) fn want(
        &mut self,
        layer: usize,
        wanted: impl Iterator<Item = Want> + Clone,
        choices: &[u32],
    ) {
        (self.layer, self.is_late) = (layer, false);
        let now = self.time + layer as f64 / self.layers as f64;
        for expert in choices {
            let key = self.key(*expert);
            self.book.slots_mut().used(key, now);
        }
        self.judge_guess(wanted.clone().map(|(expert, _)| expert));
        for (expert, low_bit) in wanted {
            self.figures.wanted += 1;
            let slot = self.book.slots().find(self.key(expert));
            self.slot_of[expert as usize] = slot.map_or(NONE, |slot| slot.0 as u32);
            if let Some(slot) = slot {
                self.book.slots_mut().pin(slot, true);
                self.book.renew(slot);
                self.figures.resident += u64::from(self.has((expert, low_bit), &Part::ALL));
            }
        }
    }

    /// Starts the wanted experts that have no slot yet, as far as there are slots, and those whose
    /// low-bit copies will not do.
    pub(crate) fn request(&mut self, wanted: impl Iterator<Item = Want>) {
        for (expert, low_bit) in wanted {
            match self.slot(expert) {
                Some(slot) if low_bit || !self.book.replace_low_bit(slot) => continue,
                Some(_) => {}
                None => {
                    let key = self.key(expert);
                    let Some(slot) = self.start(key, low_bit) else { break };
                    self.slot_of[expert as usize] = slot.0 as u32;
                    self.book.slots_mut().pin(slot, true);
                }
            }
            self.figures.router.asked += 1;
            self.figures.router.useful += 1;
        }
    }

    /// Counts, when the layer's work begins, what of it is still on its way.
    pub(crate) fn count_late(&mut self, wanted: impl Iterator<Item = Want>) {
        if core::mem::replace(&mut self.is_late, true) {
            return;
        }
        for want in wanted {
            if self.has(want, &Part::ALL) {
                continue;
            }
            let mut guesses = self.guesses.iter().zip(&*self.asked).take(self.guess_count);
            match guesses.any(|(guess, asked)| *guess == want.0 && *asked != 0) {
                true => self.figures.guess.late += 1,
                false => self.figures.router.late += 1,
            }
        }
    }

    /// Whether parts of an expert that the layer wants are there and will do.
    pub(crate) fn has(&self, (expert, low_bit): Want, parts: &[Part]) -> bool {
        let slots = self.book.slots();
        let slot = self.slot(expert).filter(|slot| low_bit || !slots.is_low_bit(*slot));
        slot.is_some_and(|slot| slots.are_ready(slot, parts))
    }

    /// Lets an expert go that the layer wanted and is done with.
    pub(crate) fn release(&mut self, expert: u32) {
        if let Some(slot) = self.slot(expert) {
            self.book.slots_mut().pin(slot, false);
        }
        self.slot_of[expert as usize] = NONE;
    }

    /// The slots of the experts that the layer wants, by expert.
    pub(crate) fn slots_of_wanted(&self) -> &[u32] {
        self.slot_of
    }

    /// How the experts of the layer are arranged in slots.
    pub(crate) fn layouts(&self) -> [Layout; Part::ALL.len()] {
        let place = |part| self.book.store().place(self.key(0), part, false);
        Part::ALL.map(|part| place(part).expect("a store has every expert").layout)
    }

    /// Takes note that all that the layer wants is there.
    pub(crate) fn note_all(&mut self) {
        self.guessing.begin(self.book.now());
    }

    /// Whether a guess at what the next layer will want is likely to pay.
    pub(crate) fn is_likely_to_pay(&mut self) -> bool {
        let StoreFigures { busy, reads, .. } = self.book.figures();
        self.guessing.measure(busy, reads / Part::ALL.len() as u64);
        self.guessing.is_likely_to_pay()
    }

    /// Starts what of a guess at the next layer's choice is worth it.
    pub(crate) fn guess(&mut self, experts: impl Iterator<Item = u32>) {
        (self.guess_layer, self.guess_count) = (self.layer + 1, 0);
        let mut before = 0;
        for (rank, expert) in experts.take(self.guesses.len()).enumerate() {
            let key = ExpertKey { layer: self.guess_layer, expert: expert as usize };
            let is_missing = self.book.slots().find(key).is_none();
            let is_asked = is_missing
                && self.guessing.is_worth_it(rank, before)
                && self.start(key, self.low_bit).is_some();
            before += usize::from(is_asked);
            self.guesses[rank] = expert;
            self.asked[rank] = is_asked.into();
            self.guess_count += 1;
        }
        self.figures.guess.asked += before as u64;
    }

    /// Compares the last guess with what the layer wants.
    fn judge_guess(&mut self, wanted: impl Iterator<Item = u32> + Clone) {
        self.guessing.end(self.book.now());
        if self.guess_layer != self.layer {
            self.guess_count = 0;
        }
        let guesses = self.guesses.iter().zip(&*self.asked).take(self.guess_count);
        for (rank, (expert, asked)) in guesses.enumerate() {
            let is_right = wanted.clone().any(|wanted| wanted == *expert);
            self.guessing.judge(rank, is_right);
            if *asked != 0 {
                self.figures.guess.useful += u64::from(is_right);
                self.figures.guess.wasted += u64::from(!is_right);
            }
        }
    }

    /// Starts an expert in a slot of its own, if there is one to be had.
    fn start(&mut self, key: ExpertKey, low_bit: bool) -> Option<SlotId> {
        let slot = self.book.start(key, low_bit)?;
        self.figures.low_bit += u64::from(self.book.slots().is_low_bit(slot));
        Some(slot)
    }

    /// Whether an expert that the layer wants has a slot.
    pub(crate) fn has_slot(&self, expert: u32) -> bool {
        self.slot(expert).is_some()
    }

    fn slot(&self, expert: u32) -> Option<SlotId> {
        let slot = self.slot_of[expert as usize];
        (slot != NONE).then_some(SlotId(slot as usize))
    }

    fn key(&self, expert: u32) -> ExpertKey {
        ExpertKey { layer: self.layer, expert: expert as usize }
    }
}
