use super::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

fn name(number: u8) -> Name {
    Name::of(&[&[number]])
}

fn open(dir: &TempDir, most: u64, daily: u64) -> Folder {
    Folder::open(dir.path(), most, daily).unwrap()
}

fn has(folder: &Folder, number: u8) -> bool {
    folder.kept(&name(number)).is_some()
}

fn read(folder: &Folder, number: u8) -> Result<Vec<u8>, String> {
    let mut into = Vec::new();
    folder.read(&name(number), 1000, &mut into).map(|()| into).map_err(|error| error.to_string())
}

#[test]
fn what_is_written_is_there_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let mut folder = open(&dir, 1000, 1000);
    assert!(folder.write(&name(1), &[7; 100]).unwrap());
    assert_eq!(read(&folder, 1).unwrap(), [7; 100]);
    drop(folder);
    fs::write(dir.path().join(format!("{}.part", name(2))), "half").unwrap();
    fs::write(dir.path().join("note.txt"), "somebody's").unwrap();
    let folder = open(&dir, 1000, 1000);
    assert!(has(&folder, 1) && !has(&folder, 2));
    assert_eq!(folder.kept(&name(1)).unwrap().bytes, 100);
    assert!(!dir.path().join(format!("{}.part", name(2))).exists());
    assert!(dir.path().join("note.txt").exists());
}

#[test]
fn what_was_not_used_for_longest_gives_way() {
    let dir = TempDir::new().unwrap();
    let mut folder = open(&dir, 300, 10_000);
    for number in 1..=3 {
        assert!(folder.write(&name(number), &[number; 100]).unwrap());
    }
    folder.touch(&name(1));
    assert!(folder.write(&name(4), &[4; 100]).unwrap());
    let there = |folder: &Folder| (1..=5).filter(|n| has(folder, *n)).collect::<Vec<_>>();
    assert_eq!(there(&folder), [1, 3, 4]);
    assert!(!folder.write(&name(5), &[5; 301]).unwrap());
    assert_eq!(there(&folder), [1, 3, 4]);
    drop(folder);
    // The order is known after a restart, also to a folder that may be smaller.
    assert_eq!(there(&open(&dir, 200, 10_000)), [1, 4]);
}

#[test]
fn a_day_has_an_end_even_with_restarts() {
    let dir = TempDir::new().unwrap();
    let mut folder = open(&dir, 10_000, 250);
    assert!(folder.write(&name(1), &[1; 100]).unwrap());
    drop(folder);
    let mut folder = open(&dir, 10_000, 250);
    assert!(folder.write(&name(2), &[2; 100]).unwrap());
    assert!(!folder.write(&name(3), &[3; 100]).unwrap());
    assert!(folder.write(&name(3), &[3; 50]).unwrap());
    folder.today.day -= 1;
    assert!(folder.write(&name(4), &[4; 200]).unwrap());
}

#[test]
fn damage_is_named_and_one_process_has_the_folder() {
    let dir = TempDir::new().unwrap();
    let mut folder = open(&dir, 10_000, 10_000);
    folder.write(&name(1), &[1; 100]).unwrap();
    let path = dir.path().join(format!("{}.kv", name(1)));
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[60] ^= 4;
    fs::write(&path, &flipped).unwrap();
    assert!(read(&folder, 1).unwrap_err().contains("CRC-32"));
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert!(read(&folder, 1).unwrap_err().contains("no tile"));
    fs::write(&path, "").unwrap();
    read(&folder, 1).unwrap_err();
    fs::remove_file(&path).unwrap();
    read(&folder, 1).unwrap_err();
    let error = Folder::open(dir.path(), 1, 1).unwrap_err().to_string();
    assert!(error.contains("another process"), "{error}");
}

/// Whatever lies there takes neither more memory than a tile nor time without end.
#[test]
fn no_file_is_believed_for_its_name() {
    let dir = TempDir::new().unwrap();
    let mut folder = open(&dir, 1 << 40, 10_000);
    folder.write(&name(1), &[1; 100]).unwrap();
    drop(folder);
    let path = |number| dir.path().join(format!("{}.kv", name(number)));
    // A file without blocks, of as many bytes as it says.
    let mut head = fs::read(path(1)).unwrap();
    head[8..12].copy_from_slice(&(3_u32 << 30).to_le_bytes());
    fs::write(path(1), &head).unwrap();
    let file = OpenOptions::new().write(true).open(path(1)).unwrap();
    file.set_len((3 << 30) + HEAD as u64).unwrap();
    mknodat(CWD, path(2), FileType::Fifo, Mode::RWXU, 0).unwrap();
    std::os::unix::fs::symlink(path(1), path(3)).unwrap();
    let folder = open(&dir, 1 << 40, 10_000);
    assert!(has(&folder, 1) && !has(&folder, 2) && !has(&folder, 3));
    let mut into = Vec::new();
    folder.read(&name(1), 1000, &mut into).unwrap_err();
    assert_eq!(into.capacity(), 0);
    drop(folder);
    fs::remove_file(dir.path().join(LOCK)).unwrap();
    mknodat(CWD, dir.path().join(LOCK), FileType::Fifo, Mode::RWXU, 0).unwrap();
    Folder::open(dir.path(), 1000, 1000).unwrap_err();
}

#[test]
fn a_failed_write_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let mut folder = open(&dir, 10_000, 10_000);
    // A folder in the place of the file.
    fs::create_dir(dir.path().join(format!("{}.kv", name(1)))).unwrap();
    folder.write(&name(1), &[1; 100]).unwrap_err();
    assert!(!has(&folder, 1) && !dir.path().join(format!("{}.part", name(1))).exists());
}

#[test]
fn what_is_written_again_takes_the_place_of_the_first() {
    let dir = TempDir::new().unwrap();
    let mut folder = open(&dir, 300, 10_000);
    for len in [100, 150] {
        assert!(folder.write(&name(1), &vec![len as u8; len]).unwrap());
    }
    assert_eq!((read(&folder, 1).unwrap().len(), folder.bytes), (150, 150));
    assert!(folder.write(&name(2), &[2; 150]).unwrap());
    assert!(has(&folder, 1));
}
