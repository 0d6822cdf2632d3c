use super::*;
use crate::policy::LeastRecent;
use crate::store::{SlotClass, TIME_LIMIT};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use wick_kernels::Layout;

const BYTES: usize = 100;
const SUM: u32 = 7;
const KEY: ExpertKey = ExpertKey { layer: 0, expert: 1 };

/// How a read ends, of the reads of its part so far; never if `None`.
type Script = fn(&Read, usize) -> Option<Result<Arrival, ReadError>>;

/// A store whose reads end by a script, the first first. Its clock goes on while it is waited in vain.
struct Scripted {
    slots: usize,
    script: Script,
    reads: heapless::Vec<Read, 64>,
    open: heapless::Vec<(Completion, bool), 64>,
    clock: AtomicU64,
}

impl Scripted {
    fn new(slots: usize, script: Script) -> Scripted {
        let (reads, open) = (heapless::Vec::new(), heapless::Vec::new());
        Scripted { slots, script, reads, open, clock: AtomicU64::new(0) }
    }

    /// The ranges of a part that were asked for.
    fn asked(&self, part: Part) -> heapless::Vec<Range<usize>, 64> {
        self.reads.iter().filter(|read| read.part == part).map(|read| read.range.clone()).collect()
    }
}

impl ExpertStore for Scripted {
    fn slots(&self) -> SlotClass {
        SlotClass::new(self.slots, BYTES)
    }

    fn place(&self, _key: ExpertKey, part: Part, low_bit: bool) -> Option<Place> {
        let (offset, checksum) = (part as u64 * 1000, Some(SUM));
        let bytes = if low_bit { BYTES / 2 } else { BYTES };
        Some(Place { file: 3, offset, bytes, layout: Layout::Rows, checksum })
    }

    fn submit(&mut self, read: Read) {
        let before = self.reads.iter().filter(|r| r.part == read.part && r.slot == read.slot);
        let end = (self.script)(&read, before.count());
        let arrival = Ok(Arrival { bytes: 0, checksum: None });
        let completion =
            Completion { slot: read.slot, part: read.part, result: end.unwrap_or(arrival) };
        self.open.push((completion, end.is_some())).unwrap();
        self.reads.push(read).unwrap();
    }

    fn complete(&mut self, wait: Duration) -> Option<Completion> {
        let ended = self.open.iter().position(|(_, ends)| *ends);
        if ended.is_none() {
            self.clock.fetch_add(wait.as_secs(), Ordering::Relaxed);
        }
        Some(self.open.remove(ended?).0)
    }

    fn lend(&self, _slot: SlotId, _part: Part) -> &[u8] {
        &[]
    }

    fn now(&self) -> Duration {
        Duration::from_secs(self.clock.load(Ordering::Relaxed))
    }
}

fn arrives(read: &Read) -> Option<Result<Arrival, ReadError>> {
    let bytes = read.range.end - read.range.start;
    Some(Ok(Arrival { bytes, checksum: Some(SUM) }))
}

fn fails(reason: StoreReason) -> Option<Result<Arrival, ReadError>> {
    Some(Err(ReadError { reason, may_pass: true }))
}

fn with_book(store: &mut Scripted, test: impl FnOnce(&mut Book<'_>)) {
    let mut memory = [0xAA; 4096];
    let mut arena = Arena::new(&mut memory);
    let bytes = Book::bytes(2, 4, store.slots);
    let mut book = Book::new((2, 4, 1), store, &LeastRecent, &mut arena).unwrap();
    test(&mut book);
    assert_eq!(arena.used(), bytes);
}

/// Waits as long as an expert waits for something; what failed.
fn errors(book: &mut Book<'_>) -> heapless::Vec<StoreError, 8> {
    let mut errors = heapless::Vec::new();
    while !book.is_idle() {
        match book.wait() {
            Ok(waited) => assert_eq!(waited, Waited::Ended),
            Err(error) => errors.push(error).unwrap(),
        }
    }
    errors
}

#[test]
fn what_fails_for_the_moment_is_asked_for_again() {
    let mut store = Scripted::new(1, |read, before| match (read.part, before) {
        (Part::Gate, 0) => fails(StoreReason::Short { expected: BYTES, found: 40 }),
        (Part::Gate, 1) => fails(StoreReason::Refused { code: 5 }),
        _ => arrives(read),
    });
    with_book(&mut store, |book| {
        let slot = book.start(KEY, false).unwrap();
        assert_eq!(errors(book), []);
        assert!(book.slots().are_ready(slot, &Part::ALL) && book.is_idle());
        let StoreFigures { reads, bytes, retries, .. } = book.figures();
        assert_eq!((reads, bytes, retries), (3, 3 * BYTES as u64, 2));
    });
    assert_eq!(store.asked(Part::Gate), [0..BYTES, 40..BYTES, 0..BYTES]);
    assert_eq!(store.asked(Part::Down).len(), 1);
}

#[test]
fn attempts_are_bounded() {
    let reason = StoreReason::Refused { code: 5 };
    let mut store = Scripted::new(1, |read, _| match read.part {
        Part::Up => fails(StoreReason::Refused { code: 5 }),
        _ => arrives(read),
    });
    with_book(&mut store, |book| {
        let slot = book.start(KEY, false).unwrap();
        let error = StoreError { at: Some((KEY, Part::Up)), file: 3, offset: 1000, reason };
        assert_eq!(errors(book), [error]);
        assert_eq!((book.slots().find(KEY), book.is_idle()), (None, true));
        // All of it has ended, so that the slot is free.
        assert!(Part::ALL.map(|p| book.slots().loading(slot, p)) == [Loading::Empty; PARTS]);
        assert!(book.start(KEY, false).is_some());
    });
    let asked = store.asked(Part::Up);
    assert_eq!(asked.len(), usize::from(ATTEMPTS) + 1);
}

/// An expert was read on a guess while the device was broken; it is mended when somebody wants the expert.
#[test]
fn who_begins_to_want_an_expert_is_not_failed_by_what_was_before() {
    const GONE: ReadError =
        ReadError { reason: StoreReason::Refused { code: 19 }, may_pass: false };
    let mut store = Scripted::new(1, |read, before| match (read.part, before) {
        (Part::Gate, 0..4) => fails(StoreReason::Refused { code: 5 }),
        (Part::Up, 0) => Some(Err(GONE)),
        _ => arrives(read),
    });
    with_book(&mut store, |book| {
        let slot = book.start(KEY, false).unwrap();
        for _ in 1..ATTEMPTS {
            book.renew(slot);
            assert_eq!(book.wait(), Ok(Waited::Ended));
        }
        book.renew(slot);
        assert_eq!(errors(book), []);
        assert!(book.slots().are_ready(slot, &Part::ALL));
    });
    assert_eq!(store.asked(Part::Gate).len(), usize::from(ATTEMPTS) + 1);
    assert_eq!(store.asked(Part::Up).len(), 2);
}

/// What a device gave right before may come wrong, of an expert and of its low-bit copy; it may come right again.
#[test]
fn checksums_are_compared_whenever_a_part_comes() {
    const WRONG: Arrival = Arrival { bytes: BYTES, checksum: Some(SUM + 1) };
    let mut store = Scripted::new(1, |read, before| match (read.part, before) {
        (Part::Gate, 1) | (Part::Up, 2..) => Some(Ok(WRONG)),
        _ => arrives(read),
    });
    with_book(&mut store, |book| {
        let wrong = StoreReason::Checksum { expected: SUM, found: SUM + 1 };
        for (low_bit, retries, failed) in
            [(false, 0, None), (true, 1, None), (false, 4, Some(wrong)), (true, 7, Some(wrong))]
        {
            let slot = book.start(KEY, low_bit).unwrap();
            assert_eq!(errors(book).first().map(|error| error.reason), failed);
            assert_eq!(book.figures().retries, retries);
            assert_eq!(book.slots().find(KEY).is_none(), failed.is_some());
            book.slots_mut().clear(slot);
        }
    });
    assert_eq!(store.asked(Part::Gate).len(), 5);
    assert_eq!(store.asked(Part::Up).len(), 2 + 2 * usize::from(ATTEMPTS));
}

#[test]
fn silence_fails_all_who_wait_after_the_limit_and_keeps_their_slots() {
    let mut store = Scripted::new(3, |read, _| match (read.part, read.key.expert) {
        (Part::Down, 1 | 2) => None,
        _ => arrives(read),
    });
    let key = |expert| ExpertKey { layer: 1, expert };
    with_book(&mut store, |book| {
        let lost = [1, 2].map(|expert| book.start(key(expert), false).unwrap());
        let errors_ = errors(book);
        assert_eq!(errors_.len(), 2);
        assert!(errors_.iter().all(|error| error.reason == StoreReason::Timeout));
        // Waited for once, and not again for what nobody waits for.
        assert_eq!((book.now(), book.figures().waited), (TIME_LIMIT, TIME_LIMIT));
        assert_eq!(book.wait(), Ok(Waited::InVain));
        assert_eq!(book.now(), TIME_LIMIT);
        assert!(book.is_idle());
        // Others go on in what is left, and a new read has all its time again.
        for expert in [0, 3] {
            let slot = book.start(key(expert), false).unwrap();
            assert!(!lost.contains(&slot));
            assert_eq!(errors(book), []);
        }
        assert_eq!(book.start(key(1), false).map(|slot| lost.contains(&slot)), Some(false));
        assert_eq!((errors(book).len(), book.now()), (1, 2 * TIME_LIMIT));
        // No slot is left.
        assert_eq!(book.start(key(0), false), None);
        assert_eq!(book.wait(), Ok(Waited::InVain));
        assert_eq!(book.no_slot(key(0)).at, Some((key(0), Part::Gate)));
    });
}

#[test]
fn a_new_read_has_its_whole_time_after_a_lost_one() {
    let mut store = Scripted::new(3, |_, _| None);
    with_book(&mut store, |book| {
        for lost in 1..=2 {
            let key = ExpertKey { layer: 1, expert: lost as usize };
            assert!(book.start(key, false).is_some());
            assert_eq!((errors(book).len(), book.now()), (1, lost * TIME_LIMIT));
        }
    });
}
