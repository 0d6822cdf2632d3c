//! Memory that the system refuses, and what limits it.

use crate::Mib;
use memmap2::MmapMut;
use rustix::process::{Resource, getrlimit};
use std::fmt;
use std::io;

/// Memory that the system refuses. It is shown with the limits of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Bytes that were asked for.
    pub bytes: usize,
}

/// What limits the memory of a process, as its shell sets it.
const LIMITS: [(Resource, &str); 2] = [(Resource::As, "ulimit -v"), (Resource::Data, "ulimit -d")];

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes {
            bytes if bytes < 1 << 20 => write!(f, "the system refuses {bytes} bytes of memory")?,
            bytes => write!(f, "the system refuses {} of memory", Mib(bytes))?,
        }
        let limits = LIMITS.map(|(resource, name)| (getrlimit(resource).current, name));
        for (limit, name) in limits {
            if let Some(limit) = limit {
                write!(f, ", {name} is {}", Mib(limit as usize))?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// Finds out whether the system would give `bytes` out now, all in one place.
    ///
    /// # Errors
    /// It would not, and the error is a refusal.
    pub(crate) fn check(bytes: usize) -> io::Result<()> {
        MmapMut::map_anon(bytes.max(1)).map(drop).map_err(Refusal::of(bytes))
    }

    /// Says how much was asked for, in an error that is a refusal.
    pub(crate) fn of(bytes: usize) -> impl Fn(io::Error) -> io::Error {
        move |error| match is_refusal(&error) {
            true => io::Error::new(io::ErrorKind::OutOfMemory, Refusal { bytes }),
            false => error,
        }
    }
}

/// Whether the system refuses memory.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_how_much() {
        let refused = Refusal::check(1 << 60).unwrap_err();
        assert!(is_refusal(&refused));
        let said = refused.to_string();
        assert!(said.starts_with("the system refuses 1099511627776.0 MiB of memory"), "{said}");
        let said = Refusal { bytes: 4096 }.to_string();
        assert!(said.starts_with("the system refuses 4096 bytes of memory"), "{said}");
        assert!(Refusal::check(4096).is_ok());
    }
}
