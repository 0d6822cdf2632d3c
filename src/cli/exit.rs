//! How the process ends, and why.

use crate::screen;
use log::Level;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use wick_core::{SampleError, StepError, StoreError, StoreReason};
use wick_linux::host::HostError;

/// Exit codes, as `wick --help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// The output cannot be written, or something else went wrong on the way.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A model file cannot be read, is damaged, has changed while in use, or is none that wick runs.
    Model = 3,
    /// The model does not fit into memory, or the system refuses memory.
    Memory = 4,
    /// The input is wrong.
    Input = 5,
    /// Ended by SIGHUP: its terminal has gone.
    HungUp = 129,
    /// Interrupted by ctrl-C.
    Interrupted = 130,
    /// Ended by SIGTERM.
    Terminated = 143,
}

impl Exit {
    /// Whether somebody has ended the process.
    fn is_signal(self) -> bool {
        matches!(self, Exit::HungUp | Exit::Interrupted | Exit::Terminated)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// An error and the exit code that goes with it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    error: anyhow::Error,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Failure {
        Failure { exit, error: anyhow::Error::msg(message.to_string()) }
    }

    /// Somebody pressed ctrl-C, or ended the process in another way.
    pub(crate) fn ended_by_signal(exit: Exit) -> Failure {
        Failure::new(exit, "interrupted")
    }

    /// Something went wrong that was said when it did.
    pub(crate) fn told(exit: Exit) -> Failure {
        Failure { exit, error: Told.into() }
    }

    /// The same, as something that is wrong with the input.
    pub(crate) fn into_input(self) -> Failure {
        Failure { exit: Exit::Input, ..self }
    }

    /// One line on stderr, none for a signal; if even that cannot be written there is nobody
    /// left to tell.
    pub(crate) fn report(&self) {
        if !self.exit.is_signal() && !self.error.is::<Told>() {
            let _nobody_listens = writeln!(io::stderr(), "{}{self}", screen::prefix(Level::Error));
        }
    }

    /// Whether the model can go on with another message.
    pub(crate) fn leaves_model_ready(&self) -> bool {
        let is_lost = |error: &StoreError| error.reason == StoreReason::Changed;
        matches!(self.exit, Exit::Input | Exit::Interrupted)
            || self.unread().is_some_and(|error| !is_lost(error))
    }

    /// The expert that could not be read, if that is what went wrong.
    pub(crate) fn unread(&self) -> Option<&StoreError> {
        match self.error.downcast_ref()? {
            StepError::Store(error) => Some(error),
            _ => None,
        }
    }

    /// What the model computes that no sound model does, if that is what went wrong.
    pub(crate) fn damage(&self) -> Option<&dyn fmt::Display> {
        if let Some(error) = self.error.downcast_ref::<SampleError>() {
            return Some(error);
        }
        match self.error.downcast_ref()? {
            StepError::Damaged(damage) => Some(damage),
            _ => None,
        }
    }

    /// Whether the reader of the output has gone, which is its right.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        let mut causes = self.error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
        causes.any(|e| e.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for Failure {
    /// The error and its causes on one line, as a terminal may show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&screen::line(&format!("{:#}", self.error).replace('\n', " ")))
    }
}

/// What was said before the process ended.
#[derive(Debug)]
struct Told;

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("something went wrong before")
    }
}

impl std::error::Error for Told {}

/// Output that cannot be written is the one error that needs no telling where it came from.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        let error = anyhow::Error::new(error).context("the output cannot be written");
        Failure { exit: Exit::Failed, error }
    }
}

/// What is wrong with the file that is written, or with what it is made of.
impl From<wick_prepare::Error> for Failure {
    fn from(error: wick_prepare::Error) -> Failure {
        let exit = match error {
            wick_prepare::Error::File { .. } => Exit::Failed,
            wick_prepare::Error::Input { .. } | wick_prepare::Error::Weight { .. } => Exit::Model,
            wick_prepare::Error::Interrupted => Exit::Interrupted,
            _ => Exit::Usage,
        };
        Failure { exit, error: error.into() }
    }
}

/// What is wrong with what is to be fetched, or on the way to it.
impl From<wick_fetch::Error> for Failure {
    fn from(error: wick_fetch::Error) -> Failure {
        let exit = if error.is_usage() { Exit::Usage } else { Exit::Failed };
        Failure { exit, error: error.into() }
    }
}

/// A step fails for want of an expert, or because it was asked for too much.
impl From<StepError> for Failure {
    fn from(error: StepError) -> Failure {
        let exit = match error {
            StepError::Store(_) | StepError::Damaged(_) => Exit::Model,
            _ => Exit::Input,
        };
        Failure { exit, error: error.into() }
    }
}

/// A generation fails as its steps do, or because its logits are of no use.
impl From<wick_session::Failure> for Failure {
    fn from(failure: wick_session::Failure) -> Failure {
        match failure {
            wick_session::Failure::Step(error) => error.into(),
            wick_session::Failure::Sample(error) => {
                Failure { exit: Exit::Model, error: error.into() }
            }
            wick_session::Failure::Constraint(error) => {
                Failure { exit: Exit::Input, error: error.into() }
            }
        }
    }
}

/// What is wrong between a path and an engine: the options, the model, or the memory for it.
impl From<HostError> for Failure {
    fn from(error: HostError) -> Failure {
        let exit = match &error {
            HostError::Options(_) => Exit::Usage,
            error if error.is_of_memory() => Exit::Memory,
            error if error.is_of_open_files() => Exit::Failed,
            _ => Exit::Model,
        };
        Failure { exit, error: error.into() }
    }
}

/// Gives an error its exit code.
pub(crate) trait OrExit<T> {
    fn or_exit(self, exit: Exit) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> Result<T, Failure> {
        self.map_err(|error| Failure { exit, error: error.into() })
    }
}
