use super::*;
use crate::disk::fake::Fake;
use wick_core::{ATTEMPTS, Arena, Book, LeastRecent, Loading, StoreFigures, Waited};

const LAYERS: usize = 2;
const EXPERTS: usize = 6;
const STRIDE: usize = 3 * 4096;
const SIZES: [usize; 3] = [4000, 512, 2049];

fn offset(key: ExpertKey, part: usize) -> usize {
    4096 + (key.layer * EXPERTS + key.expert) * STRIDE + part * 4096
}

fn disk() -> Fake {
    let bytes = 4096 + LAYERS * EXPERTS * STRIDE;
    Fake::new((0..bytes).map(|i| (i * i / 977 + i) as u8).collect())
}

fn keys() -> impl Iterator<Item = ExpertKey> {
    (0..LAYERS).flat_map(|layer| (0..EXPERTS).map(move |expert| ExpertKey { layer, expert }))
}

fn open(disk: Fake, slots: usize) -> Result<Store<Fake>, StoreError> {
    let part = |i: usize| Extent { offset: i * 4096, bytes: SIZES[i], layout: Layout::Rows };
    let extents = |layer| Extents {
        start: offset(ExpertKey { layer, expert: 0 }, 0) as u64,
        stride: STRIDE,
        parts: [part(0), part(1), part(2)],
    };
    let good = self::disk().bytes;
    let crc = |key, part| crc32fast::hash(&good[offset(key, part)..][..SIZES[part]]);
    let checksums = keys().flat_map(|key| (0..3).map(move |part| (key, part)));
    let checksums = checksums.map(|(key, part)| crc(key, part)).collect();
    let memory = vec![0xAA; slots * STRIDE + 100].leak();
    Store::new(disk, (0..LAYERS).map(extents).collect(), checksums, memory, 10_000)
}

/// A book for a store, in memory of its own.
fn with_book<T>(store: &mut Store<Fake>, test: impl FnOnce(&mut Book<'_>) -> T) -> T {
    let mut memory = vec![0xAA; Book::bytes(LAYERS, EXPERTS, store.slots().count) + 64];
    let mut arena = Arena::new(&mut memory);
    let mut book = Book::new((LAYERS, EXPERTS, 1), store, &LeastRecent, &mut arena).unwrap();
    test(&mut book)
}

/// Waits until nothing is on its way, and returns what was reported.
fn finish_all(book: &mut Book<'_>) -> Vec<StoreError> {
    let mut errors = Vec::new();
    loop {
        match book.wait() {
            Ok(Waited::Ended) => {}
            Ok(Waited::InVain) => return errors,
            Err(error) => errors.push(error),
        }
    }
}

fn start(book: &mut Book<'_>, key: ExpertKey) -> SlotId {
    book.start(key, false).unwrap()
}

fn is_ready(book: &Book<'_>, slot: SlotId, part: Part) -> bool {
    book.slots().loading(slot, part) == Loading::Ready
}

/// Whether an expert has a slot and is whole, as it is on a good disk.
fn holds(book: &Book<'_>, key: ExpertKey) -> bool {
    let good = disk().bytes;
    let Some(slot) = book.slots().find(key) else { return false };
    Part::ALL.into_iter().all(|part| {
        let expected = &good[offset(key, part as usize)..][..SIZES[part as usize]];
        is_ready(book, slot, part) && book.store().lend(slot, part) == expected
    })
}

#[test]
fn experts_come_whole_in_any_order() {
    let mut store = open(disk(), LAYERS * EXPERTS).unwrap();
    assert_eq!(store.slots(), SlotClass::new(LAYERS * EXPERTS, STRIDE));
    let figures = with_book(&mut store, |book| {
        for _ in 0..3 {
            keys().for_each(|key| _ = start(book, key));
            let first = book.slots().find(ExpertKey { layer: 0, expert: 0 }).unwrap();
            assert!(!is_ready(book, first, Part::Gate));
            assert_eq!(finish_all(book), []);
            assert!(keys().all(|key| holds(book, key)));
            (0..LAYERS * EXPERTS).for_each(|slot| book.slots_mut().clear(SlotId(slot)));
        }
        assert!(book.figures().busy <= book.now());
        book.figures()
    });
    let StoreFigures { reads, bytes, retries, busy, .. } = figures;
    let all = (3 * LAYERS * EXPERTS) as u64;
    assert_eq!((reads, bytes), (3 * all, all * SIZES.iter().sum::<usize>() as u64));
    assert_eq!((store.disk.most, retries), (5, 0));
    assert!(!busy.is_zero());
}

#[test]
fn waiting_ends_with_each_part() {
    let mut store = open(disk(), 2).unwrap();
    with_book(&mut store, |book| {
        let slot = start(book, ExpertKey { layer: 1, expert: 3 });
        for parts in 1..=3 {
            assert_eq!(book.wait(), Ok(Waited::Ended));
            let ready = Part::ALL.into_iter().filter(|part| is_ready(book, slot, *part));
            assert!(ready.count() >= parts);
        }
        assert_eq!((book.is_idle(), book.wait()), (true, Ok(Waited::InVain)));
    });
}

#[test]
fn a_read_that_fails_is_made_again() {
    let key = ExpertKey { layer: 0, expert: 2 };
    let at = offset(key, Part::Up as usize) as u64;
    let mut disk = disk();
    disk.failing = vec![(at, usize::from(ATTEMPTS) - 1)];
    let mut store = open(disk, 3).unwrap();
    with_book(&mut store, |book| {
        start(book, key);
        assert_eq!(finish_all(book), []);
        assert!(holds(book, key));
        assert_eq!(book.figures().retries, u64::from(ATTEMPTS) - 1);
    });
}

/// It is reported once, with its place; others are not touched.
#[test]
fn a_read_that_fails_for_good_is_reported_once() {
    let (key, other) = (ExpertKey { layer: 1, expert: 0 }, ExpertKey { layer: 1, expert: 1 });
    let at = offset(key, Part::Gate as usize) as u64;
    let mut disk = disk();
    disk.failing = vec![(at, usize::from(ATTEMPTS))];
    let mut store = open(disk, 2).unwrap();
    with_book(&mut store, |book| {
        let slot = start(book, key);
        start(book, other);
        let reason = StoreReason::Refused { code: 1 };
        let error = StoreError { at: Some((key, Part::Gate)), file: 0, offset: at, reason };
        assert_eq!(finish_all(book), [error]);
        assert!(Part::ALL.into_iter().all(|part| !is_ready(book, slot, part)));
        assert!(holds(book, other));
        start(book, key);
        assert_eq!(finish_all(book), []);
        assert!(holds(book, key));
    });
}

#[test]
fn damage_is_found_on_first_load() {
    for part in Part::ALL {
        let key = ExpertKey { layer: 1, expert: 5 };
        let at = offset(key, part as usize);
        let mut disk = disk();
        disk.bytes[at + SIZES[part as usize] - 1] ^= 4;
        let mut store = open(disk, 1).unwrap();
        let errors = with_book(&mut store, |book| {
            start(book, key);
            finish_all(book)
        });
        assert_eq!(errors.len(), 1);
        assert_eq!((errors[0].at, errors[0].offset), (Some((key, part)), at as u64));
        assert!(matches!(errors[0].reason, StoreReason::Checksum { .. }));
    }
    // What follows a matrix up to the next sector is not part of it.
    let mut disk = disk();
    disk.bytes[offset(ExpertKey { layer: 0, expert: 0 }, 0) + SIZES[0]] ^= 1;
    let mut store = open(disk, 1).unwrap();
    with_book(&mut store, |book| {
        start(book, ExpertKey { layer: 0, expert: 0 });
        assert_eq!(finish_all(book), []);
    });
}

/// The slot of an expert that never comes is not used again; other experts are read into others.
#[test]
fn a_silent_disk_is_given_up() {
    let (key, other) = (ExpertKey { layer: 0, expert: 4 }, ExpertKey { layer: 0, expert: 0 });
    let at = offset(key, Part::Down as usize) as u64;
    let mut disk = disk();
    disk.dead_from = at;
    let mut store = open(disk, 2).unwrap();
    with_book(&mut store, |book| {
        let lost = start(book, key);
        let reason = StoreReason::Timeout;
        let error = StoreError { at: Some((key, Part::Down)), file: 0, offset: at, reason };
        assert_eq!(finish_all(book), [error]);
        assert_eq!(book.slots().loading(lost, Part::Down), Loading::Failed);
        assert_ne!(start(book, other), lost);
        assert_eq!(finish_all(book), []);
        assert!(holds(book, other) && book.slots().find(key).is_none());
        assert!(!book.slots_mut().retire(lost));
    });
}

#[test]
fn a_short_disk_is_refused_at_once() {
    let key = ExpertKey { layer: LAYERS - 1, expert: EXPERTS - 1 };
    let at = offset(key, Part::Down as usize);
    let mut disk = disk();
    disk.bytes.truncate(at + 512);
    let reason = StoreReason::Short { expected: SIZES[2], found: 512 };
    let error = StoreError { at: Some((key, Part::Down)), file: 0, offset: at as u64, reason };
    assert_eq!(open(disk, 1).err(), Some(error));
}
