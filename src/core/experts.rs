//! The experts that a layer wants: where they lie, and in what order they are used.
//!
//! Either all experts stand in memory, or they are read into slots: asked for when the router has
//! spoken, before attention, and used in the order in which they come. What comes when changes
//! nothing in the result.

use crate::arena::{Arena, ArenaError};
use crate::config::Config;
use crate::guess::Guessing;
use crate::policy::Policy;
use crate::slots::Slots;
use crate::store::{ExpertKey, ExpertStore, Part, SlotId, StoreError, StoreFigures};
use crate::token::Token;
use crate::weights::{Layer, Matrix};
use core::ops::AddAssign;
use wick_kernels::{Format, Layout};

/// What can be computed for some experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Their neurons: gate and up are there.
    Neurons,
    /// Their outputs: the neurons are computed, and down is there.
    Outputs,
    /// Nothing: an expert that is wanted cannot be read.
    Failed {
        /// The expert.
        expert: usize,
        /// Why.
        error: StoreError,
    },
}

/// How far an expert that is wanted has come.
const WAITING: u8 = 0;
const HAS_NEURONS: u8 = 1;
const HAS_OUTPUTS: u8 = 2;

/// How experts were found and read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpertFigures {
    /// Experts that layers wanted, each once in a step.
    pub wanted: u64,
    /// Of these, experts that were in a slot, whole, when the router spoke.
    pub resident: u64,
    /// Reads of low-bit copies in place of experts.
    pub low_bit: u64,
    /// Reads that the router's choice started.
    pub router: Prefetch,
    /// Reads that a guess at the next layer's choice started.
    pub guess: Prefetch,
}

/// Experts that were read ahead of their use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefetch {
    /// Experts asked for.
    pub asked: u64,
    /// Experts that the layer wanted indeed.
    pub useful: u64,
    /// Of the useful ones, those that were not there when attention had ended.
    pub late: u64,
    /// Experts that the layer did not want.
    pub wasted: u64,
}

impl AddAssign for Prefetch {
    fn add_assign(&mut self, other: Prefetch) {
        self.asked += other.asked;
        self.useful += other.useful;
        self.late += other.late;
        self.wasted += other.wasted;
    }
}

impl AddAssign for ExpertFigures {
    fn add_assign(&mut self, other: ExpertFigures) {
        self.wanted += other.wanted;
        self.resident += other.resident;
        self.low_bit += other.low_bit;
        self.router += other.router;
        self.guess += other.guess;
    }
}

/// The experts of all layers, and what is going on with those of the current one.
pub(crate) struct Experts<'m> {
    layer: usize,
    /// Experts that the layer wants, the most wanted first; `count` of them.
    wanted: &'m mut [u32],
    count: usize,
    /// How far each of them has come.
    stage: &'m mut [u8],
    /// Of each of them: whether a low-bit copy will do for all tokens that want it.
    low_bit: &'m mut [u8],
    /// Experts of the work at hand; `chosen_count` of them.
    chosen: &'m mut [u32],
    chosen_count: usize,
    /// `None` if all experts stand in memory.
    cache: Option<Cache<'m>>,
}

/// Experts in slots.
struct Cache<'m> {
    store: &'m mut dyn ExpertStore,
    slots: Slots<'m>,
    guessing: Guessing,
    /// Experts of the last guess, the likeliest first, `guess_count` of them, and their layer.
    guesses: &'m mut [u32],
    guess_layer: usize,
    guess_count: usize,
    /// Of each of them: whether it was asked for.
    asked: &'m mut [u8],
    /// Tokens so far.
    time: f64,
    layers: usize,
    /// Whether low-bit copies will do for all tokens of this step.
    low_bit: bool,
    /// Whether attention has ended, so that what comes now comes late.
    is_late: bool,
    figures: ExpertFigures,
}

impl<'m> Experts<'m> {
    /// The experts of a model; read through `store`, where there is one.
    pub(crate) fn new(
        config: &Config,
        store: Option<(&'m mut dyn ExpertStore, &'m dyn Policy)>,
        arena: &mut Arena<'m>,
    ) -> Result<Experts<'m>, ArenaError> {
        let Config { layers, experts, active, .. } = *config;
        let what = "wanted experts";
        let wanted = arena.take(what, experts)?;
        let (stage, low_bit) = (arena.take(what, experts)?, arena.take(what, experts)?);
        let chosen = arena.take(what, experts)?;
        let cache = match store {
            None => None,
            Some((store, policy)) => {
                let slots = Slots::new((layers, experts, active), store.slots(), policy, arena)?;
                let (guesses, asked) = (arena.take(what, experts)?, arena.take(what, experts)?);
                Some(Cache {
                    store,
                    slots,
                    guessing: Guessing::default(),
                    guesses,
                    asked,
                    guess_layer: 0,
                    guess_count: 0,
                    time: 0.0,
                    layers,
                    low_bit: false,
                    is_late: false,
                    figures: ExpertFigures::default(),
                })
            }
        };
        let (layer, count, chosen_count) = (0, 0, 0);
        Ok(Experts { layer, wanted, count, stage, low_bit, chosen, chosen_count, cache })
    }

    /// Bytes of an arena that [`Experts::new`] cuts, where experts are read into `slots`, if they are.
    pub(crate) fn bytes(config: &Config, slots: Option<usize>) -> usize {
        let Config { layers, experts, .. } = *config;
        let lists = 2 * (Arena::bytes_for::<u32>(experts) + Arena::bytes_for::<u8>(experts));
        lists
            + slots.map_or(0, |slots| {
                Slots::bytes(layers, experts, slots)
                    + Arena::bytes_for::<u32>(experts)
                    + Arena::bytes_for::<u8>(experts)
            })
    }

    /// How experts were found and read so far; `None` if all stand in memory.
    pub(crate) fn figures(&self) -> Option<&ExpertFigures> {
        self.cache.as_ref().map(|cache| &cache.figures)
    }

    /// What was read so far; `None` if all stand in memory.
    pub(crate) fn store_figures(&self) -> Option<StoreFigures> {
        self.cache.as_ref().map(|cache| cache.store.figures())
    }

    /// Whether reads have nothing to do, so that it is time to guess what the next layer will want,
    /// and a guess is likely to pay.
    pub(crate) fn is_time_to_guess(&mut self) -> bool {
        let Some(cache) = &mut self.cache else { return false };
        if !cache.store.is_idle() {
            return false;
        }
        let StoreFigures { busy, reads, .. } = cache.store.figures();
        cache.guessing.begin(cache.store.now(), busy, reads / Part::ALL.len() as u64);
        cache.guessing.is_likely_to_pay()
    }

    /// Begins a step.
    pub(crate) fn begin(&mut self, batch: &[Token]) -> Result<(), StoreError> {
        self.count = 0;
        match &mut self.cache {
            None => Ok(()),
            Some(cache) => {
                cache.time += batch.len() as f64;
                cache.low_bit = batch.iter().all(|token| token.approximation.low_bit);
                cache.slots.unpin_all();
                cache.guess_count = 0;
                cache.store.begin()
            }
        }
    }

    /// Whether an expert is in memory, or on its way.
    pub(crate) fn has_slot(&self, layer: usize, expert: u32) -> bool {
        let key = ExpertKey { layer, expert: expert as usize };
        self.cache.as_ref().is_none_or(|cache| cache.slots.find(key).is_some())
    }

    /// Sets what a layer wants: the experts that `chosen` names, `k` for each token, best first for a
    /// single token, else in the order of the file. `choices[bounds[e]..bounds[e + 1]]` are those of
    /// expert `e`. Experts that are in no slot are started, as far as slots go.
    pub(crate) fn want(
        &mut self,
        layer: usize,
        chosen: &[u32],
        bounds: &[usize],
        choices: &[usize],
        batch: &[Token],
    ) {
        (self.layer, self.count, self.chosen_count) = (layer, 0, 0);
        if batch.len() == 1 {
            chosen.iter().for_each(|expert| self.add_wanted(*expert));
        } else {
            let wanted = (0..bounds.len() - 1).filter(|e| bounds[*e] < bounds[e + 1]);
            wanted.for_each(|expert| self.add_wanted(expert as u32));
        }
        self.stage[..self.count].fill(WAITING);
        let active = chosen.len() / batch.len();
        for (low_bit, expert) in self.low_bit.iter_mut().zip(&self.wanted[..self.count]) {
            let places = bounds[*expert as usize]..bounds[*expert as usize + 1];
            let mut tokens = choices[places].iter().map(|choice| batch[choice / active]);
            *low_bit = tokens.all(|token| token.approximation.low_bit).into();
        }
        if let Some(cache) = &mut self.cache {
            cache.want(layer, &self.wanted[..self.count], self.low_bit, chosen);
            cache.request(layer, &self.wanted[..self.count], self.low_bit, self.stage);
        }
    }

    fn add_wanted(&mut self, expert: u32) {
        if !self.wanted[..self.count].contains(&expert) {
            self.wanted[self.count] = expert;
            self.count += 1;
        }
    }

    /// Starts reads of experts that the next layer may want, the likeliest first, as far as that is
    /// worth it.
    pub(crate) fn guess(&mut self, experts: impl Iterator<Item = u32>) {
        let layer = self.layer + 1;
        if let Some(cache) = &mut self.cache {
            cache.guess(layer, experts);
        }
    }

    /// The next work of the layer, for the experts in [`Experts::chosen`]; waits until there is some.
    /// `None` if all is done.
    ///
    /// # Errors
    /// No expert can be read any more: the layer cannot be completed.
    pub(crate) fn next(&mut self) -> Result<Option<Work>, StoreError> {
        self.let_go();
        loop {
            if let Some(cache) = &mut self.cache {
                let error = cache.poll().err();
                if let Some(failed) = self.fail(error)? {
                    return Ok(Some(failed));
                }
            }
            if let Some(cache) = &mut self.cache {
                let wanted = &self.wanted[..self.count];
                cache.request(self.layer, wanted, self.low_bit, self.stage);
                cache.count_late(self.layer, wanted, self.low_bit);
            }
            for (work, before, parts) in [
                (Work::Neurons, WAITING, &[Part::Gate, Part::Up][..]),
                (Work::Outputs, HAS_NEURONS, &[Part::Down]),
            ] {
                if self.choose(before, parts) {
                    return Ok(Some(work));
                }
            }
            if self.stage[..self.count].iter().all(|stage| *stage == HAS_OUTPUTS) {
                return Ok(None);
            }
            if let Some(cache) = &mut self.cache {
                let error = cache.finish().err();
                if let Some(failed) = self.fail(error)? {
                    return Ok(Some(failed));
                }
            }
        }
    }

    /// What an error means for the layer: nothing, if it does not want the expert.
    fn fail(&mut self, error: Option<StoreError>) -> Result<Option<Work>, StoreError> {
        let Some(error) = error else { return Ok(None) };
        let Some((key, _)) = error.at else { return Err(error) };
        let mut wanted = self.wanted[..self.count].iter().zip(&mut *self.stage);
        let Some((_, stage)) = wanted.find(|(expert, stage)| {
            let is_it = key.layer == self.layer && **expert as usize == key.expert;
            is_it && **stage != HAS_OUTPUTS
        }) else {
            return Ok(None);
        };
        *stage = HAS_OUTPUTS;
        self.chosen_count = 0;
        Ok(Some(Work::Failed { expert: key.expert, error }))
    }

    /// The experts of the last work that [`Experts::next`] named, in rising order.
    pub(crate) fn chosen(&self) -> &[u32] {
        &self.chosen[..self.chosen_count]
    }

    /// Lends out the matrices of the layer.
    pub(crate) fn lender<'a>(&'a self, layer: &'a Layer<'a>) -> Lender<'a> {
        let cache = self.cache.as_ref();
        Lender {
            number: self.layer,
            layer,
            cache: cache.map(|cache| (&*cache.store, &cache.slots)),
        }
    }

    /// Chooses the wanted experts of a stage whose parts are there, and takes them a stage further.
    fn choose(&mut self, before: u8, parts: &[Part]) -> bool {
        self.chosen_count = 0;
        let low_bit = self.low_bit.iter().map(|low_bit| *low_bit != 0);
        let wanted = self.wanted[..self.count].iter().zip(low_bit);
        for ((expert, low_bit), stage) in wanted.zip(self.stage.iter_mut()) {
            let key = ExpertKey { layer: self.layer, expert: *expert as usize };
            let there = |cache: &Cache<'_>| cache.has(key, low_bit, parts);
            if *stage == before && self.cache.as_ref().is_none_or(there) {
                *stage += 1;
                self.chosen[self.chosen_count] = *expert;
                self.chosen_count += 1;
            }
        }
        self.chosen[..self.chosen_count].sort_unstable();
        self.chosen_count > 0
    }

    /// Unpins the experts of the last work if they are not needed any more.
    fn let_go(&mut self) {
        let Some(cache) = &mut self.cache else { return };
        for (expert, stage) in self.wanted[..self.count].iter().zip(&*self.stage) {
            let key = ExpertKey { layer: self.layer, expert: *expert as usize };
            if let Some(slot) = cache.slots.find(key).filter(|_| *stage == HAS_OUTPUTS) {
                cache.slots.pin(slot, false);
            }
        }
    }
}

impl Cache<'_> {
    /// Counts what the layer wants, and pins what of it is in a slot before anything is started.
    fn want(&mut self, layer: usize, wanted: &[u32], low_bit: &[u8], choices: &[u32]) {
        let now = self.time + layer as f64 / self.layers as f64;
        for expert in choices {
            self.slots.used(ExpertKey { layer, expert: *expert as usize }, now);
        }
        self.is_late = false;
        self.judge_guess(layer, wanted);
        for (expert, low_bit) in wanted.iter().zip(low_bit) {
            let key = ExpertKey { layer, expert: *expert as usize };
            self.figures.wanted += 1;
            if let Some(slot) = self.slots.find(key) {
                self.slots.pin(slot, true);
                self.figures.resident += u64::from(self.has(key, *low_bit != 0, &Part::ALL));
            }
        }
    }

    /// Starts what of a guess is worth it.
    fn guess(&mut self, layer: usize, experts: impl Iterator<Item = u32>) {
        (self.guess_layer, self.guess_count) = (layer, 0);
        let mut before = 0;
        for (rank, expert) in experts.take(self.guesses.len()).enumerate() {
            let key = ExpertKey { layer, expert: expert as usize };
            let is_missing = self.slots.find(key).is_none();
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
    fn judge_guess(&mut self, layer: usize, wanted: &[u32]) {
        self.guessing.end(self.store.now());
        if self.guess_layer != layer {
            self.guess_count = 0;
        }
        let guesses = self.guesses.iter().zip(&*self.asked).take(self.guess_count);
        for (rank, (expert, asked)) in guesses.enumerate() {
            let is_right = wanted.contains(expert);
            self.guessing.judge(rank, is_right);
            if *asked != 0 {
                self.figures.guess.useful += u64::from(is_right);
                self.figures.guess.wasted += u64::from(!is_right);
            }
        }
    }

    /// Starts the wanted experts that have no slot yet, as far as there are slots, and those whose
    /// low-bit copies will not do.
    fn request(&mut self, layer: usize, wanted: &[u32], low_bit: &[u8], stage: &[u8]) {
        let waiting = wanted.iter().zip(low_bit).zip(stage).filter(|(_, s)| **s == WAITING);
        for ((expert, low_bit), _) in waiting {
            let key = ExpertKey { layer, expert: *expert as usize };
            if let Some(slot) = self.slots.find(key) {
                self.replace_low_bit(slot, key, *low_bit != 0);
            } else {
                let Some(slot) = self.start(key, *low_bit != 0) else { break };
                self.slots.pin(slot, true);
                self.figures.router.asked += 1;
                self.figures.router.useful += 1;
            }
        }
    }

    /// Starts an expert in a slot of its own, if there is one to be had.
    fn start(&mut self, key: ExpertKey, low_bit: bool) -> Option<SlotId> {
        let store = &*self.store;
        let is_there = |slot| Part::ALL.iter().all(|part| store.is_ready(slot, *part));
        let slot = self.slots.claim(key, is_there)?;
        if low_bit && self.store.start_low_bit(slot, key) {
            self.slots.set_low_bit(slot, true);
            self.figures.low_bit += 1;
        } else {
            self.store.start(slot, key);
        }
        Some(slot)
    }

    /// Starts an expert in its slot if that has a low-bit copy which is there and will not do.
    fn replace_low_bit(&mut self, slot: SlotId, key: ExpertKey, will_do: bool) {
        let is_there = || Part::ALL.iter().all(|part| self.store.is_ready(slot, *part));
        if !will_do && self.slots.is_low_bit(slot) && is_there() {
            self.slots.set_low_bit(slot, false);
            self.store.start(slot, key);
            self.figures.router.asked += 1;
            self.figures.router.useful += 1;
        }
    }

    /// Counts, when the layer's work begins, what of it is still on its way.
    fn count_late(&mut self, layer: usize, wanted: &[u32], low_bit: &[u8]) {
        if core::mem::replace(&mut self.is_late, true) {
            return;
        }
        for (expert, low_bit) in wanted.iter().zip(low_bit) {
            let key = ExpertKey { layer, expert: *expert as usize };
            if self.has(key, *low_bit != 0, &Part::ALL) {
                continue;
            }
            let mut guesses = self.guesses.iter().zip(&*self.asked).take(self.guess_count);
            match guesses.any(|(guess, asked)| guess == expert && *asked != 0) {
                true => self.figures.guess.late += 1,
                false => self.figures.router.late += 1,
            }
        }
    }

    /// Whether parts of an expert are there that will do.
    fn has(&self, key: ExpertKey, low_bit: bool, parts: &[Part]) -> bool {
        let slot = self.slots.find(key);
        let slot = slot.filter(|slot| low_bit || !self.slots.is_low_bit(*slot));
        slot.is_some_and(|slot| parts.iter().all(|part| self.store.is_ready(slot, *part)))
    }

    fn poll(&mut self) -> Result<(), StoreError> {
        let result = self.store.poll();
        self.check(result)
    }

    fn finish(&mut self) -> Result<(), StoreError> {
        let result = self.store.finish();
        self.check(result)
    }

    /// Empties the slot of an expert that could not be read. If nobody wants it, it is none the worse:
    /// it will be read again when somebody does.
    fn check(&mut self, result: Result<(), StoreError>) -> Result<(), StoreError> {
        let Err(StoreError { at: Some((key, _)), .. }) = result else { return result };
        let Some(slot) = self.slots.find(key) else { return Ok(()) };
        let is_wanted = self.slots.is_pinned(slot);
        self.slots.clear(slot);
        if is_wanted { result } else { Ok(()) }
    }
}

/// The matrices of a layer's experts, wherever they lie.
#[derive(Clone, Copy)]
pub(crate) struct Lender<'a> {
    number: usize,
    layer: &'a Layer<'a>,
    cache: Option<(&'a dyn ExpertStore, &'a Slots<'a>)>,
}

impl<'a> Lender<'a> {
    /// How a matrix of every expert is arranged.
    pub(crate) fn layout(&self, part: Part) -> Layout {
        match self.cache {
            None => self.layer.experts(part).layout(),
            Some((store, _)) => store.layout(self.number, part),
        }
    }

    /// How its weights are stored.
    pub(crate) fn format(&self, part: Part) -> Format {
        self.layer.experts(part).format()
    }

    /// A matrix of an expert that [`Experts::chosen`] names.
    ///
    /// # Panics
    /// If it is not there.
    pub(crate) fn matrix(&self, part: Part, expert: usize) -> Matrix<'a> {
        let matrices = self.layer.experts(part);
        let Some((store, slots)) = self.cache else { return matrices.expert(expert) };
        let slot = slots.find(ExpertKey { layer: self.number, expert });
        let bytes = store.bytes(slot.expect("an expert in work has a slot"), part);
        matrices.lend(self.layout(part), bytes).expect("a slot holds the whole matrix")
    }
}
