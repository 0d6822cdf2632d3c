//! The document on stdin that the words of `wick run` are about.

use crate::exit::Failure;
use crate::input::read_text;
use crate::report::note;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Stat, fstat};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How long it may be in coming, unless somebody is found who will write it.
const PATIENCE: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// What stdin has, if it is a file or a pipe with something in it. A pipe that nobody writes to, as some programs
/// and ssh leave it open, is not waited for.
pub(crate) fn on_stdin() -> Result<Option<String>, Failure> {
    let Ok(found) = fstat(io::stdin()) else { return Ok(None) };
    let is_there = match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => true,
        FileType::Fifo | FileType::Socket => comes(&found),
        _ => false,
    };
    is_there.then(read_text).transpose()
}

/// Whether something comes through a pipe, be it its end. It is waited for as long as there is somebody to write it: a
/// process that is just being started holds what it inherits for a moment.
fn comes(pipe: &Stat) -> bool {
    let mut is_said = false;
    loop {
        let ready = poll(&mut [PollFd::new(&io::stdin(), PollFlags::IN)], Some(&PATIENCE));
        if ready != Ok(0) {
            return ready.is_ok_and(|ready| ready > 0);
        }
        if !is_pipeline(pipe) {
            note(
                "nothing comes from stdin, the prompt is the argument alone (\"-\" after it waits)",
            );
            return false;
        }
        if !is_said {
            note("waiting for stdin");
            is_said = true;
        }
    }
}

/// Whether the other end of a pipe is in the hands of somebody in our process group, as a shell makes one for all
/// commands of a pipeline. Who has started us may have forgotten it there.
fn is_pipeline(pipe: &Stat) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    let Some(own) = Process::at(Path::new("/proc/self")) else { return false };
    let mut folders = processes.flatten().map(|entry| entry.path());
    folders.any(|folder| {
        let is_beside = |it: &Process| {
            it.group == own.group && it.id != own.id && it.id != own.parent && own.group != 0
        };
        Process::at(&folder).filter(is_beside).is_some() && can_write(&folder, pipe)
    })
}

/// What the system tells of a process.
struct Process {
    id: u32,
    parent: u32,
    /// 0 if it is unknown in this container, as are the groups of others there.
    group: u32,
}

impl Process {
    /// That of a folder below /proc, if it is of one.
    fn at(folder: &Path) -> Option<Process> {
        let text = fs::read_to_string(folder.join("stat")).ok()?;
        // The name, in brackets, may have any characters.
        let ((id, _), (_, rest)) = (text.split_once(' ')?, text.rsplit_once(") ")?);
        let mut numbers = rest.split(' ').skip(1).map_while(|number| number.parse().ok());
        Some(Process { id: id.parse().ok()?, parent: numbers.next()?, group: numbers.next()? })
    }
}

/// Whether a process has opened the pipe for writing.
fn can_write(process: &Path, pipe: &Stat) -> bool {
    let Ok(open) = fs::read_dir(process.join("fd")) else { return false };
    open.flatten().any(|entry| is_write_end(&entry.path(), pipe))
}

fn is_write_end(open: &Path, pipe: &Stat) -> bool {
    let is_same = |found: fs::Metadata| (found.dev(), found.ino()) == (pipe.st_dev, pipe.st_ino);
    // The permissions of the link tell how it was opened.
    let is_written = |link: fs::Metadata| link.mode() & 0o200 != 0;
    fs::metadata(open).is_ok_and(is_same) && fs::symlink_metadata(open).is_ok_and(is_written)
}
