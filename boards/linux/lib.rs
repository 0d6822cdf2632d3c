//! What wick needs from Linux: files mapped into memory, a pool of pinned threads, and honest
//! answers to how many processors and how much memory the process may use and how fast it is.

mod arrange;
mod bandwidth;
mod board;
mod cpu;
mod map;
mod memory;
mod pool;

pub use arrange::ArrangedMemory;
pub use bandwidth::read_bandwidth;
pub use board::Board;
pub use cpu::{Cpus, all_kernels, features, kernels};
pub use map::{MapError, ModelFile};
pub use memory::{MemoryLimit, memory_limit, peak_resident, resident};
pub use pool::Pool;
