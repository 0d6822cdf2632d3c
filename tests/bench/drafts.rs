//! What drafts are worth where a text is said again, and what they cost where none is.
//!
//!     cargo bench -p wick-bench --bench drafts -- MODEL.gguf [MEMORY in MiB] [ROUNDS]
//!
//! The model reads a document of ids that look random, and then writes ids that are given beforehand: the document again with
//! one id changed, or another one in which the last ids of the first come again and again, each time with something else
//! after them. Both with none and with up to 3, 7 and 15 drafted tokens a step, in turn.

use std::error::Error;
use std::path::Path;
use std::time::Instant;
use wick_core::{Candidates, Options, Sampler, Sampling};
use wick_format::{Gguf, Overrides};
use wick_linux::host::{Files, HostError, Setup, one_sequence, with_engine};
use wick_session::{Constraint, ConstraintError, Request, Scheduler, Stepped};
use wick_tests::ids;
use wick_text::Tokenizer;

/// Tokens of the document and of what is written.
const TOKENS: usize = 256;
const DRAFTS: [usize; 4] = [0, 3, 7, 15];

/// A text that is given.
#[derive(Debug)]
struct Given {
    ids: Vec<u32>,
    taken: usize,
    mask: Vec<u32>,
}

impl Constraint for Given {
    fn allowed(&mut self) -> Result<Option<&[u32]>, ConstraintError> {
        self.mask.fill(0);
        let id = self.ids[self.taken];
        self.mask[id as usize / 32] = 1 << (id % 32);
        Ok(Some(&self.mask))
    }

    fn take(&mut self, _id: u32) -> Result<(), ConstraintError> {
        self.taken += 1;
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.taken == self.ids.len()
    }
}

/// What is written after the document.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Text {
    Again,
    Teasing,
    New,
}

impl Text {
    fn ids(self, document: &[u32], vocab: usize) -> Vec<u32> {
        let new = ids(3 * TOKENS, vocab).split_off(2 * TOKENS);
        match self {
            Text::Again => {
                let mut again = document.to_vec();
                again[TOKENS / 2] = new[0];
                again
            }
            Text::Teasing => {
                let lines = new.chunks(8).flat_map(|line| document[..3].iter().chain(&line[3..]));
                lines.copied().collect()
            }
            Text::New => new,
        }
    }
}

/// Tokens per second, and what the steps did.
fn write(
    scheduler: &mut Scheduler<'_>,
    tokenizer: &Tokenizer,
    text: Text,
    drafts: usize,
) -> Result<(f64, Stepped), Box<dyn Error>> {
    let vocab = scheduler.engine().config().vocab;
    let document = ids(TOKENS, vocab);
    let given =
        Given { ids: text.ids(&document, vocab), taken: 0, mask: vec![0; vocab.div_ceil(32)] };
    let request = Request::new(document, TOKENS, Sampler::new(Sampling::GREEDY));
    scheduler.draft(drafts);
    let id = scheduler.start(Request { constraint: Some(Box::new(given)), ..request })?;
    while scheduler.generation(id).is_some_and(|generation| generation.is_reading()) {
        scheduler.step(tokenizer);
    }
    let (start, mut all) = (Instant::now(), Stepped::default());
    while !scheduler.is_idle() {
        let stepped = scheduler.step(tokenizer);
        all.accepted += stepped.accepted;
        all.rejected += stepped.rejected;
        all.drawn += stepped.drawn;
    }
    let seconds = start.elapsed().as_secs_f64();
    scheduler.release(id);
    Ok(((all.drawn + all.accepted) as f64 / seconds, all))
}

fn measure(
    scheduler: &mut Scheduler<'_>,
    tokenizer: &Tokenizer,
    rounds: usize,
) -> Result<(), Box<dyn Error>> {
    println!(
        "{:>8} {:>7} {:>9} {:>6} {:>9} {:>9}",
        "text", "drafts", "tokens/s", "ratio", "accepted", "rejected"
    );
    for text in [Text::Again, Text::Teasing, Text::New] {
        let mut found = vec![Vec::new(); DRAFTS.len()];
        let mut did = [Stepped::default(); DRAFTS.len()];
        for _ in 0..rounds {
            for (i, drafts) in DRAFTS.into_iter().enumerate() {
                let (speed, all) = write(scheduler, tokenizer, text, drafts)?;
                found[i].push(speed);
                did[i] = all;
            }
        }
        found.iter_mut().for_each(|speeds| speeds.sort_by(f64::total_cmp));
        let median = |i: usize| found[i][rounds / 2];
        for (i, drafts) in DRAFTS.into_iter().enumerate() {
            let Stepped { accepted, rejected, .. } = did[i];
            let (speed, ratio) = (median(i), median(i) / median(0));
            println!(
                "{:>8} {drafts:>7} {speed:>9.1} {ratio:>6.2} {accepted:>9} {rejected:>9}",
                format!("{text:?}")
            );
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let number = |i: usize| arguments.get(i).map(|text| text.parse::<usize>()).transpose();
    let model = arguments.first().ok_or("a model's file expected")?;
    let (memory, rounds) = (number(1)?.filter(|mib| *mib > 0), number(2)?.unwrap_or(3));
    let files = Files::open(Path::new(model))?;
    let model = files.model(Overrides::default())?;
    let nano = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/nano/nano.gguf"))?;
    let gguf = Gguf::parse(nano.leak())?;
    let tokenizer = wick_session::tokenizer(&gguf)?;
    let logits = 1 + DRAFTS[DRAFTS.len() - 1];
    let options = Options { logits, ..one_sequence(&model.config, Some(2 * TOKENS + 64)) };
    let setup =
        Setup { memory: memory.map(|mib| mib << 20), prompt: Some(TOKENS), ..Setup::default() };
    Ok(with_engine(&model, options, &setup, |engine, arena| -> Result<(), HostError> {
        let candidates = Candidates::new(engine.config().vocab, arena).expect("the plan has room");
        let mut scheduler = Scheduler::new(engine, candidates);
        scheduler.arrange(usize::MAX);
        measure(&mut scheduler, &tokenizer, rounds).expect("the ids are of the vocabulary");
        Ok(())
    })?)
}
