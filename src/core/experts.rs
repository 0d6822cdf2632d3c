//! The experts that a layer wants: where they lie, and in what order they are used.
//!
//! Either all experts stand in memory, or they are read into slots: asked for when the router has
//! spoken, before attention, and used in the order in which they come. What comes when changes
//! nothing in the result.

use crate::arena::{Arena, ArenaError};
use crate::book::{Book, Waited};
use crate::cache::{Cache, Want};
use crate::config::Config;
use crate::figures::ExpertFigures;
use crate::lender::Lender;
use crate::policy::Policy;
use crate::store::{ExpertKey, ExpertStore, Part, SlotClass, StoreError, StoreFigures};
use crate::token::Token;
use crate::weights::Layer;

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
/// It is done with, or has failed.
const HAS_OUTPUTS: u8 = 2;

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
                let book = Book::new((layers, experts, active), store, policy, arena)?;
                Some(Cache::new(config, book, arena)?)
            }
        };
        let (layer, count, chosen_count) = (0, 0, 0);
        Ok(Experts { layer, wanted, count, stage, low_bit, chosen, chosen_count, cache })
    }

    /// Bytes of an arena that [`Experts::new`] cuts, where experts are read into `slots`, if they are.
    pub(crate) fn bytes(config: &Config, slots: Option<usize>) -> usize {
        let experts = config.experts;
        let lists = 2 * (Arena::bytes_for::<u32>(experts) + Arena::bytes_for::<u8>(experts));
        lists + slots.map_or(0, |slots| Cache::bytes(config, slots))
    }

    /// Whether all of them stand in memory.
    pub(crate) fn are_resident(&self) -> bool {
        self.cache.is_none()
    }

    /// How experts were found and read so far; `None` if all stand in memory.
    pub(crate) fn figures(&self) -> Option<&ExpertFigures> {
        self.cache.as_ref().map(|cache| &cache.figures)
    }

    /// What was read so far; `None` if all stand in memory.
    pub(crate) fn store_figures(&self) -> Option<StoreFigures> {
        self.cache.as_ref().map(|cache| cache.book.figures())
    }

    /// What an expert is worth to its slot; `None` if it was never used, or all stand in memory.
    pub(crate) fn worth(&self, key: ExpertKey) -> Option<f64> {
        self.cache.as_ref()?.book.slots().worth(key)
    }

    /// Begins to read an expert that nobody wants yet; `false` if there is no empty slot for it.
    pub(crate) fn preload(&mut self, key: ExpertKey, worth: f64) -> bool {
        self.cache.as_mut().is_some_and(|cache| cache.book.preload(key, worth))
    }

    /// The slots that there are; `None` if all experts stand in memory.
    pub(crate) fn slots(&self) -> Option<SlotClass> {
        self.cache.as_ref().map(|cache| cache.book.store().slots())
    }

    /// Has so many of the spare slots in use, between steps.
    pub(crate) fn lend(&mut self, most: usize) {
        if let Some(cache) = &mut self.cache {
            cache.lend(most);
        }
    }

    /// Spare slots that are in use.
    pub(crate) fn lent(&self) -> usize {
        self.cache.as_ref().map_or(0, |cache| cache.book.lent())
    }

    /// Gives memory that nobody relies on back to the system.
    pub(crate) fn release(&self, memory: &mut [u8]) {
        if let Some(cache) = &self.cache {
            cache.book.store().release(memory);
        }
    }

    /// Whether all that the layer wants is there or on its way, so that it is time to guess what the next
    /// one will want, and a guess is likely to pay.
    pub(crate) fn is_time_to_guess(&mut self) -> bool {
        let Some(cache) = &mut self.cache else { return false };
        let mut waiting = self.wanted[..self.count].iter().zip(&*self.stage);
        waiting.all(|(expert, stage)| *stage != WAITING || cache.has_slot(*expert))
            && cache.is_likely_to_pay()
    }

    /// Begins a step.
    ///
    /// # Errors
    /// No expert can be read any more.
    pub(crate) fn begin(&mut self, batch: &[Token]) -> Result<(), StoreError> {
        self.count = 0;
        let Some(cache) = &mut self.cache else { return Ok(()) };
        cache.begin(batch);
        cache.book.check()
    }

    /// Whether an expert is in memory, or on its way.
    pub(crate) fn has_slot(&self, layer: usize, expert: u32) -> bool {
        let key = ExpertKey { layer, expert: expert as usize };
        self.cache.as_ref().is_none_or(|cache| cache.book.slots().find(key).is_some())
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
            let wants = wants(&self.wanted[..self.count], self.low_bit);
            cache.want(layer, wants.clone(), chosen);
            cache.request(wants);
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
        if let Some(cache) = &mut self.cache {
            cache.guess(experts);
        }
    }

    /// The next work of the layer, for the experts in [`Experts::chosen`]; waits until there is some.
    /// `None` if all is done.
    pub(crate) fn next(&mut self) -> Option<Work> {
        self.let_go();
        loop {
            let polled = self.cache.as_mut().map_or(Ok(()), |cache| cache.book.poll());
            if let Err(error) = polled {
                match self.fail(error) {
                    Some(failed) => return Some(failed),
                    None => continue,
                }
            }
            if let Some(cache) = &mut self.cache {
                let wants = wants(&self.wanted[..self.count], self.low_bit);
                let waiting = wants.clone().zip(&*self.stage).filter(|(_, s)| **s == WAITING);
                cache.request(waiting.map(|(want, _)| want));
                cache.count_late(wants.clone());
                let mut unused = wants.zip(&*self.stage).filter(|(_, s)| **s != HAS_OUTPUTS);
                if unused.all(|(want, _)| cache.has(want, &Part::ALL)) {
                    cache.note_all();
                }
            }
            for (work, before, parts) in [
                (Work::Neurons, WAITING, &[Part::Gate, Part::Up][..]),
                (Work::Outputs, HAS_NEURONS, &[Part::Down]),
            ] {
                if self.choose(before, parts) {
                    return Some(work);
                }
            }
            if self.stage[..self.count].iter().all(|stage| *stage == HAS_OUTPUTS) {
                return None;
            }
            if let Some(failed) = self.wait() {
                return Some(failed);
            }
        }
    }

    /// Waits until something has come, unless an expert that is wanted fails.
    fn wait(&mut self) -> Option<Work> {
        let cache = self.cache.as_mut()?;
        let error = match cache.book.wait() {
            Ok(Waited::Ended) => return None,
            Ok(Waited::InVain) => {
                let mut wanted = self.wanted[..self.count].iter().zip(&*self.stage);
                let (expert, _) = wanted.find(|(_, stage)| **stage != HAS_OUTPUTS)?;
                let key = ExpertKey { layer: self.layer, expert: *expert as usize };
                cache.book.no_slot(key)
            }
            Err(error) => error,
        };
        self.fail(error)
    }

    /// What it means for the layer that an expert cannot be read: nothing, if nobody wants it; it will
    /// be read again when somebody does.
    fn fail(&mut self, error: StoreError) -> Option<Work> {
        let (ExpertKey { layer, expert }, _) = error.at?;
        let wanted = &self.wanted[..self.count];
        let place = wanted.iter().position(|wanted| *wanted as usize == expert)?;
        if layer != self.layer || self.stage[place] == HAS_OUTPUTS {
            return None;
        }
        self.stage[place] = HAS_OUTPUTS;
        self.chosen_count = 0;
        if let Some(cache) = &mut self.cache {
            cache.release(expert as u32);
        }
        Some(Work::Failed { expert, error })
    }

    /// The experts of the last work that [`Experts::next`] named, in rising order.
    pub(crate) fn chosen(&self) -> &[u32] {
        &self.chosen[..self.chosen_count]
    }

    /// Lends out the matrices of the experts in work.
    pub(crate) fn lender<'a>(&'a self, layer: &'a Layer<'a>) -> Lender<'a> {
        match &self.cache {
            None => Lender::resident(layer),
            Some(cache) => {
                let (store, slots) = (cache.book.store(), cache.slots_of_wanted());
                Lender::streaming(layer, cache.layouts(), store, slots)
            }
        }
    }

    /// Chooses the wanted experts of a stage whose parts are there, and takes them a stage further.
    fn choose(&mut self, before: u8, parts: &[Part]) -> bool {
        self.chosen_count = 0;
        let wants = wants(&self.wanted[..self.count], self.low_bit);
        for (want, stage) in wants.zip(self.stage.iter_mut()) {
            let there = |cache: &Cache<'_>| cache.has(want, parts);
            if *stage == before && self.cache.as_ref().is_none_or(there) {
                *stage += 1;
                self.chosen[self.chosen_count] = want.0;
                self.chosen_count += 1;
            }
        }
        self.chosen[..self.chosen_count].sort_unstable();
        self.chosen_count > 0
    }

    /// Lets the experts of the last work go if they are not needed any more.
    fn let_go(&mut self) {
        let Some(cache) = &mut self.cache else { return };
        let wanted = self.wanted[..self.count].iter().zip(&*self.stage);
        for (expert, _) in wanted.filter(|(_, stage)| **stage == HAS_OUTPUTS) {
            cache.release(*expert);
        }
    }
}

/// What a layer wants, with whether low-bit copies will do.
fn wants<'a>(wanted: &'a [u32], low_bit: &'a [u8]) -> impl Iterator<Item = Want> + Clone {
    wanted.iter().zip(low_bit).map(|(expert, low_bit)| (*expert, *low_bit != 0))
}
