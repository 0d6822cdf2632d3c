//! `wick serve`: a model that other programs talk to.

use crate::cache::CacheArguments;
use crate::engine::{EngineArguments, HeadRowsArguments, with_engine};
use crate::exit::{Exit, Failure, OrExit};
use crate::http::{Bounds, Http};
use crate::interrupt::Interrupt;
use crate::listen::ListenArguments;
use crate::model::{ModelArguments, tokenizer};
use crate::number;
use crate::report::note;
use crate::sampling::SamplingArguments;
use crate::template::TemplateArguments;
use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use wick_core::{Approximation, Candidates, Engine, Options, StepError};
use wick_linux::host::{Model, one_sequence};
use wick_serve::constraint::Forms;
use wick_serve::http::Warming;
use wick_serve::service::{Metrics, Queue, Ready, Service, State, Worker, now};
use wick_session::{Failure as SessionFailure, Scheduler};
use wick_text::Tokenizer;

/// Answer requests over HTTP: OpenAI's API, and Ollama's
///
/// The same request and seed give the same text, whoever else is served. Every option can stand in a file for
/// --config (key = value, in TOML) and in a variable (WICK_PORT for --port); the command line goes before the
/// variable, and that before the file. SIGTERM ends the service once all is answered that was asked, SIGHUP has it
/// read its keys again.
///
///   wick serve
///   wick serve model.gguf --memory 1G --parallel 2
///   curl http://127.0.0.1:8080/v1/chat/completions -d '{"messages": [{"role": "user", "content": "hi"}]}'
#[derive(Args)]
#[command(verbatim_doc_comment, args_override_self = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// File with options
    #[arg(long, value_name = "FILE", env = "WICK_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    listen: ListenArguments,
    /// Requests that are answered side by side, each with a KV cache of its own
    #[arg(long, value_name = "N", default_value = "2", value_parser = number::up_to(64), env = "WICK_PARALLEL")]
    parallel: usize,
    /// Positions for prompt and answer of a request together [default: 4096, or the model's own if that is less]
    #[arg(short, long, value_name = "N", value_parser = number::context(), env = "WICK_CONTEXT")]
    context: Option<usize>,
    /// Tokens drafted for an answer in a step, where it says again what stood before it; 0 for none. The text is the same
    #[arg(long, value_name = "N", default_value = "15", value_parser = number::none_to(64), env = "WICK_DRAFTS")]
    drafts: usize,
    /// What clients call the model [default: its file's name]
    #[arg(long, value_name = "NAME", env = "WICK_ALIAS")]
    alias: Option<String>,
    /// File with what the model is told before a conversation that has no system message
    #[arg(long, value_name = "FILE", env = "WICK_SYSTEM")]
    system: Option<PathBuf>,
    #[command(flatten)]
    template: TemplateArguments,
    #[command(flatten)]
    cache: CacheArguments,
    /// Requests that may wait; more are refused
    #[arg(long, value_name = "N", default_value = "32", value_parser = number::up_to(10_000), env = "WICK_MAX_QUEUE")]
    max_queue: usize,
    /// How long requests wait for the model to be loaded
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = number::up_to(86_400), env = "WICK_TIMEOUT")]
    timeout: usize,
    /// How long requests may go on after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = number::up_to(86_400), env = "WICK_GRACE")]
    grace: usize,
    /// End when nobody has asked for anything for so long; a socket of systemd's starts the service again [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = number::up_to(1 << 30), env = "WICK_IDLE_EXIT")]
    idle_exit: Option<usize>,
    /// Where experts are read as they are wanted: how long an answer may wait for a part of another's prompt
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = number::up_to(86_400), env = "WICK_MAX_STALL")]
    max_stall: usize,
    /// How long a plain answer may take before white space goes ahead of it, so that clients and proxies wait; 0 for none
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = number::none_to(86_400), env = "WICK_PADDING")]
    padding: usize,
    /// Most tokens of an answer where a request does not say; -1 for as many as there is room for
    #[arg(
        short,
        long = "tokens",
        alias = "n",
        value_name = "N",
        default_value = "-1",
        value_parser = number::tokens,
        allow_negative_numbers = true,
        env = "WICK_TOKENS"
    )]
    n: usize,
    #[command(flatten)]
    sampling: SamplingArguments,
    #[command(flatten)]
    engine: EngineArguments,
    #[command(flatten)]
    head_rows: HeadRowsArguments,
}

pub(crate) fn run(arguments: &Arguments, interrupt: &Interrupt) -> Result<(), Failure> {
    if arguments.parallel > 1 && arguments.engine.approximation() != Approximation::NONE {
        let message = "what approximations give depends on who else is served: --parallel 1 expected beside them";
        return Err(Failure::new(Exit::Usage, message));
    }
    let files = arguments.model.open()?;
    let model = files.model(arguments.model.overrides())?;
    let tokenizer = tokenizer(&files, model.metadata())?;
    let warm = arguments.cache.read_warm()?;
    let seconds = |number: usize| Duration::from_secs(number as u64);
    let service = Arc::new(Service::new(arguments.max_queue, seconds(arguments.timeout)));
    let bounds = Bounds {
        grace: seconds(arguments.grace),
        idle: arguments.idle_exit.map(seconds),
        memory: arguments.engine.budget(),
    };
    let http = Http::open(&service, &arguments.listen, interrupt, bounds)?;
    note(&format!("{}: {} is being loaded", http.place, files.name()));

    let options = Options {
        sequences: arguments.parallel,
        ..arguments.head_rows.apply(one_sequence(&model.config, arguments.context))
    };
    let logits = options.batch.min(arguments.parallel + arguments.drafts);
    let options = Options { logits, ..options };
    let done = with_engine(&model, options, None, &arguments.engine, |engine, arena| {
        let candidates = Candidates::new(engine.config().vocab, arena).or_exit(Exit::Memory)?;
        let ready = Arc::new(arguments.ready(&model, &engine, tokenizer)?);
        let mut scheduler = Scheduler::new(engine, candidates);
        scheduler.draft(arguments.drafts);
        let (queue, metrics): (&Queue, &Metrics) = (&service.queue, &service.metrics);
        let stall = seconds(arguments.max_stall);
        let saved = arguments.cache.open(&model, scheduler.engine().options().kv);
        let worker = Worker::new(scheduler, &ready.tokenizer, queue, metrics, stall);
        let warming = warm.map(|text| Warming::begin(&text, &ready, queue));
        let warming = warming.transpose().with_context(|| arguments.cache.warm_name());
        let _reads_on = warming.or_exit(Exit::Usage)?;
        let name = |failure: &SessionFailure| match failure {
            SessionFailure::Step(StepError::Store(error)) => model.files.unread(*error).to_string(),
            _ => failure.to_string(),
        };
        interrupt.serving();
        service.activity.touch();
        service.set(State::Ready(Arc::clone(&ready)));
        note(&format!("{}: {} answers", http.place, ready.name));
        Ok(worker.with_saved(saved).naming(&name).run(http.turn())?)
    });
    if let Err(failure) = &done {
        service.set(State::Failed(failure.to_string()));
    }
    http.finish(done)
}

impl Arguments {
    /// A model that answers.
    fn ready(
        &self,
        model: &Model<'_>,
        engine: &Engine<'_>,
        tokenizer: Tokenizer,
    ) -> Result<Ready, Failure> {
        let chat = match self.template.open(model, &tokenizer)? {
            Some(template) => Ok(template.into_chat()),
            None => Err("the model has no chat template".into()),
        };
        let read = |path: &PathBuf| {
            let place = || path.display().to_string();
            fs::read_to_string(path).with_context(place).or_exit(Exit::Usage)
        };
        let (config, options) = (engine.config(), engine.options());
        let tokenizer = Arc::new(tokenizer);
        Ok(Ready {
            name: self.alias.clone().unwrap_or_else(|| name(model)),
            chat,
            system: self.system.as_ref().map(read).transpose()?,
            context: options.context,
            vocab: config.vocab.min(tokenizer.len()),
            hidden: config.hidden,
            sequences: options.sequences,
            sampling: self.sampling.sampling(),
            head_rows: options.head_rows,
            most: self.n,
            silence: Some(Duration::from_secs(self.padding as u64)).filter(|time| !time.is_zero()),
            created: now(),
            facts: facts(model, engine),
            forms: Forms::new(Arc::clone(&tokenizer)),
            tokenizer,
        })
    }
}

/// What clients call a model: its file without folder and ending.
fn name(model: &Model<'_>) -> String {
    match model.files.parts().first() {
        None => "nano".into(),
        Some(part) => part
            .path()
            .file_stem()
            .map_or("model".into(), |stem| stem.to_string_lossy().into_owned()),
    }
}

/// Model, kernels and what the engine has, to be shown.
fn facts(model: &Model<'_>, engine: &Engine<'_>) -> Value {
    let options = engine.options();
    let metadata = model.metadata();
    let text = |key| metadata.get(key).and_then(|entry| entry.str().ok());
    let parameters = text("general.size_label").unwrap_or("");
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "model": model.files.name(),
        "name": text("general.name"),
        "parameter_size": parameters,
        "quantization": model.weights.layers[0].experts(wick_core::Part::Up).format().name(),
        "bytes": metadata.file_len(),
        "kernels": engine.kernels().name(),
        "threads": engine.parallel().threads(),
        "context": options.context,
        "parallel": options.sequences,
        "batch": options.batch,
        "streams_experts": engine.expert_figures().is_some(),
    })
}
