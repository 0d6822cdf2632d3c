//! The chat template of a file, alone.

use crate::exit::{Exit, Failure};
use crate::report::{note, print};
use crate::screen::Screen;
use serde::Serialize;
use wick_linux::host::{Files, chat_templates};

#[derive(Serialize)]
struct Shown<'a> {
    file: &'a str,
    name: &'a str,
    template: &'a str,
    names: Vec<&'a str>,
}

/// Writes the template of a name as the file has it, and says on stderr which others there are.
pub(super) fn show(files: &Files, wanted: &str, json: bool) -> Result<(), Failure> {
    let parts = files.parse()?;
    let templates = chat_templates(&parts[0]).map_err(|error| files.blame(error))?;
    let names: Vec<&str> = templates.iter().map(|(name, _)| *name).collect();
    let Some(&(name, template)) = templates.iter().find(|(name, _)| *name == wanted) else {
        return Err(missing(files, wanted, &names));
    };
    if json {
        return print(&Shown { file: files.name(), name, template, names }, true, |_, _| Ok(()));
    }
    if names.len() > 1 {
        note(&format!("{name:?} of the file's chat templates {}", names.join(", ")));
    }
    Ok(Screen::open().write_whole(template)?)
}

/// There is no such template.
fn missing(files: &Files, wanted: &str, names: &[&str]) -> Failure {
    let file = files.name();
    if names.is_empty() {
        return Failure::new(Exit::Model, format_args!("{file}: the file has no chat template"));
    }
    let known = names.join(", ");
    Failure::new(
        Exit::Usage,
        format_args!("{file}: no chat template is called {wanted:?}; there are {known}"),
    )
}
