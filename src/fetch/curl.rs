//! Requests, each made by a process of the system's `curl`.
//!
//! What is secret (the token, a signed address) goes through curl's stdin and is seen in no list of processes. Redirects
//! are not followed here, so that whoever asks decides who gets the token.

use crate::Error;
use crate::patience::Trouble;
use crate::settings::{Limits, Token};
use crate::url::Url;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most bytes of an answer's head.
const LONGEST_HEAD: usize = 64 << 10;
/// Most bytes of what curl says on stderr.
const LONGEST_MESSAGE: u64 = 1000;
/// Seconds in which there must be a connection.
const CONNECT: &str = "20";
/// Fewer bytes a second are a stall.
const SLOWEST: &str = "1000";
/// What curl ends with where another attempt may help: no name, no connection, an answer that breaks off, no answer in
/// time, no handshake, nothing sent or received, HTTP/2 and HTTP/3 that fail.
const PASSING: [i32; 13] = [5, 6, 7, 16, 18, 28, 35, 52, 55, 56, 92, 95, 96];

/// All processes that run.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

fn running() -> MutexGuard<'static, Vec<Pid>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends all downloads, for a process that ends right after: whoever wants to begin or finish one from then on waits for
/// ever. What they have written stays, to be gone on with.
pub fn end_all() {
    let running = running();
    kill(&running);
    std::mem::forget(running);
}

/// The same for a thread that may be about to begin or finish one itself; it waits for nobody.
pub fn try_end_all() {
    if let Ok(running) = RUNNING.try_lock() {
        kill(&running);
        std::mem::forget(running);
    }
}

/// Ends the downloads of now.
pub(crate) fn interrupt_all() {
    kill(&running());
}

fn kill(running: &[Pid]) {
    for id in running {
        let _ended_already = kill_process(*id, Signal::KILL);
    }
}

/// What is asked for.
pub(crate) struct Request<'r> {
    pub(crate) url: &'r Url,
    /// Given to `url` and to nobody else.
    pub(crate) token: Option<&'r Token>,
    /// Whether the head of the answer is enough.
    pub(crate) is_head: bool,
    /// The bytes that are wanted, if not all are.
    pub(crate) range: Option<Range<u64>>,
    /// Whether HTTP without TLS will do.
    pub(crate) may_be_plain: bool,
    pub(crate) limits: Limits,
}

impl Request<'_> {
    /// Asks, and reads the head of the answer.
    ///
    /// # Errors
    /// There is no answer, or no curl.
    pub(crate) fn send(&self) -> Result<Answer, Trouble> {
        let mut body = self.start()?;
        let head = loop {
            let head = body.head()?;
            let head =
                Head::parse(&head).ok_or_else(|| Error::hub(self.url, "answers with no HTTP"))?;
            // Something like 103, which says that the answer is to come.
            if head.status >= 200 {
                break head;
            }
        };
        Ok(Answer { head, body })
    }

    fn start(&self) -> Result<Body, Trouble> {
        let stall = self.limits.stall.as_secs().max(1).to_string();
        let protocols = if self.may_be_plain { "=http,https" } else { "=https" };
        let mut command = Command::new("curl");
        // First, so that no file of the user's changes what is meant here.
        command.arg("--disable").args(["--silent", "--show-error", "--no-buffer", "--globoff"]);
        command.args(["--path-as-is", "--suppress-connect-headers", "--max-redirs", "0"]);
        command.args(["--proto", protocols, "--connect-timeout", CONNECT]);
        command.args(["--speed-limit", SLOWEST, "--speed-time", &stall, "--config", "-"]);
        command.arg(if self.is_head { "--head" } else { "--include" });
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C at a terminal is for wick, which ends curl itself.
        command.process_group(0);
        // Listed before anybody may want to end it.
        let mut running = running();
        let mut child = command.spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Error::NoCurl { source },
            _ => Error::Network { url: self.url.to_string(), reason: format!("curl: {source}") },
        })?;
        let id = Pid::from_child(&child);
        running.push(id);
        drop(running);
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let body = Body { child, id, stdout, ahead: Vec::new() };
        if let Some(mut stdin) = stdin {
            // Where curl has ended already, it says why.
            let _ended = stdin.write_all(self.config().as_bytes());
        }
        Ok(body)
    }

    /// What curl reads from its stdin.
    fn config(&self) -> String {
        let mut text = format!(
            "url = {}\nuser-agent = {}\n",
            quoted(&self.url.whole()),
            quoted(concat!("wick/", env!("CARGO_PKG_VERSION")))
        );
        if let Some(token) = self.token {
            let header = format!("Authorization: Bearer {}", token.secret());
            text += &format!("header = {}\n", quoted(&header));
        }
        if let Some(range) = &self.range {
            text += &format!("range = \"{}-{}\"\n", range.start, range.end - 1);
        }
        text
    }
}

/// A value for curl.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '\\' | '"' => quoted.extend(['\\', c]),
            c if c.is_control() => {}
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// What a server says before the bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
}

impl Head {
    fn parse(bytes: &[u8]) -> Option<Head> {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.lines();
        let status = lines.next()?.strip_prefix("HTTP/")?.split(' ').nth(1)?.parse().ok()?;
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        };
        Some(Head { status, headers: lines.filter_map(header).collect() })
    }

    /// The value of a header, whose name is in lower case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// Where the answer is, if it is elsewhere.
    pub(crate) fn redirect(&self) -> Option<&str> {
        matches!(self.status, 301 | 302 | 303 | 307 | 308).then(|| self.get("location")).flatten()
    }

    /// When the server wants to be asked again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.get("retry-after")?.parse().ok().map(Duration::from_secs)
    }

    /// The first byte that is sent, and how many the file has: `bytes 0-9/100`.
    pub(crate) fn content_range(&self) -> Option<(u64, u64)> {
        let (range, size) = self.get("content-range")?.strip_prefix("bytes ")?.split_once('/')?;
        Some((range.split_once('-')?.0.trim().parse().ok()?, size.trim().parse().ok()?))
    }
}

/// What a server sends.
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Body,
}

/// What comes out of a process of curl, which ends when this is dropped.
pub(crate) struct Body {
    child: Child,
    id: Pid,
    stdout: Option<ChildStdout>,
    /// What was read beyond the head.
    ahead: Vec<u8>,
}

impl Body {
    /// Everything up to the first empty line.
    fn head(&mut self) -> Result<Vec<u8>, Trouble> {
        let mut piece = [0; 4096];
        loop {
            let end = self.ahead.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if let Some(end) = end {
                let rest = self.ahead.split_off(end + 4);
                return Ok(std::mem::replace(&mut self.ahead, rest));
            }
            if self.ahead.len() > LONGEST_HEAD {
                return Err(Trouble::passing("the head of the answer does not end"));
            }
            match self.stdout.as_mut().map_or(Ok(0), |out| out.read(&mut piece)) {
                Ok(0) | Err(_) => return Err(self.trouble()),
                Ok(n) => self.ahead.extend_from_slice(&piece[..n]),
            }
        }
    }

    /// Waits until curl has ended, where it sends no more.
    ///
    /// # Errors
    /// It did not end well.
    fn finish(&mut self) -> Result<(), Trouble> {
        self.stdout = None;
        let mut said = Vec::new();
        if let Some(stderr) = self.child.stderr.take() {
            let _what_there_is = stderr.take(LONGEST_MESSAGE).read_to_end(&mut said);
        }
        running().retain(|id| *id != self.id);
        let status = self.child.wait();
        let said = String::from_utf8_lossy(&said);
        let said = said.trim().trim_start_matches("curl: ");
        match status.ok().and_then(|status| status.code()) {
            Some(0) => Ok(()),
            Some(code) if PASSING.contains(&code) => Err(Trouble::passing(said)),
            Some(_) => Err(Error::Network { url: "curl".into(), reason: said.into() }.into()),
            None => Err(Trouble::passing("curl was ended")),
        }
    }

    /// Why something is missing that curl was to send.
    pub(crate) fn trouble(&mut self) -> Trouble {
        self.finish().err().unwrap_or_else(|| Trouble::passing("the answer breaks off"))
    }

    /// The whole of it as text.
    ///
    /// # Errors
    /// It has more than `most` bytes, or breaks off.
    pub(crate) fn text(mut self, url: &Url, most: u64) -> Result<String, Trouble> {
        let mut bytes = Vec::new();
        let read = (&mut self).take(most + 1).read_to_end(&mut bytes);
        if read.is_err() {
            return Err(self.trouble());
        }
        if bytes.len() as u64 > most {
            return Err(Error::hub(url, format_args!("answers with more than {most} bytes")).into());
        }
        self.finish()?;
        String::from_utf8(bytes).map_err(|_| Error::hub(url, "answers with no text").into())
    }
}

impl Read for Body {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.ahead.is_empty() {
            return self.stdout.as_mut().map_or(Ok(0), |out| out.read(to));
        }
        let n = self.ahead.len().min(to.len());
        to[..n].copy_from_slice(&self.ahead[..n]);
        self.ahead.drain(..n);
        Ok(n)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        running().retain(|id| *id != self.id);
        let _status = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let head = Head::parse(
            b"HTTP/2 206 \r\nContent-Range: bytes 5-9/100\r\nRetry-After: 3\r\nLocation: /x\r\n\r\n",
        );
        let head = head.unwrap();
        assert_eq!((head.status, head.content_range()), (206, Some((5, 100))));
        assert_eq!(head.retry_after(), Some(Duration::from_secs(3)));
        assert_eq!(head.redirect(), None);
        let moved = Head::parse(b"HTTP/1.1 302 Found\r\nlocation: /x\r\n\r\n").unwrap();
        assert_eq!(moved.redirect(), Some("/x"));
        assert_eq!(Head::parse(b"ICY 200 OK\r\n\r\n"), None);
    }

    #[test]
    fn values_stay_values() {
        assert_eq!(quoted("a\"b\\c\nd"), r#""a\"b\\cd""#);
    }
}
