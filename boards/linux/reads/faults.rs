//! Reads that go wrong by a script, for tests.

use super::{Completion, Reads, Request};
use std::io;
use std::mem;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What goes wrong with a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this error number.
    Error(i32),
    /// No more than these bytes come.
    Short(usize),
    /// The last byte that must come is not what it was.
    Wrong,
    /// It takes longer, at least so long.
    Delay(Duration),
    /// It does not end before [`FaultScript::release`], and writes to its memory then.
    Lost,
}

/// Which reads go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those of these numbers, counted from 0 in the order in which they are submitted. One number is
    /// a fault that passes, an open end a device that is broken from then on.
    Numbers(Range<u64>),
    /// Those that touch these bytes of a file: a place on the device that cannot be read.
    Bytes {
        /// Which file.
        file: usize,
        /// Which bytes of it.
        bytes: Range<u64>,
    },
}

/// What goes wrong when; shared with who reads, so that it can change while reads go on.
#[derive(Clone, Debug, Default)]
pub struct FaultScript {
    script: Arc<Mutex<Script>>,
}

#[derive(Debug, Default)]
struct Script {
    submitted: u64,
    released: bool,
    faults: Vec<(Which, Fault)>,
}

impl FaultScript {
    /// Lets reads go wrong. Where several faults meet a read, the first that was added does.
    pub fn add(&self, which: Which, fault: Fault) {
        self.lock().faults.push((which, fault));
    }

    /// Lets the next `count` reads go wrong.
    pub fn add_next(&self, count: u64, fault: Fault) {
        let next = self.submitted();
        self.add(Which::Numbers(next..next.saturating_add(count)), fault);
    }

    /// Lets nothing go wrong any more.
    pub fn clear(&self) {
        self.lock().faults.clear();
    }

    /// Lets the reads that are lost go on.
    pub fn release(&self) {
        self.lock().released = true;
    }

    /// Reads submitted so far.
    pub fn submitted(&self) -> u64 {
        self.lock().submitted
    }

    fn lock(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a read, and tells what goes wrong with it.
    fn next(&self, request: &Request) -> Option<Fault> {
        let mut script = self.lock();
        let number = script.submitted;
        script.submitted += 1;
        let meets = |which: &Which| match which {
            Which::Numbers(numbers) => numbers.contains(&number),
            Which::Bytes { file, bytes } => {
                let end = request.offset + request.len as u64;
                *file == request.file && request.offset < bytes.end && bytes.start < end
            }
        };
        script.faults.iter().find(|(which, _)| meets(which)).map(|(_, fault)| *fault)
    }
}

/// Reads that go wrong by a script.
#[derive(Debug)]
pub struct Faults<R> {
    inner: R,
    script: FaultScript,
    /// Reads further down that go wrong.
    wrong: Vec<(Request, Fault)>,
    /// Reads that have ended, but are not told of before some time.
    held: Vec<(Instant, Completion)>,
    /// Reads that do not get through.
    lost: Vec<Request>,
}

impl<R: Reads> Faults<R> {
    /// Lets `inner`'s reads go wrong as `script` says.
    pub fn new(inner: R, script: FaultScript) -> Faults<R> {
        Faults { inner, script, wrong: Vec::new(), held: Vec::new(), lost: Vec::new() }
    }

    /// Lets lost reads go on, if they are released.
    fn go_on(&mut self) {
        if mem::take(&mut self.script.lock().released) {
            // SAFETY: the memory was handed over with the requests, whose ends are not reported.
            self.lost.drain(..).for_each(|request| unsafe { self.inner.submit(request) });
        }
    }

    /// A read that may be told of.
    fn due(&mut self) -> Option<Completion> {
        let now = Instant::now();
        let place = self.held.iter().position(|(due, _)| *due <= now)?;
        Some(self.held.swap_remove(place).1)
    }

    /// Lets a read that has ended well go wrong.
    fn spoil(&mut self, completion: Completion) -> Completion {
        let place = self.wrong.iter().position(|(request, _)| request.id == completion.id);
        let Some(place) = place else { return completion };
        let (request, fault) = self.wrong.swap_remove(place);
        let result = match (fault, completion.result) {
            (Fault::Short(most), Ok(read)) => Ok(read.min(most)),
            (Fault::Wrong, Ok(read)) if read > 0 => {
                let last = read.min(request.least).saturating_sub(1);
                // SAFETY: these bytes have been read into the memory of the request, which is handed
                // over until its end is reported.
                unsafe { *request.target().as_ptr().add(last) ^= 0x55 };
                Ok(read)
            }
            (_, result) => result,
        };
        Completion { id: request.id, result }
    }
}

// SAFETY: `inner` keeps the promise, and ends are not reported before it reports them.
unsafe impl<R: Reads> Reads for Faults<R> {
    unsafe fn submit(&mut self, request: Request) {
        match self.script.next(&request) {
            Some(Fault::Error(code)) => {
                let result = Err(io::Error::from_raw_os_error(code));
                let completion = Completion { id: request.id, result };
                return self.held.push((Instant::now(), completion));
            }
            Some(Fault::Lost) => return self.lost.push(request),
            Some(fault) => {
                self.wrong.push((request.clone(), fault));
            }
            None => {}
        }
        // SAFETY: as the caller promises.
        unsafe { self.inner.submit(request) };
    }

    fn complete(&mut self, wait: Duration) -> Option<Completion> {
        let end = Instant::now() + wait;
        loop {
            self.go_on();
            if let Some(completion) = self.due() {
                return Some(completion);
            }
            let delay = |(request, fault): &(Request, Fault), id| match fault {
                Fault::Delay(delay) if request.id == id => Some(*delay),
                _ => None,
            };
            let rest = end.saturating_duration_since(Instant::now());
            let has_own = !self.held.is_empty() || !self.lost.is_empty();
            match self.inner.complete(if has_own { Duration::ZERO } else { rest }) {
                Some(completion) => {
                    let id = completion.id;
                    let delay = self.wrong.iter().find_map(|wrong| delay(wrong, id));
                    let completion = self.spoil(completion);
                    let Some(delay) = delay else { return Some(completion) };
                    self.held.push((Instant::now() + delay, completion));
                }
                None if rest.is_zero() || !has_own => return None,
                None => thread::sleep(Duration::from_micros(100).min(rest)),
            }
        }
    }

    fn reserve(&mut self, reads: usize) {
        self.inner.reserve(reads);
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight() + self.held.len() + self.lost.len()
    }
}
