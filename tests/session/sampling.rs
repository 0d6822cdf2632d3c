//! What a request changes about the logits that tokens are drawn from.

use super::{TOKENIZER, in_memory, nano, request, run};
use wick_core::{HeadRows, Sampling};
use wick_session::{Ended, Request, StartError};

/// The id of the largest score; the first, if there are several.
fn likeliest(vocab: usize, score: impl Fn(u32) -> f32) -> u32 {
    (0..vocab as u32).rev().max_by(|a, b| score(*a).total_cmp(&score(*b))).unwrap()
}

/// How many tokens are drawn that would not have been without penalties; all are what the definition
/// says. A bias makes the model choose among tokens none of which it is sure of.
fn moved(sampling: Sampling) -> usize {
    let mut scheduler = in_memory(1, 64, HeadRows::Coarse);
    let biased = 40..72;
    let logit_bias = biased.clone().map(|id| (id, 100.0)).collect();
    let asked = request("what can you do?", sampling);
    let id = scheduler.start(Request { head_rows: HeadRows::Coarse, logit_bias, ..asked }).unwrap();
    let (mut drawn, mut moved) = (Vec::new(), 0);
    while !scheduler.is_idle() {
        scheduler.step(&TOKENIZER);
        let Some(next) = scheduler.generation(id).unwrap().last_drawn() else { continue };
        let logits = scheduler.logits(id).unwrap();
        let biased = |id| logits[id as usize] + if biased.contains(&id) { 100.0 } else { 0.0 };
        let score = |id: u32| {
            let count = drawn.iter().filter(|d| **d == id).count() as f32;
            let presence = if count > 0.0 { sampling.presence_penalty } else { 0.0 };
            biased(id) - count * sampling.frequency_penalty - presence
        };
        assert_eq!(next, likeliest(logits.len(), score));
        moved += usize::from(next != likeliest(logits.len(), biased));
        drawn.push(next);
    }
    moved
}

/// Presence and frequency penalty take what was drawn into account, not the prompt, and logits stay the
/// model's.
#[test]
fn what_was_drawn_is_penalized() {
    let moved = |presence_penalty, frequency_penalty| {
        moved(Sampling { presence_penalty, frequency_penalty, ..Sampling::GREEDY })
    };
    assert_eq!(moved(0.0, 0.0), 0);
    for (presence, frequency) in [(2.0, 0.0), (0.0, 2.0), (-2.0, 0.0), (0.0, -2.0), (0.7, 0.3)] {
        assert!(moved(presence, frequency) > 0, "{presence}, {frequency} change nothing");
    }
}

/// On x86-64 and aarch64; the image without an operating system is compared with `wick run`. What changes these texts changes
/// what seeds give to everybody.
#[test]
fn a_seed_gives_this_text_on_every_machine() {
    let warm = Sampling { temperature: 1.2, top_k: 40, seed: 11, ..Sampling::default() };
    let wild = Sampling { temperature: 2.0, top_k: 0, top_p: 1.0, min_p: 0.02, seed: 5, ..warm };
    let varied = Sampling { repeat_penalty: 1.3, presence_penalty: 0.4, seed: 3, ..wild };
    let texts = [warm, wild, varied].map(|sampling| {
        let asked = request("tell me a story about a fox", sampling);
        run(&mut in_memory(1, 64, HeadRows::Exact), vec![asked]).remove(0).text
    });
    let expected = [
        "Long ago, a cheerful fox named Fern lived in a house by the sea. The wind blew from the sea. One",
        "In an old mill lived a very shy fox. Her name was Fern. But speakers a music box was afraid of who",
        "Once there was a cheerful baker named Fern. Snow lay on the roofs. The air smelled of flowers. The sun was",
    ];
    assert_eq!(texts, expected);
}

#[test]
fn a_bias_forbids_and_forces() {
    let text = "what can you do?";
    let plain = |head_rows, logit_bias| {
        let asked = request(text, Sampling { seed: 4, ..Sampling::default() });
        let asked = Request { head_rows, logit_bias, ..asked };
        run(&mut in_memory(1, 64, head_rows), vec![asked]).remove(0)
    };
    let whole = plain(HeadRows::Coarse, vec![]);
    assert_eq!(plain(HeadRows::Coarse, vec![(whole.drawn[0], 0.0)]), whole);
    for head_rows in [HeadRows::Exact, HeadRows::Coarse] {
        let forced = plain(head_rows, vec![(50, 100.0)]);
        assert_eq!((&forced.drawn[..], forced.ended), (&[50; 24][..], Some(Ended::Length)));
        let forbidden = plain(head_rows, vec![(whole.drawn[0], -100.0)]);
        assert!(!forbidden.drawn.contains(&whole.drawn[0]), "{forbidden:?}");
    }
}

#[test]
fn a_bias_that_cannot_be_is_refused() {
    let mut scheduler = in_memory(1, 64, HeadRows::Exact);
    let vocab = nano().config.vocab as u32;
    let mut start = |logit_bias: Vec<(u32, f32)>| {
        let asked = Request { logit_bias, ..request("hi", Sampling::GREEDY) };
        let id = scheduler.start(asked)?;
        scheduler.release(id);
        Ok(())
    };
    let unknown = StartError::Id { id: vocab, vocab: vocab as usize };
    assert_eq!(start(vec![(1, 1.0), (vocab, 1.0)]), Err(unknown));
    assert!(start(vec![(u32::MAX, 1.0)]).is_err());
    for wrong in [100.1, -100.1, f32::NAN, f32::INFINITY] {
        assert_eq!(start(vec![(5, wrong)]), Err(StartError::LogitBias { id: 5 }));
    }
    for second in [3, 5] {
        let id = second;
        assert_eq!(start(vec![(5, 1.0), (id, 1.0)]), Err(StartError::LogitBias { id }));
    }
    let many = |count| (0..count).map(|id| (id % vocab, -100.0)).collect();
    let refused = StartError::LogitBiases { found: 1025, most: 1024 };
    assert_eq!(start(many(1025)), Err(refused));
    assert_eq!(start(many(vocab.min(1024))), Ok(()));
}
