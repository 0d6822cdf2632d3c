//! What can go wrong in fetching.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why something cannot be fetched.
#[derive(Debug)]
pub enum Error {
    /// The command line or the environment says what makes no sense, or leaves a choice open.
    Usage {
        /// What is wrong, and what to say in place of it.
        message: String,
    },
    /// There is no `curl` to fetch with.
    NoCurl {
        /// What the system says.
        source: io::Error,
    },
    /// No answer comes, or it breaks off again and again.
    Network {
        /// What was asked for.
        url: String,
        /// What was found, and how often.
        reason: String,
    },
    /// The hub refuses, or what it says cannot be used.
    Hub {
        /// What was asked for.
        url: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// What came is not what the hub says of it.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was expected, and what was found.
        reason: String,
    },
    /// There is less room than the file takes.
    Space {
        /// The folder.
        path: PathBuf,
        /// Bytes that are wanted.
        wanted: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// A file cannot be read or written.
    File {
        /// Its path.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn usage(message: impl fmt::Display) -> Error {
        Error::Usage { message: message.to_string() }
    }

    pub(crate) fn hub(url: impl fmt::Display, reason: impl fmt::Display) -> Error {
        Error::Hub { url: url.to_string(), reason: reason.to_string() }
    }

    /// Whether what was asked for is wrong, and not what came of it.
    pub fn is_usage(&self) -> bool {
        matches!(self, Error::Usage { .. })
    }

    /// Whether there may be nothing wrong but that the hub cannot be reached.
    pub fn is_network(&self) -> bool {
        matches!(self, Error::Network { .. } | Error::NoCurl { .. })
    }
}

/// Names a file in what the system says of it.
pub(crate) fn at<'p>(path: &'p Path, what: &'static str) -> impl Fn(io::Error) -> Error + 'p {
    move |source| Error::File { path: path.to_owned(), what, source }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage { message } => f.write_str(message),
            Error::NoCurl { .. } => f.write_str(
                "curl cannot be started, the program that downloads are made with; install it (Debian: apt install curl)",
            ),
            Error::Network { url, reason } => write!(f, "{url}: {reason}"),
            Error::Hub { url, reason } => write!(f, "{url}: {reason}"),
            Error::Damaged { path, reason } => write!(f, "{}: {reason}", path.display()),
            Error::Space { path, wanted, free } => write!(
                f,
                "{}: {} are wanted and {} are free; make room, or name another place with --to",
                path.display(),
                Size(*wanted),
                Size(*free)
            ),
            Error::File { path, what, .. } => write!(f, "{}: {what}", path.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::NoCurl { source } | Error::File { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// A number of bytes as people read it: `2.3 GB`, in powers of 1000 as the hub shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
        let bytes = self.0 as f64;
        match units.into_iter().find(|(unit, _)| bytes >= *unit) {
            Some((unit, name)) => write!(f, "{:.1} {name}", bytes / unit),
            None => write!(f, "{} bytes", self.0),
        }
    }
}
