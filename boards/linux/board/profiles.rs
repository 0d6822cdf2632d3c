//! Where boards are described.

use super::{Board, StorageKind};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The folder in which users describe boards of their own.
pub const BOARDS: &str = "/etc/wick/boards";

/// Names of the boards that are built in, and their files.
const BUILT_IN: [(&str, &str); 10] = [
    ("pi3", include_str!("../profiles/pi3.toml")),
    ("pi4", include_str!("../profiles/pi4.toml")),
    ("pi5", include_str!("../profiles/pi5.toml")),
    ("pi5-nvme", include_str!("../profiles/pi5-nvme.toml")),
    ("rdk-x5", include_str!("../profiles/rdk-x5.toml")),
    ("rk3566", include_str!("../profiles/rk3566.toml")),
    ("rk3576", include_str!("../profiles/rk3576.toml")),
    ("rk3588", include_str!("../profiles/rk3588.toml")),
    ("rk3588-nvme", include_str!("../profiles/rk3588-nvme.toml")),
    ("zero2w", include_str!("../profiles/zero2w.toml")),
];

/// Bytes of the largest description.
const LARGEST: u64 = 64 << 10;

/// What is wrong with the description of a board.
#[derive(Debug)]
pub struct BoardError {
    file: PathBuf,
    reason: String,
}

impl fmt::Display for BoardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.reason)
    }
}

impl std::error::Error for BoardError {}

/// All boards that are known: first users' own, then those that are built in.
#[derive(Debug)]
pub struct Boards {
    all: Vec<Board>,
    broken: Vec<BoardError>,
}

impl Boards {
    /// Names of the boards that are built in.
    pub fn built_in() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// The boards that `NAME.toml` in `folder` describes, and those that are built in but for such names.
    ///
    /// # Errors
    /// The folder cannot be read. A file in it that is no description of a board is [broken](Boards::broken).
    pub fn read(folder: &Path) -> Result<Boards, BoardError> {
        let mut boards = Boards { all: Vec::new(), broken: Vec::new() };
        for file in own_files(folder)? {
            match parse_file(&file) {
                Ok(board) => boards.all.push(board),
                Err(reason) => boards.broken.push(BoardError { file, reason }),
            }
        }
        let is_own = |name: &str| {
            let is_broken = |error: &BoardError| error.file.file_stem() == Some(name.as_ref());
            boards.named(name).is_some() || boards.broken.iter().any(is_broken)
        };
        let others: Vec<_> = BUILT_IN.iter().filter(|(name, _)| !is_own(name)).collect();
        for (name, text) in others {
            boards.all.push(parse(name, text).expect("what is built in was tested"));
        }
        Ok(boards)
    }

    /// What is wrong with files that are no descriptions of boards.
    pub fn broken(&self) -> impl Iterator<Item = &BoardError> {
        self.broken.iter()
    }

    /// What is wrong with the file that describes the board of a name.
    pub fn broken_one(&self, name: &str) -> Option<&BoardError> {
        self.broken().find(|error| error.file.file_stem() == Some(name.as_ref()))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Board> {
        self.all.iter()
    }

    /// The board of a name.
    pub fn named(&self, name: &str) -> Option<&Board> {
        self.all.iter().find(|board| board.name == name)
    }

    /// The board of a device tree with such a `model` and `compatible`, the most telling first: that with such storage if
    /// there is one, or else the first.
    pub fn called(
        &self,
        model: &str,
        compatible: &[String],
        storage: Option<StorageKind>,
    ) -> Option<&Board> {
        let of = |is_name: &dyn Fn(&str) -> bool| {
            let is_called = |board: &&Board| board.called.iter().any(|name| is_name(name));
            let called = || self.all.iter().filter(is_called);
            called().find(|board| Some(board.storage.kind) == storage).or_else(|| called().next())
        };
        let by_entry = |entry: &String| of(&|name| name == entry);
        of(&|name| model.starts_with(name)).or_else(|| compatible.iter().find_map(by_entry))
    }
}

/// The files of a folder that describe boards; none if there is no such folder.
fn own_files(folder: &Path) -> Result<Vec<PathBuf>, BoardError> {
    let wrong = |error: io::Error| BoardError { file: folder.into(), reason: error.to_string() };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(wrong(error)),
    };
    let files = entries.map(|entry| entry.map(|entry| entry.path()).map_err(wrong));
    // Editors and other systems leave files with a dot in front.
    let is_board = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().as_encoded_bytes();
        name.ends_with(b".toml") && !name.starts_with(b".")
    };
    let mut files: Vec<PathBuf> =
        files.filter(|file| file.as_ref().map_or(true, is_board)).collect::<Result<_, _>>()?;
    files.sort();
    Ok(files)
}

/// The board of a file; only of one that can be read to its end.
fn parse_file(file: &Path) -> Result<Board, String> {
    let found = fs::metadata(file).map_err(|error| error.to_string())?;
    if !found.is_file() || found.len() > LARGEST {
        return Err(format!("a file of {LARGEST} bytes at most expected"));
    }
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    parse(&file.file_stem().unwrap_or_default().to_string_lossy(), &text)
}

fn parse(name: &str, text: &str) -> Result<Board, String> {
    let board: Board =
        toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
    match board.impossible() {
        Some(figure) => Err(format!("{figure}: no board is like that")),
        None => Ok(Board { name: name.into(), ..board }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_built_in_boards_can_be_read() {
        let boards = Boards::read(Path::new("/nowhere")).unwrap();
        assert_eq!(boards.iter().count(), BUILT_IN.len());
        for (name, _) in BUILT_IN {
            let board = boards.named(name).unwrap();
            assert!(board.cores.iter().all(|cores| !cores.source.is_empty()), "{name}");
        }
        assert!(boards.named("toaster").is_none());
    }

    /// As boards call themselves in their device trees.
    #[test]
    fn boards_are_recognized() {
        let boards = Boards::read(Path::new("/nowhere")).unwrap();
        let called = |model, entries: &str, storage| {
            let entries: Vec<String> = entries.split(' ').map(String::from).collect();
            boards.called(model, &entries, Some(storage)).map(|board| &*board.name)
        };
        for (model, entries, storage, name) in [
            (
                "Raspberry Pi 3 Model B Plus Rev 1.3",
                "raspberrypi,3-model-b-plus brcm,bcm2837",
                StorageKind::Sd,
                "pi3",
            ),
            (
                "Raspberry Pi Zero 2 W Rev 1.0",
                "raspberrypi,model-zero-2-w brcm,bcm2837",
                StorageKind::Sd,
                "zero2w",
            ),
            (
                "Raspberry Pi 4 Model B Rev 1.4",
                "raspberrypi,4-model-b brcm,bcm2711",
                StorageKind::Usb,
                "pi4",
            ),
            (
                "Raspberry Pi 5 Model B Rev 1.0",
                "raspberrypi,5-model-b brcm,bcm2712",
                StorageKind::Sd,
                "pi5",
            ),
            (
                "Raspberry Pi 5 Model B Rev 1.0",
                "raspberrypi,5-model-b brcm,bcm2712",
                StorageKind::Nvme,
                "pi5-nvme",
            ),
            ("Radxa ROCK 5B", "radxa,rock-5b rockchip,rk3588", StorageKind::Emmc, "rk3588"),
            (
                "Orange Pi 5",
                "xunlong,orangepi-5 rockchip,rk3588s",
                StorageKind::Nvme,
                "rk3588-nvme",
            ),
            (
                "Pine64 RK3566 Quartz64-A Board",
                "pine64,quartz64-a rockchip,rk3566",
                StorageKind::Emmc,
                "rk3566",
            ),
            ("ArmSoM Sige5", "armsom,sige5 rockchip,rk3576", StorageKind::Emmc, "rk3576"),
            ("D-Robotics RDK X5 V1.0", "", StorageKind::Sd, "rdk-x5"),
        ] {
            assert_eq!(called(model, entries, storage), Some(name), "{model}");
        }
        assert_eq!(called("Toaster 3000", "crumbs,tray", StorageKind::Sd), None);
    }

    #[test]
    fn users_add_boards_and_hear_what_is_wrong_with_them() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let pi5 = BUILT_IN.iter().find(|(name, _)| *name == "pi5").unwrap().1;
        write("shelf.toml", &pi5.replace("brcm,bcm2712", "Shelf"));
        write("pi5.toml", &pi5.replace("kind = \"sd\"", "kind = \"usb\""));
        write("notes.txt", "no board");
        let boards = Boards::read(folder.path()).unwrap();
        assert_eq!(boards.iter().count(), BUILT_IN.len() + 1);
        assert_eq!(boards.named("pi5").unwrap().storage.kind, StorageKind::Usb);
        assert_eq!(boards.called("Shelf 2", &[], None).unwrap().name, "shelf");
        write("shelf.toml", pi5);
        let called = Boards::read(folder.path()).unwrap();
        let called = called.called("", &["brcm,bcm2712".into()], Some(StorageKind::Sd));
        assert_eq!(called.unwrap().name, "shelf", "a user's own goes first");
        for (from, to, reason) in [
            ("[memory]", "[memory]\ncolour = 1", "colour"),
            ("mhz = 2400", "mhz = 0", "cores.mhz: no board is like that"),
            ("mhz = 2400", "mhz = inf", "cores.mhz: no board is like that"),
            ("reached = ", "reached = 99", "memory.reached: no board is like that"),
            ("kind = \"sd\"", "kind = \"tape\"", "tape"),
            ("big = true", "big = false", "cores.big"),
            ("title", "[", "line 1"),
            ("brcm,bcm2712", " ", "called: no board is like that"),
            ("bandwidth = 90e6", "bandwidth = 1e-300", "storage.bandwidth"),
            ("reads = 4000", "reads = 5e-324", "storage.reads"),
            ("latency_us = 500", "latency_us = 9223372036854775807", "storage.latency_us"),
            ("mhz = 2400", "mhz = 1e308", "cores.mhz"),
        ] {
            write("shelf.toml", &pi5.replacen(from, to, 1));
            let boards = Boards::read(folder.path()).unwrap();
            let error = boards.broken_one("shelf").unwrap().to_string();
            assert!(error.contains("shelf.toml") && error.contains(reason), "{to}: {error}");
            assert!(boards.named("shelf").is_none() && boards.named("pi4").is_some());
        }
        write("shelf.toml", "");
        write(".pi4.toml", "not looked at");
        fs::create_dir(folder.path().join("rk3566.toml")).unwrap();
        let boards = Boards::read(folder.path()).unwrap();
        let broken: Vec<String> = boards.broken().map(ToString::to_string).collect();
        assert!(broken[0].contains("bytes at most") && broken[1].contains("title"), "{broken:?}");
        assert!(boards.named("rk3566").is_none(), "it is not what was asked for");
        assert!(Boards::read(&folder.path().join("notes.txt")).is_err());
    }
}
