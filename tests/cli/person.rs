//! A person at a terminal.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// How long a person waits for something to happen.
const PATIENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// A person at a terminal.
pub(crate) struct Person {
    pub(crate) child: Child,
    terminal: std::fs::File,
}

impl Person {
    pub(crate) fn new(arguments: &[&str]) -> Person {
        Person::remembering("/dev/null".as_ref(), arguments)
    }

    /// A person whose programs keep their state in a folder.
    pub(crate) fn remembering(state: &Path, arguments: &[&str]) -> Person {
        Person::at("xterm", state, arguments)
    }

    /// A person at a terminal of this kind.
    pub(crate) fn at(terminal_kind: &str, state: &Path, arguments: &[&str]) -> Person {
        use rustix::fs::{Mode, OFlags, open};
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let terminal = openpt(flags).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let end = || open(&name, flags, Mode::empty()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_wick"))
            .args(arguments)
            .env("TERM", terminal_kind)
            .env("XDG_STATE_HOME", state)
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        Person { child, terminal: terminal.into() }
    }

    /// Waits for `text` on the screen and for a prompt after it.
    pub(crate) fn sees(&mut self, text: &str) {
        self.sees_then(text, "> ");
    }

    pub(crate) fn sees_then(&mut self, text: &str, after: &str) {
        let mut screen = Vec::new();
        let mut byte = [0];
        loop {
            let shown = String::from_utf8_lossy(&screen);
            if shown.split_once(text).is_some_and(|(_, rest)| rest.contains(after)) {
                return;
            }
            assert!(screen.len() < 20_000, "{text:?} expected, {shown:?} found");
            let ready = poll(&mut [PollFd::new(&self.terminal, PollFlags::IN)], Some(&PATIENCE));
            assert_eq!(ready, Ok(1), "{text:?} expected, {shown:?} found");
            let read = self.terminal.read_exact(&mut byte);
            read.unwrap_or_else(|e| panic!("{text:?} expected, {shown:?} found: {e}"));
            screen.push(byte[0]);
        }
    }

    pub(crate) fn terminal(&self) -> &std::fs::File {
        &self.terminal
    }

    pub(crate) fn types(&mut self, keys: impl AsRef<[u8]>) {
        self.terminal.write_all(keys.as_ref()).unwrap();
    }

    pub(crate) fn sees_it_end(mut self, code: i32) {
        let end = Instant::now() + Duration::from_secs(PATIENCE.tv_sec as u64);
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(Instant::now() < end, "it does not end"),
            }
            // A terminal that nobody reads from fills up.
            let soon = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
            if poll(&mut [PollFd::new(&self.terminal, PollFlags::IN)], Some(&soon)) == Ok(1) {
                let _hung_up = self.terminal.read(&mut [0; 4096]);
            }
        };
        assert_eq!(status.code(), Some(code));
    }
}

impl Drop for Person {
    /// A test that fails leaves no process behind.
    fn drop(&mut self) {
        let _has_ended = self.child.kill();
    }
}
