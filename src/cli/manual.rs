//! `wick manual`: what a package has beside the program.

use crate::exit::{Exit, Failure, OrExit};
use anyhow::Context;
use clap::{Arg, Args, Command};
use clap_complete::Shell;
use std::fs;
use std::path::PathBuf;

/// Write manual pages, completions for bash, zsh and fish, and a file with all settings of a service
///
///   wick manual FOLDER && man FOLDER/man/wick-serve.1
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// Folder for man/, completions/ and wick.toml
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

pub(crate) fn run(arguments: &Arguments, mut command: Command) -> Result<(), Failure> {
    let place = || arguments.folder.display().to_string();
    let [pages, completions] = ["man", "completions"].map(|name| arguments.folder.join(name));
    for folder in [&pages, &completions] {
        fs::create_dir_all(folder).with_context(place).or_exit(Exit::Failed)?;
    }
    clap_mangen::generate_to(command.clone().disable_help_subcommand(true), &pages)
        .with_context(place)
        .or_exit(Exit::Failed)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "wick", &completions)
            .with_context(place)
            .or_exit(Exit::Failed)?;
    }
    let settings = command.find_subcommand("serve").map_or_else(String::new, settings);
    fs::write(arguments.folder.join("wick.toml"), settings)
        .with_context(place)
        .or_exit(Exit::Failed)?;
    Ok(())
}

/// A file with every option of a verb as a comment, with its default if it has one.
fn settings(verb: &Command) -> String {
    let mut text = String::from(
        "# Settings of wick serve: a key is an option of its command line (man wick-serve). Variables such as WICK_PORT\n\
         # go before this file. SIGHUP (systemctl reload wick) has keys and sampling read again; the rest needs a restart.\n",
    );
    for argument in verb.get_arguments().filter(|argument| is_setting(argument)) {
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        text.push('\n');
        for line in help.lines() {
            text += &format!("# {line}\n");
        }
        text += &format!("#{}\n", setting(argument));
    }
    text + "\n# More models by name, of which one is loaded at a time\n#[models]\n#NAME = \"FILE\"\n"
}

/// Whether an option is of use in a file.
fn is_setting(argument: &Arg) -> bool {
    let name = argument.get_long();
    !argument.is_hide_set()
        && name.is_some_and(|name| {
            !["help", "version", "verbose", "config", "check", "also"].contains(&name)
        })
}

/// An option with its default, or with what it takes.
fn setting(argument: &Arg) -> String {
    let key = argument.get_long().unwrap_or_default().replace('-', "_");
    if !argument.get_action().takes_values() {
        return format!("{key} = false");
    }
    let default = argument.get_default_values().first().map(|value| value.to_string_lossy());
    let names = argument.get_value_names().unwrap_or_default();
    let shown = || names.first().map_or_else(String::new, ToString::to_string);
    let value = default.map_or_else(shown, |value| value.into_owned());
    match value.parse::<f64>() {
        Ok(_) => format!("{key} = {value}"),
        Err(_) => format!("{key} = {value:?}"),
    }
}
