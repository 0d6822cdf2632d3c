//! Boards and devices, as the command line names them.

use crate::screen::line;
use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, Command, Error};
use std::env;
use std::ffi::OsStr;
use std::path::PathBuf;
use wick_linux::board::{BOARDS, Board, BoardError, Boards};
use wick_linux::reads::Device;

/// Names another folder of boards than [`BOARDS`].
const VARIABLE: &str = "WICK_BOARDS";

/// All boards that are known here.
pub(crate) fn boards() -> Result<Boards, BoardError> {
    let folder = env::var_os(VARIABLE).map_or_else(|| BOARDS.into(), PathBuf::from);
    Boards::read(&folder)
}

/// The name of a board.
#[derive(Clone)]
pub(crate) struct BoardParser;

/// The name of a kind of device, or of a board with such.
#[derive(Clone)]
pub(crate) struct DeviceParser;

impl TypedValueParser for BoardParser {
    type Value = Board;

    fn parse_ref(&self, command: &Command, _: Option<&Arg>, name: &OsStr) -> Result<Board, Error> {
        find(command, name, &[])
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(Boards::built_in().map(PossibleValue::new)))
    }
}

impl TypedValueParser for DeviceParser {
    type Value = Device;

    fn parse_ref(&self, command: &Command, _: Option<&Arg>, name: &OsStr) -> Result<Device, Error> {
        let kinds = Device::KINDS.map(|(kind, _)| kind);
        match name.to_str().and_then(Device::of_kind) {
            Some(device) => Ok(device),
            None => find(command, name, &kinds).map(|board| board.device()),
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let kinds = Device::KINDS.into_iter().map(|(kind, _)| kind);
        Some(Box::new(kinds.chain(Boards::built_in()).map(PossibleValue::new)))
    }
}

/// The board of a name; `others` are names that would do as well.
fn find(command: &Command, name: &OsStr, others: &[&str]) -> Result<Board, Error> {
    let error = |kind, what: &str| {
        let lines: Vec<String> = what.lines().map(line).collect();
        Error::raw(kind, lines.join("\n") + "\n").with_cmd(command)
    };
    let boards = boards().map_err(|wrong| error(ErrorKind::Io, &wrong.to_string()))?;
    let name = name.to_string_lossy();
    match (boards.named(&name), boards.broken_one(&name)) {
        (Some(board), _) => Ok(board.clone()),
        (None, Some(wrong)) => Err(error(ErrorKind::InvalidValue, &wrong.to_string())),
        (None, None) => {
            let known = others.iter().copied().chain(boards.iter().map(|board| &*board.name));
            let known = known.collect::<Vec<_>>().join(", ");
            let what = format!("there is no board {name:?}; known are {known}");
            Err(error(ErrorKind::InvalidValue, &what))
        }
    }
}
