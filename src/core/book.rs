//! The book of the slots: what was asked of the store, what has come, and what went wrong.

use crate::arena::{Arena, ArenaError};
use crate::policy::Policy;
use crate::slots::{Loading, Slots};
use crate::store::{
    Arrival, Completion, ExpertKey, ExpertStore, Part, Place, Read, ReadError, SlotClass, SlotId,
    StoreError, StoreFigures, StoreReason,
};
use core::ops::Range;
use core::time::Duration;

/// How often a part is read before its expert is given up.
pub const ATTEMPTS: u8 = 4;

/// Experts that are read at once before anybody wants them.
const PRELOADS: usize = 4;

/// Parts of an expert.
const PARTS: usize = Part::ALL.len();

/// What became of waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// A read has ended.
    Ended,
    /// Nothing that an expert waits for is on its way, and nothing has ended for so long that slots in
    /// quarantine count as lost.
    InVain,
}

/// The experts of a store: who has which slot, what is on its way, and how it is with each read.
///
/// A part that fails for the moment is read again, one that is [short](StoreReason::Short) for what is
/// missing. An expert that fails for good is told once and loses its slot, which then waits for what is
/// still on its way. Checksums are compared whenever a part has come, since a device may spoil what it gave right before;
/// what comes wrong is read again like what fails.
pub struct Book<'m> {
    store: &'m mut dyn ExpertStore,
    slots: Slots<'m>,
    /// The spare slots, and how many of them are in use.
    spare: Range<usize>,
    lent: usize,
    /// Of each part of each slot: how often it was asked for since somebody began to want it.
    attempts: &'m mut [[u8; PARTS]],
    /// Reads on their way.
    open: usize,
    /// Of these, reads into slots in quarantine.
    lost: usize,
    /// When the last read ended or was submitted, whichever came later.
    quiet_since: Duration,
    /// Since when reads are on their way that are not lost, if there are any.
    busy_since: Option<Duration>,
    figures: StoreFigures,
}

impl<'m> Book<'m> {
    /// The book of a store with nothing on its way, for a model of `layers` layers with `experts`
    /// experts, of which `active` are chosen.
    ///
    /// # Errors
    /// The arena is too small.
    pub fn new(
        (layers, experts, active): (usize, usize, usize),
        store: &'m mut dyn ExpertStore,
        policy: &'m dyn Policy,
        arena: &mut Arena<'m>,
    ) -> Result<Book<'m>, ArenaError> {
        let (what, SlotClass { count, spare, .. }) = ("expert slots", store.slots());
        let slots = Slots::new((layers, experts, active), count, policy, arena)?;
        let attempts = arena.take(what, count)?;
        attempts.fill([0; PARTS]);
        let (open, lost, quiet_since) = (0, 0, Duration::ZERO);
        let (busy_since, figures) = (None, StoreFigures::default());
        Ok(Book {
            store,
            slots,
            spare: count - spare..count,
            lent: spare,
            attempts,
            open,
            lost,
            quiet_since,
            busy_since,
            figures,
        })
    }

    /// Bytes of an arena that [`Book::new`] cuts for `count` slots.
    pub fn bytes(layers: usize, experts: usize, count: usize) -> usize {
        Slots::bytes(layers, experts, count) + Arena::bytes_for::<[u8; PARTS]>(count)
    }

    /// Who has which slot.
    pub fn slots(&self) -> &Slots<'m> {
        &self.slots
    }

    /// The same, to pin experts, to note their uses, or to let slots retire.
    pub fn slots_mut(&mut self) -> &mut Slots<'m> {
        &mut self.slots
    }

    /// The store.
    pub fn store(&self) -> &dyn ExpertStore {
        self.store
    }

    /// Whether what is read from is still what it was.
    ///
    /// # Errors
    /// It is not.
    pub fn check(&mut self) -> Result<(), StoreError> {
        self.store.check()
    }

    /// The time of the store.
    pub fn now(&self) -> Duration {
        self.store.now()
    }

    /// What was read so far.
    pub fn figures(&self) -> StoreFigures {
        let since = self.busy_since.map_or(Duration::ZERO, |since| self.now() - since);
        StoreFigures { busy: self.figures.busy + since, ..self.figures }
    }

    /// Whether nothing is on its way that an expert waits for.
    pub fn is_idle(&self) -> bool {
        self.open == self.lost
    }

    /// Has so many of the spare slots in use; the memory of others is given back, of those first that are missed
    /// least. A slot into which something is read goes when that has ended, or stays in quarantine if it never does.
    pub fn lend(&mut self, most: usize) {
        while self.lent > most {
            if let Some(slot) = self.slots.least_missed(self.spare.clone()) {
                self.slots.retire(slot);
                self.store.vacate(slot);
                self.lent -= 1;
            } else if self.wait() == Ok(Waited::InVain) {
                break;
            }
        }
        for slot in self.spare.clone().map(SlotId) {
            self.lent += usize::from(self.lent < most && self.slots.revive(slot));
        }
    }

    /// Spare slots that are in use.
    pub fn lent(&self) -> usize {
        self.lent
    }

    /// Begins to read an expert that has no slot, or its low-bit copy if that is wanted and there is
    /// one; `None` if no slot is to be had.
    pub fn start(&mut self, key: ExpertKey, low_bit: bool) -> Option<SlotId> {
        let slot = self.slots.claim(key)?;
        let low_bit = low_bit && self.store.place(key, Part::Gate, true).is_some();
        self.read_all(slot, key, low_bit);
        Some(slot)
    }

    /// Begins to read an expert that nobody wants yet, and waits as long as several such are on their way; `false` if there is
    /// no empty slot for it. That it cannot be read is told to who wants it.
    pub fn preload(&mut self, key: ExpertKey, worth: f64) -> bool {
        let _told_when_it_is_wanted = self.poll();
        while self.open - self.lost >= PRELOADS * PARTS && self.wait().is_ok() {}
        if self.slots.find(key).is_some() {
            return true;
        }
        self.slots.expect(key, worth);
        self.slots.has_empty() && self.start(key, false).is_some()
    }

    /// Begins to read an expert into the slot that has its low-bit copy, if all of that has come.
    pub fn replace_low_bit(&mut self, slot: SlotId) -> bool {
        let is_whole = self.slots.is_low_bit(slot) && self.slots.are_ready(slot, &Part::ALL);
        let Some(key) = self.slots.key(slot).filter(|_| is_whole) else { return false };
        self.read_all(slot, key, false);
        true
    }

    /// Somebody begins to want the expert of a slot: what is on its way there may have failed before, or be about to,
    /// which is nothing to them, and has all its attempts again.
    pub fn renew(&mut self, slot: SlotId) {
        self.attempts[slot.0] = [0; PARTS];
    }

    /// Takes note of the reads that have ended, without waiting, up to the first that failed.
    ///
    /// # Errors
    /// An expert could not be read, and has lost its slot.
    pub fn poll(&mut self) -> Result<(), StoreError> {
        while self.open > 0
            && let Some(completion) = self.store.complete(Duration::ZERO)
        {
            self.note(completion)?;
        }
        Ok(())
    }

    /// Waits until a read has ended, but no longer than the store's time limit after the last one.
    ///
    /// # Errors
    /// As [`Book::poll`]; also if nothing has ended in time, for one expert after the other.
    pub fn wait(&mut self) -> Result<Waited, StoreError> {
        if self.open > 0 {
            let start = self.now();
            let due = self.quiet_since.saturating_add(self.store.time_limit());
            let completion = self.store.complete(due.saturating_sub(start));
            self.figures.waited += self.now() - start;
            if let Some(completion) = completion {
                return self.note(completion).map(|()| Waited::Ended);
            }
        }
        match self.slots.on_its_way() {
            None => Ok(Waited::InVain),
            Some((slot, part)) => Err(self.give_up(slot, part, StoreReason::Timeout)),
        }
    }

    /// The error of an expert for which there is no slot, because devices still owe what would free
    /// one.
    pub fn no_slot(&self, key: ExpertKey) -> StoreError {
        self.error(key, Part::Gate, false, StoreReason::Timeout)
    }

    fn read_all(&mut self, slot: SlotId, key: ExpertKey, low_bit: bool) {
        self.slots.set_low_bit(slot, low_bit);
        self.renew(slot);
        for part in Part::ALL {
            self.slots.set_loading(slot, part, Loading::Reading);
            self.read(slot, key, part, 0);
        }
    }

    /// Asks for a part of a slot's expert, of which some bytes have come.
    fn read(&mut self, slot: SlotId, key: ExpertKey, part: Part, come: usize) {
        // A new read has all its time, whatever the device owes from before.
        self.quiet_since = self.now();
        if self.is_idle() {
            self.busy_since.get_or_insert(self.quiet_since);
        }
        let low_bit = self.slots.is_low_bit(slot);
        let range = come..self.place(key, part, low_bit).bytes;
        self.attempts[slot.0][part as usize] += 1;
        self.open += 1;
        self.store.submit(Read { slot, key, part, low_bit, range });
    }

    /// Takes note of the end of a read.
    fn note(&mut self, completion: Completion) -> Result<(), StoreError> {
        let Completion { slot, part, result } = completion;
        let (before, key) = (self.slots.loading(slot, part), self.slots.key(slot));
        self.open -= 1;
        self.quiet_since = self.now();
        let (Loading::Reading, Some(key)) = (before, key) else {
            self.lost -= 1;
            self.slots.set_loading(slot, part, Loading::Empty);
            return Ok(());
        };
        let low_bit = self.slots.is_low_bit(slot);
        let attempts = self.attempts[slot.0][part as usize];
        let outcome = result.and_then(|arrival| self.compare(key, part, low_bit, arrival));
        let outcome = match outcome {
            Ok(()) => {
                self.slots.set_loading(slot, part, Loading::Ready);
                Ok(())
            }
            // At 0 it was asked for before anybody wanted it who does now.
            Err(ReadError { reason, may_pass })
                if attempts == 0 || may_pass && attempts < ATTEMPTS =>
            {
                let come = if let StoreReason::Short { found, .. } = reason { found } else { 0 };
                self.figures.retries += 1;
                self.read(slot, key, part, come);
                Ok(())
            }
            Err(ReadError { reason, .. }) => {
                self.slots.set_loading(slot, part, Loading::Empty);
                Err(self.give_up(slot, part, reason))
            }
        };
        self.rest();
        outcome
    }

    /// Compares the checksum of a part that has come with the one on record, if there is one.
    fn compare(
        &mut self,
        key: ExpertKey,
        part: Part,
        low_bit: bool,
        Arrival { bytes, checksum }: Arrival,
    ) -> Result<(), ReadError> {
        self.figures.reads += 1;
        self.figures.bytes += bytes as u64;
        let expected = self.place(key, part, low_bit).checksum;
        match expected.zip(checksum) {
            Some((expected, found)) if found != expected => {
                let reason = StoreReason::Checksum { expected, found };
                Err(ReadError { reason, may_pass: true })
            }
            _ => Ok(()),
        }
    }

    /// Takes the slot from an expert of which a part does not come.
    fn give_up(&mut self, slot: SlotId, part: Part, reason: StoreReason) -> StoreError {
        let key = self.slots.key(slot).expect("an expert that is on its way has a slot");
        let error = self.error(key, part, self.slots.is_low_bit(slot), reason);
        self.slots.clear(slot);
        let owed = |part: &&Part| self.slots.loading(slot, **part) == Loading::Failed;
        self.lost += Part::ALL.iter().filter(owed).count();
        self.rest();
        error
    }

    /// Ends the time in which reads were on their way, if none is.
    fn rest(&mut self) {
        if self.is_idle()
            && let Some(since) = self.busy_since.take()
        {
            self.figures.busy += self.now() - since;
        }
    }

    fn error(&self, key: ExpertKey, part: Part, low_bit: bool, reason: StoreReason) -> StoreError {
        let Place { file, offset, .. } = self.place(key, part, low_bit);
        StoreError { at: Some((key, part)), file, offset, reason }
    }

    fn place(&self, key: ExpertKey, part: Part, low_bit: bool) -> Place {
        let place = self.store.place(key, part, low_bit);
        place.expect("a store has every expert, and all of a copy")
    }
}

#[cfg(test)]
mod tests;
