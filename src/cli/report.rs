//! Printing what a verb has found out.

use crate::exit::{Exit, Failure, OrExit};
use crate::screen;
use log::Level;
use serde::Serialize;
use std::fmt;
use std::fs;
use std::io::{self, StdoutLock, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Prints a report on stdout: as JSON, or as `write` shows it to people.
pub(crate) fn print<R: Serialize>(
    report: &R,
    json: bool,
    write: impl FnOnce(&R, &mut StdoutLock<'_>) -> io::Result<()>,
) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if json {
        let json = serde_json::to_string_pretty(report).or_exit(Exit::Failed)?;
        writeln!(out, "{json}")?;
    } else {
        write(report, &mut out)?;
    }
    Ok(())
}

/// Prints a value on stdout as a line of JSON that its reader sees at once.
pub(crate) fn print_line(value: &impl Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string(value).or_exit(Exit::Failed)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{json}")?;
    Ok(out.flush()?)
}

/// A line on stderr. It is said beside what a verb does, which does not fail where nobody can hear it.
pub(crate) fn note(line: &str) {
    let _nobody_listens =
        writeln!(io::stderr(), "{}{}", screen::prefix(Level::Info), screen::line(line));
}

/// Says what a file that was written is like: on stdout, if that is not where the file went.
pub(crate) fn report_written(path: &Path, what: fmt::Arguments<'_>) -> Result<(), Failure> {
    let stdout = rustix::fs::fstat(io::stdout()).map(|found| (found.st_dev, found.st_ino));
    let file = fs::metadata(path).map(|found| (found.dev(), found.ino()));
    let goes_there = matches!((file, stdout), (Ok(file), Ok(stdout)) if file == stdout);
    let what = screen::line(&format!("{}: {what}", path.display()));
    if goes_there {
        writeln!(io::stderr(), "{what}")?;
    } else {
        writeln!(io::stdout(), "{what}")?;
    }
    Ok(())
}
