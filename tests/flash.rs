//! Experts read from a model's file give the same bits as experts in memory, whatever reads them, and
//! a file or device that fails ends a step and nothing else.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::{Duration, Instant};
use wick_core::{
    ATTEMPTS, Decaying, Engine, HeadRows, KvFormat, Logits, Options, Parallel, Serial, StepError,
    StoreReason, Token,
};
use wick_linux::reads::{Device, Fault, FaultScript, Faults, Reader, Reading, Reads, Throttle};
use wick_linux::{Caching, Catalogue, FileStore, ModelFile, kernels};
use wick_tests::{Model, bits, expert_locations, golden_path, ids, step};

/// Both orientations of down, windows, Q4_0 and formats that are not arranged.
const MODELS: [&str; 4] = ["window8", "q4_0-tied", "powerinfer", "q4_k_m"];
const EIO: i32 = 5;

type Wrap = Box<dyn FnOnce(Box<dyn Reads>) -> Box<dyn Reads>>;

/// A model that is mapped, and the files that it is mapped from.
struct Mapped {
    model: Model,
    files: &'static [ModelFile],
}

impl Mapped {
    fn golden(name: &str) -> Mapped {
        Mapped::open(&golden_path(&format!("{name}.gguf")))
    }

    fn open(path: &Path) -> Mapped {
        let files: &'static [ModelFile] = vec![ModelFile::open(path).unwrap()].leak();
        Mapped { model: Model::read(&[&files[0]]).with(kernels()), files }
    }

    fn experts(&self) -> usize {
        self.model.config.layers * self.model.config.experts
    }

    /// An engine that reads experts into `slots`; `None` where the reader is refused.
    fn engine(
        &self,
        (slots, context, batch): (usize, usize, usize),
        reading: impl Into<Reading>,
        caching: Caching,
        wrap: Wrap,
    ) -> Option<Engine<'static>> {
        let (files, experts) = (self.files, expert_locations(&self.files[0]));
        let catalogue = Catalogue::new(self.model.weights, files, &experts, Vec::new(), caching);
        let store = FileStore::with_reads(catalogue.unwrap(), slots, reading, wrap).ok()?;
        let options = options(context, batch);
        let policy: &'static Decaying = Box::leak(Box::new(Decaying::default()));
        let store = Box::leak(Box::new(store));
        Some(self.model.streaming(options, store, policy, &Serial as &'static dyn Parallel))
    }
}

fn options(context: usize, batch: usize) -> Options {
    Options {
        context,
        sequences: 1,
        batch,
        logits: batch,
        head_rows: HeadRows::Exact,
        kv: KvFormat::default(),
    }
}

fn plain() -> Wrap {
    Box::new(|reads| reads)
}

fn faulty() -> (Wrap, FaultScript) {
    let script = FaultScript::default();
    let shared = script.clone();
    (Box::new(|reads| Box::new(Faults::new(reads, shared)) as Box<dyn Reads>), script)
}

fn logits(engine: &mut Engine<'_>, ids: &[u32], batch: usize) -> Vec<f32> {
    let mut all = Vec::new();
    for chunk in ids.chunks(batch) {
        step(engine, 0, chunk);
        (0..chunk.len()).for_each(|i| all.extend_from_slice(engine.logits(i).unwrap()));
    }
    all
}

#[test]
fn files_give_the_same_bits_as_memory() {
    for name in MODELS {
        let mapped = Mapped::golden(name);
        let ids = ids(24, mapped.model.config.vocab);
        let expected = bits(&mapped.model.logits(&ids, 1, &Serial));
        let slots = [mapped.model.config.active, mapped.experts() / 2, mapped.experts()];
        for (slots, batch) in slots.into_iter().zip([1, 7, 24]) {
            for reader in [Reader::Auto, Reader::Uring, Reader::Threads] {
                for caching in [Caching::Direct, Caching::Buffered] {
                    let sizes = (slots, ids.len(), batch);
                    let Some(mut engine) = mapped.engine(sizes, reader, caching, plain()) else {
                        continue;
                    };
                    let found = bits(&logits(&mut engine, &ids, batch));
                    assert!(found == expected, "{name}: {slots} slots, {reader:?}, {caching:?}");
                    let figures = engine.store_figures().unwrap();
                    assert!(figures.reads > 0 && figures.retries == 0, "{figures:?}");
                }
            }
        }
    }
}

#[test]
fn a_slow_device_that_stumbles_gives_the_same_bits() {
    let mapped = Mapped::golden("window8");
    let ids = ids(24, mapped.model.config.vocab);
    let expected = bits(&mapped.model.logits(&ids, 1, &Serial));
    let (faults, script) = faulty();
    let slow: Wrap =
        Box::new(|reads| faults(Box::new(Throttle::new(reads, Device::NVME)) as Box<dyn Reads>));
    let sizes = (mapped.experts() / 2, 24, 1);
    let mut engine = mapped.engine(sizes, Reader::Auto, Caching::Direct, slow).unwrap();
    let mut found = Vec::new();
    for (i, id) in ids.iter().enumerate() {
        let fault = if i % 2 == 0 { Fault::Error(EIO) } else { Fault::Short(100) };
        script.clear();
        script.add_next(1, fault);
        found.extend(logits(&mut engine, &[*id], 1));
    }
    assert!(bits(&found) == expected);
    assert!(engine.store_figures().unwrap().retries > 0);
}

#[test]
fn a_device_that_fails_ends_a_step_alone() {
    let mapped = Mapped::golden("q4_0-tied");
    let ids = ids(24, mapped.model.config.vocab);
    let expected = bits(&mapped.model.logits(&ids, 1, &Serial));
    let (faults, script) = faulty();
    let sizes = (mapped.model.config.active, 24, 1);
    let mut engine = mapped.engine(sizes, Reader::Threads, Caching::Direct, faults).unwrap();
    let (mut found, mut failures) = (Vec::new(), 0);
    for id in &ids {
        script.add_next(u64::MAX, Fault::Error(EIO));
        let token = Token::new(*id, 0, Logits::All);
        // Reads that were on their way when a step failed fail the next one that wants them.
        while let Err(error) = engine.step(&[token]) {
            let StepError::Store(error) = error else { panic!("{error}") };
            assert_eq!(error.reason, StoreReason::Refused { code: EIO });
            assert!(error.at.is_some() && error.offset > 0, "{error}");
            failures += 1;
            script.clear();
        }
        script.clear();
        found.extend_from_slice(engine.logits(0).unwrap());
    }
    assert!(bits(&found) == expected);
    assert!(failures > 0);
    let retries = engine.store_figures().unwrap().retries;
    assert!(retries >= failures * u64::from(ATTEMPTS - 1), "{retries} retries");
}

/// Who waits for a read that never ends gets an error after the time limit; the next steps read the
/// same expert into another slot, and nothing waits for the lost one, not even the end.
#[test]
fn a_lost_read_ends_a_step_alone() {
    let mapped = Mapped::golden("q4_0-tied");
    let ids = ids(24, mapped.model.config.vocab);
    let expected = bits(&mapped.model.logits(&ids, 1, &Serial));
    let time_limit = Duration::from_millis(50);
    for reader in [Reader::Uring, Reader::Threads] {
        let (faults, script) = faulty();
        let reading = Reading { time_limit, ..reader.into() };
        let sizes = (mapped.experts() / 2, 24, 1);
        let Some(mut engine) = mapped.engine(sizes, reading, Caching::Direct, faults) else {
            continue;
        };
        let (begun, mut found, mut failures) = (Instant::now(), Vec::new(), 0);
        for (i, id) in ids.iter().enumerate() {
            script.clear();
            if i % 8 == 0 {
                script.add_next(1, Fault::Lost);
            }
            while let Err(error) = engine.step(&[Token::new(*id, 0, Logits::All)]) {
                let StepError::Store(error) = error else { panic!("{error}") };
                assert_eq!(error.reason, StoreReason::Timeout);
                assert!(error.at.is_some() && error.offset > 0, "{error}");
                failures += 1;
                script.clear();
            }
            found.extend_from_slice(engine.logits(0).unwrap());
        }
        assert!(bits(&found) == expected, "{reader:?}");
        assert!(failures > 0 && begun.elapsed() >= failures * time_limit, "{failures}");
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn a_file_that_changes_ends_every_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::copy(golden_path("window8.gguf"), &path).unwrap();
    let mapped = Mapped::open(&path);
    let sizes = (mapped.experts(), 24, 1);
    let mut engine = mapped.engine(sizes, Reader::Auto, Caching::Direct, plain()).unwrap();
    let token = Token::new(1, 0, Logits::All);
    engine.step(&[token]).unwrap();
    let file = OpenOptions::new().append(true).open(&path).unwrap();
    file.set_len(fs::metadata(&path).unwrap().len() + 1).unwrap();
    for _ in 0..2 {
        let Err(StepError::Store(error)) = engine.step(&[token]) else { panic!("a change") };
        assert_eq!((error.at, error.reason), (None, StoreReason::Changed));
    }
    assert_eq!(engine.len(0), 1);
}
