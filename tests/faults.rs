//! Each read of a run goes wrong in turn: every text is what it should be or its request fails and says why, and the next
//! request goes well.
//!
//! `WICK_FAULTS=all` takes every read of a run of 64 tokens, in all ways and for one sequence and four, `WICK_FAULTS=100` a hundred of them; otherwise
//! some.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;
use std::{env, ops::ControlFlow};
use tempfile::TempDir;
use wick_core::{
    Arena, Candidates, Decaying, HeadRows, KvFormat, Location, Options, Sampler, Sampling, Serial,
    StepError, StoreReason,
};
use wick_format::Gguf;
use wick_linux::reads::{Fault, FaultScript, Faults, Reader, Reading, Which};
use wick_linux::{Caching, Catalogue, FileStore, ModelFile, kernels};
use wick_prepare::Pack;
use wick_session::{Ended, Failure, Request, Scheduler, tokenizer};
use wick_tests::{Model, expert_locations, golden_bytes, ids};
use wick_text::Tokenizer;

const NANO: &str = "../models/nano/nano";
/// Tokens of a prompt, and of its answer.
const PROMPT: usize = 32;
const ANSWER: usize = 32;
const EIO: i32 = 5;
/// How long a read may take that is lost.
const TIME_LIMIT: Duration = Duration::from_millis(500);
/// What goes wrong with one read and passes. What takes longer comes after those that were asked for later.
const PASSING: [Fault; 5] = [
    Fault::Error(EIO),
    Fault::Short(0),
    Fault::Short(100),
    Fault::Delay(Duration::from_millis(2)),
    Fault::Wrong,
];

/// What goes wrong with all reads from some time on.
const BREAKING: [Fault; 2] = [Fault::Error(EIO), Fault::Wrong];

/// The ids of a text, or why its request failed.
type Came = Result<Vec<u32>, StoreReason>;

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let gguf = Gguf::parse(golden_bytes(&format!("{NANO}.gguf"))).unwrap();
    tokenizer(&gguf).unwrap()
});

/// The packed model, which has checksums, in a folder that stays.
static PACKED: LazyLock<PathBuf> = LazyLock::new(|| {
    let files = [Gguf::parse(golden_bytes(&format!("{NANO}.gguf"))).unwrap()];
    let pack = Pack::new(wick_format::Model::new(&files).unwrap(), HeadRows::Exact).unwrap();
    let path = TempDir::new().unwrap().keep().join("nano.wick.gguf");
    pack.write(&path, |_| ControlFlow::Continue(())).unwrap();
    path
});

/// Up to `most` of the places from 0 to `end`, or as many as `WICK_FAULTS` asks for.
fn some(end: u64, most: u64) -> impl Iterator<Item = u64> + Clone {
    let most = match env::var("WICK_FAULTS").as_deref() {
        Ok("all") => end,
        Ok(most) => most.parse().expect("WICK_FAULTS is a number or all"),
        Err(_) => most,
    };
    (0..end).step_by(end.div_ceil(most) as usize)
}

/// A scheduler that reads experts into half of the slots, through faults.
struct Run {
    scheduler: Scheduler<'static>,
    script: FaultScript,
    owner: usize,
}

impl Run {
    fn new(sequences: usize, time_limit: Duration) -> Run {
        let files: &'static [ModelFile] = vec![ModelFile::open(&PACKED).unwrap()].leak();
        let model = Model::read(&[&files[0]]).with(kernels());
        let (experts, sums) = (expert_locations(&files[0]), checksums(&files[0]));
        let catalogue = Catalogue::new(model.weights, files, &experts, sums, Caching::Direct);
        let (script, slots) =
            (FaultScript::default(), model.config.layers * model.config.experts / 2);
        let shared = script.clone();
        let reading = Reading { time_limit, ..Reader::Auto.into() };
        let store = FileStore::with_reads(catalogue.unwrap(), slots, reading, |reads| {
            Box::new(Faults::new(reads, shared))
        });
        let (head_rows, kv) = (HeadRows::Exact, KvFormat::F16);
        let options = Options { context: 80, sequences, batch: 16, logits: 4, head_rows, kv };
        let (store, policy) =
            (Box::leak(Box::new(store.unwrap())), Box::leak(Box::new(Decaying::default())));
        let engine = model.streaming(options, store, policy, &Serial);
        let memory = vec![0; 8 * model.config.vocab + 128].leak();
        let candidates = Candidates::new(model.config.vocab, &mut Arena::new(memory)).unwrap();
        Run { scheduler: Scheduler::new(engine, candidates), script, owner: 0 }
    }

    /// Has reads of the next run go wrong, counted from its beginning.
    fn fail(&self, numbers: Range<u64>, fault: Fault) {
        let first = self.script.submitted();
        let numbers = first + numbers.start..numbers.end.saturating_add(first);
        self.script.add(Which::Numbers(numbers), fault);
    }

    /// The text of each request, or why it failed. Each is somebody else's, who has nothing read before.
    fn go(&mut self) -> Vec<Came> {
        let sequences = self.scheduler.engine().options().sequences;
        let started: Vec<_> = (0..sequences)
            .map(|i| {
                self.owner += 1;
                let prompt = ids(PROMPT + i, TOKENIZER.len()).split_off(i);
                let request = Request::new(prompt, ANSWER, Sampler::new(Sampling::GREEDY));
                let ends = (0..TOKENIZER.len() as u32).filter(|id| TOKENIZER.is_end(*id));
                let logit_bias = ends.map(|id| (id, -100.0)).collect();
                self.scheduler.start(Request { owner: self.owner, logit_bias, ..request }).unwrap()
            })
            .collect();
        while !self.scheduler.is_idle() {
            self.scheduler.step(&TOKENIZER);
        }
        self.script.clear();
        self.script.release();
        let mut came = Vec::new();
        for id in started {
            let drawn = self.scheduler.generation(id).unwrap().drawn().to_vec();
            came.push(match self.scheduler.release(id) {
                Some(Ended::Length) => Ok(drawn),
                Some(Ended::Failed(Failure::Step(StepError::Store(error)))) => Err(error.reason),
                ended => panic!("{ended:?}"),
            });
        }
        came
    }
}

fn checksums(file: &[u8]) -> Vec<u32> {
    let files = [Gguf::parse(file).unwrap()];
    let model = wick_format::Model::new(&files).unwrap();
    model.packed().unwrap().expert_checksums().collect()
}

/// The texts where nothing goes wrong, and how many reads they take.
fn expected(run: &mut Run) -> (Vec<Came>, u64) {
    let texts = run.go();
    let reads = run.script.submitted();
    assert!(texts.iter().all(|text| text.as_ref().is_ok_and(|ids| ids.len() == ANSWER)));
    assert!(run.go() == texts && reads > 0);
    (texts, reads)
}

/// How many requests failed, for a reason that they may have; the others have their texts.
fn count_failed(came: &[Came], texts: &[Came], may_fail: impl Fn(StoreReason) -> bool) -> usize {
    let is_failed = |(came, text): (&Came, &Came)| match came {
        Err(reason) if may_fail(*reason) => true,
        came => {
            assert_eq!(came, text);
            false
        }
    };
    came.iter().zip(texts).filter(|pair| is_failed(*pair)).count()
}

#[test]
fn a_read_that_goes_wrong_once_changes_nothing() {
    for sequences in [1, 4] {
        let mut run = Run::new(sequences, wick_core::TIME_LIMIT);
        let (texts, reads) = expected(&mut run);
        let numbers = some(reads, 3);
        for fault in PASSING {
            for number in numbers.clone() {
                run.fail(number..number + 1, fault);
                assert_eq!(run.go(), texts, "{fault:?} of read {number}");
            }
            let tried = numbers.clone().count();
            println!("{sequences} sequences, {fault:?} at {tried} of {reads} reads");
        }
    }
}

#[test]
fn a_read_that_is_lost_fails_who_waits_for_it() {
    for sequences in [1, 4] {
        let mut run = Run::new(sequences, TIME_LIMIT);
        let (texts, reads) = expected(&mut run);
        let (numbers, mut failed) = (some(reads, 2), 0);
        for number in numbers.clone() {
            run.fail(number..number + 1, Fault::Lost);
            failed += count_failed(&run.go(), &texts, |reason| reason == StoreReason::Timeout);
            assert_eq!(run.go(), texts, "after read {number} was lost");
        }
        let tried = numbers.count();
        println!("{sequences} sequences, {tried} of {reads} reads lost: {failed} failed");
    }
}

#[test]
fn a_device_that_breaks_fails_who_needs_it_until_it_is_mended() {
    for (sequences, fault) in [1, 4].into_iter().flat_map(|n| BREAKING.map(|fault| (n, fault))) {
        let mut run = Run::new(sequences, wick_core::TIME_LIMIT);
        let (texts, reads) = expected(&mut run);
        let is_told = |reason| match fault {
            Fault::Error(code) => reason == StoreReason::Refused { code },
            _ => matches!(reason, StoreReason::Checksum { .. }),
        };
        let (numbers, mut failed) = (some(reads, 6), 0);
        for number in numbers.clone() {
            run.fail(number..u64::MAX, fault);
            failed += count_failed(&run.go(), &texts, is_told);
            assert_eq!(run.go(), texts, "after {fault:?} from read {number} on");
        }
        assert!(failed > 0);
        let tried = numbers.count();
        println!(
            "{sequences} sequences, {fault:?} from {tried} of {reads} reads on: {failed} failed"
        );
    }
}

/// Bytes that come wrong are known by their checksums.
#[test]
fn a_place_that_is_always_wrong_fails_who_needs_it() {
    let file = std::fs::read(&*PACKED).unwrap();
    let places: Vec<Location> = expert_locations(&file).into_iter().flatten().collect();
    let (texts, _) = expected(&mut Run::new(1, wick_core::TIME_LIMIT));
    let is_told = |reason| matches!(reason, StoreReason::Checksum { .. });
    let mut failed = 0;
    for place in some(places.len() as u64, 4) {
        let mut run = Run::new(1, wick_core::TIME_LIMIT);
        // The first experts of a layer.
        let Location { offset, stride, .. } = places[place as usize];
        let bytes = offset..offset + 3 * stride;
        run.script.add(Which::Bytes { file: 0, bytes }, Fault::Wrong);
        failed += count_failed(&run.go(), &texts, is_told);
        assert_eq!(run.go(), texts, "after place {place}");
    }
    assert!(failed > 0);
}
