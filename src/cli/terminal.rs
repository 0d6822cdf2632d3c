//! The terminal as it was found.

use rustix::process::getpgrp;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr,
};
use std::io::{self, IsTerminal};

/// Ends what the line editor asks for: that pasted text comes in brackets.
const PLAIN_PASTE: &[u8] = b"\x1b[?2004l";

/// Tenths of a second after which a line has no rest: longer than between two bytes on a serial line, and shorter
/// than a person takes to see what was wrong.
const TENTHS: u8 = 2;

/// How the terminal was set when the process began, which the line editor changes while it waits.
pub(crate) struct Terminal(Termios);

impl Terminal {
    /// The terminal on stdin, if there is one.
    pub(crate) fn saved() -> Option<Terminal> {
        tcgetattr(io::stdin()).ok().map(Terminal)
    }

    /// Sets it as it was. Who cannot has no terminal any more.
    pub(crate) fn restore(&self) {
        let stdin = io::stdin();
        let changed = |now: Termios| now.local_modes != self.0.local_modes;
        // A process in the background that sets its terminal would be stopped.
        let is_background = tcgetpgrp(&stdin).is_ok_and(|group| group != getpgrp());
        if !is_background && tcgetattr(&stdin).is_ok_and(changed) {
            let _hung_up = tcsetattr(&stdin, OptionalActions::Now, &self.0);
            if io::stdout().is_terminal() {
                let _hung_up = rustix::io::write(io::stdout(), PLAIN_PASTE);
            }
        }
    }
}

/// Drops what comes up to the end of a line, or until nothing has come for some tenths of a second. Bytes are taken
/// one by one, so that what follows the line stays.
pub(crate) fn skip_line() {
    let stdin = io::stdin();
    let Ok(found) = tcgetattr(&stdin) else { return };
    let mut raw = found.clone();
    raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
    raw.special_codes[SpecialCodeIndex::VMIN] = 0;
    raw.special_codes[SpecialCodeIndex::VTIME] = TENTHS;
    let _hung_up = tcsetattr(&stdin, OptionalActions::Now, &raw);
    let mut byte = [0];
    while rustix::io::read(&stdin, &mut byte).is_ok_and(|read| read == 1) {
        if matches!(byte, [b'\r' | b'\n']) {
            break;
        }
    }
    let _hung_up = tcsetattr(&stdin, OptionalActions::Now, &found);
}
