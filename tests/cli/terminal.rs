//! `wick chat` at a terminal.

use crate::person::Person;
use crate::program::{Q8_0, golden, interrupt};
use std::process::Command;

#[test]
fn a_person_talks_at_a_terminal() {
    let mut person = Person::new(&["chat", "--temperature", "0"]);
    person.sees("nano, built in; /help");
    person.types("turn on the lightt\x7f\r");
    person.sees("In which room is the light?");
    // Pasted at once; typed, each line that fills up would be drawn again.
    person.types(format!("\x1b[200~{}\x1b[201~\r", "lamp ".repeat(600)));
    person.sees("wick: the message has ");
    person.types("/fly\r");
    person.sees("wick: no command /fly");
    person.types("not this\x03the kitchen\r");
    person.sees(r#"{"device":"light","room":"kitchen","action":"on"}"#);
    person.types("\x04");
    person.sees_it_end(0);

    let mut person = Person::new(&["chat", "--temperature", "0"]);
    person.sees("nano, built in");
    person.types("\x03");
    person.sees("wick: ctrl-C once more ends");
    person.types("turn on the light\r");
    person.sees("In which room is the light?");
    // Twice with nothing between.
    for between in ["", "x\x7f", "not this\x03"] {
        person.types(format!("{between}\x03"));
        person.sees("wick: ctrl-C once more ends");
    }
    person.types("\x03");
    person.sees_it_end(130);
}

/// A command without an answer says what it did.
#[test]
fn commands_are_answered_in_a_terminal() {
    let mut person = Person::new(&["chat", "--temperature", "0"]);
    person.sees("nano, built in");
    for (line, told) in [
        ("/system Be brief.", "wick: the model is told that from the next message on"),
        ("/system -", "wick: there is no system message any more"),
        ("turn on the light", "In which room is the light?"),
        ("/save /dev/null", "wick: /dev/null: 2 messages saved"),
        ("/undo", "wick: taken back: turn on the light"),
        ("/clear", "wick: a new conversation"),
        ("/?", "/retry"),
    ] {
        person.types(format!("{line}\r"));
        person.sees(told);
    }
    person.types("/bye\r");
    person.sees_it_end(0);
}

/// A serial console, or a program such as expect, sends lines faster than they are answered.
#[test]
fn lines_that_come_at_once_are_all_kept() {
    let mut person = Person::new(&["chat", "--temperature", "0"]);
    person.sees("nano, built in");
    person.types("turn on the light\rthe kitchen\r/new\rturn on the light\r");
    person.sees("In which room is the light?");
    person.sees(r#"{"device":"light","room":"kitchen","action":"on"}"#);
    person.sees("In which room is the light?");
    person.types("the kitchen\n");
    person.sees(r#"{"device":"light","room":"kitchen","action":"on"}"#);
    person.types("\x03/new\r\x03turn on the light\r");
    person.sees("In which room is the light?");
    person.types("/new\r");
    person.sees("/new");
    person.types(b"caf\xe9 au lait\r");
    person.sees("wick: the message: UTF-8 expected, byte 3 is not");
    person.types("/retry\r");
    person.sees("wick: nothing was said yet");
    person.types("/quit\r");
    person.sees_it_end(0);
}

/// Where lines cannot be edited, the system does what it can.
#[test]
fn a_dumb_terminal_is_talked_to_line_by_line() {
    let nowhere = "/dev/null".as_ref();
    let greedy = ["chat", "--temperature", "0"];
    let mut person = Person::at("dumb", nowhere, &greedy);
    person.sees("nano, built in");
    person.types("turn on the light\n");
    person.sees("In which room is the light?");
    person.types("\x04");
    person.sees_it_end(0);
    let mut person = Person::at("dumb", nowhere, &greedy);
    person.sees("nano, built in");
    interrupt(&person.child);
    person.sees_it_end(130);
}

#[test]
fn lines_are_remembered_where_that_is_wanted() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let talk = |arguments: &[&str], keys: &str| {
        let mut person = Person::remembering(folder.path(), &[&["chat"], arguments].concat());
        person.sees("nano, built in");
        person.types(keys);
        person.sees_it_end(0);
    };
    let file = folder.path().join("wick/history");
    talk(&["--no-history"], "hello\r/quit\r");
    assert!(!file.exists());
    talk(&[], "hello\r/quit\r");
    let folder_mode = std::fs::metadata(file.parent().unwrap()).unwrap().permissions().mode();
    assert_eq!(folder_mode & 0o777, 0o700);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("hello\n/quit\n"), "{text:?}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // The last line but one.
    talk(&[], "\x1b[A\x1b[A\x08\x08p me\r/quit\r");
    assert!(std::fs::read_to_string(&file).unwrap().contains("help me\n/quit\n"));

    // A pipe of this name is not waited for.
    std::fs::remove_file(&file).unwrap();
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    talk(&[], "hello\r/quit\r");
}

/// The likeliest text of this model never ends by itself.
#[test]
fn a_person_stops_an_answer() {
    let path = golden(Q8_0);
    let model = path.to_str().unwrap();
    let endless = ["-n", "100000000", "--context", "8000000", "--temperature", "0"];
    let mut person = Person::new(&[&["chat", "-v", "-m", model], &endless[..]].concat());
    person.sees("/help");
    person.types("abc\r");
    person.sees_then("abc", "\u{FFFD}");
    interrupt(&person.child);
    person.sees("drawn: ");
    person.types("abc\r");
    person.sees_then("abc", "\u{FFFD}");
    // Ctrl-D that was pressed in an answer ends the conversation after it.
    person.types("\x04");
    interrupt(&person.child);
    person.sees_it_end(0);
}
