//! Threads, each with a stack of a known size.
//!
//! `ulimit -s` and what the C library takes for the usual size are no measure: stacks are as large as what runs on
//! them needs, in a debug build. They are only reserved; a page is taken when it is touched.

use crate::cgroup::{folders, read_number};
use crate::refusal::{Refusal, is_refusal};
use rustix::process::{Resource, getrlimit};
use std::error::Error;
use std::fmt;
use std::io;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};

/// Address space that a thread takes besides its stack, at most: guard pages and a stack for signals.
const BESIDE: usize = 1 << 20;

/// Starts a thread, and returns when it stands: whatever its start takes is taken.
///
/// # Errors
/// The system refuses another thread, or memory for its stack.
pub fn spawn<T: Send + 'static>(
    name: &str,
    stack: usize,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    // A thread that has a stack but not what it needs besides would end the process.
    Refusal::check(stack + BESIDE)?;
    let (starting, started) = mpsc::channel::<()>();
    let body = move || {
        drop(starting);
        body()
    };
    let thread = Builder::new().name(name.into()).stack_size(stack).spawn(body);
    let thread = thread.map_err(|error| io::Error::new(error.kind(), Refused { error }))?;
    // Nothing is sent: the channel closes when the thread has begun.
    let _closed = started.recv();
    Ok(thread)
}

/// Does `work` on a stack of at least `bytes`: that of this thread, the process's first; or that of a thread of
/// its own where `ulimit -s` makes the first one smaller, or `ulimit -v` may refuse its pages when it grows.
///
/// # Errors
/// The system refuses the other thread, and this one's stack is smaller or may be.
pub fn on_stack<T: Send + 'static>(bytes: usize, work: fn() -> T) -> io::Result<T> {
    let limit = |resource| getrlimit(resource).current;
    let small = limit(Resource::Stack).filter(|limit| *limit < bytes as u64);
    if small.is_none() && limit(Resource::As).is_none() {
        return Ok(work());
    }
    match spawn("wick", bytes, work) {
        Ok(thread) => Ok(thread.join().unwrap_or_else(|panic| resume_unwind(panic))),
        Err(error) if small.is_none() && !is_refusal(&error) => Ok(work()),
        Err(error) => {
            let small = small.map(|small| format!(", ulimit -s is {} KiB", small >> 10));
            let (bytes, small) = (bytes >> 10, small.unwrap_or_default());
            let message = format!("{bytes} KiB of stack are needed{small}: {error}");
            Err(io::Error::new(error.kind(), message))
        }
    }
}

/// A thread that the system refuses. It is shown with the limits of the process.
#[derive(Debug)]
struct Refused {
    error: io::Error,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.error, ThreadLimits::of_process())
    }
}

/// The message has the cause in it, so there is no source to print after it.
impl Error for Refused {}

/// What limits the number of threads: where the system refuses one, that is why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ThreadLimits {
    /// The least `pids.max` of the process's control groups.
    group: Option<u64>,
    /// Processes and threads that the user may have, root aside.
    user: Option<u64>,
}

impl ThreadLimits {
    fn of_process() -> ThreadLimits {
        let user = getrlimit(Resource::Nproc).current;
        ThreadLimits { group: group_limit(Path::new("/")), user }
    }
}

fn group_limit(root: &Path) -> Option<u64> {
    let limits = folders(root, "pids").into_iter().map(|folder| folder.join("pids.max"));
    limits.filter_map(|file| read_number(&file)).min()
}

impl fmt::Display for ThreadLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.group, self.user) {
            (None, None) => f.write_str("no limit is known"),
            (Some(group), None) => write!(f, "pids.max is {group}"),
            (None, Some(user)) => write!(f, "RLIMIT_NPROC is {user}"),
            (Some(group), Some(user)) => {
                write!(f, "pids.max is {group}, RLIMIT_NPROC is {user}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_thread_has_begun_when_it_is_there_or_is_refused() {
        let thread = spawn("test", 64 << 10, || std::thread::current().name().map(str::to_owned));
        assert_eq!(thread.unwrap().join().unwrap().as_deref(), Some("test"));
        // More than any address space has.
        assert!(spawn("test", 1 << 60, || ()).is_err());
    }

    #[test]
    fn work_is_done_on_either_stack() {
        let here = || std::thread::current().name() != Some("wick");
        let limit = getrlimit(Resource::Stack).current;
        assert!(on_stack(1, here).unwrap());
        if let Some(limit) = limit.filter(|limit| *limit < 1 << 30) {
            assert!(!on_stack(limit as usize + 1, here).unwrap());
            let refused = on_stack(1 << 60, here).unwrap_err().to_string();
            let expected = format!("ulimit -s is {} KiB: the system refuses", limit >> 10);
            assert!(refused.contains(&expected), "{refused}");
        }
    }

    #[test]
    fn limits_are_named() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("sys/fs/cgroup/a/b");
        fs::create_dir_all(&group).unwrap();
        fs::create_dir_all(root.path().join("proc/self")).unwrap();
        fs::write(root.path().join("proc/self/cgroup"), "0::/a/b\n").unwrap();
        assert_eq!(group_limit(root.path()), None);
        fs::write(group.join("pids.max"), "max\n").unwrap();
        assert_eq!(group_limit(root.path()), None);
        fs::write(root.path().join("sys/fs/cgroup/a/pids.max"), "17\n").unwrap();
        let group = group_limit(root.path());
        let text = |group, user| ThreadLimits { group, user }.to_string();
        assert_eq!(text(group, None), "pids.max is 17");
        assert_eq!(text(group, Some(5)), "pids.max is 17, RLIMIT_NPROC is 5");
        assert_eq!(text(None, Some(5)), "RLIMIT_NPROC is 5");
    }
}
