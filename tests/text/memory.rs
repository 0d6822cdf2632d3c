//! What the tokenizer takes at the size of the published models: 151,936 tokens, 151,387 merges.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashSet;

use wick_text::{Control, Scratch, Special, Tokenizer, Vocabulary, stored_char};

const TOKENS: usize = 151_936;
const MERGES: usize = 151_387;
const LIMIT: usize = 12 << 20;

/// Counts the memory that a thread takes.
struct Counting;

thread_local! {
    static TAKEN: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        TAKEN.set(TAKEN.get().wrapping_add(layout.size()));
        PEAK.set(PEAK.get().max(TAKEN.get()));
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        TAKEN.set(TAKEN.get().wrapping_sub(layout.size()));
        // SAFETY: the pointer came from `System.alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `work`; gives its result, the bytes still held after it and the most held during it.
fn measure<R>(work: impl FnOnce() -> R) -> (R, usize, usize) {
    let before = TAKEN.replace(0);
    PEAK.set(0);
    let result = work();
    let (held, peak) = (TAKEN.get(), PEAK.get());
    TAKEN.set(before.wrapping_add(held));
    (result, held, peak)
}

/// A linear congruential generator: the vocabulary is the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// The 256 bytes, then tokens made by merging two earlier ones at random, then special and unused ones.
struct Synthetic {
    tokens: Vec<String>,
    kinds: Vec<i32>,
    merges: Vec<String>,
}

impl Synthetic {
    /// At least as heavy as the real vocabulary, whose tokens are 6 to 7 bytes long on average.
    fn new() -> Self {
        let mut random = Random(1);
        let mut tokens: Vec<String> = (0..=255).map(|byte| stored_char(byte).into()).collect();
        let mut known: HashSet<String> = tokens.iter().cloned().collect();
        let mut merges = Vec::new();
        while merges.len() < MERGES {
            let (left, right) =
                (&tokens[random.below(tokens.len())], &tokens[random.below(tokens.len())]);
            let (joined, merge) = (format!("{left}{right}"), format!("{left} {right}"));
            if joined.chars().count() <= 10 && known.insert(joined.clone()) {
                tokens.push(joined);
                merges.push(merge);
            }
        }
        let mut kinds = vec![1; tokens.len()];
        for special in ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] {
            tokens.push(special.into());
            kinds.push(3);
        }
        for id in tokens.len()..TOKENS {
            tokens.push(format!("[PAD{id}]"));
            kinds.push(5);
        }
        Synthetic { tokens, kinds, merges }
    }

    fn build(&self) -> Tokenizer {
        Tokenizer::new(Vocabulary {
            tokens: self.tokens.iter().map(String::as_bytes),
            merges: self.merges.iter().map(String::as_bytes),
            kinds: Some(self.kinds.iter().copied()),
            bos: Some(151_643),
            eos: Some(151_645),
            eot: None,
            add_bos: false,
        })
        .expect("the synthetic vocabulary is good")
    }
}

#[test]
fn the_full_vocabulary_takes_less_than_12_mib() {
    let synthetic = Synthetic::new();
    let (tokenizer, held, peak) = measure(|| synthetic.build());
    let bytes: usize =
        (0..TOKENS as u32).map(|id| tokenizer.token_bytes(id).map_or(0, <[u8]>::len)).sum();
    let mean = bytes as f64 / TOKENS as f64;
    println!(
        "{TOKENS} tokens of {mean:.1} bytes, {MERGES} merges: {held} bytes held, {peak} at the peak of building"
    );
    assert_eq!(tokenizer.len(), TOKENS);
    assert!(mean > 7.0, "lighter than the real one: {mean} bytes a token");
    assert_eq!(held, tokenizer.heap_bytes());
    assert!(peak < LIMIT);
    assert!(tokenizer.is_end(151_643) && tokenizer.is_end(151_645) && !tokenizer.is_end(151_644));
}

#[test]
fn encoding_with_kept_memory_allocates_nothing() {
    let tokenizer = Synthetic::new().build();
    let text = "The wick draws up just the fuel that the flame needs; 12 % is spent.\n<|im_end|>"
        .repeat(20);
    let (mut scratch, mut ids) = (Scratch::new(), Vec::new());
    tokenizer.encode_with(&text, Special::Parse, &mut scratch, &mut ids);
    let first = std::mem::take(&mut ids);
    ids.reserve(first.len());
    let calls = CALLS.get();
    tokenizer.encode_with(&text, Special::Parse, &mut scratch, &mut ids);
    assert_eq!(CALLS.get() - calls, 0);
    assert_eq!(ids, first);
    let mut bytes = Vec::new();
    tokenizer.decode(&ids, Control::Show, &mut bytes);
    assert_eq!(bytes, text.as_bytes());
}
