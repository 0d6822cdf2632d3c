//! How often an expert that a token wants has a slot, by policy and number of slots, and how often
//! it could have had one at best.
//!
//!     cargo bench -p wick-bench --bench policies -- ["MODEL.gguf"] [IDS.txt] [TOKENS]
//!
//! Runs the model over the ids that `wick tokenize` made of a text, or over ids that look random where none is given, token by token in
//! the arithmetic of a prompt, and plays the router's choices to each policy. Nothing is read ahead
//! by guesses here. "best" is Belady's choice, which knows the future.

use std::collections::HashMap;
use std::process::ExitCode;
use wick_core::{
    Arena, Decaying, ExpertKey, HeadRows, KvFormat, LeastFrequent, LeastRecent, Logits, Options,
    Policy, Slots,
};
use wick_linux::{Cpus, Pool, kernels};
use wick_tests::{Model, ids};

/// Tokens of a step.
const BATCH: usize = 64;

/// What the tokens of a text want.
struct Trace {
    layers: usize,
    experts: usize,
    active: usize,
    /// Experts of each token, layer by layer, best first.
    choices: Vec<u32>,
}

impl Trace {
    fn record(model: &Model, ids: &[u32]) -> Trace {
        let config = &model.config;
        let (layers, experts, active) = (config.layers, config.experts, config.active);
        let context = ids.len().min(config.context);
        let options = Options {
            context,
            sequences: 1,
            batch: BATCH,
            logits: 1,
            head_rows: HeadRows::Exact,
            kv: KvFormat::F16,
        };
        let cpus = Cpus::detect();
        let pool = Box::leak(Box::new(Pool::new(cpus.threads(), &cpus)));
        let mut engine = model.engine(options, pool);
        let mut choices = vec![0; ids.len() * layers * active];
        let mut done = 0;
        // Where the context is full, the text goes on in an empty one.
        for text in ids.chunks(context) {
            engine.truncate(0, 0).expect("emptying is always possible");
            for chunk in text.chunks(BATCH) {
                engine.prefill(0, chunk, Logits::None).expect("the ids are of the vocabulary");
                for layer in 0..layers {
                    let chosen = engine.chosen_experts(layer).chunks(active);
                    for (token, chosen) in chosen.enumerate() {
                        let start = ((done + token) * layers + layer) * active;
                        choices[start..start + active].copy_from_slice(chosen);
                    }
                }
                done += chunk.len();
            }
        }
        Trace { layers, experts, active, choices }
    }

    /// What the layers of all tokens want, in the order of time.
    fn wants(&self) -> impl Iterator<Item = (usize, usize, &[u32])> {
        self.choices
            .chunks(self.active)
            .enumerate()
            .map(|(i, experts)| (i / self.layers, i % self.layers, experts))
    }

    /// The share of wanted experts that have a slot.
    fn hits(&self, slots: usize, policy: &'static dyn Policy) -> f64 {
        let bytes = Slots::bytes(self.layers, self.experts, slots) + 64;
        let mut memory = vec![0; bytes];
        let shape = (self.layers, self.experts, self.active);
        let mut arena = Arena::new(&mut memory);
        let mut table = Slots::new(shape, slots, policy, &mut arena).expect("the arena is enough");
        let mut hits = 0;
        for (token, layer, experts) in self.wants() {
            let now = token as f64 + layer as f64 / self.layers as f64;
            let keys = experts.iter().map(|e| ExpertKey { layer, expert: *e as usize });
            table.unpin_all();
            for key in keys.clone() {
                table.used(key, now);
                if let Some(slot) = table.find(key) {
                    table.pin(slot, true);
                    hits += 1;
                }
            }
            for key in keys {
                if table.find(key).is_none()
                    && let Some(slot) = table.claim(key)
                {
                    table.pin(slot, true);
                }
            }
        }
        hits as f64 / self.choices.len() as f64
    }

    /// The same for the policy that lets that expert go which is wanted again last.
    fn best_hits(&self, slots: usize) -> f64 {
        let key = |layer: usize, expert: u32| layer * self.experts + expert as usize;
        let wants: Vec<usize> = self
            .wants()
            .flat_map(|(_, layer, experts)| experts.iter().map(move |e| key(layer, *e)))
            .collect();
        let mut next = vec![usize::MAX; wants.len()];
        let mut later = HashMap::new();
        for (i, want) in wants.iter().enumerate().rev() {
            next[i] = later.insert(*want, i).unwrap_or(usize::MAX);
        }
        let mut held = HashMap::<usize, usize>::new();
        let mut hits = 0;
        for (i, want) in wants.iter().enumerate() {
            if held.contains_key(want) {
                hits += 1;
            } else if held.len() == slots {
                let layer = i / self.active * self.active;
                let current = &wants[layer..layer + self.active];
                let free = held.iter().filter(|(key, _)| !current.contains(key));
                if let Some(key) = free.max_by_key(|(_, next)| **next).map(|(key, _)| *key) {
                    held.remove(&key);
                }
            }
            held.insert(*want, next[i]);
        }
        hits as f64 / wants.len() as f64
    }
}

static POLICIES: [(&str, &dyn Policy); 8] = [
    ("LRU", &LeastRecent),
    ("LFU", &LeastFrequent),
    ("half-life 4", &Decaying { half_life: 4.0 }),
    ("16", &Decaying { half_life: 16.0 }),
    ("32", &Decaying { half_life: 32.0 }),
    ("64", &Decaying { half_life: 64.0 }),
    ("256", &Decaying { half_life: 256.0 }),
    ("1024", &Decaying { half_life: 1024.0 }),
];

fn main() -> ExitCode {
    // `cargo bench` adds an argument of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let nano = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/nano/nano.gguf");
    let path = arguments.first().filter(|path| !path.is_empty()).map_or(nano, String::as_str);
    let count = arguments.last().and_then(|last| last.parse().ok()).unwrap_or(1024);
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            eprintln!("{path}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let model = Model::read(&[bytes.leak()]).arranged().with(kernels());
    let ids = match arguments.get(1).filter(|text| text.parse::<usize>().is_err()) {
        None => ids(count, model.config.vocab),
        Some(text) => match std::fs::read_to_string(text).map(|text| read_ids(&text)) {
            Ok(ids) => ids.into_iter().take(count).collect(),
            Err(error) => {
                eprintln!("{text}: {error}");
                return ExitCode::FAILURE;
            }
        },
    };
    let trace = Trace::record(&model, &ids);
    print_table(&trace, ids.len());
    ExitCode::SUCCESS
}

/// The ids that a text file lists, as `wick tokenize` writes them.
fn read_ids(text: &str) -> Vec<u32> {
    text.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

fn print_table(trace: &Trace, tokens: usize) {
    let all = trace.layers * trace.experts;
    println!("{tokens} tokens, {all} experts, {} of them a token", trace.layers * trace.active);
    print!("| slots | share | best |");
    POLICIES.iter().for_each(|(name, _)| print!(" {name} |"));
    println!("\n|{}", "---|".repeat(3 + POLICIES.len()));
    for percent in [3, 6, 12, 20, 33, 50, 75] {
        let slots = (all * percent / 100).max(trace.active);
        print!("| {slots} | {percent} % | {:.1} |", 100.0 * trace.best_hits(slots));
        for (_, policy) in POLICIES {
            print!(" {:.1} |", 100.0 * trace.hits(slots, policy));
        }
        println!();
    }
}
