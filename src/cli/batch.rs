//! `wick batch`: requests from a file.

use crate::answering::{AnsweringArguments, forms, name, naming};
use crate::engine::with_engine;
use crate::exit::{Exit, Failure, OrExit};
use crate::http::STACK;
use crate::interrupt::Interrupt;
use crate::model::{FlagArguments, GatingArguments, tokenizer};
use crate::number;
use crate::progress::Progress;
use crate::report::note;
use crate::sequences::Wanted;
use anyhow::Context;
use clap::Args;
use serde_json::Value;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wick_serve::Room;
use wick_serve::batch::{Line, Output, answer_all, read};
use wick_serve::service::{Models, Service, State, Worker};

/// Requests that are made ready while as many as there are sequences for are answered.
const AHEAD: usize = 2;

/// Answer requests from a file, in the form of OpenAI's batch files
///
/// A line of IN is {"custom_id": …, "method": "POST", "url": "/v1/chat/completions", "body": {…}}; completions, embeddings
/// and responses are answered too. OUT gets a line for each as it is answered, which may be in another order. What OUT
/// has already is not answered again: after a crash, the same command goes on.
///
///   wick batch questions.jsonl -o answers.jsonl -m 4b.wick.gguf
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// File with requests, one a line
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// File with the answers
    #[arg(short, long, value_name = "OUT")]
    out: PathBuf,
    #[command(flatten)]
    model: FlagArguments,
    #[command(flatten)]
    gating: GatingArguments,
    /// Requests that are answered side by side [default: up to 8, as memory allows]
    #[arg(long, value_name = "N", value_parser = number::up_to(64))]
    parallel: Option<usize>,
    #[command(flatten)]
    answering: AnsweringArguments,
}

pub(crate) fn run(arguments: &Arguments, interrupt: &Interrupt) -> Result<(), Failure> {
    let Arguments { answering, input, out, .. } = arguments;
    let place = |path: &Path| path.display().to_string();
    let text = fs::read_to_string(input).with_context(|| place(input)).or_exit(Exit::Input)?;
    let lines = read(&text).with_context(|| place(input)).or_exit(Exit::Input)?;
    let output =
        Output::open(out, input, &lines).with_context(|| place(out)).or_exit(Exit::Usage)?;
    let all = lines.len();
    let left: Vec<Line> = lines.into_iter().filter(|line| !output.has(line)).collect();
    if left.is_empty() {
        note(&format!("{}: all {all} are answered", place(out)));
        return Ok(());
    }
    let files = arguments.model.open()?;
    let model = files.model(arguments.gating.overrides())?;
    let forms = forms(tokenizer(&files, model.metadata())?);
    answering.check(arguments.parallel.unwrap_or(1))?;
    let room = Room::within(answering.engine.budget().map(|budget| budget.whole));
    let engine = answering.engine.beside(room.total());
    let wanted = Wanted { parallel: arguments.parallel, most: 8, share: 8, may_shorten: false };
    let options = answering.choose(&model, wanted, &engine);
    let name = answering.alias.clone().unwrap_or_else(|| name(arguments.model.path()));
    let models = Models::new(vec![name.clone()]);
    let most = options.sequences + AHEAD;
    let service = Service::new(most, Duration::MAX, room, models, answering.usual());
    let service = Arc::new(service);
    let asking = Asking { service: Arc::clone(&service), output, all, start: Instant::now() };
    with_engine(&model, options, None, &engine, |engine, arena| {
        let ready = Arc::new(answering.ready(&model, &engine, name, forms, &service, None)?);
        let scheduler = answering.scheduler(engine, arena)?;
        let Service { queue, metrics, .. } = &*service;
        let blame = naming(&model);
        let worker = Worker::new(scheduler, &ready.tokenizer, queue, metrics, Duration::MAX);
        service.set(State::Ready(Arc::clone(&ready)));
        interrupt.busy();
        let asking = asking.begin(left, most)?;
        let turn = || match asking.is_finished() || interrupt.check().is_err() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        worker.naming(&blame).run(turn)?;
        interrupt.check()?;
        let done = asking.join().unwrap_or_else(|_panic| Err(io::Error::other("a thread ended")));
        done.with_context(|| place(out)).or_exit(Exit::Failed)
    })
}

/// Who asks, and writes what is answered.
struct Asking {
    service: Arc<Service>,
    output: Output,
    /// Requests of the file.
    all: usize,
    start: Instant,
}

impl Asking {
    /// Asks on a thread of its own, so many at once.
    fn begin(
        mut self,
        lines: Vec<Line>,
        at_once: usize,
    ) -> Result<JoinHandle<io::Result<()>>, Failure> {
        let ask = move || {
            let before = self.all - lines.len();
            let (mut answered, mut refused, mut failed) = (0, 0, 0);
            let mut progress = Progress::count("answering", self.all, "requests");
            let done = answer_all(&self.service, lines, at_once, |answer| {
                let status = answer["response"]["status_code"].as_u64().unwrap_or(500);
                if status >= 500 {
                    // No answer: it may go well the next time.
                    failed += 1;
                    log::warn!("{}: {}", answer["custom_id"], reason(answer));
                    return Ok(());
                }
                self.output.append(answer)?;
                answered += 1;
                refused += usize::from(status != 200);
                progress.set((before + answered) as u64);
                Ok(())
            });
            drop(progress);
            let seconds = self.start.elapsed().as_secs_f64();
            let known = if before > 0 { format!(", {before} before") } else { String::new() };
            note(&format!(
                "{answered} answered in {seconds:.1} s, {refused} of them with an error{known}"
            ));
            done?;
            match failed {
                0 => Ok(()),
                _ => Err(io::Error::other(format!(
                    "{failed} requests failed; the same command tries them again"
                ))),
            }
        };
        wick_linux::spawn("wick-batch", STACK, ask).or_exit(Exit::Failed)
    }
}

/// Why there is no answer.
fn reason(answer: &Value) -> &Value {
    let of_service = &answer["response"]["body"]["error"]["message"];
    if of_service.is_null() { &answer["error"]["message"] } else { of_service }
}
