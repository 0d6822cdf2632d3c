//! `wick serve`: a model that other programs talk to.

use crate::answering::{AnsweringArguments, forms, naming};
use crate::cache::CacheArguments;
use crate::engine::with_engine;
use crate::exit::{Exit, Failure, OrExit};
use crate::http::{Bounds, Http};
use crate::interrupt::Interrupt;
use crate::listen::ListenArguments;
use crate::model::{ModelArguments, tokenizer};
use crate::number;
use crate::report::note;
use crate::sequences::Wanted;
use anyhow::Context;
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use wick_serve::Room;
use wick_serve::http::Warming;
use wick_serve::service::{Metrics, Queue, Service, State, Worker};

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
    /// Requests that are answered side by side, each with a KV cache of its own [default: up to 4, as memory allows]
    #[arg(long, value_name = "N", value_parser = number::up_to(64), env = "WICK_PARALLEL")]
    parallel: Option<usize>,
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
    #[command(flatten)]
    answering: AnsweringArguments,
}

pub(crate) fn run(arguments: &Arguments, interrupt: &Interrupt) -> Result<(), Failure> {
    let Arguments { answering, parallel, .. } = arguments;
    interrupt.loading(Box::new(|| ()));
    answering.check(parallel.unwrap_or(1))?;
    let files = arguments.model.open()?;
    let model = files.model(arguments.model.overrides())?;
    let tokenizer = tokenizer(&files, model.metadata())?;
    let warm = arguments.cache.read_warm()?;
    let seconds = |number: usize| Duration::from_secs(number as u64);
    let budget = answering.engine.budget().map(|budget| budget.whole);
    let room = Room::within(budget);
    let engine = answering.engine.beside(room.total());
    let service = Arc::new(Service::new(arguments.max_queue, seconds(arguments.timeout), room));
    let bounds = Bounds {
        grace: seconds(arguments.grace),
        idle: arguments.idle_exit.map(seconds),
        memory: budget,
    };
    let http = Http::open(&service, &arguments.listen, interrupt, bounds)?;
    note(&format!("{}: {} is being loaded", http.place, files.name()));

    let forms = forms(tokenizer);
    let options = answering.choose(&model, Wanted::of_service(*parallel), &engine);
    let done = with_engine(&model, options, None, &engine, |engine, arena| {
        let silence = Some(seconds(arguments.padding)).filter(|time| !time.is_zero());
        let ready = Arc::new(answering.ready(&model, &engine, forms, &service, silence)?);
        let scheduler = answering.scheduler(engine, arena)?;
        let (queue, metrics): (&Queue, &Metrics) = (&service.queue, &service.metrics);
        let stall = seconds(arguments.max_stall);
        let saved = arguments.cache.open(&model, scheduler.engine().options().kv);
        let worker = Worker::new(scheduler, &ready.tokenizer, queue, metrics, stall);
        let warming = warm.map(|text| Warming::begin(&text, &ready, queue));
        let warming = warming.transpose().with_context(|| arguments.cache.warm_name());
        let _reads_on = warming.or_exit(Exit::Usage)?;
        let name = naming(&model);
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
