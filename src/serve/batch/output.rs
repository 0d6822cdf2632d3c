//! The file of answers, which a process that was killed leaves as far as it came.

use super::input::Line;
use serde_json::Value;
use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
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
    /// It is the file of requests.
    Input,
    /// It is a pipe or a terminal, which cannot be gone on with.
    NoFile,
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
            OutputError::Input => f.write_str("this is the file of requests; name another one"),
            OutputError::NoFile => f.write_str(
                "a file expected, since a batch is gone on with by what stands there already",
            ),
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
    /// The file at `path` with answers to some of the requests of the file at `input`, or none yet. A last line that was not
    /// written to its end is cut off.
    ///
    /// # Errors
    /// It cannot be used, another process uses it, or it has something else in it, which stays.
    pub fn open(path: &Path, input: &Path, lines: &[Line]) -> Result<Output, OutputError> {
        let place = |path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
        if place(path).is_some_and(|out| Some(out) == place(input)) {
            return Err(OutputError::Input);
        }
        if path == Path::new("-") || fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(OutputError::NoFile);
        }
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OutputError::Busy,
            TryLockError::Error(error) => OutputError::File(error),
        })?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (done, whole) = answered(&bytes, lines)?;
        file.set_len(whole as u64)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Output { file, done })
    }

    /// Whether it has an answer to this.
    pub fn has(&self, line: &Line) -> bool {
        self.done.contains(&line.custom_id)
    }

    /// Adds an answer, which is on the device then.
    ///
    /// # Errors
    /// Of the file.
    pub fn append(&mut self, answer: &Value) -> io::Result<()> {
        self.file.write_all(format!("{answer}\n").as_bytes())?;
        self.file.sync_data()
    }
}

/// The names of the requests that are answered, and how many bytes their lines are.
fn answered(bytes: &[u8], lines: &[Line]) -> Result<(HashSet<String>, usize), OutputError> {
    let known: HashSet<&str> = lines.iter().map(|line| line.custom_id.as_str()).collect();
    let mut answers: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let rest = answers.pop().unwrap_or_default();
    let mut done = HashSet::new();
    for (i, answer) in answers.iter().enumerate().filter(|(_, answer)| !answer.is_empty()) {
        match name(answer).filter(|name| known.contains(name.as_str())) {
            Some(name) => done.insert(name),
            None => return Err(OutputError::Stranger { line: i + 1 }),
        };
    }
    if !is_torn(rest) {
        return Err(OutputError::Stranger { line: answers.len() + 1 });
    }
    Ok((done, bytes.len() - rest.len()))
}

/// The name of the request that a line answers.
fn name(answer: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let is_answer = answer.get("response").is_some() && answer.get("error").is_some();
    answer["custom_id"].as_str().filter(|_| is_answer).map(str::to_owned)
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
        let mut output = Output::open(&path, Path::new("in"), &lines).unwrap();
        assert!(!output.has(&lines[0]));
        output
            .append(&serde_json::json!({"custom_id": "b", "response": {}, "error": null}))
            .unwrap();
        assert!(matches!(Output::open(&path, Path::new("in"), &lines), Err(OutputError::Busy)));
        drop(output);
        let whole = fs::read(&path).unwrap();
        for torn in ["", "{", "{\"custom_id\":\"c\"", "{\"custom_id\":\"c\"}"] {
            fs::write(&path, [&whole, torn.as_bytes()].concat()).unwrap();
            let output = Output::open(&path, Path::new("in"), &lines).unwrap();
            assert_eq!(lines.each_ref().map(|line| output.has(line)), [false, true, false]);
            assert_eq!(fs::read(&path).unwrap(), whole, "{torn}");
        }
    }

    #[test]
    fn what_is_something_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let answer = "{\"custom_id\":\"a\",\"response\":null,\"error\":null}\n";
        for (text, at) in [
            ("hello\n", 1),
            ("hello", 1),
            ("{\"custom_id\":\"a\"}\n", 1),
            (&format!("{answer}{}", answer.replace("\"a\"", "\"z\"")), 2),
            (&format!("{answer}hello"), 2),
        ] {
            fs::write(&path, text).unwrap();
            let error = Output::open(&path, Path::new("in"), &[line("a")]).unwrap_err();
            assert!(matches!(error, OutputError::Stranger { line } if line == at), "{error:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn requests_are_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let [path, link] = ["in", "link"].map(|name| folder.path().join(name));
        fs::write(&path, "{\"custom_id\":\"a\"}").unwrap();
        fs::hard_link(&path, &link).unwrap();
        for out in [&path, &link] {
            assert!(matches!(Output::open(out, &path, &[line("a")]), Err(OutputError::Input)));
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"custom_id\":\"a\"}");
    }
}
