//! Where jobs wait for the engine's thread.

use super::job::Job;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A bounded queue between those who ask and the one who answers.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    /// There is a job, or will be none any more.
    changed: Condvar,
    most: usize,
}

#[derive(Debug, Default)]
struct State {
    /// By priority, then by age.
    jobs: VecDeque<Job>,
    /// Jobs that were taken and have not ended.
    running: usize,
    /// Jobs that will still come of requests which were taken.
    promised: usize,
    is_closed: bool,
}

impl State {
    /// Adds a job behind those of its priority.
    fn insert(&mut self, job: Job) {
        let place = self.jobs.partition_point(|other| other.priority >= job.priority);
        self.jobs.insert(place, job);
    }

    fn is_finished(&self) -> bool {
        self.is_closed && self.jobs.is_empty() && self.promised == 0
    }
}

/// Why a job is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// So many wait already.
    Full(usize),
    /// The service is ending.
    Closed,
}

impl Queue {
    /// A queue in which `most` jobs may wait, besides those that run.
    pub fn new(most: usize) -> Queue {
        Queue { state: Mutex::default(), changed: Condvar::new(), most }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job behind those of its priority.
    ///
    /// # Errors
    /// It is full, or closed.
    pub fn push(&self, job: Job) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(Refused::Closed);
        }
        // Those that nobody waits for any more take no room.
        state.jobs.retain(|job| !job.events.is_closed());
        if state.jobs.len() >= self.most {
            return Err(Refused::Full(state.jobs.len()));
        }
        state.insert(job);
        self.changed.notify_one();
        Ok(())
    }

    /// So many more jobs will come of a request of which one was taken: they find room, also while the service ends.
    pub fn promise(&self, jobs: usize) {
        self.lock().promised += jobs;
    }

    /// Adds a job that was promised.
    pub fn keep(&self, job: Job) {
        let mut state = self.lock();
        state.promised -= 1;
        state.insert(job);
        self.changed.notify_one();
    }

    /// So many jobs that were promised will not come.
    pub fn forget(&self, jobs: usize) {
        self.lock().promised -= jobs;
        self.changed.notify_one();
    }

    /// Whether no job waits nor will come any more.
    pub(crate) fn is_finished(&self) -> bool {
        self.lock().is_finished()
    }

    /// The next job that somebody waits for.
    pub(crate) fn take(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            let job = state.jobs.pop_front()?;
            if !job.events.is_closed() {
                state.running += 1;
                return Some(job);
            }
        }
    }

    /// A job that was taken has ended.
    pub(crate) fn done(&self) {
        self.lock().running -= 1;
    }

    /// Waits until there is a job, or for so long.
    pub(crate) fn wait(&self, time: Duration) {
        let state = self.lock();
        if state.jobs.is_empty() && !state.is_finished() {
            let _woken = self.changed.wait_timeout(state, time);
        }
    }

    /// Takes no more jobs; those that wait are still answered.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Whether no more jobs are taken.
    pub fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Jobs that wait, and that run.
    pub fn lengths(&self) -> (usize, usize) {
        let state = self.lock();
        (state.jobs.len(), state.running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wick_core::{Sampler, Sampling};
    use wick_session::Request;

    fn job(id: u32, priority: i32) -> (Job, impl Sized) {
        Job::new(Request::new(vec![id], 1, Sampler::new(Sampling::GREEDY)), priority)
    }

    #[test]
    fn voice_goes_before_batch_and_age_before_youth() {
        let queue = Queue::new(5);
        let mut ends = Vec::new();
        for (id, priority) in [(1, 0), (2, -1), (3, 0), (4, 7)] {
            let (job, end) = job(id, priority);
            queue.push(job).unwrap();
            ends.push(end);
        }
        let order: Vec<u32> = (0..4).map(|_| queue.take().unwrap().request.prompt[0]).collect();
        assert_eq!(order, [4, 1, 3, 2]);
        assert_eq!(queue.lengths(), (0, 4));
        queue.done();
        assert_eq!(queue.lengths(), (0, 3));
    }

    #[test]
    fn it_is_bounded_and_forgets_those_who_left() {
        let queue = Queue::new(2);
        let (first, left) = job(1, 0);
        let (second, _stays) = job(2, 0);
        queue.push(first).unwrap();
        queue.push(second).unwrap();
        let (third, _end) = job(3, 0);
        assert_eq!(queue.push(third), Err(Refused::Full(2)));
        drop(left);
        let (third, _end) = job(3, 0);
        assert_eq!(queue.push(third), Ok(()));
        assert_eq!(queue.take().unwrap().request.prompt, [2]);
        queue.promise(2);
        queue.close();
        assert_eq!(queue.push(job(4, 0).0), Err(Refused::Closed));
        assert_eq!(queue.take().unwrap().request.prompt, [3]);
        // What belongs to a request that was taken still comes.
        assert!(!queue.is_finished());
        let (fifth, _end) = job(5, 0);
        queue.keep(fifth);
        assert_eq!(queue.take().unwrap().request.prompt, [5]);
        assert!(!queue.is_finished());
        queue.forget(1);
        assert!(queue.is_finished());
    }
}
