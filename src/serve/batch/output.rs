//! The file of answers, which a process that was killed leaves as far as it came.

use super::input::Line;
use serde_json::Value;
use std::collections::HashSet;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// A file of answers, that of one process at a time.
#[derive(Debug)]
pub struct Output {
    file: File,
    /// Names of the requests that it has answers to.
    done: HashSet<String>,
}

/// A file cannot be one of answers.
#[derive(Debug)]
pub enum OutputError {
    /// It cannot be read or written.
    File(io::Error),
    /// Another process writes it.
    Busy,
    /// A line of it is no answer to a request of this batch.
    Stranger {
        /// Which line, from 1 on.
        line: usize,
    },
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OutputError::File(error) => error.fmt(f),
            OutputError::Busy => f.write_str("another process writes it"),
            OutputError::Stranger { line } => write!(
                f,
                "line {line} answers no request of this batch; name another file, or remove this one"
            ),
        }
    }
}

impl std::error::Error for OutputError {}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> OutputError {
        OutputError::File(error)
    }
}

impl Output {
    /// The file at `path` with answers to some of the requests, or none yet. A last line that was not written to its end
    /// is cut off.
    ///
    /// # Errors
    /// It cannot be used, another process uses it, or it has something else in it, which stays.
    pub fn open(path: &Path, lines: &[Line]) -> Result<Output, OutputError> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OutputError::Busy,
            TryLockError::Error(error) => OutputError::File(error),
        })?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let known: HashSet<&str> = lines.iter().map(|line| line.custom_id.as_str()).collect();
        let mut done = HashSet::new();
        let answers = bytes[..whole].split(|byte| *byte == b'\n').enumerate();
        for (i, answer) in answers.filter(|(_, answer)| !answer.is_empty()) {
            let stranger = OutputError::Stranger { line: i + 1 };
            let Some(name) = name(answer).filter(|name| known.contains(name.as_str())) else {
                return Err(stranger);
            };
            done.insert(name);
        }
        if !is_torn(&bytes[whole..]) {
            return Err(OutputError::Stranger {
                line: bytes[..whole].split(|b| *b == b'\n').count(),
            });
        }
        file.set_len(whole as u64)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Output { file, done })
    }

    /// Whether it has an answer to this.
    pub fn has(&self, line: &Line) -> bool {
        self.done.contains(&line.custom_id)
    }

    /// Adds an answer.
    ///
    /// # Errors
    /// Of the file.
    pub fn append(&mut self, answer: &Value) -> io::Result<()> {
        self.file.write_all(format!("{answer}\n").as_bytes())
    }

    /// Waits until all of it is on the device.
    ///
    /// # Errors
    /// Of the file.
    pub fn finish(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// The name of the request that a line answers.
fn name(answer: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    answer["custom_id"].as_str().map(str::to_owned)
}

/// Whether this may be the beginning of an answer.
fn is_torn(rest: &[u8]) -> bool {
    let begins = b"{\"";
    rest.iter().zip(begins).all(|(found, expected)| found == expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str) -> Line {
        Line { number: 1, custom_id: name.into(), url: "/v1/completions".into(), body: Value::Null }
    }

    #[test]
    fn it_goes_on_from_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let lines = ["a", "b", "c"].map(line);
        let mut output = Output::open(&path, &lines).unwrap();
        assert!(!output.has(&lines[0]));
        output.append(&serde_json::json!({"custom_id": "b"})).unwrap();
        assert!(matches!(Output::open(&path, &lines), Err(OutputError::Busy)));
        drop(output);
        let whole = std::fs::read(&path).unwrap();
        for torn in ["", "{", "{\"custom_id\":\"c\"", "{\"custom_id\":\"c\"}"] {
            std::fs::write(&path, [&whole, torn.as_bytes()].concat()).unwrap();
            let output = Output::open(&path, &lines).unwrap();
            assert_eq!(lines.each_ref().map(|line| output.has(line)), [false, true, false]);
            assert_eq!(std::fs::read(&path).unwrap(), whole, "{torn}");
        }
    }

    #[test]
    fn what_is_something_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        for (text, at) in [
            ("hello\n", 1),
            ("hello", 1),
            ("{\"custom_id\":\"a\"}\n{\"custom_id\":\"z\"}\n", 2),
            ("{\"custom_id\":\"a\"}\nhello", 2),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Output::open(&path, &[line("a")]).unwrap_err();
            assert!(matches!(error, OutputError::Stranger { line } if line == at), "{error:?}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
