//! What keeps a generation to a grammar.

use crate::room::FormShare;
use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;
use std::fmt;
use std::sync::Arc;
use wick_session::{Constraint, ConstraintError};

/// A grammar, and how far a generation is in it.
pub(super) struct Grammar {
    matcher: Matcher,
    allowed: SimpleVob,
    _share: Option<Arc<FormShare>>,
}

impl Grammar {
    /// A grammar at its beginning, and the memory that it may take.
    pub(super) fn new(matcher: Matcher, share: Option<Arc<FormShare>>) -> Grammar {
        Grammar { matcher, allowed: SimpleVob::default(), _share: share }
    }
}

impl Constraint for Grammar {
    fn allowed(&mut self) -> Result<Option<&[u32]>, ConstraintError> {
        self.allowed = self.matcher.compute_mask().map_err(|_| TOO_MUCH)?;
        Ok(Some(self.allowed.as_slice()))
    }

    fn take(&mut self, id: u32) -> Result<(), ConstraintError> {
        self.matcher.consume_token(id).map_err(|_| TOO_MUCH)
    }

    fn is_complete(&self) -> bool {
        self.matcher.is_stopped()
    }
}

pub(super) const TOO_MUCH: ConstraintError =
    ConstraintError { reason: "it takes too much to follow; a simpler schema is needed" };

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammar").finish_non_exhaustive()
    }
}
