//! `wick`: runs SmallThinker models on small boards. A file for each verb.

mod answer;
mod answering;
mod batch;
mod bench;
mod board;
mod cache;
mod chat;
mod command;
mod conversation;
mod convert;
mod detokenize;
mod doctor;
mod document;
mod editor;
mod engine;
mod eval;
mod exit;
mod fetch;
mod format;
mod heat;
mod history;
mod http;
mod hub;
mod input;
mod inspect;
mod interrupt;
mod json;
mod lines;
mod listen;
mod logits;
mod making;
mod manual;
mod memory;
mod model;
mod number;
mod outcome;
mod pack;
mod plan;
mod progress;
mod quantize;
mod report;
mod request;
mod run;
mod sampling;
mod screen;
mod sequences;
mod serve;
mod settings;
mod skills;
mod streaming;
mod supervisor;
mod synth;
mod template;
mod terminal;
mod tokenize;
mod trial;
mod unit;

use crate::exit::{Exit, Failure, OrExit};
use crate::interrupt::Interrupt;
use clap::{Arg, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use log::{Level, LevelFilter};
use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;
use wick_linux::{Allocator, on_stack};

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    the output cannot be written, a model cannot be fetched, or something else went wrong on
       the way
  2    the command line is wrong
  3    a model file cannot be read, is damaged, has changed while in use, or is none that wick
       runs
  4    the model does not fit into memory, or the system refuses memory
  5    the input is wrong: prompt too long, token out of range, text not UTF-8, refused by the
       chat template
  129  ended by SIGHUP
  130  interrupted by ctrl-C
  143  ended by SIGTERM";

/// Where `--help` lists options that all verbs have: after those of the verb.
const LAST: usize = 1000;

/// Runs SmallThinker models on small boards.
///
/// Without a model file, wick uses nano, a small model of its own that is built in.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES, max_term_width = 100)]
struct Arguments {
    /// Say more on stderr: -v figures and what is loaded, -vv details
    #[arg(short, long, action = clap::ArgAction::Count, global = true, display_order = LAST)]
    verbose: u8,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Run(run::Arguments),
    Chat(chat::Arguments),
    Serve(Box<serve::Arguments>),
    Batch(Box<batch::Arguments>),
    Tokenize(tokenize::Arguments),
    Detokenize(detokenize::Arguments),
    Logits(logits::Arguments),
    Inspect(inspect::Arguments),
    Eval(eval::Arguments),
    Bench(bench::Arguments),
    Plan(plan::Arguments),
    Doctor(doctor::Arguments),
    Fetch(fetch::Arguments),
    Convert(convert::Arguments),
    Synth(synth::Arguments),
    Quantize(quantize::Arguments),
    Pack(pack::PackArguments),
    Unpack(pack::UnpackArguments),
    #[command(hide = true)]
    Manual(manual::Arguments),
}

impl Arguments {
    /// What a command line says, and variables beside it.
    fn try_read(words: impl IntoIterator<Item = OsString>) -> Result<Arguments, clap::Error> {
        Arguments::from_arg_matches(&command().try_get_matches_from(words)?)
    }

    /// The same with what the file of settings says, if there is one, before the rest of the command line.
    fn with_settings(self) -> Result<Result<Arguments, clap::Error>, Failure> {
        let Verb::Serve(serve) = &self.verb else { return Ok(Ok(self)) };
        let Some(path) = &serve.config else { return Ok(Ok(self)) };
        let options = settings::options(path)?;
        let given: Vec<OsString> = env::args_os().collect();
        let verb = given.iter().position(|word| word == "serve").unwrap_or(1);
        let (before, after) = given.split_at(given.len().min(verb + 1));
        let read = Arguments::try_read([before, &options, after].concat());
        if read.is_err() {
            let alone = ["wick", "serve"].into_iter().map(OsString::from).chain(options);
            Arguments::try_read(alone).map_err(|error| in_file(path, &error))?;
        }
        Ok(read)
    }
}

/// What is wrong with the options of a file.
fn in_file(path: &Path, error: &clap::Error) -> Failure {
    let said = error.to_string();
    let first = said.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    Failure::new(Exit::Usage, format_args!("{}: {first}", path.display()))
}

/// All verbs with their options. A value of an option may be a negative number, so that what refuses it can say which
/// numbers there are.
fn command() -> Command {
    let allow = |argument: Arg| {
        let is_value = argument.get_action().takes_values() && !argument.is_positional();
        argument.allow_negative_numbers(is_value)
    };
    let command = settings::with_variables(Arguments::command());
    let verbs: Vec<String> = command.get_subcommands().map(|v| v.get_name().into()).collect();
    verbs
        .into_iter()
        .fold(command, |command, verb| command.mut_subcommand(verb, |verb| verb.mut_args(allow)))
}

/// What the command line, variables and file of settings of a service say now.
fn settings_again() -> Result<Box<serve::Arguments>, Failure> {
    let read = Arguments::try_read(env::args_os()).or_exit(Exit::Usage)?;
    match read.with_settings()?.or_exit(Exit::Usage)?.verb {
        Verb::Serve(arguments) => Ok(arguments),
        _ => Err(Failure::new(Exit::Usage, "wick serve expected")),
    }
}

/// Bytes of stack that any verb has enough of, also in a debug build.
const STACK: usize = 1 << 20;

/// Ends the process with exit code 4 where the system refuses memory.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    Allocator::prepare(interrupt::leave_in_order);
    let exit = on_stack(STACK, start).unwrap_or_else(|error| {
        let failure = Failure::new(no_stack(&error), error);
        failure.report();
        failure.exit
    });
    exit.into()
}

/// The exit code where there is neither enough stack nor a thread with more.
fn no_stack(error: &io::Error) -> Exit {
    if error.kind() == io::ErrorKind::OutOfMemory { Exit::Memory } else { Exit::Failed }
}

/// The whole of the program.
fn start() -> Exit {
    let started = Instant::now();
    let done = Interrupt::watch().and_then(|interrupt| {
        let done = run(&interrupt, started).and_then(|()| Ok(io::stdout().flush()?));
        // What fails because the process is to end is no failure.
        done.or_else(|failure| interrupt.check().and(Err(failure)))
    });
    match done {
        Ok(()) => Exit::Done,
        Err(failure) if failure.is_closed_pipe() => Exit::Done,
        Err(failure) => {
            failure.report();
            failure.exit
        }
    }
}

/// Does what the command line says.
fn run(interrupt: &Interrupt, started: Instant) -> Result<(), Failure> {
    let arguments = match Arguments::try_read(env::args_os()) {
        Ok(arguments) => arguments.with_settings()?.unwrap_or_else(|error| error.exit()),
        Err(error) if error.use_stderr() => error.exit(),
        Err(help) => return Ok(help.print()?),
    };
    let verbose = arguments.verbose > 0;
    start_log(arguments.verbose);
    match arguments.verb {
        Verb::Run(a) => run::run(&a, interrupt, verbose),
        Verb::Chat(a) => chat::run(&a, interrupt, verbose),
        Verb::Serve(a) => serve::run(&a, interrupt, settings_again),
        Verb::Batch(a) => batch::run(&a, interrupt),
        Verb::Tokenize(a) => tokenize::run(&a),
        Verb::Detokenize(a) => detokenize::run(&a),
        Verb::Logits(a) => logits::run(&a),
        Verb::Inspect(a) => inspect::run(&a, interrupt),
        Verb::Eval(a) => eval::run(&a, interrupt),
        Verb::Bench(a) => bench::run(&a, started),
        Verb::Plan(a) => plan::run(&a),
        Verb::Doctor(a) => doctor::run(&a),
        Verb::Fetch(a) => fetch::run(&a),
        Verb::Convert(a) => convert::run(&a, interrupt),
        Verb::Synth(a) => synth::run(&a, interrupt),
        Verb::Quantize(a) => quantize::run(&a, interrupt),
        Verb::Pack(a) => pack::pack(&a, interrupt),
        Verb::Unpack(a) => pack::unpack(&a, interrupt),
        Verb::Manual(a) => manual::run(&a, command()),
    }
}

fn start_log(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        _ => LevelFilter::Debug,
    };
    env_logger::Builder::new()
        .filter_level(level)
        .format(|line, record| {
            let kind = if record.level() <= Level::Warn { "warning: " } else { "" };
            let (prefix, text) = (screen::prefix(record.level()), record.args().to_string());
            writeln!(line, "{prefix}{kind}{}", screen::line(&text))
        })
        .init();
}
