//! How much a template may take: steps, memory, output, depth.

use super::error::{Result, TemplateError};
use std::cell::Cell;

/// What a template may take. Text of a long conversation is no fault of the template: [`Limits::for_input`] adds to
/// the bounds what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Expressions evaluated, plus one step for each [`READ_PER_STEP`](Self::READ_PER_STEP) bytes looked through.
    pub steps: usize,
    /// Bytes of all texts, lists and dictionaries made on the way, whether still in use or not.
    pub bytes: usize,
    /// Bytes of the prompt.
    pub output: usize,
    /// How deep expressions, blocks, macros and values may nest. All of it needs less than 128 KiB of
    /// stack.
    pub depth: usize,
}

impl Limits {
    /// Bytes that a search or a copy goes through in one step.
    pub const READ_PER_STEP: usize = 64;

    /// Longest template, in bytes. Those of published models have up to 30 KB; reading one takes up to a hundred times
    /// its size.
    pub const SOURCE: usize = 1 << 18;

    /// The bounds for a conversation of so many bytes.
    pub fn for_input(bytes: usize) -> Limits {
        Limits {
            steps: 1_000_000 + bytes,
            bytes: (4 << 20) + 16 * bytes,
            output: (4 << 20) + 4 * bytes,
            depth: 96,
        }
    }
}

/// What is left of it.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: Limits,
    steps: Cell<usize>,
    bytes: Cell<usize>,
    depth: Cell<usize>,
}

impl Budget {
    pub(crate) fn new(limits: Limits) -> Budget {
        Budget { limits, steps: Cell::new(0), bytes: Cell::new(0), depth: Cell::new(0) }
    }

    /// Takes a step.
    pub(crate) fn step(&self) -> Result<()> {
        self.steps(1)
    }

    /// Looks through so many bytes.
    pub(crate) fn read(&self, bytes: usize) -> Result<()> {
        self.steps(bytes / Limits::READ_PER_STEP)
    }

    fn steps(&self, count: usize) -> Result<()> {
        let taken = self.steps.get().saturating_add(count);
        self.steps.set(taken);
        let most = self.limits.steps;
        if taken <= most {
            return Ok(());
        }
        Err(TemplateError::limit(format_args!("it takes more than {most} steps")))
    }

    /// Makes something of so many bytes.
    pub(crate) fn take(&self, bytes: usize) -> Result<()> {
        let taken = self.bytes.get().saturating_add(bytes);
        let most = self.limits.bytes;
        if taken > most {
            let message = format_args!("it makes more than {most} bytes of texts and lists");
            return Err(TemplateError::limit(message));
        }
        self.bytes.set(taken);
        self.read(bytes)
    }

    /// Refuses an output of so many bytes, if that is too much.
    pub(crate) fn check_output(&self, bytes: usize) -> Result<()> {
        let most = self.limits.output;
        if bytes <= most {
            return Ok(());
        }
        Err(TemplateError::limit(format_args!("it writes more than {most} bytes")))
    }

    /// Refuses a list or dictionary of so many bytes, counted as if nothing in it were shared: it could not be written.
    pub(crate) fn check_size(&self, bytes: usize) -> Result<()> {
        let most = self.limits.output;
        if bytes <= most {
            return Ok(());
        }
        Err(TemplateError::limit(format_args!("it makes a list of more than {most} bytes")))
    }

    /// Refuses a value that nests so deep, if that is too deep.
    pub(crate) fn check_depth(&self, depth: usize) -> Result<()> {
        let most = self.limits.depth;
        if depth <= most {
            return Ok(());
        }
        Err(TemplateError::limit(format_args!("it nests deeper than {most}")))
    }

    /// One deeper, until [`Budget::leave`]. After an error nothing goes on, so that nobody has to leave then.
    pub(crate) fn enter(&self) -> Result<()> {
        self.depth.set(self.depth.get() + 1);
        self.check_depth(self.depth.get())
    }

    pub(crate) fn leave(&self) {
        self.depth.set(self.depth.get() - 1);
    }
}
