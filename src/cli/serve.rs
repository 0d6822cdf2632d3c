//! `wick serve`: a model that other programs talk to.

mod arguments;
mod serving;

pub(crate) use arguments::{Again, Arguments};

use crate::answering::forms;
use crate::engine::EngineArguments;
use crate::exit::Failure;
use crate::heat;
use crate::http::{Bounds, Http};
use crate::hub;
use crate::interrupt::Interrupt;
use crate::plan::Report;
use crate::screen::line;
use crate::sequences::Wanted;
use crate::supervisor;
use crate::unit;
use arguments::{Named, seconds};
use serving::{Opened, Serving};
use std::io::{self, Write};
use std::sync::Arc;
use wick_serve::Room;
use wick_serve::service::{Models, Service, State};

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
        if let Some(path) =
            path.as_ref().filter(|path| hub::named(path).is_none() && !path.exists())
        {
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
    let root = arguments.machine.clone().unwrap_or_else(|| "/".into());
    heat::watch(root, engine.threads(), engine.thread_limit.clone(), Arc::clone(&service));
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
