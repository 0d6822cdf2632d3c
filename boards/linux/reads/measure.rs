//! How fast a device is read, and what makes it so.

use super::{Reading, Reads, Request};
use crate::block_file::{ALIGNMENT, BlockFile, Caching};
use crate::slot_memory::Memory;
use rustix::io::Errno;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wick_core::TIME_LIMIT;

/// Reads in flight at once that are tried.
const DEPTHS: [usize; 5] = [1, 2, 4, 8, 16];
/// Bytes of a read that are tried.
const SIZES: [usize; 4] = [128 << 10, 256 << 10, 512 << 10, 1 << 20];
/// What is as good as the best is this share of it or more.
const AS_GOOD: f64 = 0.95;
/// Less of a file than this may be answered from a device's own cache.
const LEAST: u64 = 16 << 20;

/// How fast a device is read.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadSpeed {
    /// The fewest reads in flight, and the smallest, that are as good as any.
    pub best: SpeedSample,
    /// All that was tried.
    pub samples: Vec<SpeedSample>,
    /// Whether reads went past the page cache; if not, the speed may be that of memory.
    pub is_direct: bool,
}

/// How fast a device is read in one way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpeedSample {
    /// Reads in flight at once.
    pub depth: usize,
    /// Bytes of a read.
    pub size: usize,
    /// Bytes per second.
    pub bandwidth: f64,
}

/// Measures for about `duration` how fast the file or device at `path` is read in reads of several
/// sizes, spread over all of it, with several in flight. `None` if it is too small to tell.
pub fn measure_reads(path: &Path, duration: Duration) -> io::Result<Option<ReadSpeed>> {
    let file = BlockFile::open(path, Caching::Direct)?;
    if file.size() < LEAST {
        return Ok(None);
    }
    let (size, is_direct) = (file.size(), file.is_direct());
    let largest = SIZES[SIZES.len() - 1];
    let memory = Arc::new(Memory::new(DEPTHS[DEPTHS.len() - 1] * largest)?);
    let mut reads = Reading::default().open(Arc::new([file]), &memory)?;
    let each = duration / (DEPTHS.len() * SIZES.len()) as u32;
    let mut spread = Spread { size, at: 0 };
    let mut samples = Vec::new();
    for read in SIZES {
        for depth in DEPTHS {
            let bandwidth = sample(&mut reads, &memory, &mut spread, depth, read, each)?;
            samples.push(SpeedSample { depth, size: read, bandwidth });
        }
    }
    Ok(Some(ReadSpeed { best: choose(&samples), samples, is_direct }))
}

/// The least that is as good as the best: few reads first, then small ones.
fn choose(samples: &[SpeedSample]) -> SpeedSample {
    let most = samples.iter().map(|sample| sample.bandwidth).fold(0.0, f64::max);
    let good = samples.iter().filter(|sample| sample.bandwidth >= AS_GOOD * most);
    *good.min_by_key(|sample| (sample.depth, sample.size)).expect("the best is as good as itself")
}

/// Offsets spread over a file, none of which comes again soon.
struct Spread {
    size: u64,
    at: u64,
}

impl Spread {
    /// The offset of the next read of `len` bytes.
    fn next(&mut self, len: usize) -> u64 {
        // Steps of the golden section of the file leave no large gaps and meet no place twice soon.
        let step = (self.size as f64 * 0.618_033_988_749_895) as u64;
        self.at = (self.at + step) % self.size;
        let place = self.at.min(self.size - len as u64);
        place / ALIGNMENT as u64 * ALIGNMENT as u64
    }
}

/// Bytes per second of reads of `size` bytes, `depth` at once, for some time.
fn sample(
    reads: &mut dyn Reads,
    memory: &Arc<Memory>,
    spread: &mut Spread,
    depth: usize,
    size: usize,
    duration: Duration,
) -> io::Result<f64> {
    let start = Instant::now();
    let mut bytes = 0;
    let submit = |reads: &mut dyn Reads, spread: &mut Spread, lane: usize| {
        let (memory, start) = (Arc::clone(memory), lane * size);
        let offset = spread.next(size);
        let (id, file, len, least) = (lane as u64, 0, size, size);
        // SAFETY: each lane has memory of its own, where one read at a time is on its way.
        unsafe { reads.submit(Request { id, file, offset, memory, start, len, least }) };
    };
    (0..depth).for_each(|lane| submit(reads, spread, lane));
    let mut failed = None;
    while let Some(completion) = reads.complete(TIME_LIMIT) {
        match completion.result {
            Ok(read) => bytes += read,
            Err(error) => failed = Some(error),
        }
        if failed.is_none() && start.elapsed() < duration {
            submit(reads, spread, completion.id as usize);
        }
    }
    if reads.in_flight() > 0 {
        return Err(Errno::TIMEDOUT.into());
    }
    failed.map_or(Ok(bytes as f64 / start.elapsed().as_secs_f64().max(1e-9)), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_speed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, vec![1; LEAST as usize + 777]).unwrap();
        let speed = measure_reads(&path, Duration::ZERO).unwrap().unwrap();
        assert_eq!(speed.samples.len(), DEPTHS.len() * SIZES.len());
        assert!(speed.samples.iter().all(|s| s.bandwidth > 0.0 && s.bandwidth.is_finite()));
        std::fs::write(&path, b"little").unwrap();
        assert_eq!(measure_reads(&path, Duration::ZERO).unwrap(), None);
    }

    #[test]
    fn few_small_reads_are_chosen_if_they_are_as_good() {
        let sample = |depth, size, bandwidth| SpeedSample { depth, size, bandwidth };
        let samples =
            [sample(1, 8, 10.0), sample(2, 8, 96.0), sample(2, 4, 97.0), sample(8, 8, 100.0)];
        assert_eq!(choose(&samples), samples[2]);
    }
}
