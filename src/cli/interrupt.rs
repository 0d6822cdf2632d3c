//! Signals that end the process: ctrl-C, SIGTERM and SIGHUP.
//!
//! While nothing checks for them, such as in loading or waiting for input, the first one ends the
//! process at once. Where something does, it fails the next check, so that the verb ends in order; if
//! that takes too long, or a second one comes, the process ends. In a conversation ctrl-C stops an
//! answer alone, which may take as long as it does.

use crate::exit::{Exit, Failure, OrExit};
use crate::terminal::Terminal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag::register_conditional_shutdown;
use signal_hook::iterator::Signals;
use signal_hook::low_level;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use wick_linux::TooManyFiles;

/// Time that a verb has to end in order.
const GRACE: Duration = Duration::from_millis(800);
/// How often a second signal is looked for meanwhile.
const TURN: Duration = Duration::from_millis(20);
/// Bytes of the stack of the thread that waits for signals.
const STACK: usize = 128 << 10;

/// The terminal, as it was when the process began.
static TERMINAL: OnceLock<Option<Terminal>> = OnceLock::new();

/// What signals have come, and whether somebody checks.
#[derive(Clone)]
pub(crate) struct Interrupt(Arc<State>);

/// What is done before the process ends.
pub(crate) type Leave = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct State {
    /// The last signal that came; 0 if none did.
    signal: AtomicI32,
    /// One of the following.
    mode: AtomicU8,
    /// Whether a service was asked to read its settings again.
    reload: AtomicBool,
    /// How a service leaves that is being loaded.
    leave: Mutex<Option<Leave>>,
}

/// Nothing checks.
const IDLE: u8 = 0;
/// Something checks, and ends.
const BUSY: u8 = 1;
/// The same, but ctrl-C is no end.
const ANSWERING: u8 = 2;
/// A service checks, and takes the time that it needs to end; SIGHUP is no end to it.
const SERVING: u8 = 3;
/// A service is being loaded: nothing checks, and it ends as one that has done what it should.
const LOADING: u8 = 4;

impl Interrupt {
    /// Watches for signals, of which the first ends the process as long as nobody is
    /// [busy](Interrupt::busy). SIGHUP stays ignored where it is, as under nohup.
    pub(crate) fn watch() -> Result<Interrupt, Failure> {
        let mut numbers = vec![SIGINT, SIGTERM];
        if !is_ignored(SIGHUP) {
            numbers.push(SIGHUP);
        }
        // A file that may not grow is an error in writing, and no end.
        let watched = [&numbers[..], &[SIGXFSZ]].concat();
        let signals = Signals::new(watched).map_err(TooManyFiles::name).or_exit(Exit::Failed)?;
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let _set_before = TERMINAL.set(Terminal::saved());
        let serve = move || serve(signals, &shared);
        if wick_linux::spawn("signals", STACK, serve).is_err() {
            // No thread to be had: all end at once.
            for number in numbers {
                let always = Arc::new(AtomicBool::new(true));
                register_conditional_shutdown(number, exit(number) as i32, always)
                    .or_exit(Exit::Failed)?;
            }
        }
        Ok(Interrupt(state))
    }

    /// Fails once a signal has come.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        ended_by(self.0.signal.load(Ordering::SeqCst))
    }

    /// From here on something checks, and the verb ends when a check fails.
    pub(crate) fn busy(&self) {
        self.0.mode.store(BUSY, Ordering::SeqCst);
    }

    /// The same, but ctrl-C stops what is being answered from here on and no more, however often it is pressed.
    pub(crate) fn answering(&self) {
        self.0.mode.store(ANSWERING, Ordering::SeqCst);
        let (was, new) = (SIGINT, 0);
        let _other = self.0.signal.compare_exchange(was, new, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// From here on a service is being loaded: a signal has it `leave`, in place of what it was to do before, and ends the
    /// process, as one that was asked to.
    pub(crate) fn loading(&self, leave: Leave) {
        *self.0.leave.lock().unwrap_or_else(PoisonError::into_inner) = Some(leave);
        self.0.mode.store(LOADING, Ordering::SeqCst);
    }

    /// From here on a service checks, which ends in order however long that takes; a second signal ends it at once.
    /// SIGHUP asks it to [read its settings again](Interrupt::reload).
    pub(crate) fn serving(&self) {
        self.0.mode.store(SERVING, Ordering::SeqCst);
    }

    /// What was to end has ended in order.
    pub(crate) fn settle(&self) {
        self.0.signal.store(0, Ordering::SeqCst);
    }

    /// Whether SIGHUP has come since this was asked last.
    pub(crate) fn reload(&self) -> bool {
        self.0.reload.swap(false, Ordering::SeqCst)
    }

    /// From here on nothing checks: a single signal ends the process. Fails if there was one before,
    /// which may have come after the last check.
    pub(crate) fn idle(&self) -> Result<(), Failure> {
        self.0.mode.store(IDLE, Ordering::SeqCst);
        ended_by(self.0.signal.swap(0, Ordering::SeqCst))
    }
}

/// The life of the thread that waits for signals.
fn serve(mut signals: Signals, state: &State) {
    loop {
        for signal in signals.wait().filter(|signal| *signal != SIGXFSZ) {
            let mode = state.mode.load(Ordering::SeqCst);
            if signal == SIGHUP && matches!(mode, SERVING | LOADING) {
                state.reload.store(true, Ordering::SeqCst);
                continue;
            }
            let is_second = state.signal.swap(signal, Ordering::SeqCst) != 0;
            let stops = signal == SIGINT && mode == ANSWERING;
            if mode == LOADING && !is_second {
                let leave = state.leave.lock().unwrap_or_else(PoisonError::into_inner);
                leave.iter().for_each(|leave| leave());
                leave_in_order();
                low_level::exit(0);
            }
            if mode == IDLE || is_second && !stops {
                end(signal);
            }
        }
        let signal = state.signal.load(Ordering::SeqCst);
        let mode = state.mode.load(Ordering::SeqCst);
        let stops = signal == SIGINT && mode == ANSWERING || mode == SERVING;
        if signal != 0 && !stops {
            let start = Instant::now();
            while start.elapsed() < GRACE && signals.pending().all(|signal| signal == SIGXFSZ) {
                thread::sleep(TURN);
            }
            end(signal);
        }
    }
}

/// Ends the process without waiting for any other thread.
fn end(signal: i32) -> ! {
    wick_fetch::end_all();
    wick_prepare::remove_unfinished();
    restore_terminal();
    low_level::exit(exit(signal) as i32)
}

/// What is left to do when the system refuses memory, before the process ends.
pub(crate) fn leave_in_order() {
    wick_fetch::try_end_all();
    wick_prepare::try_remove_unfinished();
    restore_terminal();
}

fn restore_terminal() {
    TERMINAL.get().and_then(Option::as_ref).inspect(|terminal| terminal.restore());
}

fn ended_by(signal: i32) -> Result<(), Failure> {
    if signal == 0 { Ok(()) } else { Err(Failure::ended_by_signal(exit(signal))) }
}

fn exit(signal: i32) -> Exit {
    match signal {
        SIGTERM => Exit::Terminated,
        SIGHUP => Exit::HungUp,
        _ => Exit::Interrupted,
    }
}

/// Whether whoever started the process has it ignore a signal.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
