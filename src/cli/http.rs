//! A service's side of HTTP: how it begins, and how it ends.

use crate::exit::{Exit, Failure, OrExit};
use crate::interrupt::{Interrupt, Leave};
use crate::listen::{self, ListenArguments, Listening};
use crate::report::note;
use crate::supervisor;
use anyhow::Context;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wick_serve::http::{Access, Server, Shutdown};
use wick_serve::service::{Service, State};

/// Stack of a thread that handles requests.
pub(crate) const STACK: usize = 1 << 20;
/// How long those who wait for a model are told that there will be none, once the service is to end.
const LEAVE: Duration = Duration::from_secs(1);

/// A thread that speaks HTTP for a service.
pub(crate) struct Http<'a> {
    service: Arc<Service>,
    access: Arc<Access>,
    listen: &'a ListenArguments,
    interrupt: &'a Interrupt,
    shutdown: Shutdown,
    thread: JoinHandle<io::Result<()>>,
    bounds: Bounds,
    /// Where it listens, for people.
    pub(crate) place: String,
    /// Removes the socket that was made.
    remove: Leave,
}

/// What a service keeps to.
pub(crate) struct Bounds {
    /// How long requests may go on once the end has begun.
    pub(crate) grace: Duration,
    /// How long nobody may have asked for anything; `None` for ever.
    pub(crate) idle: Option<Duration>,
    /// Bytes that the process may take, if somebody knows.
    pub(crate) memory: Option<usize>,
}

impl<'a> Http<'a> {
    /// Listens and answers for a service whose model is still to be loaded. A signal ends it meanwhile.
    pub(crate) fn open(
        service: &Arc<Service>,
        listen: &'a ListenArguments,
        interrupt: &'a Interrupt,
        bounds: Bounds,
    ) -> Result<Http<'a>, Failure> {
        let (service, keys) = (Arc::clone(service), listen.keys()?);
        let listening = listen.bind(&keys)?;
        let place = listen::describe(&listening.listeners);
        let (remove, remove_early) = (listening.remover(), listening.remover());
        let Listening { listeners, .. } = listening;
        let (hosts, origins) = (listen.hosts(), listen.origins());
        let access = Arc::new(Access { keys, hosts, origins });
        let (server, shutdown) =
            Server::new(Arc::clone(&service), Arc::clone(&access), listeners, bounds.grace);
        let (running, ended) = mpsc::channel();
        let serve = move || {
            let _dropped_at_the_end: mpsc::Sender<()> = running;
            server.run()
        };
        interrupt.loading(leave(Arc::clone(&service), shutdown.clone(), ended, remove_early));
        let thread = wick_linux::spawn("wick-http", STACK, serve).or_exit(Exit::Failed)?;
        service.metrics.memory(wick_linux::resident, bounds.memory.map(|bytes| bytes as u64));
        let http =
            Http { service, access, listen, interrupt, shutdown, thread, bounds, place, remove };
        Ok(http)
    }

    /// What is looked at between steps: signals, whether HTTP is still spoken, and whether anybody asks for anything. At SIGHUP
    /// keys are read again, and `read_again` what else can be.
    pub(crate) fn turn(&self, read_again: impl Fn()) -> impl FnMut() -> ControlFlow<()> {
        let mut until = None::<Instant>;
        move || {
            wick_linux::advance();
            if self.interrupt.reload() {
                self.reload();
                read_again();
            }
            if self.thread.is_finished() {
                self.service.queue.close();
                return ControlFlow::Break(());
            }
            let is_asked = self.interrupt.check().is_err();
            if is_asked {
                self.service.queue.close();
            }
            if until.is_none() && (is_asked || self.is_idle()) {
                // What has begun to come in at rest is answered still.
                self.shutdown.begin();
                supervisor::stopping();
                until = Some(Instant::now() + self.bounds.grace);
            }
            let is_over = until.is_some_and(|until| Instant::now() > until);
            if is_over {
                self.service.queue.close();
            }
            match is_over || self.service.models.is_exchanged() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }
    }

    fn is_idle(&self) -> bool {
        if self.service.queue.lengths() != (0, 0) {
            self.service.activity.touch();
        }
        self.bounds.idle.is_some_and(|most| self.service.activity.idle() > most)
    }

    fn reload(&self) {
        match self.listen.read_keys_again() {
            Ok(Some(text)) if self.access.keys.set(&text) => note("the keys were read again"),
            Ok(Some(_)) => log::warn!("the keys are those that they were: no key in the file"),
            Ok(None) => {}
            Err(failure) => log::warn!("the keys are those that they were: {failure}"),
        }
    }

    /// Waits until all is told that was answered. A service that was asked to end has done what it should.
    pub(crate) fn finish(self, done: Result<(), Failure>) -> Result<(), Failure> {
        let was_asked = self.interrupt.check().is_err();
        self.service.queue.close();
        self.shutdown.begin();
        let http = self.thread.join();
        (self.remove)();
        done?;
        match http {
            Ok(result) => result.context("HTTP").or_exit(Exit::Failed)?,
            Err(_panic) => return Err(Failure::new(Exit::Failed, "HTTP: the thread has ended")),
        }
        if was_asked {
            self.interrupt.settle()
        }
        Ok(())
    }
}

/// How a service leaves that is being loaded: those who wait are told so.
fn leave(
    service: Arc<Service>,
    shutdown: Shutdown,
    ended: mpsc::Receiver<()>,
    remove: Leave,
) -> Leave {
    let ended = Mutex::new(ended);
    Box::new(move || {
        service.set(State::Failed("the service is ending".into()));
        shutdown.begin();
        let _ended = ended.lock().map(|ended| ended.recv_timeout(LEAVE));
        remove();
    })
}
