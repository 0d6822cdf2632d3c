//! What reaches a board without an operating system: its boot arguments, and what is typed at it.

use crate::load::check;
use wick_virt::line::{Line, MOST};
use wick_virt::settings::Settings;

/// Any bytes as boot arguments, and as keys that are typed.
pub fn board(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // A device tree has no control characters there, and a terminal is shown what was typed there.
    if let Err(error) = Settings::parse(&text.replace(char::is_control, " "))
        && text.len() < 100
    {
        check(&error);
    }
    let mut line = Line::default();
    bytes.iter().for_each(|byte| _ = line.push(*byte));
    assert!(line.take().len() <= 3 * MOST);
}
