//! Reads through io_uring.

use super::threads::{READERS, Threads};
use super::{Completion, Reads, Request};
use crate::block_file::{ALIGNMENT, BlockFile, Caching};
use crate::slot_memory::Memory;
use io_uring::{IoUring, Probe, opcode, squeue, types};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::mem;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Reads that the kernel is given at once; more wait here. More than any device of a board takes.
pub const DEPTH: usize = 64;

/// Bytes that the kernel takes as one registered buffer at most.
const LARGEST_BUFFER: usize = 1 << 30;

/// How long dropping waits for reads in flight before it leaves their memory to them.
const GRACE: Duration = Duration::from_millis(200);

/// How long a ring that is refused waits before it looks again for what the kernel has taken.
const TURN: Duration = Duration::from_millis(1);

/// A ring of reads shared with the kernel.
///
/// Where the system refuses the ring after it was set up (`seccomp` in a container), threads make the reads that
/// the kernel has not taken, and all after them.
pub struct Uring {
    ring: IoUring,
    files: Arc<[BlockFile]>,
    /// Addresses of the registered buffers; none if registration was refused.
    buffers: Vec<Range<usize>>,
    /// Reads that the kernel does not know of yet.
    queue: VecDeque<Request>,
    /// Reads that it knows of, each at the place that is its name there.
    running: Vec<Option<Request>>,
    /// Of these, the places of those that it has not taken yet, in the order of the ring.
    given: VecDeque<usize>,
    /// Free places among them.
    free: Vec<usize>,
    /// Who reads since the ring was refused.
    others: Option<Box<dyn Reads>>,
}

impl fmt::Debug for Uring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uring").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

/// Whether io_uring can be used here.
///
/// # Errors
/// As [`Uring::new`].
pub fn try_uring() -> io::Result<()> {
    let file = BlockFile::open(Path::new("/proc/self/exe"), Caching::Buffered)?;
    let memory = Memory::new(ALIGNMENT)?;
    Uring::new(Arc::new([file]), &memory, 1).map(|_ring| ())
}

impl Uring {
    /// A ring for reads of `files`, `depth` at once. Reads into `memory` take less work, if the system
    /// lets it be registered.
    ///
    /// # Errors
    /// io_uring is refused (containers, old kernels), or cannot wait for a limited time (before
    /// Linux 5.11).
    pub fn new(files: Arc<[BlockFile]>, memory: &Memory, depth: usize) -> io::Result<Uring> {
        let depth = depth.clamp(1, 4096);
        let mut ring = IoUring::new(depth as u32)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        if !probe.is_supported(opcode::Read::CODE) || !ring.params().is_feature_ext_arg() {
            return Err(Errno::OPNOTSUPP.into());
        }
        let fds: Vec<_> = files.iter().map(|file| file.file().as_raw_fd()).collect();
        ring.submitter().register_files(&fds)?;
        probe_entry(&mut ring)?;
        let buffers = register(&ring, memory).unwrap_or_else(|error| {
            log::debug!("buffers are not registered: {error}");
            Vec::new()
        });
        let running = (0..depth).map(|_| None).collect();
        let (queue, given) = (VecDeque::with_capacity(depth), VecDeque::with_capacity(depth));
        let free = (0..depth).rev().collect();
        Ok(Uring { ring, files, buffers, queue, running, given, free, others: None })
    }

    /// Gives the kernel as many of the waiting reads as it takes.
    fn push(&mut self) {
        if self.others.is_some() {
            return;
        }
        let mut pushed = false;
        while !self.queue.is_empty()
            && let Some(place) = self.free.pop()
        {
            let request = self.queue.pop_front().expect("the queue is not empty");
            let entry = self.entry(&request).user_data(place as u64);
            self.running[place] = Some(request);
            // SAFETY: the files are open and the memory is handed over until the read has ended.
            let full = unsafe { self.ring.submission().push(&entry) }.is_err();
            assert!(!full, "the ring has an entry for each place");
            self.given.push_back(place);
            pushed = true;
        }
        if pushed {
            let result = self.ring.submit().map(drop);
            self.entered(result);
        }
    }

    /// Takes note of what the kernel has taken, and of how it was entered.
    fn entered(&mut self, result: io::Result<()>) {
        let left = self.ring.submission().len();
        self.given.drain(..self.given.len() - left);
        match result {
            Err(error) if is_refused(&error) => self.hand_over(&error),
            // What is in the ring goes to the kernel with the next call.
            Err(error) => log::debug!("io_uring: {error}"),
            Ok(()) => {}
        }
    }

    /// Has others make the reads that the kernel has not taken, from now on.
    fn hand_over(&mut self, error: &io::Error) {
        log::warn!("io_uring is refused: {error}; reading with threads");
        let others = Threads::or_none(Arc::clone(&self.files), READERS.min(self.running.len()));
        let others = self.others.insert(others);
        let (running, free) = (&mut self.running, &mut self.free);
        let given = self.given.drain(..).filter_map(|place| {
            free.push(place);
            running[place].take()
        });
        // The ring is never entered again, so its entries stay where they are.
        // SAFETY: the memory was handed over with the requests, and the kernel has none of them.
        given.chain(self.queue.drain(..)).for_each(|request| unsafe { others.submit(request) });
    }

    fn entry(&self, request: &Request) -> squeue::Entry {
        let Request { file, offset, len, .. } = *request;
        let (file, target) = (types::Fixed(file as u32), request.target().as_ptr());
        let (start, len) = (target as usize, u32::try_from(len).unwrap_or(u32::MAX));
        let inside = |b: &Range<usize>| b.start <= start && start + len as usize <= b.end;
        match self.buffers.iter().position(inside) {
            Some(buffer) => {
                opcode::ReadFixed::new(file, target, len, buffer as u16).offset(offset).build()
            }
            None => opcode::Read::new(file, target, len).offset(offset).build(),
        }
    }

    /// A read that the kernel has reported.
    fn reap(&mut self) -> Option<Completion> {
        let entry = self.ring.completion().next()?;
        let place = entry.user_data() as usize;
        let request = self.running[place].take().expect("the kernel reports what it was given");
        self.free.push(place);
        let result = match entry.result() {
            error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
            read => Ok(read as usize),
        };
        if let Ok(read) = result {
            self.files[request.file].forget(request.offset, read);
        }
        Some(Completion { id: request.id, result })
    }

    fn running(&self) -> usize {
        self.running.len() - self.free.len()
    }

    /// Waits so long until the kernel has something to report, or others have; they report at once.
    fn wait(&mut self, time: Duration) -> Option<Completion> {
        if self.others.is_some() {
            return self.wait_for_others(time);
        }
        let time = types::Timespec::from(time);
        let arguments = types::SubmitArgs::new().timespec(&time);
        match self.ring.submitter().submit_with_args(1, &arguments) {
            Err(error) if is_no_failure(&error) => self.entered(Ok(())),
            Err(error) => {
                self.entered(Err(error));
                thread::sleep(TURN);
            }
            Ok(_) => self.entered(Ok(())),
        }
        None
    }

    /// The same where the ring cannot be entered: what the kernel reports is looked for from time to time.
    fn wait_for_others(&mut self, time: Duration) -> Option<Completion> {
        let time = if self.running() > 0 { time.min(TURN) } else { time };
        match &mut self.others {
            Some(others) if others.in_flight() > 0 => others.complete(time),
            _ => {
                thread::sleep(time);
                None
            }
        }
    }
}

/// Has the kernel do nothing and waits for that, as reads are waited for later: whether it can be entered is not
/// known before.
fn probe_entry(ring: &mut IoUring) -> io::Result<()> {
    // SAFETY: an entry without memory.
    let full = unsafe { ring.submission().push(&opcode::Nop::new().build()) }.is_err();
    assert!(!full, "a new ring has room");
    let time = types::Timespec::from(GRACE);
    ring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&time))?;
    match ring.completion().next() {
        Some(done) if done.result() < 0 => Err(io::Error::from_raw_os_error(-done.result())),
        Some(_) => Ok(()),
        None => Err(Errno::TIME.into()),
    }
}

/// Whether the system lets nobody enter the ring, now or later.
fn is_refused(error: &io::Error) -> bool {
    let refusals = [Errno::PERM, Errno::ACCESS, Errno::NOSYS, Errno::INVAL, Errno::OPNOTSUPP];
    refusals.iter().any(|refusal| error.raw_os_error() == Some(refusal.raw_os_error()))
}

/// Whether it was but the time that has run out, or a signal that came.
fn is_no_failure(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::TIME.raw_os_error())
        || error.kind() == io::ErrorKind::Interrupted
}

/// Registers `memory`, and tells where the buffers lie. The kernel keeps their pages, so that they could not be given
/// back: spare ones are left out.
fn register(ring: &IoUring, memory: &Memory) -> io::Result<Vec<Range<usize>>> {
    let mut slices = Vec::new();
    let mut buffers = Vec::new();
    for start in (0..memory.lasting()).step_by(LARGEST_BUFFER) {
        let range = start..memory.lasting().min(start + LARGEST_BUFFER);
        let target = memory.target(range.clone());
        let address = target.as_ptr() as usize;
        buffers.push(address..address + range.len());
        // SAFETY: the slice is only used to hand address and length to the kernel.
        let slice = unsafe { std::slice::from_raw_parts_mut(target.as_ptr(), range.len()) };
        slices.push(IoSliceMut::new(slice));
    }
    // SAFETY: an `IoSliceMut` is an `iovec`. The kernel keeps the pages for itself; what it writes
    // there is up to the requests.
    unsafe {
        let vectors = std::slice::from_raw_parts(slices.as_ptr().cast(), slices.len());
        ring.submitter().register_buffers(vectors)?;
    }
    Ok(buffers)
}

// SAFETY: the kernel writes to the memory of a request only before it reports its end.
unsafe impl Reads for Uring {
    unsafe fn submit(&mut self, request: Request) {
        match &mut self.others {
            // SAFETY: as the caller promises.
            Some(others) => unsafe { others.submit(request) },
            None => self.queue.push_back(request),
        }
        self.push();
    }

    fn complete(&mut self, wait: Duration) -> Option<Completion> {
        let mut until = None;
        loop {
            let others_end = |others: &mut Box<dyn Reads>| others.complete(Duration::ZERO);
            let completion = self.reap().or_else(|| self.others.as_mut().and_then(others_end));
            self.push();
            if completion.is_some() || wait.is_zero() || self.in_flight() == 0 {
                return completion;
            }
            let now = Instant::now();
            let rest = until.get_or_insert(now + wait).saturating_duration_since(now);
            if rest.is_zero() {
                return None;
            }
            if let Some(completion) = self.wait(rest) {
                return Some(completion);
            }
        }
    }

    fn reserve(&mut self, reads: usize) {
        if let Some(others) = &mut self.others {
            others.reserve(reads);
        }
        self.queue.reserve(reads.saturating_sub(self.queue.len()));
    }

    fn in_flight(&self) -> usize {
        let others = self.others.as_ref().map_or(0, |others| others.in_flight());
        self.queue.len() + self.running() + others
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.queue.clear();
        let until = Instant::now() + GRACE;
        while self.running() > 0 && Instant::now() < until {
            if self.reap().is_none() {
                let _ended = self.wait(until.saturating_duration_since(Instant::now()));
            }
        }
        if self.running() > 0 {
            log::warn!("{} reads do not end; their memory is left to them", self.running());
            mem::forget(mem::take(&mut self.running));
        }
    }
}
