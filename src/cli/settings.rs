//! Settings of a service from a file, as if they stood on the command line, and from variables.

use crate::exit::{Exit, Failure, OrExit};
use anyhow::{Context, Error};
use clap::builder::BoolishValueParser;
use clap::{Arg, ArgAction, Command};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use toml::{Table, Value};

/// Options for the table in the file at `path`: `key = value` is `--key value`, `true` is the flag alone, and a list is
/// the option several times. Those that a variable `WICK_KEY` gives are left out, since it goes before the file.
pub(crate) fn options(path: &Path) -> Result<Vec<OsString>, Failure> {
    let place = path.display().to_string();
    let text = fs::read_to_string(path).with_context(|| place.clone()).or_exit(Exit::Usage)?;
    options_in(&text).with_context(|| place).or_exit(Exit::Usage)
}

fn options_in(text: &str) -> anyhow::Result<Vec<OsString>> {
    let table: Table = toml::from_str(text)?;
    let mut options = Vec::new();
    for (key, value) in table {
        if let ("models", Value::Table(models)) = (&*key, &value) {
            if env::var_os(variable("also")).is_none() {
                add_models(&mut options, models).map_err(Error::msg)?;
            }
        } else if env::var_os(variable(&key)).is_none() {
            add(&mut options, &key, &value).map_err(|e| Error::msg(format!("{key}: {e}")))?;
        }
    }
    Ok(options)
}

/// `command` with variables for all options of `wick serve`, and for those of `wick batch` that are the same.
pub(crate) fn with_variables(mut command: Command) -> Command {
    let serve = command.find_subcommand("serve").map(Command::get_arguments);
    let names: Vec<String> =
        serve.into_iter().flatten().filter_map(Arg::get_long).map(String::from).collect();
    for verb in ["serve", "batch"] {
        command = command.mut_subcommand(verb, |verb| {
            verb.mut_args(|argument| match argument.get_long().map(String::from) {
                Some(name) if names.contains(&name) => with_variable(argument, &name),
                _ => argument,
            })
        });
    }
    command
}

fn with_variable(argument: Arg, name: &str) -> Arg {
    let argument = match argument.get_action() {
        ArgAction::SetTrue => argument.value_parser(BoolishValueParser::new()),
        _ => argument,
    };
    argument.env(variable(name))
}

/// Adds the models of a table: `name = "file"`.
fn add_models(options: &mut Vec<OsString>, models: &Table) -> Result<(), String> {
    for (name, file) in models {
        if name.contains('=') {
            return Err(format!("models.{name}: a name without = expected"));
        }
        let file = file.as_str().ok_or_else(|| format!("models.{name}: a file expected"))?;
        options.push(format!("--also={name}={file}").into());
    }
    Ok(())
}

/// The variable that says the same as an option.
pub(crate) fn variable(key: &str) -> String {
    format!("WICK_{}", key.replace('-', "_").to_ascii_uppercase())
}

fn add(options: &mut Vec<OsString>, key: &str, value: &Value) -> Result<(), String> {
    // TOML's own habit is the underscore.
    let flag = format!("--{}", key.replace('_', "-"));
    let mut with = |value: String| options.push(format!("{flag}={value}").into());
    match value {
        Value::Boolean(true) => options.push(flag.into()),
        Value::Boolean(false) => {}
        Value::String(text) => with(text.clone()),
        Value::Integer(number) => with(number.to_string()),
        Value::Float(number) => with(number.to_string()),
        Value::Array(values) => values.iter().try_for_each(|value| add(options, key, value))?,
        Value::Table(_) | Value::Datetime(_) => {
            return Err("a text, a number, true, false or a list expected".into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wick_tests::random::Random;

    #[test]
    fn a_table_is_a_command_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wick.toml");
        let text = "model = \"m.gguf\"\nport = 8081\ntemperature = 0.5\ninsecure = true\nno_history = false\n\
                    cors = [\"https://a\", \"https://b\"]\n[models]\nbig = \"b.gguf\"\n";
        fs::write(&path, text).unwrap();
        let mut found = options(&path).unwrap();
        found.sort();
        assert_eq!(
            found,
            [
                "--also=big=b.gguf",
                "--cors=https://a",
                "--cors=https://b",
                "--insecure",
                "--model=m.gguf",
                "--port=8081",
                "--temperature=0.5"
            ]
        );
        for (text, error) in [
            ("[a]\nb = 1\n", "a: a text"),
            ("port = ", "wick.toml: "),
            ("[models]\n\"a=\" = \"b\"\n", "models.a=: a name without ="),
            ("[models]\na = 1\n", "models.a: a file expected"),
        ] {
            fs::write(&path, text).unwrap();
            assert!(options(&path).unwrap_err().to_string().contains(error), "{text}");
        }
    }

    /// Whatever a file says, it is options or refused; and so is what the options say.
    #[test]
    fn mutated_files_are_read_or_refused() {
        let good = "model = \"m.gguf\"\nport = 8081\ntemperature = 0.5\ninsecure = true\nseed = -1\ncontext = 1e3\n\
                    cors = [\"https://a\", 'b']\nmemory = \"1G\"\nlisten = \"[::1]:0\"\n[models]\nbig = \"b\"\n";
        let signs = [
            "\0",
            "=",
            "\"",
            "[",
            "]",
            "{",
            "'",
            "\\u0000",
            "999999999999999999999",
            "--",
            "é",
            "\n",
            "nan",
            "-",
        ];
        let mut random = Random(3);
        for _ in 0..400 {
            let mut words: Vec<&str> = good.split_inclusive(['=', '\n', '"', ' ']).collect();
            for _ in 0..=random.below(3) {
                let at = random.below(words.len());
                words[at] = match random.below(2) {
                    0 => signs[random.below(signs.len())],
                    _ => words[random.below(words.len())],
                };
            }
            let Ok(options) = options_in(&words.concat()) else { continue };
            let line = ["wick", "serve"].into_iter().map(OsString::from).chain(options);
            _ = crate::Arguments::try_read(line);
        }
    }
}
