//! How many sequences a memory has room for, and of which length.

use std::iter::successors;
use wick_core::Options;
use wick_linux::host::{HostError, Placement};

/// Positions that a sequence keeps where memory is scarce, unless somebody asks for fewer.
const LEAST_CONTEXT: usize = 1024;

/// What is chosen where nobody says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Sequences, if somebody says how many.
    pub(crate) parallel: Option<usize>,
    /// Else so many at most, then half as many, and so on.
    pub(crate) most: usize,
    /// Where experts are read as they are wanted, of the memory for them one byte in so many may go to KV caches.
    pub(crate) share: usize,
    /// Whether each may have fewer positions than usual.
    pub(crate) may_shorten: bool,
}

impl Wanted {
    /// For a service, if nobody says how many.
    pub(crate) fn of_service(parallel: Option<usize>) -> Wanted {
        Wanted { parallel, most: 4, share: 4, may_shorten: true }
    }

    /// As many sequences as leave all experts in memory, or most of it for them; then one with as many positions as do, or
    /// with few. `options` says what so many sequences take, and `place` what stands where then.
    pub(crate) fn choose(
        self,
        options: impl Fn(usize) -> Options,
        place: impl Fn(Options) -> Result<Placement, HostError>,
    ) -> Options {
        let Wanted { parallel, most, share, may_shorten } = self;
        let fits = |options: &Options| {
            place(*options).is_ok_and(|Placement { catalogue, plan, .. }| {
                catalogue.is_none() || plan.kv.saturating_mul(share) <= plan.slots
            })
        };
        let halves = |number: usize, least: usize| {
            successors(Some(number), move |n| Some(n / 2).filter(|half| *half >= least))
        };
        let (most, least) = parallel.map_or((most, 1), |parallel| (parallel, parallel));
        if let Some(all) = halves(most, least).map(&options).find(fits) {
            return all;
        }
        let few = options(least);
        let least_context = if may_shorten { LEAST_CONTEXT.min(few.context) } else { few.context };
        let shorter = |context: usize| Options { context, batch: few.batch.min(context), ..few };
        let contexts = || halves(few.context, least_context).map(shorter);
        contexts().find(fits).or_else(|| contexts().last()).unwrap_or(few)
    }
}
