//! What a line of a conversation asks for.

use crate::exit::{Exit, Failure};
use std::env;
use std::path::PathBuf;

pub(crate) const HELP: &str = "\
/new           begin a new conversation
/system TEXT   what the model is told before it; without a text, show that; - for nothing
/undo          take the last message back, and its answer
/retry         answer the last message again
/save FILE     write the conversation as JSON
/load FILE     go on with a conversation that was saved
/help          this text
/quit          end, as ctrl-D does
//...          a message that begins with a slash
ctrl-C         stop an answer; clear the line; end, where it is pressed twice on an empty line
";

/// A line of a conversation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Nothing is said.
    Nothing,
    /// The model is told this.
    Message(String),
    New,
    /// Another system message, or the one that there is.
    System(Option<String>),
    Undo,
    Retry,
    Save(PathBuf),
    Load(PathBuf),
    Help,
    Quit,
}

impl Command {
    /// What a line asks for: a message, unless its first word is a slash and letters.
    ///
    /// # Errors
    /// No command is called so, or it takes something else behind it.
    pub(crate) fn of(line: String) -> Result<Command, Failure> {
        let trimmed = line.trim();
        if trimmed.is_empty() {
            return Ok(Command::Nothing);
        }
        if trimmed.starts_with("//") {
            return Ok(Command::Message(line.replacen("//", "/", 1)));
        }
        let (word, rest) = trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, ""));
        match word.strip_prefix('/') {
            Some(name) if name == "?" || name.chars().all(|c| c.is_ascii_alphabetic()) => {
                Command::named(word, rest.trim_start())
            }
            _ => Ok(Command::Message(line)),
        }
    }

    fn named(word: &str, rest: &str) -> Result<Command, Failure> {
        let wrong = |message| Err(Failure::new(Exit::Input, message));
        match (word, rest) {
            ("/system", "") => Ok(Command::System(None)),
            ("/system", text) => Ok(Command::System(Some(text.into()))),
            ("/save" | "/load", "") => wrong(format!("{word} FILE expected")),
            ("/save", file) => Ok(Command::Save(path(file))),
            ("/load", file) => Ok(Command::Load(path(file))),
            ("/new" | "/clear", "") => Ok(Command::New),
            ("/undo", "") => Ok(Command::Undo),
            ("/retry", "") => Ok(Command::Retry),
            ("/help" | "/?", "") => Ok(Command::Help),
            ("/quit" | "/exit" | "/bye", "") => Ok(Command::Quit),
            (
                "/new" | "/clear" | "/undo" | "/retry" | "/help" | "/?" | "/quit" | "/exit"
                | "/bye",
                _,
            ) => wrong(format!("{word} takes nothing behind it")),
            _ => {
                wrong(format!("no command {word}; /help lists them, /{word} says it to the model"))
            }
        }
    }
}

/// A path as a user writes it: `~/` is the home folder.
fn path(text: &str) -> PathBuf {
    match (text.strip_prefix("~/"), env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_messages_or_commands() {
        let message = |text: &str| Command::Message(text.into());
        for (line, expected) in [
            (" \t", Command::Nothing),
            ("hello", message("hello")),
            (" hello ", message(" hello ")),
            ("//new", message("/new")),
            (" //x //y", message(" /x //y")),
            ("/etc/hosts, what is it?", message("/etc/hosts, what is it?")),
            ("/2 of it", message("/2 of it")),
            (" /new ", Command::New),
            ("/system", Command::System(None)),
            ("/system  Be brief. ", Command::System(Some("Be brief.".into()))),
            ("/save a file.json", Command::Save("a file.json".into())),
            ("/load x", Command::Load("x".into())),
            ("/load ~x", Command::Load("~x".into())),
            ("/clear", Command::New),
            ("/?", Command::Help),
            ("/exit", Command::Quit),
            ("/bye", Command::Quit),
        ] {
            assert_eq!(Command::of(line.into()).unwrap(), expected, "{line:?}");
        }
        for (line, error) in [
            ("/", "no command /;"),
            ("/fly", "no command /fly; /help lists them, //fly says it"),
            ("/fly me", "no command /fly"),
            ("/bye bye", "/bye takes nothing behind it"),
            ("/new one", "/new takes nothing behind it"),
            ("/save", "/save FILE expected"),
        ] {
            let found = Command::of(line.into()).unwrap_err().to_string();
            assert!(found.contains(error), "{line:?}: {found}");
        }
    }
}
