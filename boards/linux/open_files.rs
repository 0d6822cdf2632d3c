//! Too many open files, and what limits them.

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::fmt;
use std::io;

/// More files than the process or the system may have open. It is shown with the limit of the process.
#[derive(Debug)]
pub struct TooManyFiles(io::Error);

impl fmt::Display for TooManyFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        match getrlimit(Resource::Nofile).current {
            Some(limit) => write!(f, ", ulimit -n is {limit}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for TooManyFiles {}

impl TooManyFiles {
    /// Says what the limit is, in an error that is one.
    pub fn name(error: io::Error) -> io::Error {
        let errors = [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error()));
        match errors.contains(&error.raw_os_error()) {
            true => io::Error::other(TooManyFiles(error)),
            false => error,
        }
    }

    /// Whether an error is one that has been named.
    pub(crate) fn is_in(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<TooManyFiles>())
    }
}
