//! A service that answers with one model after the other.

use super::arguments::{Again, Arguments, Named, seconds};
use crate::answering::{forms, naming};
use crate::engine::{EngineArguments, with_engine};
use crate::exit::{Exit, Failure, OrExit};
use crate::http::Http;
use crate::interrupt::Interrupt;
use crate::model::{open, tokenizer};
use crate::report::note;
use crate::sequences::Wanted;
use crate::supervisor;
use anyhow::Context;
use std::cell::OnceCell;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use wick_core::StepError;
use wick_linux::host::{Files, Model};
use wick_serve::http::Warming;
use wick_serve::service::{Exchange, Metrics, Queue, Service, State, Worker};
use wick_session::Failure as SessionFailure;
use wick_text::Tokenizer;

/// How often a file is looked for that cannot be read any more.
const RETRY: Duration = Duration::from_secs(1);
/// How often signals are looked for meanwhile.
const TURN: Duration = Duration::from_millis(20);

/// The files of a model, and its tokenizer.
pub(super) struct Opened {
    pub(super) files: Files,
    pub(super) tokenizer: Tokenizer,
}

impl Opened {
    pub(super) fn of(named: &Named, arguments: &Arguments) -> Result<Opened, Failure> {
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
pub(super) struct Serving<'a> {
    pub(super) arguments: &'a Arguments,
    pub(super) again: Again,
    pub(super) interrupt: &'a Interrupt,
    pub(super) engine: EngineArguments,
    pub(super) service: &'a Service,
    pub(super) http: &'a Http<'a>,
    /// Prompts that are read first.
    pub(super) warm: Option<String>,
}

impl Serving<'_> {
    /// Serves one model after the other, as they are asked for. Where one cannot be loaded, the one before is again. A model
    /// whose file has changed or gone is loaded again once that can be read.
    pub(super) fn serve_all(&self, all: &[Named], first: Opened) -> Result<(), Failure> {
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
