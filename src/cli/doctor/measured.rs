//! How fast memory and a file are read here.

use crate::exit::{Exit, Failure, OrExit};
use anyhow::Context;
use serde::Serialize;
use std::path::Path;
use std::time::Duration;
use wick_core::Parallel;
use wick_linux::board::{Expectation, Speeds, Work};
use wick_linux::reads::{measure_reads, try_uring};
use wick_linux::{Cpus, Pool, read_bandwidth};

/// What was measured.
#[derive(Serialize)]
pub(super) struct Measured {
    pub(super) threads: usize,
    /// Bytes of memory that they read per second.
    pub(super) memory: Option<f64>,
    pub(super) storage: Option<StorageSpeed>,
    /// Why io_uring is refused; `None` if it is not.
    pub(super) io_uring: Option<String>,
}

/// How fast the file is read.
#[derive(Serialize)]
pub(super) struct StorageSpeed {
    /// Bytes per second in the best way, with so many reads of so many bytes at once.
    pub(super) bandwidth: f64,
    pub(super) reads: usize,
    pub(super) bytes: usize,
    /// Whether reads go past the page cache; if not, this may be the speed of memory.
    pub(super) is_direct: bool,
    /// All that was tried.
    samples: Vec<Sample>,
}

#[derive(Serialize)]
struct Sample {
    reads: usize,
    bytes: usize,
    bandwidth: f64,
}

impl Measured {
    /// Measures memory, and the file at `path` if there is one that is large enough to tell.
    pub(super) fn of(path: Option<&Path>) -> Result<Measured, Failure> {
        let storage = path.map(StorageSpeed::of).transpose()?.flatten();
        let cpus = Cpus::detect();
        let pool = Pool::new(cpus.threads(), &cpus);
        Ok(Measured {
            threads: pool.threads(),
            memory: read_bandwidth(&pool),
            storage,
            io_uring: try_uring().err().map(|error| error.to_string()),
        })
    }

    /// How fast a token is expected to be; `None` if what bounds it was not measured.
    pub(super) fn expect(&self, work: Work) -> Option<Expectation> {
        let storage = self.storage.as_ref().map(|storage| storage.bandwidth);
        let storage = if work.storage > 0.0 { storage? } else { f64::INFINITY };
        let (products, reads) = (f64::INFINITY, f64::INFINITY);
        Some(Speeds { memory: self.memory?, products, storage, reads }.expect(work))
    }
}

impl StorageSpeed {
    /// How fast reads of each size are, one at a time and the most at once that were tried.
    pub(super) fn by_size(&self) -> Vec<String> {
        let of_size = |samples: &[Sample]| {
            let (one, most) = (samples.first()?, samples.last()?);
            let mb = |sample: &Sample| format!("{:.0} MB/s", sample.bandwidth / 1e6);
            let (size, all) = (one.bytes >> 10, most.reads);
            Some(format!("reads of {size} KiB: {} one at a time, {} with {all}", mb(one), mb(most)))
        };
        self.samples.chunk_by(|a, b| a.bytes == b.bytes).filter_map(of_size).collect()
    }

    fn of(path: &Path) -> Result<Option<StorageSpeed>, Failure> {
        let speed = measure_reads(path, Duration::from_secs(2));
        let Some(speed) = speed.context("measuring reads").or_exit(Exit::Failed)? else {
            return Ok(None);
        };
        let sample = |s: &wick_linux::reads::SpeedSample| Sample {
            reads: s.depth,
            bytes: s.size,
            bandwidth: s.bandwidth,
        };
        let best = speed.best;
        Ok(Some(StorageSpeed {
            bandwidth: best.bandwidth,
            reads: best.depth,
            bytes: best.size,
            is_direct: speed.is_direct,
            samples: speed.samples.iter().map(sample).collect(),
        }))
    }
}
