use super::*;
use crate::block_file::{ALIGNMENT, Caching};
use crate::map::ModelFile;
use crate::reads::{ATTEMPTS, Device, Fault, FaultScript, Faults, Throttle, Which};
use std::convert::Infallible;
use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use wick_core::{ExpertMatrices, Layer, Location, Matrix, Weights};
use wick_kernels::Format;

const LAYERS: usize = 2;
const EXPERTS: usize = 5;
const HIDDEN: usize = 64;
const WIDTH: usize = 96;
/// Bytes of a matrix of an expert.
const SIZE: usize = HIDDEN * WIDTH / 32 * 18;
const EIO: i32 = 5;
const ENODEV: i32 = 19;

/// A file with experts, and nothing else that counts.
struct Source {
    _folder: TempDir,
    path: PathBuf,
    files: Vec<ModelFile>,
    /// Where the first layer's experts begin.
    start: usize,
    is_packed: bool,
}

impl Source {
    /// Experts as in a GGUF file, at the byte `start`.
    fn unpacked(start: usize) -> Source {
        Source::new(start, false)
    }

    /// Experts arranged, each part from the start of a block.
    fn packed() -> Source {
        Source::new(3 * ALIGNMENT, true)
    }

    fn new(start: usize, is_packed: bool) -> Source {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        let layer = if is_packed { EXPERTS * PARTS * room() } else { EXPERTS * PARTS * SIZE };
        let end = start + LAYERS * layer;
        let bytes: Vec<u8> = (0..end).map(|i| (i * i / 7 + i / 256) as u8).collect();
        fs::write(&path, bytes).unwrap();
        let files = vec![ModelFile::open(&path).unwrap()];
        Source { _folder: folder, path, files, start, is_packed }
    }

    fn matrices(&self, layer: usize, part: Part) -> ExpertMatrices<'_> {
        let (rows, cols) = if part == Part::Down { (HIDDEN, WIDTH) } else { (WIDTH, HIDDEN) };
        let file = &self.files[0][..];
        let plain = |bytes| ExpertMatrices::new(Format::Q4_0, EXPERTS, rows, cols, bytes).unwrap();
        let number = layer * PARTS + part as usize;
        if self.is_packed {
            let first = self.start + layer * EXPERTS * PARTS * room() + part as usize * room();
            let shape = plain(&file[..EXPERTS * SIZE]);
            return shape.rearranged(layout(part), PARTS * room(), &file[first..]).unwrap();
        }
        plain(&file[self.start + number * EXPERTS * SIZE..][..EXPERTS * SIZE])
    }

    fn weights(&self) -> Weights<'_> {
        let dense = Matrix::new(Format::F32, 1, 16, &self.files[0][..64]).unwrap();
        let layer = |layer| {
            let experts = |part| Ok::<_, Infallible>(self.matrices(layer, part));
            Layer::try_from_fn(|_| Ok(dense), experts, false).unwrap()
        };
        let layers = (0..LAYERS).map(layer).collect();
        let (embedding, output_norm, own_lm_head) = (dense, dense, None);
        Weights { embedding, output_norm, own_lm_head, profiler: None, sketch: None, layers }
    }

    fn locations(&self) -> Vec<[Location; PARTS]> {
        let location = |layer: usize, part: Part| {
            let (first, step, stride) = match self.is_packed {
                true => (layer * EXPERTS * PARTS * room(), room(), PARTS * room()),
                false => (layer * EXPERTS * PARTS * SIZE, EXPERTS * SIZE, SIZE),
            };
            let offset = (self.start + first + part as usize * step) as u64;
            Location { file: 0, offset, stride: stride as u64 }
        };
        (0..LAYERS).map(|layer| Part::ALL.map(|part| location(layer, part))).collect()
    }

    fn checksums(&self) -> Vec<u32> {
        let sum = |(key, part): (ExpertKey, Part)| {
            crc32fast::hash(self.matrices(key.layer, part).expert(key.expert).bytes())
        };
        all().flat_map(|key| Part::ALL.map(|part| sum((key, part)))).collect()
    }

    fn catalogue(&self, checksums: Vec<u32>, caching: Caching) -> Catalogue {
        let (weights, experts) = (self.weights(), self.locations());
        Catalogue::new(&weights, &self.files, &experts, checksums, caching).unwrap()
    }

    /// A store that reads with threads, and goes wrong by a script.
    fn faulty(&self, slots: usize, checksums: Vec<u32>) -> (FileStore, FaultScript) {
        let script = FaultScript::default();
        let catalogue = self.catalogue(checksums, Caching::Direct);
        let wrap = |reads| Box::new(Faults::new(reads, script.clone())) as Box<dyn Reads>;
        let store = FileStore::with_reads(catalogue, slots, Reader::Threads, wrap).unwrap();
        (store, script)
    }

    /// Whether a slot holds an expert.
    fn check(&self, store: &FileStore, slot: SlotId, key: ExpertKey) {
        for part in Part::ALL {
            assert!(store.is_ready(slot, part));
            assert_eq!(store.layout(key.layer, part), layout(part));
            let matrix = self.matrices(key.layer, part).expert(key.expert);
            let mut expected = matrix.bytes().to_vec();
            if !self.is_packed {
                layout(part).arrange(matrix.cols(), matrix.bytes(), &mut expected);
            }
            assert!(store.bytes(slot, part) == expected, "{key:?} {part}");
        }
    }

    /// Reads all experts through all slots, twice.
    fn check_all(&self, store: &mut FileStore) {
        let slots = store.slots();
        for _ in 0..2 {
            let mut keys = all();
            loop {
                let some: Vec<ExpertKey> = keys.by_ref().take(slots).collect();
                if some.is_empty() {
                    break;
                }
                some.iter().enumerate().for_each(|(i, key)| store.start(SlotId(i), *key));
                while !some_are_there(store, some.len()) {
                    store.finish().unwrap();
                }
                for (i, key) in some.iter().enumerate() {
                    self.check(store, SlotId(i), *key);
                }
                assert!(store.is_idle());
            }
        }
    }
}

fn room() -> usize {
    SIZE.next_multiple_of(ALIGNMENT)
}

fn layout(part: Part) -> Layout {
    match part {
        Part::Gate => Layout::Grouped,
        Part::Up => Layout::Split,
        Part::Down => Layout::Columns,
    }
}

fn all() -> impl Iterator<Item = ExpertKey> {
    (0..LAYERS).flat_map(|layer| (0..EXPERTS).map(move |expert| ExpertKey { layer, expert }))
}

fn some_are_there(store: &FileStore, slots: usize) -> bool {
    (0..slots).all(|slot| Part::ALL.iter().all(|part| store.is_ready(SlotId(slot), *part)))
}

/// Waits until nothing is on its way, and returns what was reported.
fn errors(store: &mut FileStore) -> Vec<StoreError> {
    let mut all = Vec::new();
    while store.reads.in_flight() > 0 || !store.errors.is_empty() {
        all.extend(store.finish().err());
    }
    all
}

#[test]
fn every_kind_of_file_is_read_by_every_reader() {
    for source in [Source::unpacked(4096 + 96), Source::unpacked(8192), Source::packed()] {
        for caching in [Caching::Direct, Caching::Buffered] {
            for reader in [Reader::Auto, Reader::Uring, Reader::Threads] {
                for slots in [1, 3, LAYERS * EXPERTS] {
                    let catalogue = source.catalogue(Vec::new(), caching);
                    assert_eq!(catalogue.is_arranging(), !source.is_packed);
                    let store = FileStore::with_reads(catalogue, slots, reader, |reads| reads);
                    // Emulators and containers refuse io_uring.
                    let Ok(mut store) = store else { continue };
                    source.check_all(&mut store);
                }
            }
        }
    }
}

#[test]
fn a_packed_expert_takes_its_blocks_and_no_more() {
    let source = Source::packed();
    let catalogue = source.catalogue(source.checksums(), Caching::Direct);
    assert_eq!(catalogue.slot_bytes(), source.weights().slot_bytes());
    assert_eq!((catalogue.scratch_bytes(4), catalogue.expert_bytes(1)), (0, PARTS * SIZE));
    let is_direct = catalogue.files()[0].is_direct();
    let mut store = FileStore::new(catalogue, 4).unwrap();
    source.check_all(&mut store);
    let figures = store.figures();
    let reads = (2 * LAYERS * EXPERTS * PARTS) as u64;
    assert_eq!((figures.reads, figures.retries), (reads, 0));
    assert_eq!(figures.bytes, reads * if is_direct { room() } else { SIZE } as u64);
    assert!(figures.busy > Duration::ZERO && figures.waited > Duration::ZERO, "{figures:?}");
}

#[test]
fn a_throttled_store_gives_the_same() {
    let source = Source::unpacked(4096 + 32);
    let wrap = |reads| Box::new(Throttle::new(reads, Device::NVME)) as Box<dyn Reads>;
    let catalogue = source.catalogue(source.checksums(), Caching::Direct);
    let mut store = FileStore::with_reads(catalogue, 3, Reader::Auto, wrap).unwrap();
    source.check_all(&mut store);
}

#[test]
fn faults_that_pass_leave_no_trace() {
    for source in [Source::unpacked(4096 + 96), Source::packed()] {
        let (mut store, script) = source.faulty(4, source.checksums());
        for (number, fault) in
            [(0, Fault::Error(EIO)), (5, Fault::Short(700)), (9, Fault::Short(0))]
        {
            script.add(Which::Numbers(number..number + 2), fault);
        }
        source.check_all(&mut store);
        assert!(store.figures().retries >= 3);
    }
}

#[test]
fn faults_that_stay_are_reported_once_and_alone() {
    let source = Source::packed();
    let (mut store, script) = source.faulty(3, source.checksums());
    let (bad, good) = (ExpertKey { layer: 1, expert: 2 }, ExpertKey { layer: 0, expert: 4 });
    let offset = store.catalogue.offset(bad, Part::Up);
    let at = Some((bad, Part::Up));
    let blocks = || Which::Bytes { file: 0, bytes: offset..offset + 1 };
    let cases = [
        (Fault::Error(EIO), StoreReason::Refused { code: EIO }),
        (Fault::Error(ENODEV), StoreReason::Refused { code: ENODEV }),
        (Fault::Short(1000), StoreReason::Short { expected: SIZE, found: 1000 }),
    ];
    for (fault, reason) in cases {
        script.add(blocks(), fault);
        store.start(SlotId(0), bad);
        store.start(SlotId(2), good);
        assert_eq!(errors(&mut store), [StoreError { at, file: 0, offset, reason }]);
        assert!(Part::ALL.iter().all(|part| !store.is_ready(SlotId(0), *part)));
        source.check(&store, SlotId(2), good);
        script.clear();
        store.start(SlotId(0), bad);
        assert_eq!(errors(&mut store), []);
        source.check(&store, SlotId(0), bad);
    }
    assert_eq!(store.figures().retries, 2 * u64::from(ATTEMPTS - 1));
}

#[test]
fn a_device_that_disappears_fails_every_read() {
    let source = Source::unpacked(4096);
    let (mut store, script) = source.faulty(3, Vec::new());
    script.add(Which::Numbers(4..u64::MAX), Fault::Error(ENODEV));
    all().take(3).enumerate().for_each(|(i, key)| store.start(SlotId(i), key));
    let errors = errors(&mut store);
    assert_eq!(errors.len(), 2, "{errors:?}");
    let reason = StoreReason::Refused { code: ENODEV };
    assert!(errors.iter().all(|error| error.reason == reason && error.at.is_some()));
    assert_eq!(store.finish(), Ok(()));
}

#[test]
fn wrong_bytes_are_found_out_when_they_first_come() {
    for source in [Source::unpacked(4096 + 96), Source::packed()] {
        let (mut store, script) = source.faulty(1, source.checksums());
        for key in all() {
            script.add_next(1, Fault::Wrong);
            store.start(SlotId(0), key);
            let errors = errors(&mut store);
            let [StoreError { at, reason: StoreReason::Checksum { expected, found }, .. }] =
                errors[..]
            else {
                panic!("{errors:?}")
            };
            assert_eq!(at, Some((key, Part::Gate)));
            let index = store.catalogue.index(key, Part::Gate);
            assert!(expected == source.checksums()[index] && found != expected);
            assert!(!store.is_ready(SlotId(0), Part::Gate));
        }
        script.clear();
        source.check_all(&mut store);
        assert!(store.checked.iter().all(|checked| *checked));
    }
}

#[test]
fn a_file_that_changes_is_not_read_on() {
    let source = Source::unpacked(4096 + 96);
    let catalogue = source.catalogue(Vec::new(), Caching::Direct);
    let mut store = FileStore::new(catalogue, 1).unwrap();
    assert_eq!(store.begin(), Ok(()));
    let end = store.catalogue.files()[0].size();
    let file = OpenOptions::new().write(true).open(&source.path).unwrap();
    file.set_len(end - 100).unwrap();
    let changed = StoreError { at: None, file: 0, offset: 0, reason: StoreReason::Changed };
    assert_eq!(store.begin(), Err(changed));
    // Whoever reads on all the same meets the end of the file.
    let last = ExpertKey { layer: LAYERS - 1, expert: EXPERTS - 1 };
    store.start(SlotId(0), last);
    let errors = errors(&mut store);
    let reason = StoreReason::Short { expected: SIZE, found: SIZE - 100 };
    let offset = (end as usize - SIZE) as u64;
    assert_eq!(errors, [StoreError { at: Some((last, Part::Down)), file: 0, offset, reason }]);
    file.set_len(end).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(store.begin(), Err(changed), "the file was written to at another time");
}

#[test]
fn experts_must_be_in_the_files() {
    let source = Source::packed();
    let refusal = |change: &dyn Fn(&mut [[Location; PARTS]])| {
        let mut experts = source.locations();
        change(&mut experts);
        let (weights, caching) = (source.weights(), Caching::Direct);
        let refused = Catalogue::new(&weights, &source.files, &experts, Vec::new(), caching);
        refused.unwrap_err().to_string()
    };
    let expected = "blk.0.ffn_gate_exps.weight: the experts are not in a file";
    assert_eq!(refusal(&|experts| experts[0][0].file = 1), expected);
    assert_eq!(refusal(&|experts| experts[0][0].offset = u64::MAX), expected);
    assert_eq!(refusal(&|experts| experts[0][0].stride = u64::MAX / 2), expected);
    let expected = "blk.1.ffn_down_exps.weight: the experts are not in a file";
    let beyond = (room() - SIZE + 1) as u64;
    assert_eq!(refusal(&|experts| experts[1][2].offset += beyond), expected);
    fs::write(&source.path, b"something else").unwrap();
    assert!(refusal(&|_| ()).ends_with("has changed while it was loaded; try again"));
}

#[test]
fn a_store_can_be_dropped_while_it_reads() {
    let source = Source::unpacked(4096 + 96);
    for reader in [Reader::Uring, Reader::Threads] {
        for _ in 0..20 {
            let catalogue = source.catalogue(Vec::new(), Caching::Direct);
            let Ok(mut store) = FileStore::with_reads(catalogue, 10, reader, |reads| reads) else {
                continue;
            };
            all().enumerate().for_each(|(i, key)| store.start(SlotId(i), key));
        }
    }
}
