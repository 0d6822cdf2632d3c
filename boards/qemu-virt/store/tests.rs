use super::*;
use crate::disk::fake::Fake;

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

fn finish_all(store: &mut Store<Fake>) -> Vec<StoreError> {
    let mut errors = Vec::new();
    while !store.is_idle() && errors.len() < 10 {
        errors.extend(store.finish().err());
    }
    errors
}

fn holds(store: &Store<Fake>, slot: usize, key: ExpertKey) -> bool {
    Part::ALL.into_iter().all(|part| {
        let expected = &store.disk.bytes[offset(key, part as usize)..][..SIZES[part as usize]];
        store.is_ready(SlotId(slot), part) && store.bytes(SlotId(slot), part) == expected
    })
}

#[test]
fn experts_come_whole_in_any_order() {
    let mut store = open(disk(), LAYERS * EXPERTS).unwrap();
    assert_eq!(store.slots(), LAYERS * EXPERTS);
    for _ in 0..3 {
        keys().enumerate().for_each(|(slot, key)| store.start(SlotId(slot), key));
        assert!(!store.is_ready(SlotId(0), Part::Gate));
        assert_eq!(finish_all(&mut store), []);
        assert!(keys().enumerate().all(|(slot, key)| holds(&store, slot, key)));
    }
    let StoreFigures { reads, bytes, retries, busy, .. } = store.figures();
    let all = (3 * LAYERS * EXPERTS) as u64;
    assert_eq!((reads, bytes), (3 * all, all * SIZES.iter().sum::<usize>() as u64));
    assert_eq!((store.disk.most, retries), (5, 0));
    assert!(!busy.is_zero() && busy <= store.now());
}

#[test]
fn finish_returns_with_each_part() {
    let mut store = open(disk(), 2).unwrap();
    store.start(SlotId(1), ExpertKey { layer: 1, expert: 3 });
    for parts in 1..=3 {
        store.finish().unwrap();
        let ready = Part::ALL.into_iter().filter(|part| store.is_ready(SlotId(1), *part));
        assert!(ready.count() >= parts);
    }
    assert!(store.is_idle() && store.finish().is_ok());
}

#[test]
fn a_read_that_fails_is_made_again() {
    let key = ExpertKey { layer: 0, expert: 2 };
    let at = offset(key, Part::Up as usize) as u64;
    let mut disk = disk();
    disk.failing = vec![(at, RETRIES as usize)];
    let mut store = open(disk, 3).unwrap();
    store.start(SlotId(2), key);
    assert_eq!(finish_all(&mut store), []);
    assert!(holds(&store, 2, key));
    assert_eq!(store.figures().retries, RETRIES.into());
}

/// It is reported once, with its place, when nothing of it is on its way; others are not touched.
#[test]
fn a_read_that_fails_for_good_is_reported_once() {
    let (key, other) = (ExpertKey { layer: 1, expert: 0 }, ExpertKey { layer: 1, expert: 1 });
    let at = offset(key, Part::Gate as usize) as u64;
    let mut disk = disk();
    disk.failing = vec![(at, RETRIES as usize + 1)];
    let mut store = open(disk, 2).unwrap();
    store.start(SlotId(0), key);
    store.start(SlotId(1), other);
    let reason = StoreReason::Refused { code: 1 };
    let error = StoreError { at: Some((key, Part::Gate)), file: 0, offset: at, reason };
    assert_eq!(finish_all(&mut store), [error]);
    assert!(Part::ALL.into_iter().all(|part| !store.is_ready(SlotId(0), part)));
    assert!(holds(&store, 1, other));
    store.start(SlotId(0), key);
    assert_eq!(finish_all(&mut store), []);
    assert!(holds(&store, 0, key));
}

#[test]
fn damage_is_found_on_first_load() {
    for part in Part::ALL {
        let key = ExpertKey { layer: 1, expert: 5 };
        let at = offset(key, part as usize);
        let mut disk = disk();
        disk.bytes[at + SIZES[part as usize] - 1] ^= 4;
        let mut store = open(disk, 1).unwrap();
        store.start(SlotId(0), key);
        let errors = finish_all(&mut store);
        assert_eq!(errors.len(), 1);
        assert_eq!((errors[0].at, errors[0].offset), (Some((key, part)), at as u64));
        assert!(matches!(errors[0].reason, StoreReason::Checksum { .. }));
    }
    // What follows a matrix up to the next sector is not part of it.
    let mut disk = disk();
    disk.bytes[offset(ExpertKey { layer: 0, expert: 0 }, 0) + SIZES[0]] ^= 1;
    let mut store = open(disk, 1).unwrap();
    store.start(SlotId(0), ExpertKey { layer: 0, expert: 0 });
    assert_eq!(finish_all(&mut store), []);
}

#[test]
fn a_silent_disk_is_given_up() {
    let key = ExpertKey { layer: 0, expert: 4 };
    let at = offset(key, Part::Down as usize) as u64;
    let mut disk = disk();
    disk.dead_from = at;
    let mut store = open(disk, 2).unwrap();
    store.start(SlotId(0), key);
    let errors = finish_all(&mut store);
    let reason = StoreReason::Timeout;
    let error = StoreError { at: Some((key, Part::Down)), file: 0, offset: at, reason };
    assert!(!errors.is_empty() && errors.iter().all(|e| *e == error));
    assert_eq!((store.begin(), store.poll()), (Err(error), Err(error)));
    store.start(SlotId(1), ExpertKey { layer: 0, expert: 0 });
    assert!(!store.is_ready(SlotId(1), Part::Gate));
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
