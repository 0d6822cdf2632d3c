//! The bytes of one file, in ranges that are fetched side by side.

use crate::Error;
use crate::curl::{self, Answer, Body, Request};
use crate::digest::Hasher;
use crate::hub::{Entry, Hub, Location, MOST_REDIRECTS};
use crate::partial::Partial;
use crate::patience::{Patience, Trouble};
use crate::ranges::Ranges;
use crate::settings::Limits;
use crate::source::Source;
use log::Level;
use std::collections::VecDeque;
use std::io::Read;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder, sleep};
use std::time::{Duration, Instant};

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;
/// Bytes of a thread's stack.
const STACK: usize = 256 << 10;
/// How often is looked how far it is.
const TURN: Duration = Duration::from_millis(50);
/// How often is written down what is there, which a loss of power cannot take away.
const SAVED: Duration = Duration::from_secs(1);

/// A file that is being fetched.
pub(crate) struct Download<'d> {
    pub(crate) hub: &'d Hub<'d>,
    pub(crate) source: &'d Source,
    pub(crate) commit: &'d str,
    pub(crate) entry: &'d Entry,
    pub(crate) limits: Limits,
}

/// What the threads of a download share.
struct Shared<'d> {
    download: &'d Download<'d>,
    partial: &'d Partial,
    state: Mutex<State>,
    /// Where the bytes are, once somebody has asked.
    location: Mutex<Option<Location>>,
}

struct State {
    done: Ranges,
    /// What nobody has begun.
    left: VecDeque<Range<u64>>,
    /// Whether the server sends whole files alone, so that there is one stream from the start.
    is_whole: bool,
    /// Why it ends before it is done.
    error: Option<Error>,
    /// Threads that fetch.
    working: usize,
}

/// A thread that counts as one that fetches, however it ends.
struct Working<'w>(&'w Mutex<State>);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).working -= 1;
    }
}

/// What one thread is at.
struct Task {
    left: Range<u64>,
    is_whole: bool,
    redirects: usize,
}

impl Download<'_> {
    /// Fetches what is missing, and computes the checksum of the whole.
    ///
    /// # Errors
    /// Something is still missing, of which `partial` knows what.
    pub(crate) fn run(
        &self,
        partial: &Partial,
        done: Ranges,
        mut progress: impl FnMut(u64),
    ) -> Result<Hasher, Error> {
        let left: VecDeque<_> = done.missing(self.entry.size, self.limits.segment).into();
        let working = self.limits.connections.clamp(1, left.len().max(1));
        let state = State { done, left, is_whole: false, error: None, working };
        let shared = Shared { download: self, partial, state: state.into(), location: None.into() };
        let hashed = thread::scope(|scope| {
            for _ in 0..working {
                let thread = Builder::new().name("fetch".into()).stack_size(STACK);
                if let Err(source) = thread.spawn_scoped(scope, || shared.work()) {
                    let mut state = shared.state();
                    state.working -= 1;
                    if state.working == 0 {
                        let reason = format!("no thread to be had: {source}");
                        state.error = Some(Error::Network { url: self.entry.path.clone(), reason });
                    }
                }
            }
            shared.watch(&mut progress)
        });
        let Shared { state, .. } = shared;
        let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let saved = partial.save(&state.done);
        match state.error {
            Some(error) => Err(error),
            None => saved.and(hashed),
        }
    }
}

impl<'d> Shared<'d> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn location(&self) -> MutexGuard<'_, Option<Location>> {
        self.location.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        self.state().error.is_some()
    }

    /// Tells how far it is, writes that down, and computes the checksum of what is there from the first byte on.
    fn watch(&self, progress: &mut dyn FnMut(u64)) -> Result<Hasher, Error> {
        let Entry { size, digest, .. } = self.download.entry;
        let (mut hasher, mut hashed, mut piece) = (digest.hasher(*size), 0, vec![0; PIECE]);
        let (mut saved, mut was_whole) = (Instant::now(), false);
        loop {
            let (done, working, is_stopped, is_whole) = {
                let state = self.state();
                (state.done.clone(), state.working, state.error.is_some(), state.is_whole)
            };
            if is_whole && !was_whole {
                (hasher, hashed, was_whole) = (digest.hasher(*size), 0, true);
            }
            progress(done.total());
            if is_stopped {
                curl::interrupt_all();
            }
            if working == 0 && (is_stopped || hashed == *size) {
                return Ok(hasher);
            }
            if working == 0 && done.prefix() < *size {
                let (url, reason) = (self.download.entry.path.clone(), "a thread ended".into());
                self.fail(Error::Network { url, reason });
            }
            if saved.elapsed() >= SAVED && working > 0 {
                self.partial.save(&done).unwrap_or_else(|error| self.fail(error));
                saved = Instant::now();
            }
            let end = Instant::now() + TURN;
            while hashed < done.prefix() && Instant::now() < end {
                let n = (done.prefix() - hashed).min(PIECE as u64) as usize;
                if let Err(error) = self.partial.read(&mut piece[..n], hashed) {
                    self.fail(error);
                    break;
                }
                hasher.update(&piece[..n]);
                hashed += n as u64;
            }
            if working > 0 {
                sleep(end.saturating_duration_since(Instant::now()));
            }
        }
    }

    fn fail(&self, error: Error) {
        let mut state = self.state();
        state.error.get_or_insert(error);
        state.left.clear();
    }

    /// The life of a thread.
    fn work(&self) {
        let _until_it_ends = Working(&self.state);
        loop {
            let next = self.state().left.pop_front();
            let Some(left) = next else { break };
            if let Err(error) = self.fill(left) {
                self.fail(error);
            }
        }
    }

    /// Fetches a range, in as many attempts as it takes.
    fn fill(&self, left: Range<u64>) -> Result<(), Error> {
        let mut task = Task { left, is_whole: false, redirects: 0 };
        let mut patience = Patience::new(self.download.limits);
        let mut piece = vec![0; PIECE];
        while !task.left.is_empty() && !self.is_stopped() {
            let before = self.state().done.total();
            let mut asked = None;
            let Err(trouble) = self.attempt(&mut task, &mut asked, &mut piece) else { continue };
            if self.is_stopped() {
                break;
            }
            if self.state().done.total() > before {
                patience.reset();
            }
            let at = asked.unwrap_or_else(|| self.download.hub.endpoint().clone());
            patience.wait(&at, trouble, &|| self.is_stopped())?;
        }
        Ok(())
    }

    /// One request, and what it brings.
    fn attempt(
        &self,
        task: &mut Task,
        asked: &mut Option<crate::url::Url>,
        piece: &mut [u8],
    ) -> Result<(), Trouble> {
        let Download { hub, source, entry, .. } = self.download;
        let location = self.find()?;
        *asked = Some(location.url.clone());
        let range = (!task.is_whole).then(|| task.left.clone());
        let request = Request { range, ..hub.request(&location.url, false) };
        let Answer { head, body } = request.send()?;
        if let Some(to) = head.redirect() {
            task.redirects += 1;
            let url = location.url.join(to)?;
            let is_hub = location.is_hub && hub.is_at(&url);
            *self.location() = Some(Location { url, is_hub });
            return match task.redirects > MOST_REDIRECTS {
                true => Err(Error::hub(&location.url, "leads from redirect to redirect").into()),
                false => Ok(()),
            };
        }
        match (head.status, head.content_range()) {
            (206, Some((start, size))) if start == task.left.start && size == entry.size => {}
            (206, Some((_, size))) if size != entry.size => {
                let reason = format_args!("{} bytes expected, {size} found", entry.size);
                return Err(Error::hub(&location.url, reason).into());
            }
            (200, _) if self.take_whole(task) => {}
            (200, _) => return Ok(()),
            (206, _) => {
                return Err(Error::hub(&location.url, "sends other bytes than asked for").into());
            }
            (401 | 403 | 404 | 410, _) if !location.is_hub => {
                // Such addresses are good for some time.
                *self.location() = None;
                return Err(Trouble::passing(format!(
                    "the address is not good any more ({})",
                    head.status
                )));
            }
            _ => return Err(hub.refused(&location.url, &head, source)),
        }
        self.take(body, &mut task.left, piece)
    }

    /// Where the bytes are; one thread asks for all.
    fn find(&self) -> Result<Location, Trouble> {
        let Download { hub, source, commit, entry, .. } = self.download;
        let mut location = self.location();
        if let Some(location) = &*location {
            return Ok(location.clone());
        }
        Ok(location.insert(hub.locate(source, commit, entry)?).clone())
    }

    /// From here on this thread reads the whole file, and no other reads anything; `false` if another one does.
    fn take_whole(&self, task: &mut Task) -> bool {
        let mut state = self.state();
        if state.is_whole && !task.is_whole {
            task.left = 0..0;
            return false;
        }
        if !state.is_whole {
            let level =
                if task.left == (0..self.download.entry.size) { Level::Info } else { Level::Warn };
            let path = &self.download.entry.path;
            log::log!(
                level,
                "{path}: the server sends no ranges; the file is fetched from the start, in one stream"
            );
            state.done = Ranges::default();
        }
        state.is_whole = true;
        state.left.clear();
        task.is_whole = true;
        task.left = 0..self.download.entry.size;
        true
    }

    /// Writes what comes, as far as it is wanted.
    fn take(&self, mut body: Body, left: &mut Range<u64>, piece: &mut [u8]) -> Result<(), Trouble> {
        while !left.is_empty() {
            let n = match body.read(piece) {
                Ok(0) | Err(_) => return Err(body.trouble()),
                Ok(n) => (left.end - left.start).min(n as u64) as usize,
            };
            self.partial.write(&piece[..n], left.start)?;
            let end = left.start + n as u64;
            self.state().done.add(left.start..end);
            left.start = end;
        }
        Ok(())
    }
}
