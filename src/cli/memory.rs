//! How much memory the process may take.

use crate::exit::{Exit, Failure};
use clap::Args;
use std::fmt;
use std::str::FromStr;
use wick_core::Plan;
use wick_linux::memory_limit;

/// A number of bytes, as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) usize);

impl FromStr for Size {
    type Err = String;

    /// `512M`, `1G`, `1.5GiB`, `1073741824`: units are powers of 1024.
    fn from_str(text: &str) -> Result<Size, String> {
        let wrong = || format!("a size such as 512M, 1G or 1.5G expected, {text:?} found");
        let upper = text.trim().to_ascii_uppercase();
        let digits = upper.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit: f64 = match &upper[digits.len()..] {
            "" | "B" => 1.0,
            "K" | "KB" | "KIB" => 1024.0,
            "M" | "MB" | "MIB" => 1024f64.powi(2),
            "G" | "GB" | "GIB" => 1024f64.powi(3),
            _ => return Err(wrong()),
        };
        let number: f64 = digits.trim_end().parse().map_err(|_| wrong())?;
        let bytes = number * unit;
        let fits = bytes.is_finite() && (1.0..isize::MAX as f64).contains(&bytes);
        if fits { Ok(Size(bytes as usize)) } else { Err(wrong()) }
    }
}

/// Bytes, shown in MiB.
pub(crate) struct Mib(pub(crate) usize);

impl fmt::Display for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MiB", self.0 as f64 / f64::from(1 << 20))
    }
}

/// How much memory may be taken.
#[derive(Args, Clone, Copy)]
pub(crate) struct MemoryArguments {
    /// Memory that the whole process may take, such as 1G: experts that do not fit are read from the
    /// file when they are wanted [default: what the machine and the control group leave]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<Size>,
}

/// The memory that a model may take.
pub(crate) struct Budget {
    /// Bytes that the whole process may take.
    pub(crate) whole: usize,
    /// Bytes that it has taken already, its files' pages aside.
    pub(crate) taken: usize,
    /// Who set the limit.
    source: String,
}

impl MemoryArguments {
    /// What a model may take; `None` if nobody knows.
    pub(crate) fn budget(&self) -> Option<Budget> {
        let taken = wick_linux::resident_anonymous().unwrap_or(0) as usize;
        if let Some(Size(whole)) = self.memory {
            return Some(Budget { whole, taken, source: "--memory".into() });
        }
        // What is left to the process does not count what it has.
        let limit = memory_limit()?;
        let whole = (limit.bytes as usize).saturating_add(taken);
        Some(Budget { whole, taken, source: limit.source.to_string() })
    }
}

/// Bytes that are kept free of any budget: for the program's own pages, stacks, buffers of reads, what the
/// allocator holds back.
const KEPT_FREE: usize = 14 << 20;
/// Of a budget, one byte in so many is kept free for what the system counts on top, such as page
/// tables; but no more than [`MOST_ON_TOP`].
const ON_TOP: usize = 64;
const MOST_ON_TOP: usize = 64 << 20;

impl Budget {
    /// Bytes that are kept free.
    pub(crate) fn margin(&self) -> usize {
        KEPT_FREE + (self.whole / ON_TOP).min(MOST_ON_TOP)
    }

    /// Bytes that are left for the model.
    pub(crate) fn bytes(&self) -> usize {
        self.whole.saturating_sub(self.taken + self.margin())
    }

    /// The refusal of a model that takes at least `least`, and `buffers` for reads.
    pub(crate) fn refuse(&self, least: &Plan, buffers: usize, context: usize) -> Failure {
        let program = self.taken + KEPT_FREE + buffers;
        let needed = least.total() + program;
        // The margin is a share of the whole.
        let on_top = (needed / (ON_TOP - 1) + 1).min(MOST_ON_TOP);
        let kib = |bytes: usize| bytes.div_ceil(1024);
        Failure::new(
            Exit::Memory,
            format_args!(
                "{} is {}, but {} ({}K) is the least that would do: weights {}, KV cache for a \
                 context of {context} {}, scratch {}, expert slots {}, the program {}; allow more \
                 memory or ask for a smaller --context",
                self.source,
                Mib(self.whole),
                Mib(needed + on_top),
                kib(needed + on_top),
                Mib(least.weights),
                Mib(least.kv),
                Mib(least.scratch + least.sampler),
                Mib(least.slots),
                Mib(program + on_top),
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let bytes = |text: &str| text.parse::<Size>().map(|size| size.0).ok();
        assert_eq!(bytes("1G"), Some(1 << 30));
        assert_eq!(bytes("1.5GiB"), Some(3 << 29));
        assert_eq!(bytes(" 512 mb "), Some(512 << 20));
        assert_eq!(bytes("4096"), Some(4096));
        for wrong in ["", "G", "1T5", "-1G", "nan", "inf", "0", "1e400", "1 potato"] {
            assert_eq!(bytes(wrong), None, "{wrong:?}");
        }
    }
}
