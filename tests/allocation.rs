//! After construction nothing allocates: not in prefill, decode, truncation or the sampler.
//!
//! All threads of the process are counted, so this program runs without the test harness, whose own
//! thread allocates when it likes.

use wick_core::{
    Arena, Candidates, Engine, Guidance, HeadRows, History, KvFormat, LeastRecent, Options,
    Parallel, Sampler, Sampling, Serial,
};
use wick_format::Gguf;
use wick_linux::reads::Reader;
use wick_linux::{Caching, Catalogue, Cpus, FileStore, ModelFile, Pool};
use wick_session::{Request, Scheduler};
use wick_tests::counting::{Counting, process_bytes};
use wick_tests::{Model, expert_locations, golden_bytes, golden_path, ids, step};

#[global_allocator]
static COUNTING: Counting = Counting;

/// Models that together go through every way of computing.
const MODELS: [&str; 6] =
    ["f32-sigmoid-tied", "window8", "q4_0-tied", "powerinfer", "q4_k_m", "legacy-mix"];

fn main() {
    let before = process_bytes();
    drop(std::hint::black_box(vec![0u8; 1000]));
    assert!(process_bytes() >= before + 1000, "the counter counts");
    let pool = Box::leak(Box::new(Pool::new(2, &Cpus::detect())));
    for name in MODELS {
        for parallel in [&Serial as &'static dyn Parallel, pool] {
            let model = Model::golden(name);
            let outputs = [HeadRows::Exact, HeadRows::Profiler, HeadRows::Coarse];
            for head_rows in outputs.into_iter().filter(|o| o.check(model.weights).is_ok()) {
                let model = model.arranged_for(head_rows);
                let kept = [KvFormat::F16, KvFormat::Q8_0];
                for kv in kept.into_iter().filter(|kv| kv.check(model.config.head).is_ok()) {
                    let options = options(head_rows, kv);
                    let found = allocated(&model, model.engine(options, parallel));
                    let threads = parallel.threads();
                    assert_eq!(found, 0, "{name}, {head_rows:?}, {kv:?}, {threads} threads");
                }
            }
        }
    }
    for reader in [Reader::Auto, Reader::Threads] {
        for name in ["q4_0-tied", "q4_k_m"] {
            let files =
                vec![ModelFile::open(&golden_path(&format!("{name}.gguf"))).unwrap()].leak();
            let model = Model::read(&[&files[0]]);
            let store = store(&model, files, reader);
            let options = options(HeadRows::Exact, KvFormat::F16);
            let engine = model.streaming(options, store, &LeastRecent, pool);
            assert_eq!(allocated(&model, engine), 0, "{name}, experts read by {reader:?}");
        }
    }
    assert_eq!(allocated_by_scheduler(), 0, "generations side by side");
    println!("test result: ok. 1 passed; 0 failed; 0 ignored");
}

fn options(head_rows: HeadRows, kv: KvFormat) -> Options {
    Options { context: 64, sequences: 2, batch: 8, logits: 8, head_rows, kv }
}

/// A store with fewer slots than there are experts.
fn store(model: &Model, files: &'static [ModelFile], reader: Reader) -> &'static mut FileStore {
    let (experts, caching) = (expert_locations(&files[0]), Caching::Direct);
    let catalogue = Catalogue::new(model.weights, files, &experts, Vec::new(), caching).unwrap();
    let store = FileStore::with_reads(catalogue, 6, reader, |reads| reads).unwrap();
    Box::leak(Box::new(store))
}

/// Sampling that weakens what was there before in every way.
fn penalized() -> Sampling {
    let (presence_penalty, frequency_penalty) = (0.5, 0.5);
    let penalties = Sampling { presence_penalty, frequency_penalty, ..Sampling::default() };
    Sampling { min_p: 0.01, repeat_penalty: 1.1, ..penalties }
}

/// Bytes that are allocated while an engine reads two texts and speaks.
fn allocated(model: &Model, mut engine: Engine<'_>) -> usize {
    let wanted = engine.options().head_rows.logits(20);
    let vocab = model.config.vocab;
    let text = ids(40, vocab);
    let memory = vec![0u8; 8 * vocab + 128].leak();
    let mut candidates = Candidates::new(vocab, &mut Arena::new(memory)).unwrap();
    let mut sampler = Sampler::new(penalized());
    let every_second = vec![0x5555_5555; vocab.div_ceil(32)];

    let before = process_bytes();
    engine.prefill(0, &text, wanted).unwrap();
    engine.prefill(1, &text[..19], wanted).unwrap();
    engine.truncate(0, 38).unwrap();
    engine.prefill(0, &text[38..], wanted).unwrap();
    for _ in 0..20 {
        let logits = engine.logits(0).unwrap();
        let history = History { text: &text, prompt: 20 };
        let guidance = Guidance { bias: &[(1, 2.0)], allowed: Some(&every_second) };
        let id = sampler.sample(logits, history, guidance, &mut candidates).unwrap();
        engine.prefill(0, &[id], wanted).unwrap();
    }
    let beyond_context = engine.prefill(0, &text, wanted).is_err();
    let after = process_bytes();
    assert!(beyond_context);
    step(&mut engine, 1, &text[..1]);
    after - before
}

/// Bytes that are allocated while generations that ask for all that can be asked for are stepped.
fn allocated_by_scheduler() -> usize {
    let nano = "../models/nano/nano";
    let gguf = Gguf::parse(golden_bytes(&format!("{nano}.gguf"))).unwrap();
    let tokenizer = wick_session::tokenizer(&gguf).unwrap();
    let model = Model::golden(nano).arranged_for(HeadRows::Coarse);
    let options = options(HeadRows::Coarse, KvFormat::F16);
    let vocab = model.config.vocab;
    let mut arena = Arena::new(vec![0u8; 8 * vocab + 128].leak());
    let candidates = Candidates::new(vocab, &mut arena).unwrap();
    let mut scheduler = Scheduler::new(model.engine(options, &Serial), candidates);
    let request = || Request::new(ids(30, vocab), 20, Sampler::new(Sampling::default()));
    let (stop, sampler) = (vec!["never said".to_owned()], Sampler::new(penalized()));
    let (logit_bias, log_probabilities) = (vec![(1, 2.0), (7, -100.0)], Some(20));
    let telling = Request { sampler, stop, logit_bias, log_probabilities, ..request() };
    // The same again and again, so that it is drafted.
    let logit_bias = vec![(9, 100.0)];
    let coarse = Request { head_rows: HeadRows::Coarse, logit_bias, ..request() };
    scheduler.draft(4);
    let generations = [scheduler.start(telling).unwrap(), scheduler.start(coarse).unwrap()];
    let mut accepted = 0;
    let before = process_bytes();
    while !scheduler.is_idle() {
        accepted += scheduler.step(&tokenizer).accepted;
    }
    assert!(accepted > 0, "{accepted} drafted tokens");
    let found = process_bytes() - before;
    let drawn = generations.map(|id| scheduler.generation(id).unwrap().drawn().len());
    assert!(drawn.iter().sum::<usize>() > 10, "{drawn:?}");
    found
}
