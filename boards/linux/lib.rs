//! What wick needs from Linux: files mapped into memory, reads of blocks past the page cache, a pool
//! of pinned threads, and honest answers to how many processors and how much memory the process may
//! use and how fast it is. [`host`] puts them together: from a path to an engine, within a budget.

mod allocator;
mod arrange;
mod bandwidth;
mod block_file;
pub mod board;
mod cgroup;
mod cpu;
mod fault;
pub mod host;
mod identity;
pub mod machine;
mod map;
mod memory;
mod open_files;
mod pool;
mod progress;
pub mod reads;
mod refusal;
mod slot_memory;
mod store;
mod thread;
mod thread_limit;

pub use allocator::{Allocator, trim};
pub use arrange::{ArrangedMemory, Arranging};
pub use bandwidth::read_bandwidth;
pub use block_file::{ALIGNMENT, BlockFile, Caching};
pub use cgroup::has_memory_groups;
pub use cpu::{Cpus, all_kernels, features, kernels};
pub use fault::page_size;
pub use map::{MapError, ModelFile};
pub use memory::{
    LimitSource, MemoryLimit, Mib, memory_limit, peak_resident, resident, resident_anonymous,
};
pub use open_files::TooManyFiles;
pub use pool::Pool;
pub use progress::{advance, progress};
pub use refusal::Refusal;
pub use slot_memory::Memory;
pub use store::{Catalogue, CatalogueError, FileStore, LowBit, SlotCounts};
pub use thread::{on_stack, spawn};
pub use thread_limit::ThreadLimit;
