//! `wick serve`: a model that other programs talk to.

use crate::answering::{AnsweringArguments, forms, name, naming};
use crate::cache::CacheArguments;
use crate::engine::{EngineArguments, with_engine};
use crate::exit::{Exit, Failure, OrExit};
use crate::http::{Bounds, Http};
use crate::interrupt::Interrupt;
use crate::listen::ListenArguments;
use crate::model::{GatingArguments, open, tokenizer};
use crate::number;
use crate::plan::Report;
use crate::report::note;
use crate::screen::line;
use crate::sequences::Wanted;
use crate::supervisor;
use crate::unit;
use anyhow::Context;
use clap::Args;
use std::cell::OnceCell;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use wick_core::StepError;
use wick_linux::host::{Files, Model};
use wick_serve::Room;
use wick_serve::http::Warming;
use wick_serve::service::{Exchange, Metrics, Models, Queue, Service, State, Worker};
use wick_session::Failure as SessionFailure;
use wick_text::Tokenizer;

/// Answer requests over HTTP: OpenAI's API, and Ollama's
///
/// The same request and seed give the same text, whoever else is served. Every option can stand in a file for
/// --config (key = value, in TOML) and in a variable (WICK_PORT for --port); the command line goes before the
/// variable, and that before the file. SIGTERM ends the service once all is answered that was asked, SIGHUP has it
/// read its keys again, and how tokens are drawn where a request does not say.
///
///   wick serve
///   wick serve model.gguf --memory 1G --parallel 2
///   curl http://127.0.0.1:8080/v1/chat/completions -d '{"messages": [{"role": "user", "content": "hi"}]}'
#[derive(Args)]
#[command(verbatim_doc_comment, args_override_self = true)]
pub(crate) struct Arguments {
    /// GGUF file of the model, the first one if it is split [default: nano, built in]
    file: Option<PathBuf>,
    /// The same as FILE, which goes before it
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
    #[command(flatten)]
    gating: GatingArguments,
    /// Another model, and the name that requests ask for it with: it takes the place of the one that is loaded, once that
    /// has answered all; a table `models` in the file with options
    #[arg(long, value_name = "NAME=FILE", value_parser = also)]
    also: Vec<Named>,
    /// File with options
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Show how models would be served, and what speaks against it, and end
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    listen: ListenArguments,
    /// Requests that are answered side by side, each with a KV cache of its own [default: up to 4, as memory allows]
    #[arg(long, value_name = "N", value_parser = number::up_to(64))]
    parallel: Option<usize>,
    #[command(flatten)]
    cache: CacheArguments,
    /// Requests that may wait; more are refused
    #[arg(long, value_name = "N", default_value = "32", value_parser = number::up_to(10_000))]
    max_queue: usize,
    /// How long requests wait for the model to be loaded
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = number::up_to(86_400))]
    timeout: usize,
    /// How long requests may go on after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = number::up_to(86_400))]
    grace: usize,
    /// End when nobody has asked for anything for so long; a socket of systemd's starts the service again [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = number::up_to(1 << 30))]
    idle_exit: Option<usize>,
    /// Where experts are read as they are wanted: how long an answer may wait for a part of another's prompt
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = number::up_to(86_400))]
    max_stall: usize,
    /// How long a plain answer may take before white space goes ahead of it, so that clients and proxies wait; 0 for none
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = number::none_to(86_400))]
    padding: usize,
    #[command(flatten)]
    answering: AnsweringArguments,
}

/// How often a file is looked for that cannot be read any more.
const RETRY: Duration = Duration::from_secs(1);
/// How often signals are looked for meanwhile.
const TURN: Duration = Duration::from_millis(20);

/// What reads the arguments again.
pub(crate) type Again = fn() -> Result<Box<Arguments>, Failure>;

pub(crate) fn run(
    arguments: &Arguments,
    interrupt: &Interrupt,
    again: Again,
) -> Result<(), Failure> {
    let Arguments { answering, parallel, .. } = arguments;
    interrupt.loading(Box::new(|| ()));
    answering.check(parallel.unwrap_or(1))?;
    let all = arguments.models()?;
    let first = Opened::of(&all[0], arguments)?;
    for Named { name, path } in &all[1..] {
        if let Some(path) = path.as_ref().filter(|path| !path.exists()) {
            log::warn!(
                "{name}: there is no file {}, so that who asks for it is refused",
                path.display()
            );
        }
    }
    let warm = arguments.cache.read_warm()?;
    let budget = answering.engine.budget().map(|budget| budget.whole);
    let room = Room::within(budget);
    let engine = answering.engine.beside(room.total());
    if arguments.check {
        return check(arguments, &all, first, &engine, room.total());
    }
    let models = Models::new(all.iter().map(|named| named.name.clone()).collect());
    let (most, timeout) = (arguments.max_queue, seconds(arguments.timeout));
    let service = Arc::new(Service::new(most, timeout, room, models, answering.usual()));
    let (grace, idle) = (seconds(arguments.grace), arguments.idle_exit.map(seconds));
    let http =
        Http::open(&service, &arguments.listen, interrupt, Bounds { grace, idle, memory: budget })?;
    supervisor::watch();
    let serving =
        Serving { arguments, again, interrupt, engine, service: &service, http: &http, warm };
    let done = serving.serve_all(&all, first);
    if let Err(failure) = &done {
        service.set(State::Failed(failure.to_string()));
    }
    http.finish(done)
}

/// Shows how each model would be served.
fn check(
    arguments: &Arguments,
    all: &[Named],
    first: Opened,
    engine: &EngineArguments,
    requests: usize,
) -> Result<(), Failure> {
    let Arguments { answering, listen, .. } = arguments;
    let mut out = io::stdout();
    writeln!(out, "listens        {}", listen.check()?)?;
    let mut first = Some(first);
    for named in all {
        let opened = first.take().map_or_else(|| Opened::of(named, arguments), Ok)?;
        let Opened { files, tokenizer } = opened;
        let model = files.model(arguments.gating.overrides())?;
        let forms = forms(tokenizer);
        let (chat, _) = answering.open_texts(&model, forms.tokenizer())?;
        chat.err().into_iter().for_each(|reason| log::warn!("{}: {reason}", named.name));
        let wanted = Wanted::of_service(arguments.parallel);
        let options = answering.choose(&model, wanted, engine);
        let placement = engine.place(&model, options)?;
        let budget = engine.budget();
        let report = Report::new(&model, &placement, budget.as_ref(), requests, None);
        writeln!(out, "name           {}", line(&named.name))?;
        report.write(&mut out)?;
        writeln!(out)?;
    }
    for line in unit::compare(answering.engine.budget().as_ref()) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn seconds(number: usize) -> Duration {
    Duration::from_secs(number as u64)
}

/// A model of a service.
#[derive(Clone, Debug)]
struct Named {
    name: String,
    /// Its file; `None` for nano.
    path: Option<PathBuf>,
}

/// A model, as `--also` names it.
fn also(text: &str) -> Result<Named, String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok(Named { name: name.into(), path: Some(path.into()) })
        }
        _ => Err("a name and a file expected, NAME=FILE".into()),
    }
}

impl Arguments {
    /// The models, that which is loaded first before the others.
    fn models(&self) -> Result<Vec<Named>, Failure> {
        let path = self.file.as_deref().or(self.model.as_deref());
        let is_given = path.is_some() || self.also.is_empty();
        let name = self.answering.alias.clone().unwrap_or_else(|| name(path));
        let first = is_given.then(|| Named { name, path: path.map(PathBuf::from) });
        let all: Vec<Named> = first.into_iter().chain(self.also.iter().cloned()).collect();
        for (i, named) in all.iter().enumerate() {
            if all[..i].iter().any(|other| other.name == named.name) {
                let message = format_args!("two models are called {:?}", named.name);
                return Err(Failure::new(Exit::Usage, message));
            }
        }
        Ok(all)
    }
}

/// The files of a model, and its tokenizer.
struct Opened {
    files: Files,
    tokenizer: Tokenizer,
}

impl Opened {
    fn of(named: &Named, arguments: &Arguments) -> Result<Opened, Failure> {
        let files = open(named.path.as_deref())?;
        let tokenizer = {
            let model = files.model(arguments.gating.overrides())?;
            tokenizer(&files, model.metadata())?
        };
        Ok(Opened { files, tokenizer })
    }
}

/// Why a model is not served any more.
enum Served {
    /// The service ends, or another model was asked for.
    Asked,
    /// Its file cannot be read any more.
    Lost(Failure),
}

/// A service, whatever model it has at the moment.
struct Serving<'a> {
    arguments: &'a Arguments,
    again: Again,
    interrupt: &'a Interrupt,
    engine: EngineArguments,
    service: &'a Service,
    http: &'a Http<'a>,
    /// Prompts that are read first.
    warm: Option<String>,
}

impl Serving<'_> {
    /// Serves one model after the other, as they are asked for. Where one cannot be loaded, the one before is again. A model
    /// whose file has changed or gone is loaded again once that can be read.
    fn serve_all(&self, all: &[Named], first: Opened) -> Result<(), Failure> {
        let (mut named, mut opened, mut exchange) = (&all[0], Ok(first), None);
        let (mut is_lost, mut taken) = (false, None);
        loop {
            let done =
                opened.and_then(|opened| self.serve(named, opened, &mut exchange, &mut taken));
            match (done, &mut exchange) {
                (Err(failure), Some(exchange)) if exchange.is_forward() => {
                    log::error!("{}: {failure}", named.name);
                    self.service.models.fail(exchange, format!("{}: {failure}", named.name));
                }
                (Err(failure), _) if !is_lost => return Err(failure),
                (Ok(_), _) if self.service.queue.is_closed() => return Ok(()),
                (Ok(Served::Lost(failure)) | Err(failure), _) => {
                    is_lost = true;
                    if let Some(again) = self.open_again(named, &failure) {
                        opened = Ok(again);
                        continue;
                    }
                    exchange = self.service.models.exchange();
                }
                (Ok(Served::Asked), _) => {
                    is_lost = false;
                    exchange = self.service.models.exchange();
                }
            }
            let Some(exchange) = &exchange else { return Ok(()) };
            self.service.set(State::Loading);
            wick_linux::trim();
            named = &all[exchange.model()];
            opened = Opened::of(named, self.arguments);
        }
    }

    /// Waits until a model can be opened that was lost; `None` if the service ends before, or another one is asked for.
    fn open_again(&self, named: &Named, failure: &Failure) -> Option<Opened> {
        log::error!("{failure}; the model is loaded again once it can be read");
        self.service.set(State::Failed(failure.to_string()));
        wick_linux::trim();
        let mut turn = self.http.turn(|| self.read_again());
        let mut last = Instant::now();
        loop {
            if turn().is_break() {
                return None;
            }
            thread::sleep(TURN);
            if last.elapsed() < RETRY {
                continue;
            }
            last = Instant::now();
            if let Ok(opened) = Opened::of(named, self.arguments) {
                self.service.set(State::Loading);
                return Some(opened);
            }
        }
    }

    /// Serves a model until the service ends, or another one is asked for, or its file is lost. The exchange is over once
    /// it is loaded. `first_taken` is what the process had before its first model.
    fn serve(
        &self,
        named: &Named,
        opened: Opened,
        exchange: &mut Option<Exchange>,
        first_taken: &mut Option<usize>,
    ) -> Result<Served, Failure> {
        let Serving { arguments, service, http, .. } = self;
        let (answering, Opened { files, tokenizer }) = (&arguments.answering, opened);
        let loading = format!("{}: {} is being loaded", http.place, files.name());
        supervisor::status(&loading);
        note(&loading);
        let model = files.model(arguments.gating.overrides())?;
        let forms = forms(tokenizer);
        let engine = &self.engine.again(*first_taken);
        if first_taken.is_none() {
            *first_taken = wick_linux::resident_anonymous().map(|bytes| bytes as usize);
        }
        let wanted = Wanted::of_service(arguments.parallel);
        let options = answering.choose(&model, wanted, engine);
        with_engine(&model, options, None, engine, |engine, arena| {
            let silence = Some(seconds(arguments.padding)).filter(|time| !time.is_zero());
            let name = named.name.clone();
            let ready = answering.ready(&model, &engine, name, forms, service, silence)?;
            let ready = Arc::new(ready);
            let scheduler = answering.scheduler(engine, arena)?;
            let (queue, metrics): (&Queue, &Metrics) = (&service.queue, &service.metrics);
            let saved = arguments.cache.open(&model, scheduler.engine().options().kv);
            let stall = seconds(arguments.max_stall);
            let worker = Worker::new(scheduler, &ready.tokenizer, queue, metrics, stall);
            let warming = self.warm.as_ref().map(|text| Warming::begin(text, &ready, queue));
            let warming = warming.transpose().with_context(|| arguments.cache.warm_name());
            let _reads_on = warming.or_exit(Exit::Usage)?;
            self.interrupt.serving();
            service.activity.touch();
            service.set(State::Ready(Arc::clone(&ready)));
            *exchange = None;
            let answers = format!("{}: {} answers", http.place, ready.name);
            supervisor::ready(&answers);
            note(&answers);
            Ok(self.answer(worker.with_saved(saved), &model))
        })
    }

    /// Answers with a model until the service ends, or another one is asked for, or its file is lost: it is not any more what
    /// it was, or cannot be read while another one lies in its place.
    fn answer(&self, worker: Worker<'_, '_>, model: &Model<'_>) -> Served {
        let unread = OnceCell::new();
        let say = naming(model);
        let name = |failure: &SessionFailure| {
            let said = say(failure);
            if let SessionFailure::Step(StepError::Store(_)) = failure {
                let _first_is_enough = unread.set(said.clone());
            }
            said
        };
        let mut turn = self.http.turn(|| self.read_again());
        let (mut looked, mut is_replaced) = (Instant::now(), false);
        let done = worker.naming(&name).run(|| {
            if unread.get().is_some() && looked.elapsed() > RETRY {
                looked = Instant::now();
                is_replaced = model.files.are_replaced();
            }
            if is_replaced { ControlFlow::Break(()) } else { turn() }
        });
        match (done, unread.into_inner().filter(|_| is_replaced)) {
            (Err(error), _) => {
                let said = say(&SessionFailure::Step(error));
                Served::Lost(Failure::new(Exit::Model, said))
            }
            (Ok(()), Some(said)) => Served::Lost(Failure::new(Exit::Model, said)),
            (Ok(()), None) => Served::Asked,
        }
    }

    /// Has tokens drawn from now on as the settings say, which may have changed.
    fn read_again(&self) {
        match (self.again)() {
            Ok(arguments) => {
                self.service.usual.set(arguments.answering.usual());
                note("how tokens are drawn was read again");
            }
            Err(failure) => log::warn!("tokens are drawn as they were: {failure}"),
        }
    }
}
