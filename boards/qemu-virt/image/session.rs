//! Prompts from the serial line, answers to it.

use crate::image::console::{put, take};
use crate::image::exit::{Exit, Failure};
use crate::image::memory::{heap_used, stack_used};
use crate::image::model::{Model, blame, blame_disk};
use crate::image::processor::Yield;
use crate::image::virtio::Disk;
use crate::image::{processor, timer};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Display};
use crc32fast::Hasher;
use heapless::Deque;
use spin::RelaxStrategy;
use wick_core::{
    Arena, Arrangement, Candidates, Config, Decaying, Engine, EngineError, ExpertFigures,
    ExpertStore, HeadRows, Options, Parallel, Plan, Policy, Sampler, Sampling, Section, StepError,
    StoreFigures,
};
use wick_session::{Ended, GenerationId, Request, Scheduler};
use wick_text::{Special, Tokenizer};
use wick_virt::chat;
use wick_virt::line::{Line, Typed};
use wick_virt::settings::{Settings, Slots};
use wick_virt::store::{Extents, Store};

/// Tokens that go through the model together while a prompt is read.
const BATCH: usize = 64;
/// How weights are arranged that are all in memory.
const ARRANGEMENT: Arrangement = Arrangement {
    head_rows: HeadRows::Exact,
    experts: true,
    moved: false,
    section: Section::Whole,
};
/// Positions for prompt and answer together, if nothing is said.
const CONTEXT: usize = 4096;

fn memory(error: impl Display) -> Failure {
    Failure::new(Exit::Memory, error)
}

fn model_failure(error: impl Display) -> Failure {
    Failure::new(Exit::Model, error)
}

/// Sets an engine up and answers until the line is closed.
pub(crate) fn run(
    settings: &Settings,
    region: &'static mut [u8],
    mut disk: Disk,
    parallel: &'static dyn Parallel,
) -> Result<(), Failure> {
    let (timeout, whole) = (settings.timeout * 1000, settings.slots == Slots::Ram);
    let (mut model, rest) = Model::read(&mut disk, region, whole, timeout)?;
    let all = rest.len();
    let mut arena = Arena::new(rest);
    let experts = match model.experts.take() {
        Some(experts) => {
            let store = store(settings, &model, experts, disk, all, &mut arena)?;
            let policy: &'static Decaying = Box::leak(Box::default());
            Some((store, policy as _))
        }
        None => {
            arrange(&mut model, &mut arena)?;
            None
        }
    };
    let engine = engine(settings, &model, experts, &mut arena, parallel).map_err(model_failure)?;
    let seed = if settings.seeded { settings.sampling.seed } else { timer::ticks() };
    let sampling = Sampling { seed, ..settings.sampling };
    let candidates = Candidates::new(model.config.vocab, &mut arena).map_err(memory)?;
    let (scheduler, sampler) = (Scheduler::new(engine, candidates), Sampler::new(sampling));
    let (used, heap) = (arena.used(), heap_used());
    log::info!("memory: {used} bytes for the engine, {heap} of the heap, {} free", all - used);
    let template = model.chat_template.filter(|template| *template == chat::CHATML);
    let template = template.filter(|_| !settings.raw);
    if template.is_none() {
        log::info!("prompts are continued as they stand");
    }
    let tokenizer = model.tokenizer;
    let checksum = settings.checksum.then(Hasher::new);
    let (most, ahead) = (settings.most, Deque::new());
    Session { scheduler, sampler, tokenizer, template, most, checksum, ahead }.serve()
}

fn options(settings: &Settings, config: &Config) -> Options {
    let context = settings.context.unwrap_or(CONTEXT.min(config.context));
    let batch = BATCH.min(context);
    let (head_rows, kv) = (HeadRows::Exact, settings.kv);
    Options { context, sequences: 1, batch, logits: 1, head_rows, kv }
}

/// Slots for experts, `all` bytes being left for them and the engine.
fn store(
    settings: &Settings,
    model: &Model,
    (layers, checksums): (Vec<Extents>, Vec<u32>),
    disk: Disk,
    all: usize,
    arena: &mut Arena<'static>,
) -> Result<&'static mut dyn ExpertStore, Failure> {
    let Model { config, weights, .. } = model;
    let (stride, most) = (Store::<Disk>::slot_bytes(&layers), config.layers * config.experts);
    let plan = Plan::streaming(config, weights, &options(settings, config), most, 0);
    let room = all.saturating_sub(plan.map_err(memory)?.arena()) / stride.max(1);
    let slots = match settings.slots {
        Slots::Fitting => room,
        Slots::All | Slots::Ram => most,
        Slots::Half => most / 2,
        Slots::Least => 1,
        Slots::Count(count) => count,
    };
    let slots = slots.clamp(1, most);
    let slots_memory = arena.take("expert slots", slots * stride).map_err(memory)?;
    log::info!("experts: {slots} slots of {stride} bytes for {most}");
    let timeout = settings.timeout * 1000;
    let store = Store::new(disk, layers, checksums, slots_memory, timeout);
    Ok(Box::leak(Box::new(store.map_err(blame_disk)?)))
}

/// Arranges the weights of a model that is in memory as a whole.
fn arrange(model: &mut Model, arena: &mut Arena<'static>) -> Result<(), Failure> {
    let bytes = wick_core::arranged_bytes(&model.weights, ARRANGEMENT);
    let arranged = arena.take("arranged weights", bytes).map_err(memory)?;
    wick_core::for_each_piece(&model.weights, ARRANGEMENT, arranged, |piece| _ = piece.arrange());
    wick_core::take_arranged(&mut model.weights, ARRANGEMENT, arranged);
    log::info!("experts: all in memory");
    Ok(())
}

fn engine(
    settings: &Settings,
    model: &Model,
    experts: Option<(&'static mut dyn ExpertStore, &'static dyn Policy)>,
    arena: &mut Arena<'static>,
    parallel: &'static dyn Parallel,
) -> Result<Engine<'static>, EngineError> {
    let (config, options) = (model.config, options(settings, &model.config));
    let weights = Box::leak(Box::new(model.weights.clone()));
    let kernels = processor::kernels();
    match experts {
        Some(experts) => {
            Engine::streaming(config, weights, options, experts, arena, kernels, parallel)
        }
        None => Engine::new(config, weights, options, arena, kernels, parallel),
    }
}

/// A model that answers.
struct Session {
    scheduler: Scheduler<'static>,
    /// Goes on from answer to answer.
    sampler: Sampler,
    tokenizer: Tokenizer,
    /// The chat template, if it is the one that is known.
    template: Option<&'static str>,
    most: usize,
    /// Of the logits of an answer, if it is asked for.
    checksum: Option<Hasher>,
    /// Bytes that were typed while an answer was drawn.
    ahead: Deque<u8, 1024>,
}

/// Tokens and the time that they took.
#[derive(Default)]
struct Spent {
    tokens: u64,
    micros: u64,
}

impl Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spent { tokens, micros } = *self;
        let rate = tokens as f64 * 1e6 / micros.max(1) as f64;
        write!(f, "{tokens} tokens in {micros} us, {rate:.2} tokens/s")
    }
}

/// Prints how the experts of an answer were found.
fn report_experts(
    (before, read_before): (ExpertFigures, StoreFigures),
    (now, read): (ExpertFigures, StoreFigures),
) {
    let (wanted, resident) = (now.wanted - before.wanted, now.resident - before.resident);
    println!(
        "[experts: {wanted} wanted, {:.1} % resident, {} reads, {} bytes, {} us waited]",
        100.0 * resident as f64 / wanted.max(1) as f64,
        read.reads - read_before.reads,
        read.bytes - read_before.bytes,
        (read.waited - read_before.waited).as_micros(),
    );
}

impl Session {
    fn serve(&mut self) -> Result<(), Failure> {
        let mut line = Line::default();
        log::info!("ready: type a prompt, or control-D to end");
        while let Some(prompt) = self.read_line(&mut line) {
            if !prompt.is_empty() {
                self.answer(&prompt)?;
            }
        }
        let (used, size) = stack_used();
        log::info!("stack: {used} of {size} bytes were in use; heap: {}", heap_used());
        Ok(())
    }

    /// Answers a prompt, and tells what it took.
    fn answer(&mut self, prompt: &str) -> Result<(), Failure> {
        let request = Request::new(self.encode(prompt), self.most, self.sampler.clone());
        let id = match self.scheduler.start(request) {
            Ok(id) => id,
            Err(error) => {
                println!("wick: {error}");
                return Ok(());
            }
        };
        let before = self.expert_figures();
        let (prefill, decode) = self.run(id)?;
        println!("[prefill {prefill}; decode {decode}]");
        if let Some((before, now)) = before.zip(self.expert_figures()) {
            report_experts(before, now);
        }
        if let Some(checksum) = &mut self.checksum {
            println!("[logits: CRC-32 {:08x}]", checksum.clone().finalize());
            checksum.reset();
        }
        Ok(())
    }

    fn expert_figures(&self) -> Option<(ExpertFigures, StoreFigures)> {
        let engine = self.scheduler.engine();
        engine.expert_figures().copied().zip(engine.store_figures())
    }

    /// The ids of a prompt, in the chat template if there is one.
    fn encode(&self, prompt: &str) -> Vec<u32> {
        let tokenizer = &self.tokenizer;
        let mut text = String::new();
        let wrapped = self.template.is_some_and(|t| chat::render(t, prompt, &mut text));
        let text = if wrapped { &text } else { prompt };
        let mut ids = Vec::from_iter(tokenizer.prefix());
        tokenizer.encode(text, Special::Parse, &mut ids);
        ids
    }

    /// Reads the prompt of a generation and prints its text, until the model, the context or the person
    /// at the line ends it. Tells what prompt and drawn tokens took.
    fn run(&mut self, id: GenerationId) -> Result<(Spent, Spent), Failure> {
        let (mut prefill, mut decode) = (Spent::default(), Spent::default());
        loop {
            let start = timer::microseconds();
            let stepped = self.scheduler.step(&self.tokenizer);
            let micros = timer::microseconds() - start;
            let spent = if stepped.drawn > 0 { &mut decode } else { &mut prefill };
            spent.tokens += (stepped.prompt + stepped.drawn) as u64;
            spent.micros += micros;
            if let (Some(checksum), Some(logits)) = (&mut self.checksum, self.scheduler.logits(id))
            {
                logits.iter().for_each(|logit| checksum.update(&logit.to_le_bytes()));
            }
            let Some(generation) = self.scheduler.generation(id) else { break };
            print!("{}", generation.text());
            let has_ended = generation.ended().is_some();
            self.sampler = generation.sampler().clone();
            if has_ended || self.is_interrupted() {
                break;
            }
        }
        match self.scheduler.release(id) {
            Some(Ended::Failed(failure)) => Err(session_failure(failure)),
            _ => {
                println!();
                Ok((prefill, decode))
            }
        }
    }

    /// Whether control-C was typed. What else was is kept for the next line.
    fn is_interrupted(&mut self) -> bool {
        while let Some(byte) = take() {
            if byte == CONTROL_C {
                self.ahead.clear();
                return true;
            }
            // What is too much is lost, as it would be in the line's own buffer.
            let _full = self.ahead.push_back(byte);
        }
        false
    }

    /// A line that is typed; `None` if no more will come.
    fn read_line(&mut self, line: &mut Line) -> Option<String> {
        print!("> ");
        loop {
            let Some(byte) = self.ahead.pop_front().or_else(take) else {
                Yield::relax();
                continue;
            };
            match line.push(byte) {
                Typed::Echo(bytes) => put(bytes),
                Typed::End => {
                    println!();
                    return Some(line.take());
                }
                Typed::Forget => print!("^C\n> "),
                Typed::Close => {
                    println!();
                    return None;
                }
            }
        }
    }
}

const CONTROL_C: u8 = 3;

fn session_failure(failure: wick_session::Failure) -> Failure {
    match failure {
        wick_session::Failure::Step(StepError::Store(error)) => blame_disk(error),
        wick_session::Failure::Step(StepError::Damaged(damage)) => blame(damage),
        other => model_failure(other),
    }
}
