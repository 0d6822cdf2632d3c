//! After construction nothing allocates: not in prefill, decode, truncation or the sampler.
//!
//! All threads of the process are counted, so this program runs without the test harness, whose own
//! thread allocates when it likes.

use wick_core::{Arena, KvFormat, Options, Output, Parallel, Sampler, Sampling, Serial};
use wick_linux::{Cpus, Pool};
use wick_tests::counting::{Counting, process_bytes};
use wick_tests::{Model, ids, step};

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
            let outputs = [Output::Exact, Output::Profiler];
            for output in outputs.into_iter().filter(|o| o.check(model.weights).is_ok()) {
                let kept = [KvFormat::F16, KvFormat::Q8_0];
                for kv in kept.into_iter().filter(|kv| kv.check(model.config.head).is_ok()) {
                    let found = allocated(&model, output, kv, parallel);
                    let threads = parallel.threads();
                    assert_eq!(found, 0, "{name}, {output:?}, {kv:?}, {threads} threads");
                }
            }
        }
    }
    println!("test result: ok. 1 passed; 0 failed; 0 ignored");
}

/// Bytes that are allocated while a model reads two texts and speaks.
fn allocated(
    model: &Model,
    output: Output,
    kv: KvFormat,
    parallel: &'static dyn Parallel,
) -> usize {
    let vocab = model.config.vocab;
    let text = ids(40, vocab);
    let options = Options { context: 64, sequences: 2, batch: 8, outputs: 8, output, kv };
    let mut engine = model.engine(options, parallel);
    let memory = vec![0u8; Sampler::bytes(vocab) + 64].leak();
    let sampling = Sampling { min_p: 0.01, repeat_penalty: 1.1, ..Sampling::default() };
    let mut sampler = Sampler::new(sampling, vocab, &mut Arena::new(memory)).unwrap();

    let before = process_bytes();
    engine.prefill(0, &text).unwrap();
    engine.prefill(1, &text[..19]).unwrap();
    engine.truncate(0, 38).unwrap();
    engine.prefill(0, &text[38..]).unwrap();
    for _ in 0..20 {
        let id = sampler.sample(engine.logits(0).unwrap()).unwrap();
        sampler.accept(id);
        engine.prefill(0, &[id]).unwrap();
    }
    let beyond_context = engine.prefill(0, &text).is_err();
    let after = process_bytes();
    assert!(beyond_context);
    step(&mut engine, 1, &text[..1]);
    after - before
}
