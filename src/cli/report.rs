//! Printing what a verb has found out.

use crate::exit::{Exit, Failure, OrExit};
use serde::Serialize;
use std::io::{self, StdoutLock, Write};

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
